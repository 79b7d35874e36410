"""Leaving the network in good order: nothing is let go before enough others hold it.

A node that leaves takes no deploys and no share, and says so; the nodes that come after it in rank copy what
it holds (shares.py). Once they have, it is safe to stop it. A restart takes the leave back.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import structlog

from decentraspace.holdings import Holdings
from decentraspace.records.store import RecordStore, SiteHead
from decentraspace.shares import Shares

log = structlog.get_logger(__name__)

_NAMED_MOST = 20


@dataclass(frozen=True)
class Progress:
    """`waiting` sites, of `waiting_bytes` bytes, are held here and not by enough others; `sites`: the newest
    versions held here when the leave began, and those that have come since. `named`: some that wait."""

    leaving: bool
    others: int
    sites: int
    waiting: int
    waiting_bytes: int
    named: tuple[SiteHead, ...]

    @property
    def safe(self) -> bool:
        """Whether the node can be stopped without the network losing a copy it counts on."""
        return self.leaving and self.waiting == 0


class Leaving:
    """`on_change` is called when the node begins to leave or no longer does: it announces that."""

    def __init__(self, records: RecordStore, shares: Shares, holdings: Holdings) -> None:
        self._records, self._shares, self._holdings = records, shares, holdings
        self.on_change: Callable[[], None] = lambda: None
        self._seen: set[bytes] = set()  # versions held at some time since the leave began

    def set(self, leaving: bool) -> None:
        """Begin to leave, or stay after all. Repeating it changes nothing."""
        if leaving != self._shares.leaving:
            log.info("leaving" if leaving else "staying")
            self._shares.leaving = leaving
            self._seen = set()
            self.on_change()

    def progress(self) -> Progress:
        """How far it is. Blocking."""
        live = self._shares.live()
        held = [head for head in self._records.all_heads() if self._holdings.holds(head.cid)]
        waiting = [head for head in held if not self._shares.enough_others(head, live)]
        if self._shares.leaving:
            self._seen |= {head.cid for head in held}
        return Progress(
            self._shares.leaving,
            len(live - {self._shares.key}),
            max(len(held), len(self._seen)),
            len(waiting),
            sum(head.size for head in waiting),
            tuple(waiting[:_NAMED_MOST]),
        )
