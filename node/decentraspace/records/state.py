"""What a site is, given the records known about it: a pure function, the same in any order of arrival.

Versions form a tree by `prev`. A version counts when its wallet owned the site (ownership.py), its key was not
revoked, its number follows its parent's, its delegation is not older than its parent's, and its parent counts (a
parent that is not known is not held against it; nor is what became of an earlier owner's). The head is the version
of the latest owner, then with the newest delegation, then the highest number, then the lowest CID. Why the
delegation comes first: docs/discussion/records.md.

`resolve_site` is the rule. The store applies the same parts to what a new record touches (chains.py); a
test compares the two.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from decentraspace.records.ownership import Ownership, place


class Version(NamedTuple):
    """The parts of a verified manifest that decide. `wallet`: who delegated to `key`, at `issued_at`; `taken`: the
    earliest time at which a sponsor says that it took it; `epoch`: in which owner's time it falls."""

    cid: bytes
    seq: int
    prev: bytes | None
    key: bytes
    issued_at: int
    wallet: bytes = b""
    taken: int = 0
    epoch: int = 0

    @property
    def rank(self) -> tuple[int, int, int, bytes]:
        """The lowest goes first."""
        return -self.epoch, -self.issued_at, -self.seq, self.cid


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


def resolve_site(
    versions: Collection[Version],
    revocations: Mapping[bytes, Collection[Revoked]],
    site: str,
    ownership: Ownership | None = None,
) -> SiteState:
    """The state of one channel of a site. `revocations`: by the wallet that delegated; `ownership` None: whose the
    site is does not matter."""
    voids = {wallet: standing(known, site) for wallet, known in revocations.items()}
    known: dict[bytes, Version] = {}
    refused: dict[bytes, str] = {}
    for version in versions:
        where = place(ownership, version.wallet, version.issued_at, version.taken) if ownership else None
        known[version.cid] = version._replace(epoch=where.epoch) if where else version
        if where and where.refused:
            refused[version.cid] = where.refused
    valid: set[bytes] = set()
    # Parents before children: a child's number is higher, or that is what it is refused for.
    for version in sorted(known.values(), key=lambda v: (v.seq, v.cid)):
        if version.cid in refused:
            continue
        parent = known.get(version.prev or b"")
        reason = objection(
            version, parent, parent is None or parent.cid in valid, voids.get(version.wallet, {})
        )
        if reason:
            refused[version.cid] = reason
        else:
            valid.add(version.cid)
    head = min((known[cid] for cid in valid), key=lambda v: v.rank, default=None)
    return SiteState(head.cid if head else None, frozenset(valid), refused, equivocations(known.values()))


def objection(version: Version, parent: Version | None, parent_valid: bool, voids: Voids) -> str | None:
    """Why a version does not count whose wallet owned the site, or None. `voids`: of its wallet."""
    for revocation in voids.get(version.key, ()):
        if revocation.issued_at > version.issued_at and version.seq > revocation.after:
            return "revoked-key"
    if parent is None:
        return None
    if version.seq != parent.seq + 1:
        return "wrong-sequence"
    if parent_valid:
        older = (version.epoch, version.issued_at) < (parent.epoch, parent.issued_at)
        return "older-delegation" if older else None
    if version.epoch > parent.epoch or version.wallet != parent.wallet:
        # Whoever sold a site could else pull down, by revoking an old key, what the buyer has built on it.
        return None
    return "older-delegation" if version.issued_at < parent.issued_at else "refused-parent"


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
