"""The operator's own decisions and the log of them, in SQLite: a decision and its entry are one transaction."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path
from typing import Any, NamedTuple

from decentraspace.content.denylist import DOUBLE, EXACT, NAMES, STATUSES
from decentraspace.database import Database
from decentraspace.errors import BadInput, NotFound, QuotaExceeded
from decentraspace.identity.keys import NodeKey
from decentraspace.moderation import takedowns, targets
from decentraspace.moderation.takedowns import BLOCK, UNBLOCK, Entry
from decentraspace.moderation.targets import Target

REASON_MOST = 500  # characters
_MOST = 200_000  # decisions; who needs more writes a denylist

MIGRATIONS = (
    """
    CREATE TABLE blocks (
        id INTEGER PRIMARY KEY AUTOINCREMENT, key BLOB NOT NULL UNIQUE, kind TEXT NOT NULL,
        target TEXT NOT NULL, hidden INTEGER NOT NULL, status INTEGER NOT NULL, reason TEXT NOT NULL,
        created INTEGER NOT NULL, by BLOB NOT NULL
    );
    CREATE TABLE log (seq INTEGER PRIMARY KEY, entry BLOB NOT NULL);
    CREATE TABLE meta (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID
    """,
    """
    CREATE TABLE reports (
        id INTEGER PRIMARY KEY AUTOINCREMENT, created INTEGER NOT NULL, last INTEGER NOT NULL,
        times INTEGER NOT NULL, same BLOB NOT NULL, target TEXT NOT NULL,
        category TEXT NOT NULL, text TEXT NOT NULL, contact TEXT NOT NULL,
        closed INTEGER, decision TEXT
    );
    CREATE INDEX reports_open ON reports (id) WHERE closed IS NULL;
    CREATE UNIQUE INDEX reports_same ON reports (same) WHERE closed IS NULL;
    CREATE TABLE senders (sender BLOB NOT NULL, at INTEGER NOT NULL);
    CREATE INDEX senders_at ON senders (at);
    CREATE INDEX senders_sender ON senders (sender, at)
    """,
)
_COLUMNS = "id, kind, target, hidden, status, reason, created, by"


class Decision(NamedTuple):
    """`hidden`: the log does not name the target, and of a CID `target` is the double hash only; `by`: the
    administrator's address, 20 bytes."""

    id: int
    kind: str
    target: str
    hidden: bool
    status: int
    reason: str
    created: int
    by: bytes


class Made(NamedTuple):
    """`before`: what it replaces; the decision itself where that had been made already."""

    decision: Decision
    before: Decision | None


class Decisions(Database):
    """Blocking and thread-safe."""

    def __init__(self, path: Path, key: NodeKey) -> None:
        self._key = key
        super().__init__(path, MIGRATIONS)

    # -- decisions

    def block(
        self, target: Target, *, status: int, reason: str, hidden: bool, by: bytes, now: float | None = None
    ) -> Made:
        """Durable, with its entry in the log. Deciding the same again changes nothing; other words, status or
        secrecy replace what was decided before. BadInput."""
        if status not in STATUSES:
            raise BadInput("The status is 410 (gone) or 451 (for legal reasons)")
        reason = reason.strip()
        if len(reason) > REASON_MOST or not (reason.isprintable() or not reason):
            raise BadInput(f"A reason has at most {REASON_MOST} printable characters")
        moment = int(time.time() if now is None else now)
        secret = hidden and target.kind == "cid"
        key, shown = (target.hash_digest, target.hash) if secret else (target.digest, target.text)
        with self.writing() as db:
            old = self._found(db, target)
            if old is not None:
                if (old.status, old.reason, old.hidden) == (status, reason, hidden):
                    return Made(old, old)
                db.execute("DELETE FROM blocks WHERE id = ?", (old.id,))
            elif db.execute("SELECT COUNT(*) FROM blocks").fetchone()[0] >= _MOST:
                raise QuotaExceeded(f"{_MOST} decisions are kept", hint="Write them into a denylist.")
            made = db.execute(
                "INSERT INTO blocks (key, kind, target, hidden, status, reason, created, by) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (key, target.kind, shown, hidden, status, reason, moment, by),
            ).lastrowid
            self._log(
                db, BLOCK, target.kind, target.hash if hidden else target.text, hidden, status, reason, moment
            )
        return Made(Decision(int(made or 0), target.kind, shown, hidden, status, reason, moment, by), old)

    def unblock(self, target: Target | int, *, reason: str = "", now: float | None = None) -> Decision:
        """Take back a decision, by its target or its id. NotFound."""
        reason = reason.strip()
        if len(reason) > REASON_MOST or not (reason.isprintable() or not reason):
            raise BadInput(f"A reason has at most {REASON_MOST} printable characters")
        moment = int(time.time() if now is None else now)
        with self.writing() as db:
            if isinstance(target, int):
                row = db.execute(f"SELECT {_COLUMNS} FROM blocks WHERE id = ?", (target,)).fetchone()  # noqa: S608
                old = _decision(row) if row else None
            else:
                old = self._found(db, target)
            if old is None:
                raise NotFound("Nothing of that kind is blocked here by a decision of its own")
            db.execute("DELETE FROM blocks WHERE id = ?", (old.id,))
            secret = old.hidden and old.kind == "cid"
            shown = targets.parse(old.kind, old.target).hash if old.hidden and not secret else old.target
            self._log(db, UNBLOCK, old.kind, shown, old.hidden, old.status, reason, moment)
        return old

    def _found(self, db: sqlite3.Connection, target: Target) -> Decision | None:
        keys = (target.digest, target.hash_digest)
        row = db.execute(f"SELECT {_COLUMNS} FROM blocks WHERE key IN (?, ?)", keys).fetchone()  # noqa: S608
        return _decision(row) if row else None

    def listed(self, after: int = 0, limit: int = 100) -> list[Decision]:
        """Oldest first, from the one behind id `after` on."""
        with self.looking() as db:
            rows = db.execute(
                f"SELECT {_COLUMNS} FROM blocks WHERE id > ? ORDER BY id LIMIT ?",  # noqa: S608
                (after, limit),
            ).fetchall()
        return [_decision(row) for row in rows]

    def rules(self) -> list[tuple[bytes, int, int, str]]:
        """All of them as content.denied.DenyRules takes them."""
        with self.looking() as db:
            rows = db.execute("SELECT key, kind, hidden, status, reason FROM blocks").fetchall()
        return [
            (key, NAMES if kind != "cid" else DOUBLE if hidden else EXACT, status, reason)
            for key, kind, hidden, status, reason in rows
        ]

    # -- the log

    def _log(
        self,
        db: sqlite3.Connection,
        action: str,
        kind: str,
        target: str,
        hidden: bool,
        status: int,
        reason: str,
        now: int,
    ) -> None:
        row = db.execute("SELECT entry FROM log ORDER BY seq DESC LIMIT 1").fetchone()
        last = takedowns.decode_entry(row[0]) if row else None
        entry = takedowns.make_entry(
            self._key.sign,
            self._key.public,
            last,
            time=max(now, last.time) if last else now,  # the log's time does not go back with the clock
            action=action,
            kind=kind,
            target=target,
            hidden=hidden,
            status=status,
            reason=reason,
        )
        db.execute("INSERT INTO log VALUES (?, ?)", (entry.seq, entry.raw))

    def log(self, after: int = 0, limit: int = 100) -> list[Entry]:
        """Entries from the one behind number `after` on."""
        with self.looking() as db:
            rows = db.execute(
                "SELECT entry FROM log WHERE seq > ? ORDER BY seq LIMIT ?", (after, limit)
            ).fetchall()
        return [takedowns.decode_entry(row[0]) for row in rows]

    # -- small things to remember

    def get_meta(self, name: str) -> bytes:
        with self.looking() as db:
            row = db.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        return bytes(row[0]) if row else b""

    def set_meta(self, name: str, value: bytes) -> None:
        with self.writing() as db:
            db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, value))


def _decision(row: Any) -> Decision:
    return Decision(*row)._replace(hidden=bool(row[3]))
