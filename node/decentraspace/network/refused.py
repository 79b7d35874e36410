"""Which records were refused lately, and which peers have them: so that they are not sent in every round."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

_FOR = 600.0  # seconds
_MOST = 50_000  # records
_OF_PEER = 5_000  # records of which it is remembered that one peer has them


class Refused:
    """Names of 32 bytes; bounded, and forgotten after a while."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._until: OrderedDict[bytes, float] = OrderedDict()
        self._peers: dict[str, OrderedDict[bytes, None]] = {}

    def add(self, name: bytes, peer: str) -> None:
        """Refused just now, when `peer` sent it."""
        self._until.pop(name, None)
        self._until[name] = self._clock() + _FOR
        if len(self._until) > _MOST:
            self._until.popitem(last=False)
        self.also(name, peer)

    def also(self, name: bytes, peer: str) -> None:
        """`peer` has it, too."""
        known = self._peers.setdefault(peer, OrderedDict())
        known[name] = None
        if len(known) > _OF_PEER:
            known.popitem(last=False)

    def forget(self, peer: str) -> None:
        """It has gone."""
        self._peers.pop(peer, None)

    def __contains__(self, name: bytes) -> bool:
        return self._until.get(name, -1.0) > self._clock()

    def of(self, peer: str) -> list[bytes]:
        """Those that `peer` has."""
        known = self._peers.get(peer)
        if known is None:
            return []
        for name in [name for name in known if name not in self]:
            del known[name]
        return list(known)

    def ids(self) -> list[bytes]:
        """All of them."""
        now = self._clock()
        while self._until and next(iter(self._until.values())) <= now:
            self._until.popitem(last=False)
        return list(self._until)
