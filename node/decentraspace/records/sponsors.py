"""What a sponsor may bring in: each node answers for the records it took, because wallets cost nothing.

Counted per sponsor and day, in the store's own transaction. Each refused record costs its sponsor as much
as ten accepted ones, so that a node that passes on rubbish is soon listened to less.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from decentraspace.config import RecordsConfig
from decentraspace.records.verdict import RecordRefused

_DAY = 86400
_REFUSAL_COSTS = 10  # records
_KEPT_DAYS = 7
_FREE_WORK = 20  # versions judged and revocations read


@dataclass
class _Day:
    """Of one sponsor; `size` in bytes."""

    records: int
    size: int
    refused: int


class Sponsors:
    """What is counted in a transaction is written at its end (`write`); `forget` what it did not come to."""

    def __init__(self, db: sqlite3.Connection, config: RecordsConfig) -> None:
        self._db, self._config = db, config
        self._days: dict[tuple[bytes, int], _Day] = {}
        self._kept_from = 0  # the day; written when something was refused

    def forget(self) -> None:
        self._days, self._kept_from = {}, 0

    def write(self) -> None:
        self._db.executemany(
            "INSERT OR REPLACE INTO sponsors VALUES (?, ?, ?, ?, ?)",
            [
                (*which, day.records, day.size, day.refused)
                for which, day in self._days.items()
                if day.records or day.refused
            ],
        )
        if self._kept_from:
            # Days with records are kept: a joining node counts by them.
            self._db.execute("DELETE FROM sponsors WHERE day < ? AND records = 0", (self._kept_from,))
        self.forget()

    def charge(self, sponsor: bytes, at: int, size: int) -> None:
        """Count one record of `size` bytes. RecordRefused (`sponsor-quota`) when the day's quota is used up."""
        day = self._day(sponsor, at)
        if (
            day.records + day.refused * _REFUSAL_COSTS >= self._config.sponsor_records
            or day.size + size > self._config.sponsor_bytes
        ):
            raise RecordRefused("The record's sponsor has used up its quota of the day", slug="sponsor-quota")
        day.records += 1
        day.size += size

    def worked(self, sponsor: bytes, at: int, work: int) -> None:
        """A record that made so many versions be judged again counts as more than one: revocations that
        overrule each other could otherwise keep every node busy for the price of a signature."""
        if work > _FREE_WORK:
            self._day(sponsor, at).records += work // _FREE_WORK

    def refused(self, sponsor: bytes, at: int) -> None:
        """A record that this sponsor answered for was not valid."""
        self._day(sponsor, at).refused += 1
        self._kept_from = at // _DAY - _KEPT_DAYS

    def _day(self, sponsor: bytes, at: int) -> _Day:
        which = (sponsor, at // _DAY)
        found = self._days.get(which)
        if found is None:
            row = self._db.execute(
                "SELECT records, bytes, refused FROM sponsors WHERE sponsor = ? AND day = ?", which
            ).fetchone()
            found = self._days[which] = _Day(*(row or (0, 0, 0)))
        return found
