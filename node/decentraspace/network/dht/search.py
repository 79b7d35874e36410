"""An iterative search: the servers of the DHT that are nearest to a position, of those that answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable

import trio
from libp2p.peer.id import ID

from decentraspace.network.dht.wire import K, Known, position

_AT_ONCE = 6  # questions under way
_ASKED_MOST = 80  # peers asked in one search
_KNOWN_MOST = 400  # peers heard of in one search

Ask = Callable[[Known], Awaitable[list[Known]]]
"""Peers that one names as nearer. Raises any Exception where it does not answer as it should."""


class Search:
    """`enough()` ends it early."""

    def __init__(self, target: int, own: ID, ask: Ask, enough: Callable[[], bool] = lambda: False) -> None:
        self._target, self._own, self._ask, self._enough = target, own, ask, enough
        self._known: dict[ID, Known] = {}
        self._asked: set[ID] = set()
        self._failed: set[ID] = set()
        self.answered: dict[ID, Known] = {}

    async def run(self, seeds: Iterable[Known]) -> list[Known]:
        """Those that answered, nearest first, `K` at most."""
        self._hear(seeds)
        ended_send, ended = trio.open_memory_channel[None](_AT_ONCE)
        async with trio.open_nursery() as nursery:
            under_way = 0
            while not self._enough():
                for server in self._next(_AT_ONCE - under_way):
                    self._asked.add(server.id)
                    nursery.start_soon(self._one, server, ended_send)
                    under_way += 1
                if not under_way:
                    break
                await ended.receive()
                under_way -= 1
            nursery.cancel_scope.cancel()
        return self.nearest(self.answered.values())

    def nearest(self, peers: Iterable[Known]) -> list[Known]:
        return sorted(peers, key=lambda p: position(p.id.to_bytes()) ^ self._target)[:K]

    def _next(self, most: int) -> list[Known]:
        if len(self._asked) >= _ASKED_MOST:
            return []
        alive = self.nearest(p for p in self._known.values() if p.id not in self._failed)
        return [p for p in alive if p.id not in self._asked][:most]

    def _hear(self, peers: Iterable[Known]) -> None:
        for peer in peers:
            if peer.id != self._own:
                self._known.setdefault(peer.id, peer)
        if len(self._known) > _KNOWN_MOST:
            kept = sorted(self._known.values(), key=lambda p: position(p.id.to_bytes()) ^ self._target)
            self._known = {p.id: p for p in kept[: _KNOWN_MOST // 2]}

    async def _one(self, server: Known, ended: trio.MemorySendChannel[None]) -> None:
        try:
            closer = await self._ask(server)
        except Exception:  # noqa: BLE001 - whatever libp2p raises: it is of no use
            self._failed.add(server.id)
        else:
            self.answered[server.id] = server
            self._hear(closer)
        await ended.send(None)
