"""Kubo publishes a name at a node, which then shows it; and Kubo resolves it from there."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

import httpx
from bench.nodes import Node, Owner
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from decentraspace.content import cid as cids
from decentraspace.content import ipns
from tests.interop.kubo import kubo

TEXT = "<h1>under a name</h1>"
RECORD = "application/vnd.ipfs.ipns-record"


def put(node: Node, name: str, record: bytes, kind: str = RECORD) -> httpx.Response:
    url = f"{node.api_url}/routing/v1/ipns/{name}"
    return httpx.put(url, content=record, headers={"Content-Type": kind}, trust_env=False)


async def test_kubo_publishes_a_name(tmp_path: Path) -> None:
    site = tmp_path / "site"
    site.mkdir()
    (site / "index.html").write_text(TEXT)
    with Node(tmp_path / "node") as node:
        owner = Owner(tmp_path / "home")
        owner.log_in(node)
        done = subprocess.run(
            owner.command("deploy", site, "--json"), env=owner.environment, capture_output=True, check=True
        )
        root = json.loads(done.stdout)["root"]
        base = f"{node.api_url}/routing/v1/"
        async with kubo(tmp_path / "kubo", routers=[base + "ipns"], publishers=[base + "ipns"]) as ipfs:
            for kind in ("ed25519", "rsa"):
                name = (await ipfs.run("key", "gen", "-t", kind, kind)).decode().strip()
                await ipfs.run("name", "publish", "--resolve=false", "--key", kind, f"/ipfs/{root}")
                shown = httpx.get(f"http://127.0.0.1:{node.gateway}/ipns/{name}/", trust_env=False)
                assert (shown.status_code, shown.text) == (200, TEXT)
            # Not from its own cache: a name that another has signed.
            key = Ed25519PrivateKey.generate()
            binary, record = ipns.create(key, f"/ipfs/{root}", until=time.time() + 3600, sequence=1)
            assert put(node, ipns.name_text(binary), record).status_code == 200
            resolved = await ipfs.run("name", "resolve", ipns.name_text(binary))
            assert resolved.decode().strip() == f"/ipfs/{root}"

        given = httpx.get(f"{base}ipns/{ipns.name_text(binary)}", trust_env=False)
        assert (given.content, given.headers["content-type"]) == (record, RECORD)
        # What is refused: other content, other signatures, other types, and what is no record.
        elsewhere = cids.to_text(cids.make(cids.RAW, b"not here"))
        _, foreign = ipns.create(key, f"/ipfs/{elsewhere}", until=time.time() + 3600, sequence=2)
        text = ipns.name_text(binary)
        assert put(node, text, foreign).status_code == 403
        other, _ = ipns.create(Ed25519PrivateKey.generate(), "/x", until=time.time() + 9, sequence=1)
        assert put(node, ipns.name_text(other), record).status_code == 422
        assert put(node, "nonsense", record).status_code == 400
        assert put(node, text, b"x" * 20_000).status_code in (400, 413)
        assert put(node, text, record, "text/plain").status_code == 415
        assert httpx.get(f"{base}ipns/{ipns.name_text(other)}", trust_env=False).status_code == 404
        assert httpx.get(f"{base}ipns/{text}", trust_env=False).content == record
