"""What a worker served, counted per site and handed to the node once a second.

A batch has this worker's name and a number, is sent again until the node says it is on disk, and only
then is the next one made. The node counts each (name, number) once, so a batch whose acknowledgement was
lost counts once. A worker that is told to end hands over all it has. One that is killed takes with it what
it counted since its last acknowledged batch (about a second's worth while the node answers): never is
anything counted twice, and what a client was served may in that case be missing.
"""

from __future__ import annotations

import asyncio
import time
import uuid

from decentraspace.gateway.control import ControlClient

_EVERY = 1.0  # seconds
_DEADLINE = 10.0
_ROWS_MOST = 20_000  # per batch: what fits a frame
_LAST_DEADLINE = 2.0  # seconds to hand over the rest at the end


class UsageCounter:
    """`add` is on the hot path: one dictionary look-up."""

    def __init__(self, control: ControlClient) -> None:
        self._control = control
        self._worker = uuid.uuid4().hex
        self._number = 0
        self._counts: dict[tuple[str, int], list[int]] = {}
        self._batch: list[list[str | int]] | None = None

    def add(self, site: str, status: int, size: int) -> None:
        """One answer of `size` body bytes. `site` is a site id, or empty for content asked for by CID."""
        key = (site, status // 100)
        counts = self._counts.get(key)
        if counts is None:
            self._counts[key] = [1, size]
        else:
            counts[0] += 1
            counts[1] += size

    async def run(self) -> None:
        while True:
            await asyncio.sleep(_EVERY)
            # What is counted meanwhile has time until the next turn: under load there is always something, and to
            # write it down at once would have the node's disk sync without a pause.
            left = len(self._counts) + len(self._batch or ())
            while left > 0 and (handed := await self.flush()):
                left -= handed

    async def flush_all(self) -> None:
        """At the end of the worker, after `run` was cancelled: a batch that was under way goes again."""
        try:
            async with asyncio.timeout(_LAST_DEADLINE):
                while await self.flush():
                    pass
        except TimeoutError:
            return  # the node does not answer

    async def flush(self) -> int:
        """Hand over one batch; how many rows the node has acknowledged."""
        if self._batch is None:
            if not self._counts:
                return 0
            # Counts are at most a second old when they leave: their hour is this one.
            hour = int(time.time()) // 3600
            keys = list(self._counts)[:_ROWS_MOST]
            self._batch = [[site, hour, status, *self._counts.pop((site, status))] for site, status in keys]
            self._number += 1
        done = await self._control.ask(
            "usage", _DEADLINE, worker=self._worker, number=self._number, rows=self._batch
        )
        if not done:
            return 0
        handed, self._batch = len(self._batch), None
        return handed
