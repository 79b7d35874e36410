"""Usage counters: what the gateway workers served, per site and hour, counted exactly once.

A worker sends batches named (worker, number) and repeats a batch until it is acknowledged; the name is
kept in the same transaction as the counts, so that a repeated batch, or one repeated after `kill -9`,
counts once. Acknowledged means committed and synced to disk.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from decentraspace.database import open_database, reading, transaction

MIGRATIONS = (
    """
CREATE TABLE IF NOT EXISTS usage (
    site TEXT NOT NULL, hour INTEGER NOT NULL, status INTEGER NOT NULL,
    requests INTEGER NOT NULL, bytes INTEGER NOT NULL,
    PRIMARY KEY (site, hour, status)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS batches (worker TEXT PRIMARY KEY, number INTEGER NOT NULL, seen INTEGER NOT NULL)
WITHOUT ROWID;
""",
    # What the ledger has not looked at yet. Hours that were over before there was one are never charged.
    "CREATE TABLE touched (site TEXT NOT NULL, hour INTEGER NOT NULL, turn INTEGER NOT NULL, "
    "PRIMARY KEY (site, hour)) WITHOUT ROWID",
)
_FORGET_WORKER_AFTER = 30 * 86400  # seconds; a worker that restarted never comes back under its old name


@dataclass(frozen=True)
class UsageRow:
    """Requests answered and body bytes sent for one site in one hour (Unix hour) with one status class
    (2 for 2xx, …)."""

    site: str
    hour: int
    status: int
    requests: int
    bytes: int


class Total(NamedTuple):
    """What a site's visitors have used in an hour, all in all."""

    site: str
    hour: int
    requests: int
    bytes: int


class UsageStore:
    """SQLite (WAL, synchronous=FULL) behind one lock; blocking, call it in a thread."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        self._db = open_database(path, MIGRATIONS)
        self._turn = self._db.execute("SELECT COALESCE(MAX(turn), 0) FROM touched").fetchone()[0]

    def close(self) -> None:
        with self._lock:
            self._db.close()

    def add_batch(self, worker: str, number: int, rows: Collection[UsageRow]) -> bool:
        """Count `rows` unless a batch of this worker with this or a later number was counted already.

        Batches of one worker arrive in order of their numbers. Returns whether they were counted.
        """
        with self._lock, transaction(self._db):
            last = self._db.execute("SELECT number FROM batches WHERE worker = ?", (worker,)).fetchone()
            if last is not None and number <= last[0]:
                return False
            now = int(time.time())
            self._db.executemany(
                "INSERT INTO usage VALUES (?, ?, ?, ?, ?) ON CONFLICT (site, hour, status) DO UPDATE SET "
                "requests = requests + excluded.requests, bytes = bytes + excluded.bytes",
                [(r.site, r.hour, r.status, r.requests, r.bytes) for r in rows],
            )
            self._db.execute(
                "INSERT INTO batches VALUES (?, ?, ?) ON CONFLICT (worker) DO UPDATE SET "
                "number = excluded.number, seen = excluded.seen",
                (worker, number, now),
            )
            self._db.execute("DELETE FROM batches WHERE seen < ?", (now - _FORGET_WORKER_AFTER,))
            self._turn += 1
            self._db.executemany(
                "INSERT INTO touched VALUES (?, ?, ?) ON CONFLICT (site, hour) DO UPDATE SET turn = excluded.turn",
                [(site, hour, self._turn) for site, hour in {(r.site, r.hour) for r in rows if r.site}],
            )
            return True

    def touched(self, limit: int = 20_000) -> tuple[list[Total], int]:
        """What visitors used of sites and hours that have changed since `forget` (requests that were answered
        with 2xx or 3xx, and their bytes), all in all; and a number for `forget`."""
        with self._lock, reading():
            rows = self._db.execute(
                "SELECT site, hour, turn FROM touched ORDER BY turn LIMIT ?", (limit,)
            ).fetchall()
            last = rows[-1][2] if rows else 0
            found = self._db.execute(
                "SELECT t.site, t.hour, COALESCE(SUM(u.requests), 0), COALESCE(SUM(u.bytes), 0) FROM touched t "
                "LEFT JOIN usage u ON u.site = t.site AND u.hour = t.hour AND u.status IN (2, 3) "
                "WHERE t.turn <= ? GROUP BY t.site, t.hour",
                (last,),
            ).fetchall()
        return [Total(*row) for row in found], last

    def forget(self, turn: int) -> None:
        """The ledger has written down what `touched` gave with that number."""
        with self._lock, transaction(self._db):
            self._db.execute("DELETE FROM touched WHERE turn <= ?", (turn,))

    def totals(self, site: str) -> tuple[int, int]:
        """(requests, bytes) of a site since the node was set up."""
        with self._lock, reading():
            row = self._db.execute(
                "SELECT COALESCE(SUM(requests), 0), COALESCE(SUM(bytes), 0) FROM usage WHERE site = ?",
                (site,),
            ).fetchone()
        return int(row[0]), int(row[1])

    def rows(self, site: str, since_hour: int = 0) -> list[UsageRow]:
        with self._lock, reading():
            found = self._db.execute(
                "SELECT site, hour, status, requests, bytes FROM usage WHERE site = ? AND hour >= ? "
                "ORDER BY hour, status",
                (site, since_hour),
            ).fetchall()
        return [UsageRow(*row) for row in found]
