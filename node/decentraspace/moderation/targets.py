"""What an operator can block: content by its CID, a site, all sites of an owner."""

from __future__ import annotations

import re
from typing import NamedTuple

from decentraspace.content import cid as cids
from decentraspace.content import denied, denylist
from decentraspace.errors import BadInput
from decentraspace.identity.ethereum import checksum_address, parse_address

KINDS = ("cid", "site", "owner")
_SITE = re.compile(r"[a-z2-7]{16}")


class Target(NamedTuple):
    """`text` in its one spelling; `digest` finds it among the rules; `hash` is what a log says of it that
    must not name it."""

    kind: str
    text: str
    digest: bytes
    hash: str
    hash_digest: bytes


def parse(kind: str, text: str) -> Target:
    """BadInput. A CID may be written as `/ipfs/CID`, a site as its host or URL."""
    text = text.strip()
    if kind == "cid":
        cid = cids.parse(text.removeprefix("ipfs://").removeprefix("/ipfs/").rstrip("/"))
        subject = denylist.content(cid)
        hashed = denylist.modern(subject, "")
        return Target(
            kind,
            cids.to_text(cid),
            denylist.exact(subject, ""),
            denylist.double_hash(hashed),
            denylist.double(hashed),
        )
    if kind == "site":
        first = re.sub(r"^https?://", "", text.lower()).partition("/")[0].partition(".")[0]
        site = first.partition(":")[0].rpartition("--")[2]
        if not _SITE.fullmatch(site):
            raise BadInput(f"{text[:80]!r} is neither a site id nor a site's host")
        return _named(kind, site, denied.site_digest(site), "site:" + site)
    if kind == "owner":
        owner = parse_address(text)
        return _named(kind, checksum_address(owner), denied.owner_digest(owner), "owner:" + owner.hex())
    raise BadInput(f"{kind[:40]!r} cannot be blocked; there are: {', '.join(KINDS)}")


def _named(kind: str, text: str, digest: bytes, hashed: str) -> Target:
    return Target(kind, text, digest, denylist.double_hash(hashed), denylist.double(hashed))
