"""Real Kubo's DHT and a node: what the node says it has Kubo finds, what Kubo has the node finds."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from decentraspace.content import cid as cids
from decentraspace.network.dht.client import Dht
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
    """Its DHT, once it knows so many servers."""
    dht = ours.peer.network.dht
    assert dht is not None
    await until(lambda: dht.servers == count)
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
