"""One peer is asked for one block: to see whether it gives it, not to have it."""

from __future__ import annotations

from collections.abc import Sequence

import trio
from libp2p.peer.id import ID

from decentraspace.content import cid as cids
from decentraspace.network.bitswap.session import Blocks, Key


class Asking:
    """In place of a session, and nothing is stored. `given`: whether the peer gave the block, None while it has
    not said."""

    def __init__(self, peer: ID, cid: bytes) -> None:
        self._peer, self._key = peer, cids.multihash(cid)
        self.given: bool | None = None
        self.ended = trio.Event()

    def asks(self, peer: ID) -> bool:
        return peer == self._peer and not self.ended.is_set()

    def wants(self, peer: ID, key: Key) -> bool:
        return key == self._key and self.asks(peer)

    async def take(self, peer: ID, blocks: Blocks, presences: Sequence[tuple[Key, bool]]) -> None:
        """`blocks` are those it `wants`, named by their own bytes."""
        if blocks:
            self.given = True
        elif (self._key, False) in presences:
            self.given = False
        else:
            return  # that it has the block is no proof
        self.ended.set()

    async def gone(self, peer: ID) -> None:
        if self.asks(peer):
            self.ended.set()
