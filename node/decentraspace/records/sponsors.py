"""What a sponsor may bring in: each node answers for the records it took, because wallets cost nothing.

Counted per sponsor and day, in the store's own transaction. Each refused record costs its sponsor as much
as ten accepted ones, so that a node that passes on rubbish is soon listened to less.
"""

from __future__ import annotations

import sqlite3

from decentraspace.config import RecordsConfig
from decentraspace.records.verdict import RecordRefused

_DAY = 86400
_REFUSAL_COSTS = 10  # records
_KEPT_DAYS = 7
_FREE_WORK = 20  # versions judged and revocations read


class Sponsors:
    def __init__(self, db: sqlite3.Connection, config: RecordsConfig) -> None:
        self._db, self._config = db, config

    def charge(self, sponsor: bytes, at: int, size: int) -> None:
        """Count one record of `size` bytes. RecordRefused (`sponsor-quota`) when the day's quota is used up."""
        records, used, refused = self._today(sponsor, at)
        if (
            records + refused * _REFUSAL_COSTS >= self._config.sponsor_records
            or used + size > self._config.sponsor_bytes
        ):
            raise RecordRefused("The record's sponsor has used up its quota of the day", slug="sponsor-quota")
        self._add(sponsor, at, 1, size, 0)

    def worked(self, sponsor: bytes, at: int, work: int) -> None:
        """A record that made so many versions be judged again counts as more than one: revocations that
        overrule each other could otherwise keep every node busy for the price of a signature."""
        if work > _FREE_WORK:
            self._add(sponsor, at, work // _FREE_WORK, 0, 0)

    def refused(self, sponsor: bytes, at: int) -> None:
        """A record that this sponsor answered for was not valid."""
        self._add(sponsor, at, 0, 0, 1)
        # Days with records are kept: a joining node counts by them.
        self._db.execute("DELETE FROM sponsors WHERE day < ? AND records = 0", (at // _DAY - _KEPT_DAYS,))

    def _today(self, sponsor: bytes, at: int) -> tuple[int, int, int]:
        row = self._db.execute(
            "SELECT records, bytes, refused FROM sponsors WHERE sponsor = ? AND day = ?",
            (sponsor, at // _DAY),
        ).fetchone()
        return row or (0, 0, 0)

    def _add(self, sponsor: bytes, at: int, records: int, size: int, refused: int) -> None:
        self._db.execute(
            "INSERT INTO sponsors VALUES (?, ?, ?, ?, ?) ON CONFLICT (sponsor, day) DO UPDATE SET "
            "records = records + excluded.records, bytes = bytes + excluded.bytes, "
            "refused = refused + excluded.refused",
            (sponsor, at // _DAY, records, size, refused),
        )
