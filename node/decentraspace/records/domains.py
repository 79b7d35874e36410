"""Which site a wallet has a name show, given the records known about it: the same in any order of arrival.

Of a wallet's links of one name the first in rank counts that no revocation voids; and it is in force if it names a
site, and the wallet that site's owner now, as the chain says, without a break since it delegated. A link is a standing
permission, not an act of the past: it ends with whatever ends the delegation under which it was signed, whenever it
was taken; unless that is only the delegation's time, which runs out by itself. Whether the wallet has a say in the name
is no matter of records: each node finds that out for itself (names/claims.py).

Of each wallet's links of one name the first KEPT in rank are kept, so that a revoked one gives way to what was there
before, and nobody fills the store by linking a name again and again. What is behind them is not taken anew.

`resolve` is the rule; `Domains` applies it to the store's tables, inside the caller's transaction or under its lock.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable
from typing import NamedTuple

from decentraspace.records import chains, owned
from decentraspace.records.ownership import Ownership, epochs, place
from decentraspace.records.schema import DomainLink
from decentraspace.records.state import Revoked, standing
from decentraspace.records.verdict import RecordRefused

KEPT = 8
_ANY_TIME = 2**62  # a time of taking after all that ever ends
_COLUMNS = "cid, name, wallet, seq, key, issued_at, created, founder, label, site, proof"


class Link(NamedTuple):
    """A verified link. `issued_at`: of its delegation, made to `key`; `site` None: it takes the name off; `proof`: as
    in the record."""

    cid: bytes
    name: str
    wallet: bytes
    seq: int
    key: bytes
    issued_at: int
    created: int
    founder: bytes | None
    label: str | None
    site: str | None
    proof: str | None = None

    @property
    def rank(self) -> tuple[int, int, bytes]:
        """The lowest goes first."""
        return -self.issued_at, -self.seq, self.cid


def link_of(cid: bytes, key: bytes, issued_at: int, body: DomainLink) -> Link:
    return Link(
        cid, body.name, body.owner, body.seq, key, issued_at, body.created, body.founder, body.label, body.site_id,
        body.proof,
    )  # fmt: skip


def kept(links: Iterable[Link]) -> list[Link]:
    """Of one wallet and name, in rank."""
    return sorted(set(links), key=lambda link: link.rank)[:KEPT]


def is_revoked(link: Link, against: Collection[Revoked]) -> bool:
    """`against`: revocations of its key that stand for its site. Which version of the site they leave standing does
    not matter: of links there is no chain that would tell what the key signed before it was stolen."""
    return any(revoked.issued_at > link.issued_at for revoked in against)


def in_force(link: Link, ownership: Ownership) -> bool:
    """Whether a link that counts shows its site; `ownership`: of that site."""
    if link.site is None:
        return False
    return place(ownership, link.wallet, link.issued_at, _ANY_TIME).refused is None


def resolve(
    links: Collection[Link], revocations: Collection[Revoked], ownership: dict[str, Ownership]
) -> Link | None:
    """Of one wallet and name: the link in force. `revocations`: all of that wallet."""
    for link in kept(links):
        if not is_revoked(link, standing(revocations, link.site or "").get(link.key, ())):
            return link if link.site is not None and in_force(link, ownership[link.site]) else None
    return None


class Domains:
    """Over an open database."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    # -- taking

    def is_outranked(self, link: Link) -> bool:
        """Whether so many that come before it are here that it would not be kept."""
        held = self._of(link.name, link.wallet)
        return sum(one.rank < link.rank for one in held) >= KEPT

    def check_room(self, link: Link, sponsor: bytes, names_most: int, claims_most: int) -> None:
        """RecordRefused for the claim of a wallet that has `names_most` others, or of a sponsor that brought in
        `claims_most` other wallets' for this name."""
        if self._of(link.name, link.wallet):
            return
        names = self._count("COUNT(DISTINCT name) FROM domains WHERE wallet = ?", link.wallet)
        if names >= names_most:
            raise RecordRefused("The wallet has links of too many names", slug="name-quota")
        claims = self._count(
            "COUNT(DISTINCT wallet) FROM domains WHERE name = ? AND sponsor = ?", link.name, sponsor
        )
        if claims >= claims_most:
            raise RecordRefused(
                "The record's sponsor has brought in too many wallets that claim this name",
                slug="sponsor-quota",
            )

    def insert(self, link: Link, sponsor: bytes) -> list[bytes]:
        """The CIDs of the records that gave way."""
        self._db.execute(
            f"INSERT INTO domains ({_COLUMNS}, sponsor) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608
            (*link, sponsor),
        )
        gone = [one.cid for one in self._of(link.name, link.wallet)[KEPT:]]
        self._db.executemany("DELETE FROM domains WHERE cid = ?", [(cid,) for cid in gone])
        return gone

    # -- asking

    def _of(self, name: str, wallet: bytes) -> list[Link]:
        """In rank."""
        rows = self._db.execute(
            f"SELECT {_COLUMNS} FROM domains WHERE name = ? AND wallet = ? "  # noqa: S608
            "ORDER BY issued_at DESC, seq DESC, cid",
            (name, wallet),
        )
        return [Link(*row) for row in rows]

    def _count(self, query: str, *arguments: object) -> int:
        return int(self._db.execute(f"SELECT {query}", arguments).fetchone()[0])

    def number(self, name: str, wallet: bytes) -> int:
        """The highest number of the wallet's links of that name; 0 without one."""
        return max((link.seq for link in self._of(name, wallet)), default=0)

    def counting(self, name: str, wallet: bytes) -> Link | None:
        """The one that counts, in force or not: it may take the name off, or be of a site that is another's by now."""
        for link in self._of(name, wallet):
            if not is_revoked(link, chains.standing_against(self._db, wallet, link.site or "", link.key)):
                return link
        return None

    def in_force(self, name: str, wallet: bytes) -> Link | None:
        link = self.counting(name, wallet)
        if link is None or link.site is None or link.founder is None:
            return None
        owners = epochs(link.founder, owned.transfers(self._db, link.site))
        ended = owned.all_ended(self._db, wallet, link.site)
        return link if in_force(link, Ownership(owners, ended)) else None

    def claimants(self, name: str, limit: int) -> list[bytes]:
        """Wallets with links of that name; who claimed it first, as this node heard, first."""
        rows = self._db.execute(
            "SELECT wallet FROM domains WHERE name = ? GROUP BY wallet ORDER BY MIN(rowid) LIMIT ?",
            (name, limit),
        )
        return [row[0] for row in rows]

    def names(self, wallet: bytes, after: str, limit: int) -> list[str]:
        """That the wallet has links of, in the order of the alphabet."""
        rows = self._db.execute(
            "SELECT DISTINCT name FROM domains WHERE wallet = ? AND name > ? ORDER BY name LIMIT ?",
            (wallet, after, limit),
        )
        return [row[0] for row in rows]
