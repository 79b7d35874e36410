"""Real Kubo's DHT and a node: what the node says it has Kubo finds, what Kubo has the node finds."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
from bench.nodes import Node as RunningProcess
from bench.nodes import Owner
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from decentraspace.content import cid as cids
from decentraspace.content import ipns
from decentraspace.errors import Unavailable
from decentraspace.network.dht.announcing import Announcing
from decentraspace.network.dht.client import Dht
from decentraspace.network.dht.finding import Finding
from decentraspace.network.dht.schedule import Schedule
from decentraspace.network.fetch import Fetcher, Provider
from tests.interop.kubo import Kubo, kubo
from tests.network.exchanging import Node, node
from tests.network.peers import Factory, until


@pytest.fixture
def factory(tmp_path: Path) -> Any:
    made = Factory(tmp_path)
    yield made
    made.close()


@asynccontextmanager
async def servers(folder: Path, count: int) -> AsyncIterator[list[Kubo]]:
    """Kubos that are servers of one DHT, of which each but the first knows the one before it."""
    async with AsyncExitStack() as stack:
        made = [await stack.enter_async_context(kubo(folder / f"kubo{n}", dht=True)) for n in range(count)]
        for one, other in zip(made[1:], made, strict=False):
            await one.run("swarm", "connect", await other.address())
        yield made


async def joined(ours: Node, count: int) -> Dht:
    """Its DHT, once it knows so many servers, and is connected only with those it was told to be."""
    dht = ours.peer.network.dht
    assert dht is not None
    await until(lambda: dht.servers == count and len(ours.peer.connected()) == 1)
    return dht


async def test_a_node_and_kubo_find_each_other_in_the_dht(factory: Factory, tmp_path: Path) -> None:
    async with servers(tmp_path, 3) as kubos:
        settings = {"ipfs_peers": (await kubos[0].address(),), "dht": "lan"}
        async with node(factory, tmp_path / "blocks", **settings) as ours:
            dht = await joined(ours, 3)

            mine = cids.make(cids.RAW, b"of the node")
            ours.blocks.put_many([(mine, b"of the node")])
            ours.blocks.pin(mine, "site:test")
            assert await dht.provide(mine) == 3
            # Nothing stays open but what the operator asked for.
            await until(lambda: len(ours.peer.connected()) == 1)
            for one in kubos:
                found = await one.run("routing", "findprovs", "-n", "1", cids.to_text(mine))
                assert found.decode().split() == [ours.peer.key.peer_id]
            assert await kubos[2].run("cat", cids.to_text(mine)) == b"of the node"

            (tmp_path / "file").write_text("of Kubo")
            added = await kubos[2].run("add", "-Q", "--cid-version=1", tmp_path / "file")
            theirs = cids.parse(added.decode().strip())
            assert await dht.find(cids.make(cids.RAW, b"of nobody")) == []
            await kubos[2].run("routing", "provide", cids.to_text(theirs))
            [provider] = await dht.find(theirs)
            assert str(provider.id) in await kubos[2].address()
            assert provider.addresses


async def test_content_that_a_record_names_is_found_in_the_dht_and_brought(
    factory: Factory, tmp_path: Path
) -> None:
    """From a Kubo that this node has never heard of; what no record names is not searched for."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "index.html").write_text("<h1>far away</h1>")
    (tmp_path / "site" / "large").write_bytes(os.urandom(600_000))
    async with servers(tmp_path, 3) as kubos:
        added = await kubos[2].run("add", "-Q", "-r", "--cid-version=1", tmp_path / "site")
        root = cids.parse(added.decode().strip())
        await kubos[2].run("routing", "provide", cids.to_text(root))
        settings = {"ipfs_peers": (await kubos[0].address(),), "dht": "lan"}
        async with node(factory, tmp_path / "blocks", **settings) as ours:
            dht = await joined(ours, 3)
            named: set[bytes] = set()

            async def nobody(root: bytes) -> list[Provider]:
                return []

            exchange = Finding(ours.bitswap, dht, named.__contains__)
            fetcher = Fetcher(ours.blocks, nobody, exchange=exchange)
            other = cids.make(cids.RAW, b"of no record")
            with pytest.raises(Unavailable):
                await fetcher.fetch(other, deadline=60, max_bytes=10**7)
            assert dht.counts.sought == 0

            named.add(root)
            await fetcher.fetch(root, deadline=60, max_bytes=10**7)
            assert ours.blocks.missing(root) == []
            assert (dht.counts.sought, dht.counts.found) == (1, 1)


