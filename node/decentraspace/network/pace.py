"""How long a peer keeps this node waiting in an exchange, against what it moves: a minimum of progress."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import trio

_SLOWEST = 1024  # bytes that make up for a second of waiting
LAG_MOST = 60.0  # seconds of waiting that no bytes have made up for, after which the exchange ends


class Pace:
    """Of one exchange with one peer; what this node itself takes does not count."""

    def __init__(self) -> None:
        self._lag = 0.0
        self._since: float | None = None

    @property
    def lag(self) -> float:
        """Seconds the peer was waited for, beyond what it moved in them; also those being excused."""
        return self._lag + (0.0 if self._since is None else trio.current_time() - self._since)

    def moved(self, size: int) -> None:
        self._lag = max(0.0, self._lag - size / _SLOWEST)

    @contextmanager
    def waiting(self, most: float, excused: float = 0.0) -> Iterator[None]:
        """Wait for the peer, `most` seconds and `excused` ones that do not count. trio.TooSlowError then,
        and when the peer has made no progress for too long in all."""
        began = trio.current_time()
        self._since = began
        try:
            with trio.fail_after(max(0.0, min(most, LAG_MOST - self._lag)) + excused):
                yield
        finally:
            self._lag += max(0.0, trio.current_time() - began - excused)
            self._since = None
