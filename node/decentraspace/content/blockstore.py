"""The block store: LMDB, written by the node, read by the node and its gateway workers alike.

    blocks   multihash            -> block
    refs     multihash · codec    -> count (u64) · expanded (u8)     see pins.py
    loose    time (ms) · multihash -> nothing     blocks that nothing references, oldest first
    since    multihash            -> time (ms)    the block's key in `loose`
    pins     root · 0 · name      -> state
    queue    number               -> operation · CID     reference counting that is not done yet
    meta     name                 -> value
    hosts    host label           -> site         see siteindex.py
    denied   slot · digest        -> rule         see denied.py

Invariant: a stored block is referenced, or it has an entry in `loose`. What `put_many` and `pin` returned
for is synced to disk. One process writes (the node, which locks its data folder), any number read. Order of
locks: `pin_lock`, then LMDB's own for writing. Why LMDB: docs/discussion/block-store.md.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from decentraspace.content import cid as cids
from decentraspace.content import dags, environment
from decentraspace.content.reader import BlockMissing
from decentraspace.content.storefile import UNREADABLE, StoreFile
from decentraspace.content.writer import BATCH, OBJECT, BlockWriter
from decentraspace.errors import DecentraSpaceError, QuotaExceeded, TooLarge, Unavailable, Unprocessable
from decentraspace.units import size_of

if TYPE_CHECKING:
    from decentraspace.content.recount import Recount

Guard = Callable[[bytes, Any], DecentraSpaceError | None]
"""Why a CID may not be pinned and is not served; None if it may. The transaction to look in, or None."""


class StoreStats(NamedTuple):
    """`blocks` stored, their `bytes`, the `quota` in bytes, and how many (root, name) pins there are."""

    blocks: int
    bytes: int
    quota: int
    pins: int


class BlockStore(StoreFile):
    """Blocking and thread-safe. CIDs with inlined data (identity) are present without being stored."""

    def __init__(self, env: Any, path: Path, quota: int, readonly: bool) -> None:
        super().__init__(env, path, quota, readonly)
        self.clock: Callable[[], int] = lambda: time.time_ns() // 1_000_000
        self.pin_lock = threading.RLock()  # held while references are counted, and while garbage goes
        self.guard: Guard | None = None  # of the node; a gateway worker asks by itself
        self.unsettled = False  # an error (a full disk) cut counting short; under pin_lock
        self.recounting: Recount | None = None  # what is told of each count meanwhile; under pin_lock
        self._holds: dict[object, int] = {}
        self._holds_lock = threading.Lock()
        self._clock = 0

    def _prepare(self) -> None:
        super()._prepare()
        if not self.readonly:
            from decentraspace.content import pins

            self.env.reader_check()
            pins.recover(self)

    # -- blocks

    def get(self, cid: bytes) -> bytes | None:
        """The block's bytes as stored (they were verified when they came in), or None.

        Unavailable when all places for readers are taken.
        """
        inlined = cids.identity_data(cid)
        if inlined is not None:
            return inlined
        try:
            with self.env.begin() as txn:  # not self.read(): a third of the time of a gateway's read
                found: bytes | None = txn.get(cids.multihash(cid), db=self.db["blocks"])
                return found
        except UNREADABLE as error:
            raise Unavailable(f"The block store cannot be read just now: {error}") from error

    def get_or_raise(self, cid: bytes) -> bytes:
        """Like get, but BlockMissing; fits wherever the reader wants a `get`."""
        block = self.get(cid)
        if block is None:
            raise BlockMissing(cid)
        return block

    def has(self, cid: bytes) -> bool:
        if cids.identity_data(cid) is not None:
            return True
        try:
            with self.env.begin(buffers=True) as txn:
                return txn.get(cids.multihash(cid), db=self.db["blocks"]) is not None
        except UNREADABLE as error:
            raise Unavailable(f"The block store cannot be read just now: {error}") from error

    def has_many(self, wanted: Sequence[bytes], *, touch: bool = False) -> list[bool]:
        """Which are stored. With `touch` those are kept for another grace period (someone counts on them)."""
        keys = [None if cids.identity_data(c) is not None else cids.multihash(c) for c in wanted]
        if not touch:
            with self.read(buffers=True) as txn:
                return [key is None or txn.get(key, db=self.db["blocks"]) is not None for key in keys]
        with self.write() as txn:
            now = self.now()
            present = [key is None or txn.get(key, db=self.db["blocks"]) is not None for key in keys]
            for key, there in zip(keys, present, strict=True):
                if key is not None and there:
                    self.touch(txn, key, now)
            return present

    def put_many(self, blocks: Iterable[tuple[bytes, bytes]], *, verify: bool = False) -> int:
        """Store blocks, each once; returns how many were new. Durable when it returns.

        Callers have verified the blocks, or say verify=True (Unprocessable for one that does not match).
        QuotaExceeded stores nothing of the transaction at hand (up to 16 MiB).
        """
        new, pending, size = 0, [], 0
        for cid, data in blocks:
            if len(data) > cids.MAX_BLOCK:
                raise TooLarge(f"A block has {len(data)} bytes; {cids.MAX_BLOCK} are allowed")
            if verify and not cids.digest_matches(cid, data):
                raise Unprocessable(f"A block does not match its CID {cids.to_text(cid)}")
            if cids.identity_data(cid) is not None:
                continue
            pending.append((cids.multihash(cid), data))
            size += len(data) + OBJECT
            if size >= BATCH:
                new += self._put(pending)
                pending, size = [], 0
        return new + (self._put(pending) if pending else 0)

    def _put(self, pending: list[tuple[bytes, bytes]]) -> int:
        with self.write() as txn:
            now, new, added = self.now(), 0, 0
            cursor = txn.cursor(db=self.db["blocks"])
            for key, data in pending:
                if cursor.put(key, data, overwrite=False):
                    new += 1
                    added += len(data)
                self.touch(txn, key, now)
            if new:
                self._check_room(*self.count(txn, blocks=new, size=added))
        return new

    def _check_room(self, blocks: int, size: int) -> None:
        """QuotaExceeded, which undoes the transaction it is raised in."""
        if size > self.quota:
            raise QuotaExceeded(
                f"This node keeps {size_of(self.quota)} of blocks, and {size_of(size)} would be needed",
                hint="The operator can raise storage.quota or remove pins.",
            )
        if not environment.fits(blocks, size, self.quota):
            raise QuotaExceeded(
                f"This node keeps {size_of(self.quota)} of blocks, and not in {blocks} pieces that small",
                hint="The operator can raise storage.quota or remove pins.",
            )

    def writer(self) -> BlockWriter:
        """A buffered sink for importers; call `flush` at the end."""
        return BlockWriter(self.put_many)

    def count(self, txn: Any, *, blocks: int, size: int) -> tuple[int, int]:
        """Change the totals in this transaction; the new totals of blocks and of bytes."""
        totals = []
        for name, change in ((b"blocks", blocks), (b"bytes", size)):
            value = int(bytes(txn.get(name, b"0", db=self.db["meta"]))) + change
            txn.put(name, str(value).encode(), db=self.db["meta"])
            totals.append(value)
        return totals[0], totals[1]

    def stats(self) -> StoreStats:
        with self.read() as txn:
            meta = self.db["meta"]
            blocks, size = (int(txn.get(name, b"0", db=meta)) for name in (b"blocks", b"bytes"))
            return StoreStats(blocks, size, self.quota, txn.stat(self.db["pins"])["entries"])

    # -- what keeps an unreferenced block

    def now(self) -> int:
        """Milliseconds; never goes back while this process lives. Call it inside a write transaction."""
        self._clock = max(self._clock, self.clock())
        return self._clock

    def touch(self, txn: Any, key: bytes, now: int) -> None:
        """(Re)date an unreferenced block; nothing for a referenced one."""
        if self.has_refs(txn, key):
            return
        stamp = now.to_bytes(8, "big")
        old = txn.get(key, db=self.db["since"])
        if old == stamp:
            return
        if old is not None:
            txn.delete(bytes(old) + key, db=self.db["loose"])
        txn.put(stamp + key, b"", db=self.db["loose"])
        txn.put(key, stamp, db=self.db["since"])

    def has_refs(self, txn: Any, key: bytes) -> bool:
        cursor = txn.cursor(db=self.db["refs"])
        return bool(cursor.set_range(key)) and bytes(cursor.key())[: len(key)] == key

    @contextmanager
    def hold(self) -> Iterator[None]:
        """While open, garbage collection removes no block that was put or touched since it began.

        It lives in memory: what it protected after a crash is protected by the grace period.
        """
        token = object()
        with self.write():  # so that no collection is between reading the holds and deleting
            start = self.now()
            with self._holds_lock:
                self._holds[token] = start
        try:
            yield
        finally:
            with self._holds_lock:
                del self._holds[token]

    def horizon(self, grace: float) -> int:
        """Unreferenced blocks dated before this (ms) may go. Call it inside a write transaction."""
        with self._holds_lock:
            return min([self.now() - int(grace * 1000), *self._holds.values()])

    # -- damage

    def referenced_as(self, key: bytes) -> list[bytes]:
        """CIDs under which pinned DAGs reach the block with this multihash."""
        from decentraspace.content import pins

        with self.read() as txn:
            return pins.names_of(self, txn, key)

    def drop_damaged(self, key: bytes) -> bool:
        """Take out the block with this multihash if its bytes are not what that says; whether they were not.

        Its references stay: it is missing from now on, and counted again when it comes back.
        """
        with self.write() as txn:
            data = txn.get(key, db=self.db["blocks"])
            if data is None or cids.digest_matches(b"\x01\x55" + key, data):
                return False
            txn.delete(key, db=self.db["blocks"])
            since = txn.get(key, db=self.db["since"])
            if since is not None:
                txn.delete(bytes(since) + key, db=self.db["loose"])
                txn.delete(key, db=self.db["since"])
            self.count(txn, blocks=-1, size=-len(data))
            return True

    # -- whole DAGs

    def referenced(self, cid: bytes) -> bool:
        """Whether a site's pinned DAG has a block with these bytes: what this node stands for, and serves.

        False for what is only uploaded (pins named `upload:…`), and for inlined (identity) data: whoever
        asks for that has made it up.
        """
        from decentraspace.content import pins

        with self.read() as txn:
            if self.guard is not None and self.guard(cid, txn) is not None:
                return False
            return pins.is_served(self, txn, cids.multihash(cid))

    def missing(self, root: bytes, limit: int = 1000) -> list[bytes]:
        """Blocks of the DAG that are not here and whose parents are; [] when it is whole.

        BadInput when a block is malformed.
        """
        absent: list[bytes] = []
        dags.visit(self, root, lambda length: None, absent.append, lambda: len(absent) >= limit)
        return absent[:limit]

    def dag_size(self, root: bytes) -> int:
        """Bytes of all blocks of the DAG, each once. BlockMissing if one is not here."""
        total = 0

        def add(length: int) -> None:
            nonlocal total
            total += length

        def fail(cid: bytes) -> None:
            raise BlockMissing(cid)

        dags.visit(self, root, add, fail, lambda: False)
        return total

    def pin(self, root: bytes, name: str) -> None:
        """Keep the DAG under `root` for reason `name`; repeating it changes nothing.

        Durable and whole when it returns; BlockMissing (nothing stays pinned) if a block is not here.
        """
        from decentraspace.content import pins

        pins.pin(self, root, name)

    def unpin(self, root: bytes, name: str) -> None:
        """Take one reason away; what no other pin reaches becomes garbage."""
        from decentraspace.content import pins

        pins.unpin(self, root, name)

    def pins(self) -> Iterator[tuple[bytes, str]]:
        """(root, name) of every pin that was acknowledged."""
        from decentraspace.content import pins

        yield from pins.listed(self, b"")

    def is_pinned(self, root: bytes, prefix: str = "") -> bool:
        """By a pin whose name starts with `prefix`."""
        from decentraspace.content import pins

        return any(name.startswith(prefix) for _, name in pins.listed(self, pins.prefix(root)))
