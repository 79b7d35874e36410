"""Kubo follows a site's IPNS name, which it only knows the name of, to the newest version and its content."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import httpx
import trio
from bench.nodes import Node, Owner

from tests.interop.kubo import kubo


def run(owner: Owner, *arguments: str | Path) -> dict[str, Any]:
    done = subprocess.run(
        owner.command(*arguments, "--json"), env=owner.environment, capture_output=True, check=True
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


async def test_kubo_follows_a_sites_name(tmp_path: Path) -> None:
    site = tmp_path / "site"
    site.mkdir()
    with Node(tmp_path / "node") as node:
        owner = Owner(tmp_path / "home")
        owner.log_in(node)

        def deploy(text: str) -> dict[str, Any]:
            (site / "index.html").write_text(text)
            return run(owner, "deploy", site, "--site", "named")

        first = await trio.to_thread.run_sync(deploy, "<h1>one")
        name = first["ipns"]["name"]
        assert first["ipns"]["current"]
        routers = [f"{node.api_url}/routing/v1/{what}" for what in ("ipns", "providers", "peers")]
        async with kubo(tmp_path / "kubo", routers=routers) as ipfs:

            async def shown() -> str:
                resolved = await ipfs.run("name", "resolve", "--nocache", name)
                return resolved.decode().strip()

            assert await shown() == f"/ipfs/{first['root']}"
            assert (await ipfs.run("cat", f"/ipns/{name}/index.html")).decode() == "<h1>one"
            second = await trio.to_thread.run_sync(deploy, "<h1>two")
            assert second["ipns"]["name"] == name
            assert await shown() == f"/ipfs/{second['root']}"
            assert (await ipfs.run("cat", f"/ipfs/{second['root']}/index.html")).decode() == "<h1>two"
            await trio.to_thread.run_sync(run, owner, "rollback", "named")
            assert await shown() == f"/ipfs/{first['root']}"

            # Its own eyes on the record, as our gateway and our API give it.
            gateway = f"http://127.0.0.1:{node.gateway}/ipns/{name}"
            given = httpx.get(f"{gateway}?format=ipns-record", trust_env=False).content
            assert given == httpx.get(f"{routers[0]}/{name}", trust_env=False).content
            (tmp_path / "record").write_bytes(given)
            said = await ipfs.run("name", "inspect", f"--verify={name}", tmp_path / "record")
            assert b"Valid: true" in said
        assert httpx.get(f"{gateway}/", trust_env=False).text == "<h1>one"

        # The same wallet on another machine has the same name; a login without names leaves it as it is.
        status = run(owner, "status", "named")
        assert status["ipns"]["name"] == name
        assert run(owner, "sites")["sites"][0]["ipns"]["name"] == name
        assert run(owner, "deploy", site, "--site", "named")["changed"]
        assert not run(owner, "deploy", site, "--site", "named")["changed"]
