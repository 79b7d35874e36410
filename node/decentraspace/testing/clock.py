"""Time that passes when a test says so."""

from __future__ import annotations


class Clock:
    """`clock()` is the time, in whole seconds since 1970; give it to what takes a clock as an argument."""

    def __init__(self, now: int = 1_800_000_000) -> None:
        self.now = now

    def __call__(self) -> int:
        return self.now

    def advance(self, seconds: int) -> None:
        """ValueError for seconds below zero: set `now` where a clock is to go backwards."""
        if seconds < 0:
            raise ValueError(f"time does not pass by {seconds} seconds")
        self.now += seconds
