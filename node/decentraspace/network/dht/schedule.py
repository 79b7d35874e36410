"""When which root is to be announced: on disk, so that a restart neither forgets one nor announces all again."""

from __future__ import annotations

import threading
from collections.abc import Set
from pathlib import Path
from typing import NamedTuple

from decentraspace.database import open_database, reading, transaction

AGAIN = 22 * 3600.0  # seconds; servers forget after 48 h. Source: libp2p/specs, kad-dht, "Content provider…"
_SPREAD = 3600.0  # what was announced together is not due together again
_RETRY, _RETRY_MOST = 60.0, 3600.0

_MIGRATIONS = (
    "CREATE TABLE roots (root BLOB PRIMARY KEY, due REAL NOT NULL, failures INTEGER NOT NULL DEFAULT 0) "
    "WITHOUT ROWID; CREATE INDEX roots_due ON roots (due)",
)


class Waiting(NamedTuple):
    """`roots` to be announced in turn, of which the `backlog` is due, the first for `oldest` seconds."""

    roots: int
    backlog: int
    oldest: float


class Schedule:
    """All methods block; times are Unix seconds. QuotaExceeded, Unavailable where the disk fails."""

    def __init__(self, path: Path) -> None:
        self._db = open_database(path, _MIGRATIONS)
        self._lock = threading.Lock()

    def close(self) -> None:
        with self._lock:
            self._db.close()

    def follow(self, roots: Set[bytes], now: float) -> None:
        """These are to be announced, and no others. New ones are due at once."""
        with self._lock, transaction(self._db) as db:
            known = {row[0] for row in db.execute("SELECT root FROM roots")}
            db.executemany("DELETE FROM roots WHERE root = ?", [(r,) for r in known - roots])
            db.executemany("INSERT INTO roots (root, due) VALUES (?, ?)", [(r, now) for r in roots - known])
            # The clock was ahead when these were announced.
            db.execute("UPDATE roots SET due = ?1 WHERE due > ?1 + ?2", (now, AGAIN))

    def next(self, now: float) -> bytes | None:
        """The one that has waited longest of those that are due."""
        with self._lock, reading():
            row = self._db.execute(
                "SELECT root FROM roots WHERE due <= ? ORDER BY due LIMIT 1", (now,)
            ).fetchone()
        return row[0] if row else None

    def told(self, root: bytes, now: float) -> None:
        due = now + AGAIN - _SPREAD * root[-1] / 256
        with self._lock, transaction(self._db) as db:
            db.execute("UPDATE roots SET due = ?, failures = 0 WHERE root = ?", (due, root))

    def failed(self, root: bytes, now: float) -> None:
        """It is due again after a minute, the next time after two, at most an hour."""
        with self._lock, transaction(self._db) as db:
            db.execute(
                "UPDATE roots SET due = ?1 + MIN(?2 * (1 << MIN(failures, 10)), ?3), failures = failures + 1 "
                "WHERE root = ?4",
                (now, _RETRY, _RETRY_MOST, root),
            )

    def waiting(self, now: float) -> Waiting:
        """What failed is waiting, too, until it is announced."""
        with self._lock, reading():
            roots, backlog, first = self._db.execute(
                "SELECT COUNT(*), COUNT(*) FILTER (WHERE due <= ?1 OR failures), "
                "MIN(due) FILTER (WHERE due <= ?1) FROM roots",
                (now,),
            ).fetchone()
        return Waiting(roots, backlog, max(0.0, now - first) if first is not None else 0.0)
