"""Leaving the network in good order: nothing is let go before enough others hold it.

A node that leaves takes no deploys and no share, and says so; the nodes that come after it in rank copy what
it holds (shares.py). Once they have, it is safe to stop it. A restart takes the leave back.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog
import trio

from decentraspace.holdings import Holdings
from decentraspace.records.store import RecordStore, SiteHead
from decentraspace.shares import Shares

log = structlog.get_logger(__name__)

_NAMED_MOST = 20
# Seconds from the announcement until what others hold counts: some may be about to let go of what this node
# holds as well, and do not when they have heard of it.
_HEARD = 3.0


@dataclass(frozen=True)
class Progress:
    """`heard`: the others have had time to hear of it. `waiting` sites, of `waiting_bytes` bytes, are held
    here and not by enough others; `sites`: the newest versions held here when the leave began, and those that
    have come since. `named`: some that wait."""

    leaving: bool
    heard: bool
    others: int
    sites: int
    waiting: int
    waiting_bytes: int
    named: tuple[SiteHead, ...]

    @property
    def safe(self) -> bool:
        """Whether the node can be stopped without the network losing a copy it counts on."""
        return self.leaving and self.heard and self.waiting == 0


class Leaving:
    """`on_change` announces that the node leaves, or no longer does."""

    def __init__(
        self,
        records: RecordStore,
        shares: Shares,
        holdings: Holdings,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._records, self._shares, self._holdings, self.clock = records, shares, holdings, clock
        self.on_change: Callable[[], Awaitable[None]] = trio.lowlevel.checkpoint
        self._told: float | None = None  # when the leave was announced
        self._seen: set[bytes] = set()  # versions held at some time since the leave began

    async def set(self, leaving: bool) -> None:
        """Begin to leave, or stay after all. Repeating it changes nothing, unless the announcement failed."""
        if leaving != self._shares.leaving:
            log.info("leaving" if leaving else "staying")
            self._shares.leaving = leaving
            self._seen, self._told = set(), None
        elif self._told is not None or not leaving:
            return
        await self.on_change()
        self._told = self.clock() if leaving else None

    def progress(self) -> Progress:
        """How far it is. Blocking."""
        live = self._shares.live()
        held = [head for head in self._records.all_heads() if self._holdings.holds(head.cid)]
        waiting = [head for head in held if not self._shares.enough_others(head, live)]
        if self._shares.leaving:
            self._seen |= {head.cid for head in held}
        return Progress(
            self._shares.leaving,
            self._told is not None and self.clock() - self._told >= _HEARD,
            len(live - {self._shares.key}),
            max(len(held), len(self._seen)),
            len(waiting),
            sum(head.size for head in waiting),
            tuple(waiting[:_NAMED_MOST]),
        )
