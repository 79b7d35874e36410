"""Lets go of sites that nobody has paid for through the grace period, after warnings; takes them up again when
somebody does.

The ledger says which (ledger/removals.py), and remembers it: after a crash what is left is let go at the next look.
Blocks that no other pin needs are collected as any garbage is.
"""

from __future__ import annotations

import time
from typing import Any

import structlog
import trio

from decentraspace.hosting import Hosting
from decentraspace.ledger.rollup import address
from decentraspace.ledger.service import Hooks
from decentraspace.ledger.store import Ledger

log = structlog.get_logger(__name__)


class Removing:
    def __init__(self, ledger: Ledger, hosting: Hosting, hooks: Hooks) -> None:
        self._ledger, self._hosting, self._hooks = ledger, hosting, hooks

    async def look(self) -> None:
        """Tell who is to be told, and have what is held follow. Repeating it changes nothing."""
        found = await trio.to_thread.run_sync(self._ledger.look_at_removals, int(time.time()))
        for owner, site, seconds in found.soon:
            await self._tell("site_removed_soon", owner, site, seconds)
        for owner, site in found.gone:
            await self._tell("site_removed", owner, site, 0)
        for site in await trio.to_thread.run_sync(self._still_held):
            await self._hosting.let_go(site, self._ledger.is_removed)
        for site in found.back:
            log.info("site_taken_up_again", site=site)
            for channel in await trio.to_thread.run_sync(self._hosting.records.channels, site):
                self._hosting.copies.enqueue(site, channel)

    async def _tell(self, what: str, owner: bytes, site: str, seconds: int) -> None:
        more: dict[str, Any] = {"seconds": seconds} if seconds else {}
        log.warning(what, owner=address(owner), site=site, **more)
        await self._hooks.call("site_removal", owner=address(owner), site=site, seconds=seconds)

    def _still_held(self) -> set[str]:
        return {
            head.site_id
            for head in self._hosting.holdings.versions()
            if self._ledger.is_removed(head.site_id)
        }