async def test_a_deployed_site_is_announced_once_and_kubo_finds_it_by_its_root_alone(tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "index.html").write_text("<h1>found in the DHT</h1>")
    async with servers(tmp_path, 2) as kubos:
        running = RunningProcess(tmp_path / "node")
        peers = json.dumps([await kubos[0].address()])
        text = running.config.read_text()
        running.config.write_text(text.replace("[network]", f'[network]\ndht = "lan"\nipfs_peers = {peers}'))
        with running:
            owner = Owner(tmp_path / "home")
            await trio.to_thread.run_sync(owner.log_in, running)
            done = await trio.to_thread.run_sync(deploy, owner, tmp_path / "site")
            # The root, and the record of the site's name.
            await until(lambda: figures(running)["decentraspace_dht_announced_total"] == 2.0)
            shown = figures(running)
            assert shown["decentraspace_dht_roots"] == 2.0
            assert shown["decentraspace_dht_backlog"] == 0.0
            assert shown["decentraspace_dht_confirmed"] == 2.0
            found = await kubos[1].run("cat", f"/ipfs/{done['root']}/index.html")
            assert found == b"<h1>found in the DHT</h1>"
            found = await kubos[1].run("cat", f"/ipns/{done['ipns']['name']}/index.html")
            assert found == b"<h1>found in the DHT</h1>"
        with running:  # again: it was announced, and is not due for a day
            await until(lambda: figures(running)["decentraspace_dht_caught_up_time_seconds"] > 0)
            shown = figures(running)
            assert shown["decentraspace_dht_roots"] == 2.0
            assert shown["decentraspace_dht_announced_total"] == 0.0


async def test_kubo_resolves_names_that_a_node_published_in_the_dht(factory: Factory, tmp_path: Path) -> None:
    """And the newer record, as soon as there is one."""
    key = Ed25519PrivateKey.generate()
    roots = [cids.make(cids.RAW, text) for text in (b"first", b"second")]
    records: list[tuple[bytes, bytes]] = []
    held: list[bytes] = []
    async with servers(tmp_path, 2) as kubos, trio.open_nursery() as nursery:
        settings = {"ipfs_peers": (await kubos[0].address(),), "dht": "lan"}
        async with node(factory, tmp_path / "blocks", **settings) as ours:
            dht = await joined(ours, 2)
            schedule = Schedule(tmp_path / "dht.sqlite")
            announcing = Announcing(dht, schedule, lambda: held, set, bool, lambda: records)
            nursery.start_soon(announcing.run)
            for number, root in enumerate(roots):
                path = f"/ipfs/{cids.to_text(root)}"
                name, record = ipns.create(key, path, until=time.time() + 3600, sequence=number)
                records[:], held[:] = [(name, record)], [root]
                await until(lambda wanted=number + 1: announcing.totals.announced == wanted)
                assert announcing.totals.servers == 2
                text = ipns.name_text(name)
                resolved = await kubos[1].run("name", "resolve", "--nocache", f"/ipns/{text}")
                assert resolved.decode().strip() == path
            assert announcing.waiting()[:2] == (1, 0)
            nursery.cancel_scope.cancel()
    schedule.close()


def deploy(owner: Owner, folder: Path) -> dict[str, Any]:
    command = owner.command("deploy", folder, "--json")
    done = subprocess.run(command, env=owner.environment, capture_output=True, check=True)
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def figures(running: RunningProcess) -> dict[str, float]:
    """Metrics without labels."""
    text = httpx.get(f"{running.api_url}/metrics", trust_env=False, timeout=30).text
    lines = [line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in lines if "{" not in name}
