"""What each peer may have of this node by set exchange: nobody can have it send the whole set for ever."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

import trio

from decentraspace.errors import Unavailable

_EXCHANGES = 60.0  # begun at once
_ROUNDS = 6.0  # exchanges for each that the node itself would begin
_BYTES, _BYTES_PER_RECORD = float(64 << 20), 2000.0  # at once: the whole set, twice or more
_REFILL = 3600.0  # seconds for all of it to be granted again
_PEERS_MOST = 1000


class Serving:
    """`interval`: seconds between exchanges with one peer as this node is configured."""

    def __init__(self, interval: float, clock: Callable[[], float] = trio.current_time) -> None:
        self._clock = clock
        self._exchanges = _Grants(clock)
        self._bytes = _Grants(clock)
        self._rate = _ROUNDS / interval

    def begins(self, peer: str) -> bool:
        """Whether the peer may begin an exchange now."""
        return self._exchanges.spend(peer, 1.0, _EXCHANGES, self._rate)

    def spend(self, peer: str, size: int, records: int) -> None:
        """`size` bytes go to the peer, from a set of so many records. Unavailable when it has had enough."""
        most = _BYTES + records * _BYTES_PER_RECORD
        if not self._bytes.spend(peer, size, most, most / _REFILL):
            raise Unavailable("A peer was sent all records more often than it can need")


class _Grants:
    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._used: OrderedDict[str, tuple[float, float]] = OrderedDict()  # how much, and when that was

    def spend(self, peer: str, cost: float, most: float, rate: float) -> bool:
        now = self._clock()
        used, since = self._used.pop(peer, (0.0, now))
        used = max(0.0, used - (now - since) * rate)
        enough = used + cost <= most
        self._used[peer] = (used + cost if enough else used, now)
        if len(self._used) > _PEERS_MOST:
            self._used.popitem(last=False)
        return enough
