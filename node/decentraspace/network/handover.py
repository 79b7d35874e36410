"""Accepted records on their way from the network to the rest of the node: in order, as many at once as wait."""

from __future__ import annotations

from collections.abc import Sequence

import trio

from decentraspace.records.store import AddResult


class Handover:
    """Who brings records waits while `most` or more wait for the one that takes them."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._waiting: list[AddResult] = []
        self._came, self._went = trio.lowlevel.ParkingLot(), trio.lowlevel.ParkingLot()

    def __len__(self) -> int:
        return len(self._waiting)

    async def put(self, results: Sequence[AddResult]) -> None:
        while len(self._waiting) >= self._most:
            await self._went.park()
        self._waiting.extend(results)
        self._came.unpark_all()

    async def take(self) -> list[AddResult]:
        """All that wait, at least one; for one taker."""
        while not self._waiting:
            await self._came.park()
        taken, self._waiting = self._waiting, []
        self._went.unpark_all()
        return taken
