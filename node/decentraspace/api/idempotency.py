"""Answers kept for requests with an Idempotency-Key, so that repeating one changes nothing.

Source: draft-ietf-httpapi-idempotency-key-header. Kept for a day, per wallet, across restarts.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from pathlib import Path
from typing import NamedTuple

LIFETIME = 86400  # seconds
_MOST = 100_000


class Replay(NamedTuple):
    """`what`: digest of the request that was answered."""

    what: bytes
    status: int
    body: bytes


class Replays:
    """SQLite behind a lock; blocking."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute(
            "CREATE TABLE IF NOT EXISTS replays (owner BLOB, key TEXT, what BLOB, status INTEGER, body BLOB, "
            "at INTEGER, PRIMARY KEY (owner, key)) WITHOUT ROWID"
        )

    def close(self) -> None:
        with self._lock:
            self._db.close()

    def find(self, owner: bytes, key: str) -> Replay | None:
        with self._lock:
            row = self._db.execute(
                "SELECT what, status, body FROM replays WHERE owner = ? AND key = ? AND at > ?",
                (owner, key, int(time.time()) - LIFETIME),
            ).fetchone()
        return Replay(*row) if row else None

    def keep(self, owner: bytes, key: str, what: bytes, status: int, body: bytes) -> None:
        now = int(time.time())
        with self._lock, self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.execute("DELETE FROM replays WHERE at <= ?", (now - LIFETIME,))
            if self._db.execute("SELECT COUNT(*) FROM replays").fetchone()[0] < _MOST:
                self._db.execute(
                    "INSERT OR REPLACE INTO replays VALUES (?, ?, ?, ?, ?, ?)", (owner, key, what, status, body, now)
                )
