"""Carries what the chain says of sites from the ledger, which follows it, to the records, which it decides about.

The records keep their own place: after a crash, or with a record store that is new, they catch up from what the
ledger has on disk.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import structlog
import trio

from decentraspace.carrying_on import carrying_on
from decentraspace.hosting import Hosting
from decentraspace.identity.ethereum import parse_address
from decentraspace.ledger.store import Ledger
from decentraspace.records.ownership import ALL_SITES, Ended, Fact, Transfer
from decentraspace.records.store import RecordStore

log = structlog.get_logger(__name__)

_LOOK_LEAST = 2.0  # seconds between looks at the chain that somebody's deploy gives rise to


class Owning:
    """`look`: has the ledger take over what has become final since."""

    def __init__(
        self, ledger: Ledger, records: RecordStore, hosting: Hosting, look: Callable[[], Awaitable[None]]
    ) -> None:
        self._ledger, self._records, self._hosting, self._look = ledger, records, hosting, look
        self._lock, self._looking = trio.Lock(), trio.Lock()
        self._looked = -_LOOK_LEAST

    async def catch_up(self) -> None:
        """Take over all that the ledger knows. Repeating it changes nothing."""
        with carrying_on(log, "ownership_not_followed"):
            async with self._lock:
                while await self._page():
                    pass

    async def _page(self) -> bool:
        source = await trio.to_thread.run_sync(self._ledger.source)
        if source is None:
            return False
        after = await trio.to_thread.run_sync(self._records.chain_cursor, source)
        page = await trio.to_thread.run_sync(self._ledger.site_events, after)
        if page.next_block <= after:
            return False
        facts = [fact for event in page.events if (fact := fact_of(event)) is not None]
        await self._hosting.follow_chain(facts, source, page.next_block)
        return page.more

    async def look(self) -> None:
        """See now whether the chain says something new: somebody is waiting for it."""
        async with self._looking:
            if time.monotonic() - self._looked < _LOOK_LEAST:
                return
            with carrying_on(log, "chain_not_looked_at"):
                await self._look()
            self._looked = time.monotonic()


def fact_of(event: Mapping[str, Any]) -> Fact | None:
    """An event as the hook `chain_events` tells it; None for one that names nobody."""
    block, place, at, site = event["block"], event["index"], event["time"], event.get("site")
    owner = event.get("owner")
    if site is None or owner is None:
        return None
    if event["kind"] == "site_transferred":
        return Transfer(site, block, place, at, parse_address(owner))
    return Ended(
        parse_address(owner), "" if site == ALL_SITES else site, block, place, at, event.get("before", at)
    )
