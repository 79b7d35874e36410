"""Whose turn it is: channels that wait to be followed, fair between the nodes that brought them, and what is
remembered of attempts that failed."""

from __future__ import annotations

import heapq
import math
from collections import Counter, OrderedDict, deque
from dataclasses import dataclass

import trio

Channel = tuple[str, str]
"""Site id, name of the channel."""

_FIRST, _MOST = 0.25, 3600.0  # seconds between attempts
_REMEMBERED = 100_000  # channels


class Lane:
    """A queue in which one sponsor's channels take at most `each` places at a time, whoever else waits."""

    def __init__(self, each: int) -> None:
        self._each = each
        self._waiting: OrderedDict[bytes, deque[Channel]] = OrderedDict()
        self._busy: Counter[bytes] = Counter()
        self._parked = trio.lowlevel.ParkingLot()

    def put(self, sponsor: bytes, channel: Channel) -> None:
        self._waiting.setdefault(sponsor, deque()).append(channel)
        self._parked.unpark()

    async def take(self) -> tuple[bytes, Channel]:
        """The next whose sponsor has a place left; `done` gives the place back."""
        while True:
            for sponsor, channels in self._waiting.items():
                if self._busy[sponsor] < self._each:
                    channel = channels.popleft()
                    self._busy[sponsor] += 1
                    self._waiting.move_to_end(sponsor)
                    if not channels:
                        del self._waiting[sponsor]
                    return sponsor, channel
            await self._parked.park()

    def done(self, sponsor: bytes) -> None:
        self._busy[sponsor] -= 1
        if not self._busy[sponsor]:
            del self._busy[sponsor]
        self._parked.unpark()


@dataclass
class _Try:
    head: bytes
    count: int = 0
    due: float = -math.inf


class Tries:
    """What became of attempts to copy the head of a channel. A new head starts anew."""

    def __init__(self) -> None:
        self._tries: OrderedDict[Channel, _Try] = OrderedDict()
        self._later: list[tuple[float, Channel]] = []

    def may(self, channel: Channel, head: bytes) -> bool:
        """Whether it is time for another attempt."""
        known = self._tries.get(channel)
        return known is None or known.head != head or trio.current_time() >= known.due

    def failed_before(self, channel: Channel, head: bytes) -> bool:
        known = self._tries.get(channel)
        return known is not None and known.head == head

    def failed(self, channel: Channel, head: bytes) -> None:
        """It may be better later, and ever later."""
        known = self._of(channel, head)
        known.count += 1
        known.due = trio.current_time() + min(_FIRST * 2 ** min(known.count, 20), _MOST)
        heapq.heappush(self._later, (known.due, channel))

    def refused(self, channel: Channel, head: bytes) -> None:
        """The content itself is wrong: it will not be better."""
        self._of(channel, head).due = math.inf

    def succeeded(self, channel: Channel) -> None:
        self._tries.pop(channel, None)

    def due(self) -> list[Channel]:
        """Those whose time has come."""
        found = []
        now = trio.current_time()
        while self._later and self._later[0][0] <= now:
            due, channel = heapq.heappop(self._later)
            known = self._tries.get(channel)
            if known is not None and known.due == due:
                found.append(channel)
        return found

    def _of(self, channel: Channel, head: bytes) -> _Try:
        known = self._tries.get(channel)
        if known is None or known.head != head:
            known = self._tries[channel] = _Try(head)
            if len(self._tries) > _REMEMBERED:
                self._tries.popitem(last=False)
        return known
