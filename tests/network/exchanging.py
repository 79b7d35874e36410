"""Nodes for tests of Bitswap: libp2p and a block store, and peers that speak it by hand."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import trio
from libp2p.custom_types import TProtocol
from libp2p.peer.id import ID
from libp2p.peer.peerinfo import info_from_p2p_addr
from multiaddr import Multiaddr

from decentraspace.content.blockstore import BlockStore
from decentraspace.content.importer import add_path
from decentraspace.network.bitswap import wire
from decentraspace.network.bitswap.channel import Incoming
from decentraspace.network.bitswap.service import Bitswap
from decentraspace.network.fetch import Fetcher, Provider
from tests.network.peers import DEADLINE, Factory, Peer, running, stranger


class Node(NamedTuple):
    peer: Peer
    blocks: BlockStore
    bitswap: Bitswap
    fetcher: Fetcher


@asynccontextmanager
async def node(factory: Factory, folder: Path, **settings: Any) -> AsyncIterator[Node]:
    """A node's network and block store. Nobody's gateway is known to it."""

    async def nobody(root: bytes) -> list[Provider]:
        return []

    with BlockStore.open(folder, quota=10**9) as blocks:
        bitswap = Bitswap(blocks, blocks.referenced)
        peer = factory.make(bitswap=bitswap, **settings)
        async with running(peer):
            yield Node(peer, blocks, bitswap, Fetcher(blocks, nobody, exchange=bitswap))


def add(blocks: BlockStore, folder: Path, name: str = "site:test") -> bytes:
    """Put and pin; the root."""
    writer = blocks.writer()
    root = add_path(folder, writer.put).cid
    writer.flush()
    blocks.pin(root, name)
    return root


class ByHand:
    """A libp2p host connected to a node, to say in Bitswap whatever a test wants. `heard`: what the node
    says, while `deaf` is not set."""

    def __init__(self, host: Any, target: Node) -> None:
        self.host, self._target = host, ID.from_string(target.peer.key.peer_id)
        self.heard: list[wire.Message] = []
        self.answer: Callable[[wire.Message], Awaitable[None]] | None = None
        self.deaf = False

    @property
    def id(self) -> str:
        return str(self.host.get_id())

    async def on_stream(self, stream: Any) -> None:
        if self.deaf:
            await trio.sleep_forever()
        incoming = Incoming(stream)
        try:
            while (length := await incoming.length()) is not None:
                message = wire.decode(await incoming.message(length))
                self.heard.append(message)
                if self.answer is not None:
                    await self.answer(message)
        except Exception:  # noqa: BLE001 - the node has closed it, or has gone
            return

    async def open(self) -> Any:
        with trio.fail_after(DEADLINE):
            return await self.host.new_stream(self._target, [TProtocol(wire.PROTOCOL)])

    async def say(self, message: wire.Message) -> None:
        stream = await self.open()
        await stream.write(wire.encode(message))
        await stream.close()

    def blocks(self) -> list[bytes]:
        return [data for message in self.heard for _, data in message.blocks]

    def presences(self) -> dict[bytes, bool]:
        return {cid: there for message in self.heard for cid, there in message.presences}


@asynccontextmanager
async def by_hand(target: Node) -> AsyncIterator[ByHand]:
    async with stranger(target.peer, connect=False) as host:
        made = ByHand(host, target)
        host.set_stream_handler(TProtocol(wire.PROTOCOL), made.on_stream)
        with trio.fail_after(DEADLINE):
            await host.connect(info_from_p2p_addr(Multiaddr(target.peer.address)))
        yield made
