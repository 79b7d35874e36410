"""How much a wallet may upload: the bytes of its tier within the time that unreferenced blocks are kept.

What is deployed is limited by the tier again, by size; this bounds what is uploaded and never deployed.
Wallets cost nothing to make, so all of the free tier are counted together, too, under the name FREE.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from decentraspace.api.state import State
from decentraspace.errors import TooMany
from decentraspace.units import size_of

FREE = b""
_WRITE_EVERY = 64 * 1024 * 1024  # bytes counted in memory only, at most


class Allowances:
    """Shared by all uploads of a node; thread-safe. `window`: seconds."""

    def __init__(self, state: State, window: float) -> None:
        self._state, self._window = state, max(window, 60.0)
        self._lock = threading.Lock()
        self._under_way: dict[bytes, int] = {}

    @contextmanager
    def counter(self, owner: bytes, most: int) -> Iterator[Counter]:
        """For one upload; blocking. `most`: bytes the wallet may upload within the window."""
        counter = Counter(self, owner, most)
        try:
            yield counter
        finally:
            counter.write()

    def add(self, owner: bytes, size: int) -> int:
        with self._lock:
            total = self._under_way[owner] = self._under_way.get(owner, 0) + size
            if not total:
                del self._under_way[owner]
            return total

    def before(self, owner: bytes) -> int:
        return self._state.uploaded(owner, self._window)

    def write(self, owner: bytes, size: int) -> None:
        self._state.count_upload(owner, size, self._window)
        self.add(owner, -size)

    def refuse(self, owner: bytes, most: int) -> TooMany:
        who = "All of the free tier together" if owner == FREE else "This wallet"
        return TooMany(
            f"{who} may upload {size_of(most)} in {self._window / 60:.0f} minutes, and that is used up",
            hint="Wait, or ask the operator for the paid tier.",
            slug="upload-allowance",
            limit=most,
        )


class Counter:
    """One thread's count; `add` raises TooMany beyond the allowance."""

    def __init__(self, all_: Allowances, owner: bytes, most: int) -> None:
        self._all, self._owner, self._most = all_, owner, most
        self._before = all_.before(owner)
        self._unwritten = 0
        if self._before >= most:
            raise all_.refuse(owner, most)

    def add(self, size: int) -> None:
        self._unwritten += size
        if self._before + self._all.add(self._owner, size) > self._most:
            raise self._all.refuse(self._owner, self._most)
        if self._unwritten >= _WRITE_EVERY:
            self.write()

    def write(self) -> None:
        size, self._unwritten = self._unwritten, 0
        if size:
            self._all.write(self._owner, size)
            self._before += size
