"""What the API remembers over restarts: answers by idempotency key, what each wallet uploaded lately.

The tables of kept.py, which has its own functions, are in the same file.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from pathlib import Path
from typing import NamedTuple

from decentraspace.database import Database
from decentraspace.errors import BadInput, Conflict, TooMany, Unprocessable

KEPT = 86400  # seconds an answer is repeated for its key
_KEYS_MOST = 10_000  # per owner, so that nobody fills the disk
_KEY_MOST = 255  # characters
_ANSWER_MOST = 256 * 1024  # bytes of an answer that are kept

MIGRATIONS = (
    """
    CREATE TABLE answers (
        owner BLOB NOT NULL, key TEXT NOT NULL, request BLOB NOT NULL, boot TEXT NOT NULL,
        created INTEGER NOT NULL,
        status INTEGER, location TEXT, body BLOB, PRIMARY KEY (owner, key)
    ) WITHOUT ROWID;
    CREATE INDEX answers_created ON answers (created);
    CREATE TABLE uploaded (owner BLOB NOT NULL, minute INTEGER NOT NULL, bytes INTEGER NOT NULL,
        PRIMARY KEY (owner, minute)) WITHOUT ROWID;
    """,
    """
    CREATE TABLE kept (
        owner BLOB NOT NULL, root BLOB NOT NULL, bytes INTEGER NOT NULL, created INTEGER NOT NULL,
        expires INTEGER, PRIMARY KEY (owner, root)
    ) WITHOUT ROWID;
    CREATE INDEX kept_expires ON kept (expires) WHERE expires IS NOT NULL;
    CREATE TABLE keepers (
        owner BLOB PRIMARY KEY, free INTEGER NOT NULL, bytes INTEGER NOT NULL, uploads INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX keepers_free ON keepers (free, bytes)
    """,
)


class Answer(NamedTuple):
    """`location`: the header of that name, "" for none."""

    status: int
    location: str
    body: bytes


class State(Database):
    """SQLite behind one lock; blocking, call it in a thread."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, MIGRATIONS)
        self._boot = secrets.token_hex(8)

    # -- idempotency keys

    def begin(self, owner: bytes, key: str, request: bytes, now: int | None = None) -> Answer | None:
        """Claim `key` for a request, or get the answer it had.

        `request`: bytes that identify it. Unprocessable when the key was used for another request, Conflict
        while the first one is under way. A request that a crash cut off is done again.
        """
        if not 1 <= len(key) <= _KEY_MOST or not key.isascii() or not key.isprintable():
            raise BadInput(f"Idempotency-Key must be 1 to {_KEY_MOST} printable ASCII characters")
        now = int(time.time()) if now is None else now
        digest = hashlib.sha256(request).digest()
        with self.writing():
            self._db.execute("DELETE FROM answers WHERE created < ?", (now - KEPT,))
            row = self._db.execute(
                "SELECT request, boot, status, location, body FROM answers WHERE owner = ? AND key = ?",
                (owner, key),
            ).fetchone()
            if row is not None and row[0] != digest:
                raise Unprocessable(
                    "This Idempotency-Key was used for another request",
                    hint="Use a fresh key for each request.",
                    slug="idempotency-key-reused",
                )
            if row is not None and row[2] is not None:
                return Answer(row[2], row[3], row[4])
            if row is not None and row[1] == self._boot:
                raise Conflict("A request with this Idempotency-Key is under way", slug="idempotency-busy")
            count = self._db.execute("SELECT COUNT(*) FROM answers WHERE owner = ?", (owner,)).fetchone()[0]
            if count >= _KEYS_MOST:
                raise TooMany(f"More than {_KEYS_MOST} idempotency keys in a day")
            self._db.execute(
                "INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?, ?, NULL, NULL, NULL)",
                (owner, key, digest, self._boot, now),
            )
        return None

    def finish(self, owner: bytes, key: str, answer: Answer | None) -> None:
        """Keep the answer; None gives the key free, for a request that may be tried again."""
        with self.writing():
            if answer is None or len(answer.body) > _ANSWER_MOST:
                self._db.execute("DELETE FROM answers WHERE owner = ? AND key = ?", (owner, key))
            else:
                self._db.execute(
                    "UPDATE answers SET status = ?, location = ?, body = ? WHERE owner = ? AND key = ?",
                    (*answer, owner, key),
                )

    # -- allowance of uploads

    def uploaded(self, owner: bytes, window: float, now: float | None = None) -> int:
        """Bytes that `owner` uploaded in the last `window` seconds."""
        since = int(((time.time() if now is None else now) - window) // 60)
        with self.looking():
            row = self._db.execute(
                "SELECT COALESCE(SUM(bytes), 0) FROM uploaded WHERE owner = ? AND minute >= ?", (owner, since)
            ).fetchone()
        return int(row[0])

    def count_upload(self, owner: bytes, size: int, window: float, now: float | None = None) -> None:
        minute = int((time.time() if now is None else now) // 60)
        with self.writing():
            self._db.execute("DELETE FROM uploaded WHERE minute < ?", (minute - int(window // 60) - 1,))
            self._db.execute(
                "INSERT INTO uploaded VALUES (?, ?, ?) "
                "ON CONFLICT DO UPDATE SET bytes = bytes + excluded.bytes",
                (owner, minute, size),
            )
