"""Names that stand for content: keys (IPNS), and names that the node looks up (DNSLink), followed to a CID.

Records of keys are read where the node keeps them.
Sources: https://specs.ipfs.tech/ipns/ipns-record/, https://dnslink.dev/.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

from decentraspace.content import cid as cids
from decentraspace.content import ipns, reader
from decentraspace.content.blockstore import BlockStore
from decentraspace.errors import BadInput, Blocked, DecentraSpaceError, NotFound, Unavailable
from decentraspace.gateway.links import Links
from decentraspace.gateway.request import PATH_MOST, parse_cid, refusal
from decentraspace.gateway.supply import Supply

_STEPS = 16  # names that lead to names
_TTL_MOST = 7 * 86400  # seconds


class Found(NamedTuple):
    """`cache`: the Cache-Control of what the name shows now."""

    root: bytes
    cache: str


class Names:
    """`links`: where names that are no keys lead. `check` raises for a name and path that may not be followed."""

    def __init__(
        self,
        store: BlockStore,
        supply: Supply,
        links: Links,
        check: Callable[[str, str], None] = lambda name, path: None,
    ) -> None:
        self._records = ipns.NameStore(store)
        self._supply, self._links, self._check = supply, links, check

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

    def record(self, name: str) -> ipns.Record:
        """The newest record here of a key's name. Refused without one."""
        key = self.key_of(name)
        if key is None:
            raise refusal(400, "Not a key", "Only keys have records.", path=f"/ipns/{name[:200]}")
        self._check(name, "")
        found = self._records.get(key)
        if found is None:
            raise refusal(
                502, "Name not resolved", "This node has no valid record of what that name stands for."
            )
        return found

    async def resolve(self, name: str) -> Found:
        """What a name leads to, through other names and folders. Refused where it leads nowhere."""
        path, ttl = f"/ipns/{name}", _TTL_MOST
        seen: set[str] = set()
        for _ in range(_STEPS):
            space, name, rest = _split(path)
            if space == "ipfs":
                root = await self._below(parse_cid(name, path), rest)
                return Found(root, f"public, max-age={ttl}")
            self._check(name, rest)
            if path in seen:
                raise refusal(502, "Name not resolved", "The name leads back to itself.")
            seen.add(path)
            path, holds = await self._next(name)
            path, ttl = path.rstrip("/") + rest, min(ttl, holds)
            if len(path) > PATH_MOST:
                break
        raise refusal(502, "Name not resolved", "The name leads to too many others.")

    async def linked(self, host: str) -> bool:
        """Whether a host that is not the gateway's own has a link. Refused while nobody can say: what is
        served under a name is its owner's choice alone."""
        found = await self._links.get(host)
        if found.failed:
            raise refusal(502, "Name not resolved", found.failed)
        return found.path is not None

    async def _next(self, name: str) -> tuple[str, int]:
        """(content path, seconds it holds) of a name."""
        if self.key_of(name) is not None:
            record = self.record(name)
            return record.value, max(0, min(record.ttl, int(record.until - time.time())))
        found = await self._links.get(name.lower().rstrip("."))
        if found.failed:
            raise refusal(502, "Name not resolved", found.failed)
        if found.path is None:
            raise refusal(
                404, "No such name", f"Nothing says what content {name[:200]} stands for: it has no DNSLink."
            )
        return found.path, int(found.ttl)

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
