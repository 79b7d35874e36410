"""The plugin's memory: one SQLite file that is whole after `kill -9` at any instant, open in one place at a time."""

from __future__ import annotations

import fcntl
import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from decentraspace.errors import Conflict, Unprocessable

_TABLES = """
CREATE TABLE IF NOT EXISTS jobs (
    key TEXT PRIMARY KEY, state TEXT NOT NULL, nonce INTEGER, made INTEGER NOT NULL, document TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS jobs_by_state ON jobs (state, made);
CREATE TABLE IF NOT EXISTS allocations (
    allocation TEXT PRIMARY KEY, cap INTEGER NOT NULL, rate INTEGER NOT NULL, start INTEGER NOT NULL,
    expires INTEGER NOT NULL, metered INTEGER NOT NULL, streamed INTEGER NOT NULL,
    block INTEGER NOT NULL, place INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS allocations_by_expiry ON allocations (expires);
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""


class Store:
    """Blocking; from any thread. Conflict when another program has it open, Unprocessable when it is damaged."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._mutex = threading.Lock()
        self._lock = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(self._lock)
            raise Conflict(f"{path} is open already", hint="Does another node use this folder?") from error
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        try:
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")  # what returned survives the loss of power, too
            self._db.executescript(_TABLES)
        except sqlite3.DatabaseError as error:
            self.close()
            raise Unprocessable(f"{path} is damaged: {error}", hint="Restore it from a copy.") from error

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        with self._mutex:
            yield self._db

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """All of it or nothing; on disk when it ends."""
        with self._mutex:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                # Where the disk is full SQLite may have undone it already, or be unable to say so.
                with suppress(sqlite3.Error):
                    self._db.execute("ROLLBACK")
                raise

    def fact(self, name: str) -> str:
        with self.read() as db:
            found = db.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
        return str(found[0]) if found else ""

    def put_fact(self, name: str, value: str) -> None:
        with self.write() as db:
            db.execute(
                "INSERT INTO facts VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
                (name, value),
            )

    def close(self) -> None:
        with self._mutex:
            self._db.close()
            if self._lock >= 0:
                os.close(self._lock)
                self._lock = -1
