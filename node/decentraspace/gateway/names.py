"""Names that stand for content: keys (IPNS), and names that the node looks up (DNSLink), followed to a CID.

A site's name leads to what its host shows; other keys' records are read where the node keeps them.
Sources: https://specs.ipfs.tech/ipns/ipns-record/, https://dnslink.dev/.
"""

from __future__ import annotations

import time
from typing import NamedTuple

from decentraspace.content import cid as cids
from decentraspace.content import ipns, reader, siteindex
from decentraspace.content.blockstore import BlockStore
from decentraspace.errors import (
    BadInput,
    Blocked,
    DecentraSpaceError,
    NotFound,
    Unavailable,
    Unprocessable,
)
from decentraspace.gateway.links import Known, Links
from decentraspace.gateway.refusals import Refusals
from decentraspace.gateway.request import PATH_MOST, parse_cid, refusal
from decentraspace.gateway.supply import Supply
from decentraspace.names.links import SITE
from decentraspace.records import naming

_STEPS = 16  # names that lead to names
_TTL_MOST = 7 * 86400  # seconds


class Found(NamedTuple):
    """`cache`: the Cache-Control of what the name shows now; `site`: the id of the site whose name it is, or
    empty."""

    root: bytes
    cache: str
    site: str = ""


class _Site(NamedTuple):
    entry: siteindex.SiteEntry
    record: bytes


class Names:
    """`links`: where names that are no keys lead. `known`: what the node may know that the store lacks."""

    def __init__(
        self, store: BlockStore, supply: Supply, links: Links, known: Known, refusals: Refusals
    ) -> None:
        self._records, self._of_sites = ipns.NameStore(store), ipns.SiteNames(store)
        self._index = siteindex.SiteIndex(store)
        self._supply, self.links, self._known, self._refusals = supply, links, known, refusals

    @staticmethod
    def key_of(text: str) -> bytes | None:
        """The name of a key, or None for text that is none, such as a DNS name."""
        try:
            return ipns.parse_name(text)
        except BadInput:
            return None

    @staticmethod
    def text_of(key: bytes) -> str:
        return ipns.name_text(key)

    async def record(self, name: str) -> ipns.Record:
        """The record to give for a key's name: of a site, what its newest version carries; else the newest here.
        Refused without one."""
        key = self.key_of(name)
        if key is None:
            raise refusal(400, "Not a key", "Only keys have records.", path=f"/ipns/{name[:200]}")
        self._refusals.check_name(name, "")
        site = await self._site_of(key)
        if site is not None:
            try:
                return ipns.verify(key, site.record)
            except Unprocessable:
                pass  # it is over; the name leads to the site nevertheless
        found = self._records.get(key)
        if found is None:
            raise refusal(
                502, "Name not resolved", "This node has no valid record of what that name stands for."
            )
        return found

    async def _site_of(self, key: bytes) -> _Site | None:
        """Whose name it is. Refused for a site that is not served."""
        for again in (True, False):
            named = self._of_sites.get(key)
            entry = self._index.get(named[0]) if named is not None else None
            if named is not None and entry is not None:
                self._refusals.check_shown(entry)
                return _Site(entry, named[1])
            if not again or self._records.get(key) is not None:
                break
            if not await self._known.resolved(ipns.name_text(key)):
                break
        return None

    async def resolve(self, name: str) -> Found:
        """What a name leads to, through other names and folders. Refused where it leads nowhere."""
        path, ttl = f"/ipns/{name}", _TTL_MOST
        seen: set[str] = set()
        site = ""
        for _ in range(_STEPS):
            space, name, rest = _split(path)
            if space == "ipfs":
                root = await self._below(parse_cid(name, path), rest)
                return Found(root, f"public, max-age={ttl}", site)
            self._refusals.check_name(name, rest)
            if path in seen:
                raise refusal(502, "Name not resolved", "The name leads back to itself.")
            seen.add(path)
            path, holds, site = await self._next(name)
            path, ttl = path.rstrip("/") + rest, min(ttl, holds)
            if len(path) > PATH_MOST:
                break
        raise refusal(502, "Name not resolved", "The name leads to too many others.")

    async def leads(self, host: str) -> str | None:
        """Where a host leads that is not the gateway's own: as Link has it. Refused while nobody can say: what is
        served under a name is its owner's choice alone."""
        found = await self.links.get(host)
        if found.failed:
            raise refusal(502, "Name not resolved", found.failed)
        return found.path

    async def _next(self, name: str) -> tuple[str, int, str]:
        """(content path, seconds it holds, the site whose name it is) of a name."""
        key = self.key_of(name)
        if key is not None:
            site = await self._site_of(key)
            if site is not None:
                # Not what the record says: a version may carry none, and the site goes on.
                return f"/ipfs/{cids.to_text(site.entry.root)}", naming.TTL, site.entry.site_id
            record = await self.record(name)
            return record.value, max(0, min(record.ttl, int(record.until - time.time()))), ""
        found = await self.links.get(name.lower().rstrip("."))
        if found.failed:
            raise refusal(502, "Name not resolved", found.failed)
        if found.path is None:
            raise refusal(
                404, "No such name", f"Nothing says what content {name[:200]} stands for: it has no DNSLink."
            )
        if found.path.startswith(SITE):
            entry = await self._shown(found.path[len(SITE) :])
            return f"/ipfs/{cids.to_text(entry.root)}", int(found.ttl), entry.site_id
        return found.path, int(found.ttl), ""

    async def _shown(self, label: str) -> siteindex.SiteEntry:
        entry = self._index.get(label)
        if entry is None and await self._known.resolved(label):
            entry = self._index.get(label)
        if entry is None:
            raise refusal(404, "No such site", "The name leads to a site that this node does not know.")
        self._refusals.check_shown(entry)
        return entry

    async def _below(self, root: bytes, path: str) -> bytes:
        segments = [part for part in path.split("/") if part]
        if not segments:
            return root
        try:
            found = await self._supply.patiently(
                root, lambda: reader.resolve(self._supply.verified, root, segments)
            )
        except NotFound as error:
            raise refusal(404, "Not found", str(error)) from error
        except TimeoutError as error:
            raise refusal(504, "Not in time", "No node gave the content in time. Try again.") from error
        except (Unavailable, Blocked):
            raise
        except DecentraSpaceError as error:
            raise refusal(502, "Content is damaged", str(error)) from error
        return found.stat.cid


def _split(path: str) -> tuple[str, str, str]:
    """(ipfs or ipns, CID or name, the rest with its slash) of a content path; plain CIDs count as /ipfs/."""
    parts = path.split("/", 3)
    if len(parts) < 3 or parts[0] or parts[1] not in ("ipfs", "ipns"):
        try:
            cids.parse(path)
        except BadInput as error:
            raise refusal(502, "Name not resolved", "The name stands for no content path.") from error
        return "ipfs", path, ""
    return parts[1], parts[2], "/" + parts[3] if len(parts) > 3 else ""
