"""A login for one site deploys that site, and opens nothing else: least of all the whole node."""

from __future__ import annotations

import base64
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from decentraspace.api.app import endpoints
from decentraspace.content import car
from decentraspace.content import cid as cids
from tests.api.small_node import Person, SmallNode
from tests.records.factory import make_revocation, make_session

CAR = {"Content-Type": "application/vnd.ipld.car"}
FILE = {"Content-Type": "application/octet-stream"}
ROOT, DATA = cids.make(cids.RAW, b"<h1>scope</h1>"), b"<h1>scope</h1>"

PLUGIN = """
from decentraspace import hookimpl
from decentraspace.public import HttpResponse, Route

@hookimpl
def api_routes(node):
    async def answer(request, node):
        return HttpResponse(200, str(request.owner).encode(), {"content-type": "text/plain"})
    return [Route("/who/", answer, login=True), Route("/maybe/", answer)]
"""


class Both(NamedTuple):
    """One wallet, the node's administrator, logged in twice: for everything, and for its site `blog`."""

    node: SmallNode
    client: httpx.AsyncClient
    whole: Person
    blog: Person


@pytest.fixture
async def both(make_node: Callable[..., SmallNode], tmp_path: Path) -> AsyncIterator[Both]:
    folder = tmp_path / "plugins"
    folder.mkdir()
    (folder / "who.py").write_text(PLUGIN)
    node = make_node(limits={"free_sites": 5}, plugins={"directory": str(folder), "enabled": ["who"]})
    await node.plugins.load(node)
    whole, blog = Person(node), Person(node)
    object.__setattr__(node.config.node, "admins", (whole.wallet.address,))
    blog.wallet, blog.address = whole.wallet, whole.address
    blog.key, blog.delegation = make_session(whole.wallet, node.rules, scope=whole.site_id("blog"))
    async with node.serving() as client:
        yield Both(node, client, await whole.log_in(client), await blog.log_in(client))
    await node.plugins.close()


def slug(answer: httpx.Response) -> str:
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    return str(answer.json()["type"]).rpartition(":")[2]


async def send(both: Both, who: Person, method: str, path: str, **more: Any) -> httpx.Response:
    headers = {**who.headers, **more.pop("headers", {})}
    return await both.client.request(method, path, headers=headers, **more)


async def test_it_deploys_its_site(both: Both) -> None:
    want = {"want": [cids.to_text(ROOT)]}
    missing = await send(both, both.blog, "POST", "/storage/upload/", json=want)
    assert missing.json() == {"missing": want["want"]}
    body = car.encode([], [(ROOT, DATA)])
    stored = await send(both, both.blog, "POST", "/storage/upload/?blocks=1", content=body, headers=CAR)
    assert stored.status_code == 200, stored.text
    done = await send(both, both.blog, "POST", "/hosting/deploy/", json=both.blog.site(ROOT, label="blog"))
    assert done.status_code == 200, done.text
    shop = await send(both, both.whole, "POST", "/hosting/deploy/", json=both.whole.site(ROOT, label="shop"))
    assert shop.status_code == 200, shop.text

    assert (await send(both, both.blog, "GET", "/auth/tier/")).json()["owner"] == both.whole.wallet.address
    listed = (await send(both, both.blog, "GET", "/hosting/status/")).json()
    assert [s["label"] for s in listed["sites"]] == ["blog"]
    listed = (await send(both, both.whole, "GET", "/hosting/status/")).json()
    assert sorted(s["label"] for s in listed["sites"]) == ["blog", "shop"]
    assert (await send(both, both.blog, "DELETE", "/auth/login/")).status_code == 204


async def test_it_brings_no_other_sites_records(both: Both) -> None:
    """Not even those that another session of the wallet has signed."""
    both.node.blocks.put_many([(ROOT, DATA)])
    for record in (both.blog.site(ROOT, label="shop"), both.whole.site(ROOT, label="shop")):
        answer = await send(both, both.blog, "POST", "/hosting/deploy/", json=record)
        assert (answer.status_code, slug(answer)) == (403, "limited-session")
    assert both.node.records.sites(both.whole.address) == []


async def test_it_is_no_administrator(both: Both) -> None:
    other = Person(both.node)
    change = {"owner": other.wallet.address, "tier": "paid"}
    for method, path, more in (
        ("PATCH", "/auth/tier/", {"json": change}),
        ("GET", f"/auth/tier/?owner={other.wallet.address}", {}),
    ):
        answer = await send(both, both.blog, method, path, **more)
        assert answer.status_code == 403, (method, path)
        answer = await send(both, both.whole, method, path, **more)
        assert answer.status_code == 200, (method, path)


async def test_it_neither_revokes_nor_keeps_nor_deletes(both: Both) -> None:
    kept = await send(both, both.whole, "POST", "/storage/upload/", content=b"kept", headers=FILE)
    begun = await send(
        both, both.whole, "POST", "/storage/upload/", content=b"x", headers={**FILE, "Upload-Complete": "?0"}
    )
    record = make_revocation(
        both.whole.wallet,
        make_session(both.whole.wallet, both.node.rules, issued_at=int(time.time()) - 5),
        both.whole.key,
        both.node.rules,
    )
    part = {"Content-Type": "application/partial-upload", "Upload-Offset": "1", "Upload-Complete": "?1"}
    for method, path, more in (
        ("POST", "/auth/revoke/", {"json": {"record": base64.b64encode(record).decode()}}),
        ("POST", "/storage/upload/", {"content": b"y", "headers": FILE}),
        ("POST", "/storage/upload/", {"content": car.encode([ROOT], [(ROOT, DATA)]), "headers": CAR}),
        ("POST", "/storage/upload/", {"content": b"y", "headers": {**FILE, "Upload-Complete": "?0"}}),
        ("POST", "/storage/upload/?blocks=1", {"content": b"y", "headers": {**CAR, "Upload-Complete": "?0"}}),
        ("PATCH", begun.headers["location"], {"content": b"y", "headers": part}),
        ("DELETE", begun.headers["location"], {}),
        ("DELETE", "/storage/upload/?cid=" + kept.json()["cid"], {}),
    ):
        answer = await send(both, both.blog, method, path, **more)
        assert (answer.status_code, slug(answer)) == (403, "limited-session"), (method, path, answer.text)
        assert answer.json()["site"] == both.whole.site_id("blog")
    assert (await send(both, both.blog, "HEAD", begun.headers["location"])).status_code == 403
    assert both.node.records.counts() == {}
    assert [root for root, _ in both.node.blocks.pins()] == [cids.parse(kept.json()["cid"])]


async def test_plugins_are_not_told_that_the_wallet_is_there(both: Both) -> None:
    assert (await send(both, both.whole, "GET", "/who/")).text == both.whole.wallet.address
    for path in ("/who/", "/maybe/"):
        answer = await send(both, both.blog, "GET", path)
        assert (answer.status_code, slug(answer)) == (403, "limited-session")
    assert (await send(both, Person(both.node), "GET", "/maybe/")).text == "None"


def test_what_is_open_to_it_is_chosen_one_by_one() -> None:
    narrow = {(e.method, e.path) for e in endpoints() if e.narrow}
    assert narrow == {
        ("DELETE", "/auth/login/"),
        ("GET", "/auth/tier/"),
        ("POST", "/hosting/deploy/"),
        ("GET", "/hosting/status/"),
        ("GET", "/blockchain/ownership/"),  # public, as the one before
        ("POST", "/storage/upload/"),
    }
    assert not any(e.admin for e in endpoints() if e.narrow)
