"""A node without network, driven in the test's own loop, and somebody whose sites it takes."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from decentraspace.content.importer import add_directory, add_file
from decentraspace.hosting import Deployed
from decentraspace.network.fetch import Fetcher, Provider
from tests.api.small_node import SmallNode
from tests.records.factory import address_of, make_session, make_site, make_wallet

Until = Callable[[Callable[[], Any]], Any]


class World:
    """A node and one owner. `deploy` as that owner."""

    def __init__(self, node: SmallNode) -> None:
        self.node, self.hosting = node, node.hosting
        self.moderation = node.hosting.moderation
        self.wallet = make_wallet()
        self.address = address_of(self.wallet)
        self.session = make_session(self.wallet, node.rules)
        self.fetched: list[bytes] = []  # roots that were asked for, from nobody

        async def nobody(root: bytes) -> list[Provider]:
            self.fetched.append(root)
            return []

        self.hosting.copies.fetcher = Fetcher(node.blocks, nobody)

    def store(self, files: dict[str, bytes]) -> bytes:
        writer = self.node.blocks.writer()
        entries = {name: add_file(io.BytesIO(data), writer.put) for name, data in files.items()}
        root = add_directory(entries, writer.put).cid
        writer.flush()
        return bytes(root)

    def sign(self, root: bytes, **changes: Any) -> bytes:
        size = self.node.blocks.dag_size(root)
        given = {"label": "site", "root": root, "size": size, **changes}
        return make_site(self.wallet, self.session, self.node.rules, **given)

    async def deploy(self, files: dict[str, bytes], **changes: Any) -> Deployed:
        return await self.hosting.deploy(self.address, self.sign(self.store(files), **changes))

    def held_receipts(self, root: bytes) -> list[bytes]:
        return [r.cid for r in self.node.records.receipts(root) if r.body.held]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with trio.open_nursery() as nursery:
            await nursery.start(self.hosting.run)
            yield
            nursery.cancel_scope.cancel()


@pytest.fixture
def make_world(tmp_path: Path) -> Iterator[Callable[..., World]]:
    """`make_world(folder="a", section={…})`: closed after the test."""
    worlds: list[World] = []

    def make(folder: str = "node", **sections: Any) -> World:
        limits = {"free_sites": 100, **sections.pop("limits", {})}
        worlds.append(World(SmallNode(tmp_path / folder, limits=limits, **sections)))
        return worlds[-1]

    yield make
    for world in worlds:
        world.node.close()


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    return make_world()
