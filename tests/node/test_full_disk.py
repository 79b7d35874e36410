"""A node whose disk is full goes on serving, refuses in words, and goes on with all else when there is room."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.node.disks import on_small_disk

STORY = """
import base64, io, os, sys, time, zipfile
from pathlib import Path
import httpx
from decentraspace.content import cid as cids
from decentraspace.ledger.usage import UsageStore
from tests.api.small_node import Person
from tests.node.disks import fill
from tests.node.running import RunningNode
from tests.records.factory import RULES, make_site

class Site:
    def __init__(self):
        self.rules = RULES

with RunningNode(Path(sys.argv[1]), LIMITS_FREE_SITES="10") as node:
    person = Person(Site())
    client = httpx.Client(base_url=node.url, timeout=60, trust_env=False)

    def log_in():
        return client.post("/auth/login/", json=person.login_body(client.get("/auth/login/").json()))

    def upload(data):
        body = io.BytesIO()
        with zipfile.ZipFile(body, "w") as archive:
            archive.writestr("index.html", data)
        media = {**headers, "Content-Type": "application/zip"}
        return client.post("/storage/upload/", content=body.getvalue(), headers=media)

    def visit():
        address = f"http://127.0.0.1:{node.gateway}/"
        return httpx.get(address, headers={"Host": host}, trust_env=False)

    first = log_in()
    assert first.status_code == 200, first.text
    headers = {"Authorization": "Bearer " + first.json()["token"]}
    kept = upload(b"<h1>still here</h1>")
    assert kept.status_code in (200, 201), kept.text
    root = kept.json()["cid"]
    signer = person.key, person.delegation
    record = make_site(person.wallet, signer, RULES, root=cids.parse(root), label="page", size=100)
    body = {"record": base64.b64encode(record).decode()}
    deployed = client.post("/hosting/deploy/", json=body, headers=headers)
    assert deployed.status_code in (200, 201), deployed.text
    host = httpx.URL(deployed.json()["urls"]["site"]).netloc.decode()
    assert visit().text == "<h1>still here</h1>"

    filler = Path(sys.argv[1]) / "filler"
    fill(filler)
    # Visitors are counted, and that cannot be written down; nor can logins, uploads and deploys.
    end, seen = time.monotonic() + 6, set()
    while time.monotonic() < end:
        assert visit().status_code == 200, node.log()
        seen.add(log_in().status_code)
        seen.add(upload(os.urandom(80_000)).status_code)
        assert node.process.poll() is None, node.log()
        time.sleep(0.2)
    print(sorted(seen))
    problem = upload(os.urandom(80_000))
    print(problem.status_code, problem.json())
    assert node.ready(), "it serves"
    assert "Traceback" not in node.log(), node.log()

    filler.unlink()
    node.until(lambda: log_in().status_code == 200)
    again = upload(os.urandom(80_000))
    assert again.status_code in (200, 201), again.text
    node.until(lambda: visit().status_code == 200)
    print("went on")
totals = UsageStore(Path(sys.argv[1]) / "data" / "usage.sqlite").totals(deployed.json()["site"])
print("counted", totals[0])
"""


@pytest.mark.slow
def test_a_full_disk_ends_nothing(tmp_path: Path) -> None:
    output = on_small_disk(tmp_path, 48, STORY).splitlines()
    assert "507" in output[0]
    assert "500" not in output[0]
    assert output[1].startswith("507 ")
    assert output[2] == "went on"
    assert int(output[3].split()[1]) > 20, "what could not be counted then was counted later"
