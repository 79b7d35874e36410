"""What a site is, given the records known about it: a pure function, the same in any order of arrival.

Versions form a tree by `prev`. A version counts when its key was not revoked, its number follows its
parent's, its delegation is not older than its parent's, and its parent counts (a parent that is not known
is not held against it). The head is the version with the newest delegation, then the highest number, then
the lowest CID. Why the delegation comes first: docs/discussion/records.md.

`resolve_site` is the rule. The store applies the same parts to what a new record touches (chains.py); a
test compares the two.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
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


Voids = Mapping[bytes, Collection[Revoked]]
"""Revocations that stand, by the key they revoke."""


def resolve_site(versions: Collection[Version], revocations: Collection[Revoked], site: str) -> SiteState:
    """The state of one channel of a site. `revocations`: all of the site's owner."""
    voids = standing(revocations, site)
    known = {version.cid: version for version in versions}
    refused: dict[bytes, str] = {}
    valid: set[bytes] = set()
    # Parents before children: a child's number is higher, or that is what it is refused for.
    for version in sorted(known.values(), key=lambda v: (v.seq, v.cid)):
        parent = known.get(version.prev or b"")
        reason = objection(version, parent, parent is None or parent.cid in valid, voids)
        if reason:
            refused[version.cid] = reason
        else:
            valid.add(version.cid)
    head = min(valid, key=lambda c: (-known[c].issued_at, -known[c].seq, c), default=None)
    return SiteState(head, frozenset(valid), refused, equivocations(known.values()))


def objection(version: Version, parent: Version | None, parent_valid: bool, voids: Voids) -> str | None:
    """Why a version does not count, or None."""
    for revocation in voids.get(version.key, ()):
        if revocation.issued_at > version.issued_at and version.seq > revocation.after:
            return "revoked-key"
    if parent is None:
        return None
    if version.seq != parent.seq + 1:
        return "wrong-sequence"
    if version.issued_at < parent.issued_at:
        return "older-delegation"
    if not parent_valid:
        return "refused-parent"
    return None


def standing(revocations: Iterable[Revoked], site: str) -> Voids:
    """Those that stand for `site`: not signed by a key that a newer delegation revoked, for this site or all.

    Newest first, so that whoever might overrule a revocation has been judged before it. How far back
    (`after`) a signer was revoked does not matter: a thief has no versions one would want to keep.
    """
    kept: dict[bytes, list[Revoked]] = {}
    for revocation in sorted(revocations, key=lambda r: (-r.issued_at, r.after)):
        if revocation.site not in (None, site):
            continue
        overruling = kept.get(revocation.signer)  # newest first
        if overruling and overruling[0].issued_at > revocation.issued_at:
            continue
        against = kept.setdefault(revocation.key, [])
        # An older one says something only if it reaches further back.
        if not against or revocation.after < against[-1].after:
            against.append(revocation)
    return kept


def equivocations(versions: Iterable[Version]) -> frozenset[tuple[bytes, bytes]]:
    """Pairs that one key signed with one number: each with the one of lowest CID, which comes first."""
    lowest: dict[tuple[bytes, int], bytes] = {}
    pairs: set[tuple[bytes, bytes]] = set()
    for version in sorted(versions, key=lambda v: v.cid):
        first = lowest.setdefault((version.key, version.seq), version.cid)
        if first != version.cid:
            pairs.add((first, version.cid))
    return frozenset(pairs)
