"""What a worker does not serve: the node's rules as it last saw them, and the page that says so.

Rules are looked at when something is not answered from memory; when they change, which every worker sees
within a quarter of a second, what is in memory is forgotten. A site that is blocked as such is flagged in
the index, which is read on every request.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import lmdb

from decentraspace.content import cid as cids
from decentraspace.content import denied
from decentraspace.content.blockstore import BlockStore
from decentraspace.content.denied import Denied, DenyRules
from decentraspace.content.denylist import GONE, LEGAL
from decentraspace.content.siteindex import FLAG_BLOCKED, FLAG_GONE, FLAG_PAUSED, SiteEntry, SiteIndex
from decentraspace.errors import BadInput, Blocked, Unavailable
from decentraspace.gateway import formats, pages
from decentraspace.gateway.page import NOSNIFF, Page
from decentraspace.gateway.request import Answered, refusal

_LOOK = 0.25  # seconds
_ALLOWED_MOST = 10_000  # answers kept
_PATH_KEPT = 256  # characters; longer ones would let strangers fill the memory


class Refusals:
    """`contact`, `api`: how to reach the operator, empty where that is not known. `epoch` counts changes."""

    def __init__(self, store: BlockStore, contact: str = "", api: str = "") -> None:
        self._rules, self._index = DenyRules(store), SiteIndex(store)
        self._contact, self._api = contact, api
        self._allowed: set[tuple[bytes, str]] = set()
        self.epoch = 0

    async def watch(self, changed: Callable[[], None]) -> None:
        """Follow the rules until cancelled."""
        while True:
            await asyncio.sleep(_LOOK)
            with suppress(lmdb.Error, Unavailable):  # then the next look sees them
                if self._rules.refresh():
                    self.epoch += 1
                    self._allowed.clear()
                    changed()

    # -- checks; all raise Blocked. Nothing is looked up where nothing is blocked.

    def check_content(self, root: bytes, path: str) -> None:
        """What a request by CID names."""
        if not self._rules.any or (root, path) in self._allowed:
            return
        found = self._rules.find(root, path)
        if found is not None:
            raise found.error(f"/ipfs/{cids.to_text(root)}")
        if len(path) <= _PATH_KEPT:
            if len(self._allowed) >= _ALLOWED_MOST:
                self._allowed.clear()
            self._allowed.add((root, path))

    def check_name(self, name: str, path: str) -> None:
        """A name of IPNS or DNS that content is asked for under; what it leads to is another question."""
        if not self._rules.any:
            return
        found = None
        with suppress(BadInput):
            found = self._rules.find_name(name, path)
        if found is not None:
            raise found.error(f"/ipns/{name}")

    def check_block(self, cid: bytes) -> None:
        """A block that is about to be read for somebody."""
        if self._rules.any and (found := self._rules.find_block(cid)) is not None:
            raise found.error("Content that this needs")

    def check_site(self, entry: SiteEntry, host: str, path: str) -> None:
        """A site's content at a path; or its name, as lists block names of IPNS."""
        if not self._rules.any:
            return
        if (found := self._rules.find(entry.root, path)) is not None:
            raise found.error("This site, or this page of it,")
        self.check_name(host, path)

    def check_shown(self, entry: SiteEntry) -> None:
        """A site that is flagged, as a whole. Answered, in its name."""
        if entry.flags & FLAG_BLOCKED:
            raise Answered(self.page(self.site(entry)), entry.site_id)
        if entry.flags & FLAG_PAUSED:
            raise refusal(402, "Paused", "This site is paused until its owner adds credit.", entry.site_id)

    def check_paid(self, root: bytes, scope: Any) -> None:
        """Content asked for by its CID that only paused sites show: visitors would have found a way around it. Other
        nodes go on getting its blocks."""
        if self._index.paused(root) is not None and not formats.verifies(scope):
            raise refusal(
                402, "Paused", "The site that consists of this is paused until its owner adds credit."
            )

    def site(self, entry: SiteEntry) -> Blocked:
        """Why a site that is flagged as blocked is."""
        found = self._rules.imposed(denied.site_digest(entry.site_id)) or self._rules.imposed(
            denied.owner_digest(entry.owner)
        )
        return (found or Denied(GONE if entry.flags & FLAG_GONE else LEGAL)).error("This site")

    def page(self, error: Blocked) -> Page:
        """Status 410 or 451 (RFC 7725), who decided, and how to object."""
        body = pages.blocked(error.status, str(error), self._contact, self._api)
        headers = [
            ("content-type", "text/html; charset=utf-8"),
            ("cache-control", "no-store"),
            NOSNIFF,
            ("access-control-allow-origin", "*"),
        ]
        if error.status == LEGAL and self._api:
            headers.append(("link", f'<{self._api}/moderation/>; rel="blocked-by"'))
        return Page(error.status, headers, body, size=len(body))
