"""What a site is, given the records known about it: a pure function, the same in any order of arrival.

Versions form a tree by `prev`. A version counts when its key was not revoked, its number follows its
parent's, its delegation is not older than its parent's, and its parent counts (a parent that is not known
is not held against it). The head is the version with the newest delegation, then the highest number, then
the lowest CID. Why the delegation comes first: docs/discussion/records.md.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import NamedTuple


class Version(NamedTuple):
    """The parts of a verified manifest that decide."""

    cid: bytes
    seq: int
    prev: bytes | None
    key: bytes
    issued_at: int


class Revoked(NamedTuple):
    """The parts of a verified revocation that decide. `key`: revoked; `signer`: who says so, under a
    delegation of `issued_at`; `site` None: all sites, from version 1."""

    key: bytes
    signer: bytes
    issued_at: int
    site: str | None
    after: int


@dataclass(frozen=True)
class SiteState:
    """`head`: CID or None; `valid`: CIDs that count; `refused`: CID -> why not; `equivocations`: pairs of
    versions by one key with one number, lower CID first: evidence."""

    head: bytes | None
    valid: frozenset[bytes]
    refused: dict[bytes, str]
    equivocations: frozenset[tuple[bytes, bytes]]


def resolve_site(versions: Collection[Version], revocations: Collection[Revoked], site: str) -> SiteState:
    """The state of one channel of a site."""
    effective = _effective(revocations)
    known = {version.cid: version for version in versions}
    refused: dict[bytes, str] = {}
    valid: set[bytes] = set()
    # Parents before children: a child's number is higher or the child is refused for that.
    for version in sorted(known.values(), key=lambda v: (v.seq, v.cid)):
        reason = _objection(version, known.get(version.prev or b""), valid, effective, site)
        if reason:
            refused[version.cid] = reason
        else:
            valid.add(version.cid)
    head = min(valid, key=lambda c: (-known[c].issued_at, -known[c].seq, c), default=None)
    return SiteState(head, frozenset(valid), refused, _equivocations(known.values()))


def _objection(
    version: Version,
    parent: Version | None,
    valid: set[bytes],
    revocations: Collection[Revoked],
    site: str,
) -> str | None:
    for revocation in revocations:
        if (
            revocation.key == version.key
            and revocation.issued_at > version.issued_at
            and revocation.site in (None, site)
            and version.seq > revocation.after
        ):
            return "revoked-key"
    if parent is None:
        return None
    if version.seq != parent.seq + 1:
        return "wrong-sequence"
    if version.issued_at < parent.issued_at:
        return "older-delegation"
    if parent.cid not in valid:
        return "refused-parent"
    return None


def _effective(revocations: Collection[Revoked]) -> list[Revoked]:
    """Without those whose signer was itself revoked, on all sites, under a newer delegation."""
    kept: list[Revoked] = []
    for revocation in sorted(
        revocations, key=lambda r: (-r.issued_at, r.key, r.signer, r.site or "", r.after)
    ):
        if not any(
            newer.key == revocation.signer and newer.site is None and newer.issued_at > revocation.issued_at
            for newer in kept
        ):
            kept.append(revocation)
    return kept


def _equivocations(versions: Collection[Version]) -> frozenset[tuple[bytes, bytes]]:
    lowest: dict[tuple[bytes, int], bytes] = {}
    pairs: set[tuple[bytes, bytes]] = set()
    for version in sorted(versions, key=lambda v: v.cid):
        first = lowest.setdefault((version.key, version.seq), version.cid)
        if first != version.cid:
            pairs.add((first, version.cid))
    return frozenset(pairs)
