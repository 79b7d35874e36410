"""What wallets have uploaded: a row each in the API's database, a pin each in the block store, kept in step.

The row comes before the pin and goes after it, so a crash leaves at most a row without a pin, which the next
start removes. Uploads of the free tier end some time after they were last uploaded; a deploy has a pin of
its own, so what a site shows stays.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

import structlog

from decentraspace.api.state import State
from decentraspace.config import Config
from decentraspace.content.blockstore import BlockStore
from decentraspace.content.reader import BlockMissing
from decentraspace.errors import PaymentRequired, QuotaExceeded
from decentraspace.units import size_of

log = structlog.get_logger(__name__)

_LOCKS = 64
_EACH = 10_000  # uploads a wallet may keep; without a limit small ones would cost more than their bytes
_PREFIX = "upload:"
_AT_ONCE = 500  # uploads that end per look at the database


class KeptUpload(NamedTuple):
    """`bytes` of all blocks; times in Unix seconds; `expires` None: not by itself."""

    root: bytes
    bytes: int
    created: int
    expires: int | None


class KeptUploads:
    """Thread-safe; blocking. `tier`: of a wallet, `free` or `paid`."""

    def __init__(
        self, state: State, blocks: BlockStore, config: Config, tier: Callable[[bytes], str]
    ) -> None:
        self._state, self._blocks, self._limits, self._tier = state, blocks, config.limits, tier
        self.free_most = config.storage.quota * config.limits.free_upload_percent // 100
        # Pin and row change together, so one at a time for each wallet; wallets may share a lock.
        self._locks = [threading.Lock() for _ in range(_LOCKS)]

    def room(self, owner: bytes) -> int:
        """Bytes of uploads that the wallet's tier allows."""
        return self._limits.free_bytes if self.is_free(owner) else self._limits.paid_bytes

    def is_free(self, owner: bytes) -> bool:
        return self._tier(owner) != "paid"

    def keep(self, owner: bytes, root: bytes, now: float | None = None) -> KeptUpload:
        """Pin the DAG, within the tier's room; durable. Repeating it postpones its end.

        PaymentRequired beyond the wallet's room, QuotaExceeded beyond that of the free tier in all.
        """
        moment = int(time.time() if now is None else now)
        size = self._blocks.dag_size(root)
        with self._lock(owner):
            with self._state.writing() as db:
                old = db.execute(
                    "SELECT bytes, created FROM kept WHERE owner = ? AND root = ?", (owner, root)
                ).fetchone()
                if old is None:
                    self._check_room(db, owner, size)
                free = self._set_tier(db, owner, moment)
                expires = moment + int(self._limits.free_upload_lifetime) if free else None
                made = KeptUpload(root, size, old[1] if old else moment, expires)
                db.execute(
                    "INSERT OR REPLACE INTO kept VALUES (?, ?, ?, ?, ?)",
                    (owner, root, size, made.created, expires),
                )
                _count(db, owner, size - (old[0] if old else 0), 0 if old else 1)
            try:
                self._blocks.pin(root, _name(owner))
            except BaseException:
                if old is None:
                    self._drop(owner, root)
                raise
        return made

    def _check_room(self, db: sqlite3.Connection, owner: bytes, size: int) -> None:
        room = self.room(owner)
        used, count = _used(db, owner)
        if used + size > room or count >= _EACH:
            raise PaymentRequired(
                f"This tier keeps {size_of(room)} in {_EACH} uploads; with this one it would be {size_of(used + size)} "
                f"in {count + 1}",
                hint="See `decentraspace uploads` for what to remove, or ask the operator for the paid tier.",
                limit=room,
            )
        if not self.is_free(owner):
            return
        all_free = db.execute("SELECT COALESCE(SUM(bytes), 0) FROM keepers WHERE free = 1").fetchone()[0]
        if all_free + size > self.free_most:
            raise QuotaExceeded(
                f"This node keeps {size_of(self.free_most)} of uploads for its free tier, and they are used up",
                hint="Deploy it as a site, try another node, or ask the operator for the paid tier.",
                slug="free-uploads-full",
            )

    def forget(self, owner: bytes, root: bytes) -> None:
        """Nothing happens when the wallet keeps no such upload."""
        with self._lock(owner):
            self._blocks.unpin(root, _name(owner))
            self._drop(owner, root)

    def drop(self, root: bytes, pin: str) -> None:
        """Forget what a pin of that name keeps, whosever it is."""
        if owner := _owner(pin):
            self.forget(owner, root)
        else:
            self._blocks.unpin(root, pin)

    def listed(self, owner: bytes, after: bytes = b"", limit: int = 100) -> list[KeptUpload]:
        """By CID, from the one behind `after` on."""
        with self._state.writing() as db:
            self._set_tier(db, owner, int(time.time()))
            rows = db.execute(
                "SELECT root, bytes, created, expires FROM kept WHERE owner = ? AND root > ? "
                "ORDER BY root LIMIT ?",
                (owner, after, limit),
            ).fetchall()
        return [KeptUpload(*row) for row in rows]

    def used(self, owner: bytes) -> int:
        """Bytes of all uploads the wallet keeps."""
        with self._state.writing() as db:
            return _used(db, owner)[0]

    def expire(self, now: float | None = None) -> int:
        """End what is due; how many uploads did."""
        moment = int(time.time() if now is None else now)
        with self._state.writing() as db:
            for (owner,) in db.execute("SELECT owner FROM keepers").fetchall():
                self._set_tier(db, owner, moment)
        gone = 0
        while due := self._due(moment):
            for owner, root in due:
                gone += self._end(owner, root, moment)
        if gone:
            log.info("uploads_expired", uploads=gone)
        return gone

    def _due(self, now: int) -> list[tuple[bytes, bytes]]:
        with self._state.writing() as db:
            return db.execute(
                "SELECT owner, root FROM kept WHERE expires <= ? LIMIT ?", (now, _AT_ONCE)
            ).fetchall()

    def _end(self, owner: bytes, root: bytes, now: int) -> bool:
        with self._lock(owner):
            with self._state.writing() as db:
                still = db.execute(
                    "SELECT 1 FROM kept WHERE owner = ? AND root = ? AND expires <= ?", (owner, root, now)
                ).fetchone()
            if still is None:
                return False  # uploaded again, or given up, meanwhile
            self._blocks.unpin(root, _name(owner))
            self._drop(owner, root)
            return True

    def reconcile(self) -> None:
        """At the start, before any upload: rows and pins made one again, whatever a crash left behind."""
        pinned = {(owner, root) for root, name in self._blocks.pins() if (owner := _owner(name))}
        with self._state.writing() as db:
            rows = {(owner, root) for owner, root in db.execute("SELECT owner, root FROM kept")}
        for owner, root in rows - pinned:
            self._drop(owner, root)
        for owner, root in pinned - rows:
            self._adopt(owner, root)

    def _adopt(self, owner: bytes, root: bytes) -> None:
        """A pin from before there were rows, or of a database that was lost."""
        now = int(time.time())
        try:
            size = self._blocks.dag_size(root)
        except BlockMissing:
            self._blocks.unpin(root, _name(owner))
            return
        with self._state.writing() as db:
            free = self._set_tier(db, owner, now)
            expires = now + int(self._limits.free_upload_lifetime) if free else None
            db.execute("INSERT INTO kept VALUES (?, ?, ?, ?, ?)", (owner, root, size, now, expires))
            _count(db, owner, size, 1)

    def _set_tier(self, db: sqlite3.Connection, owner: bytes, now: int) -> bool:
        """Whether the wallet is of the free tier; when that has changed, what it keeps ends accordingly."""
        free = self.is_free(owner)
        row = db.execute("SELECT free FROM keepers WHERE owner = ?", (owner,)).fetchone()
        if row is not None and bool(row[0]) != free:
            db.execute("UPDATE keepers SET free = ? WHERE owner = ?", (free, owner))
            expires = now + int(self._limits.free_upload_lifetime) if free else None
            db.execute("UPDATE kept SET expires = ? WHERE owner = ?", (expires, owner))
        if row is None:
            db.execute("INSERT INTO keepers VALUES (?, ?, 0, 0)", (owner, free))
        return free

    def _drop(self, owner: bytes, root: bytes) -> None:
        with self._state.writing() as db:
            row = db.execute("SELECT bytes FROM kept WHERE owner = ? AND root = ?", (owner, root)).fetchone()
            if row is not None:
                db.execute("DELETE FROM kept WHERE owner = ? AND root = ?", (owner, root))
                _count(db, owner, -row[0], -1)
                db.execute("DELETE FROM keepers WHERE owner = ? AND uploads = 0", (owner,))

    def _lock(self, owner: bytes) -> threading.Lock:
        return self._locks[owner[-1] % _LOCKS]


def _used(db: sqlite3.Connection, owner: bytes) -> tuple[int, int]:
    """(bytes, uploads)"""
    row = db.execute("SELECT bytes, uploads FROM keepers WHERE owner = ?", (owner,)).fetchone()
    return (int(row[0]), int(row[1])) if row else (0, 0)


def _count(db: sqlite3.Connection, owner: bytes, size: int, uploads: int) -> None:
    db.execute(
        "UPDATE keepers SET bytes = bytes + ?, uploads = uploads + ? WHERE owner = ?", (size, uploads, owner)
    )


def _name(owner: bytes) -> str:
    return _PREFIX + owner.hex()


def _owner(pin: str) -> bytes:
    """Whose upload a pin is; b"" for another kind of pin."""
    try:
        owner = bytes.fromhex(pin.removeprefix(_PREFIX)) if pin.startswith(_PREFIX) else b""
    except ValueError:
        return b""
    return owner if len(owner) == 20 else b""
