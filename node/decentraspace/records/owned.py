"""What the chain says of sites, kept beside the records: facts, and whose each site is by them.

All functions run inside the caller's transaction or under its lock.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from decentraspace.records.ownership import Ended, Fact, Ownership, Place, Transfer, epochs, is_ended, place

_TRANSFERS = "SELECT site, block, place, time, owner FROM transfers WHERE site = ? ORDER BY block, place"
_ENDED = "SELECT owner, site, block, place, time, before FROM ended WHERE owner = ? AND site IN ('', ?)"


def insert(db: sqlite3.Connection, facts: Sequence[Fact]) -> list[Fact]:
    """Those that are new."""
    fresh: list[Fact] = []
    for fact in facts:
        if isinstance(fact, Transfer):
            done = db.execute("INSERT OR IGNORE INTO transfers VALUES (?, ?, ?, ?, ?)", fact)
        else:
            done = db.execute("INSERT OR IGNORE INTO ended VALUES (?, ?, ?, ?, ?, ?)", fact)
        if done.rowcount:
            fresh.append(fact)
    return fresh


def clear(db: sqlite3.Connection) -> list[Fact]:
    """Forget all; what was forgotten."""
    gone: list[Fact] = [
        Transfer(*row)
        for row in db.execute("SELECT site, block, place, time, owner FROM transfers").fetchall()
    ]
    gone += [
        Ended(*row)
        for row in db.execute("SELECT owner, site, block, place, time, before FROM ended").fetchall()
    ]
    db.execute("DELETE FROM transfers")
    db.execute("DELETE FROM ended")
    return gone


def transfers(db: sqlite3.Connection, site: str) -> list[Transfer]:
    """In the order of the chain."""
    return [Transfer(*row) for row in db.execute(_TRANSFERS, (site,)).fetchall()]


def owner(db: sqlite3.Connection, site: str) -> bytes | None:
    """As the chain says; None where it says nothing: then the site is its founder's."""
    row = db.execute(
        "SELECT owner FROM transfers WHERE site = ? ORDER BY block DESC, place DESC LIMIT 1", (site,)
    ).fetchone()
    return row[0] if row else None


def ended(db: sqlite3.Connection, wallet: bytes, site: str, issued_at: int, taken: int) -> bool:
    """Whether the chain has ended what `wallet` delegated at `issued_at`: for one site, or for all ("")."""
    return is_ended(all_ended(db, wallet, site), wallet, issued_at, taken)


def all_ended(db: sqlite3.Connection, wallet: bytes, site: str) -> tuple[Ended, ...]:
    """What the chain has ended of a wallet's delegations, for one site or for all its sites."""
    return tuple(Ended(*row) for row in db.execute(_ENDED, (wallet, site)).fetchall())


def ended_before(db: sqlite3.Connection, wallet: bytes, site: str) -> int:
    """Delegations of `wallet` issued before this (Unix seconds) are void for `site`; for all its sites where that
    is "". -1: none."""
    found = db.execute(
        "SELECT MAX(before) FROM ended WHERE owner = ? AND site IN ('', ?)", (wallet, site)
    ).fetchone()[0]
    return -1 if found is None else int(found)


class Owners:
    """For one transaction: what was read of a site is not read again before facts are added."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._any: tuple[bool, bool] | None = None
        self._kept: dict[tuple[str, bytes], Ownership] = {}

    def of(self, site: str, founder: bytes) -> Ownership:
        """`epochs` and `ended` of those who owned it."""
        if self._any is None:
            some = [
                self._db.execute(f"SELECT 1 FROM {name} LIMIT 1").fetchone() is not None  # noqa: S608
                for name in ("transfers", "ended")
            ]
            self._any = (some[0], some[1])
        where = (site, founder)
        found = self._kept.get(where)
        if found is None:
            owned = epochs(founder, transfers(self._db, site) if self._any[0] else ())
            voided: list[Ended] = []
            if self._any[1]:
                for wallet in {epoch.owner for epoch in owned}:
                    voided += [Ended(*row) for row in self._db.execute(_ENDED, (wallet, site)).fetchall()]
            found = self._kept[where] = Ownership(owned, tuple(sorted(voided)))
        return found

    def place(self, site: str, founder: bytes, wallet: bytes, issued_at: int, taken: int) -> Place:
        return place(self.of(site, founder), wallet, issued_at, taken)
