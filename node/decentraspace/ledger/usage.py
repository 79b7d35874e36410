"""Usage counters: what the gateway workers served, per site and hour, counted exactly once.

A worker sends batches named (worker, number) and repeats a batch until it is acknowledged; the name is
kept in the same transaction as the counts, so that a repeated batch, or one repeated after `kill -9`,
counts once. Acknowledged means committed and synced to disk.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

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


class UsageStore:
    """SQLite (WAL, synchronous=FULL) behind one lock; blocking, call it in a thread."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        self._db = open_database(path, MIGRATIONS)

    def close(self) -> None:
        with self._lock:
            self._db.close()

    def add_batch(self, worker: str, number: int, rows: Iterable[UsageRow]) -> bool:
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
            return True

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
