"""Whose a site is when, as the chain says: a pure function of final events, the same in any order of arrival.

A site is its founder's, whose wallet and label its id is the hash of, until the registry contract says that it was
given away. Each owner's time is an **epoch**: the founder's is number 0. `place` of a version in them:

    wallet      must own the site in that epoch,
    taken       the sponsor's time of taking, must lie before the block that ended it,
    issued_at   of its delegation: not before the end of an earlier epoch of the same wallet, so that what was
                delegated before a sale does not come back to life when the site does

and the last such epoch is the version's. There is no lower bound on `taken`: who will own a site may well have been
early, and the owner before is outranked in any case. Why this is so: docs/discussion/records.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

NOT_OWNER = "not-owner"
"""Why a version does not count whose wallet never owned the site, as far as is known: it may yet."""
TRANSFERRED = "transferred"
ENDED = "ended-delegation"
ALL_SITES = "a" * 16
"""Site id 0: a wallet's revocation on chain for all its sites."""


class Transfer(NamedTuple):
    """From the block `(block, place)` of `time` (Unix seconds) on, `owner` (20 bytes) owns `site`."""

    site: str
    block: int
    place: int
    time: int
    owner: bytes


class Ended(NamedTuple):
    """What `owner` delegated before `before` for `site` (all its sites: "") ended with the block of `time`."""

    owner: bytes
    site: str
    block: int
    place: int
    time: int
    before: int


Fact = Transfer | Ended


class Epoch(NamedTuple):
    """`until`: time of the block in which the site changed hands; None while it has not."""

    owner: bytes
    since: int
    until: int | None


class Ownership(NamedTuple):
    """All that the chain says about one site. `ended`: of all wallets that ever owned it."""

    epochs: tuple[Epoch, ...]
    ended: tuple[Ended, ...] = ()

    @property
    def owner(self) -> bytes:
        return self.epochs[-1].owner


class Place(NamedTuple):
    """`epoch`: number, 0 for what does not count; `refused`: why it does not, or None."""

    epoch: int
    refused: str | None


def epochs(founder: bytes, transfers: Iterable[Transfer]) -> tuple[Epoch, ...]:
    """In the order of the chain. Who is given what it owns already goes on in its epoch: so does the founder who
    registers a site."""
    found = [Epoch(founder, 0, None)]
    for transfer in sorted(transfers, key=lambda t: (t.block, t.place)):
        if transfer.owner != found[-1].owner:
            found[-1] = found[-1]._replace(until=transfer.time)
            found.append(Epoch(transfer.owner, transfer.time, None))
    return tuple(found)


def place(ownership: Ownership, wallet: bytes, issued_at: int, taken: int) -> Place:
    """Where a version belongs that `wallet` delegated at `issued_at`, and that was taken at `taken`."""
    best, owned, ended_at = -1, False, 0
    for number, epoch in enumerate(ownership.epochs):
        if epoch.owner != wallet:
            continue
        owned = True
        if issued_at >= ended_at and (epoch.until is None or taken < epoch.until):
            best = number
        if epoch.until is not None:
            ended_at = max(ended_at, epoch.until)
    if best < 0:
        return Place(0, TRANSFERRED if owned else NOT_OWNER)
    if ownership.ended and is_ended(ownership.ended, wallet, issued_at, taken):
        return Place(0, ENDED)
    return Place(best, None)


def is_ended(ended: Sequence[Ended], wallet: bytes, issued_at: int, taken: int) -> bool:
    """Whether a delegation of `issued_at` was void by `taken`. What was taken before it was voided stands."""
    return any(e.owner == wallet and issued_at < e.before and taken >= e.time for e in ended)
