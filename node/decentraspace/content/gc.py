"""Garbage collection: unreferenced blocks go, oldest first, a few at a time.

The cost is that of the garbage, not of the store: `loose` lists exactly the blocks that nothing
references. A block goes only if it was last put or touched before the horizon, which lies a grace period
back and never after the start of an open hold. Both are read in the transaction that removes, and holds
begin in a transaction too, so there is no instant in between.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any, NamedTuple

import structlog
import trio

from decentraspace.config import StorageConfig
from decentraspace.content.blockstore import BlockStore
from decentraspace.errors import DecentraSpaceError, QuotaExceeded

log = structlog.get_logger(__name__)

_BYTES = 64 * 1024 * 1024  # of blocks removed per transaction
_FEW = 8  # blocks per transaction when there is hardly a free page left
_PAUSE = 0.01  # seconds between batches, so that writers get their turn
_RETRY = 10.0  # seconds after a failure, doubled with each further one


class GcProgress(NamedTuple):
    """Blocks and bytes removed by one batch."""

    blocks: int
    bytes: int


def collect(store: BlockStore, *, grace: float, batch: int = 500) -> Iterator[GcProgress]:
    """Remove garbage in transactions of at most `batch` blocks; yields after each. Blocking."""
    while True:
        progress = _batch(store, grace, batch)
        if progress is None:
            return
        yield progress


def _batch(store: BlockStore, grace: float, batch: int) -> GcProgress | None:
    """None when nothing is old enough any more."""
    if not _due(store, grace):
        return None
    # Not while a pin is being counted: what it has not reached yet is not referenced yet.
    with store.pin_lock:
        try:
            progress = _remove(store, grace, batch)
        except QuotaExceeded:
            # Removing needs pages too. A few blocks need few, and give back more.
            if batch <= _FEW:
                raise
            progress = _remove(store, grace, _FEW)
        if progress is not None:
            _release(store)
        return progress


def _due(store: BlockStore, grace: float) -> bool:
    with store.read() as txn:
        cursor = txn.cursor(db=store.db["loose"])
        if not cursor.first():
            return False
        now = store.clock()
        if _date(cursor.key()) < now - int(grace * 1000):
            return True
        return cursor.last() and _date(cursor.key()) > now


def _remove(store: BlockStore, grace: float, batch: int) -> GcProgress | None:
    with store.write(buffers=True) as txn:  # buffers: a block's length without its bytes
        _redate(store, txn, batch)
        horizon = store.horizon(grace)
        cursor = txn.cursor(db=store.db["loose"])
        found = txn.cursor(db=store.db["blocks"])
        blocks = size = seen = 0
        while seen < batch and size < _BYTES and cursor.first():
            entry = bytes(cursor.key())
            if _date(entry) >= horizon:
                break
            seen += 1
            key = entry[8:]
            cursor.delete()
            txn.delete(key, db=store.db["since"])
            if store.has_refs(txn, key):
                log.error("referenced_block_listed_as_garbage", multihash=key.hex())  # keep it
            elif found.set_key(key):
                blocks += 1
                size += len(found.value())
                found.delete()
        if not seen:
            return None
        store.count(txn, blocks=-blocks, size=-size)
        return GcProgress(blocks, size)


def _release(store: BlockStore) -> None:
    """Make the pages of what was removed usable. Until another transaction has ended LMDB gives none of them
    out, and on a full disk the next one, without them, might never end."""
    with suppress(QuotaExceeded), store.write() as txn:
        txn.put(b"collected", str(store.now()).encode(), db=store.db["meta"])


def _redate(store: BlockStore, txn: Any, batch: int) -> None:
    """Blocks dated in the future, because the clock was wrong once, would never grow old: date them now."""
    now = store.now()
    cursor = txn.cursor(db=store.db["loose"])
    for _ in range(batch):
        if not cursor.last() or _date(cursor.key()) <= now:
            return
        store.touch(txn, bytes(cursor.key()[8:]), now)


def _date(entry: bytes) -> int:
    return int.from_bytes(entry[:8], "big")


async def run_gc(store: BlockStore, config: StorageConfig) -> None:
    """Collect every `gc_interval` seconds, for ever; sooner again after a failure, whatever it was."""
    failures = 0
    while True:
        wait = config.gc_interval
        if failures:
            wait = min(wait, _RETRY * 2 ** min(failures - 1, 16))
        await trio.sleep(wait)
        try:
            await _run_once(store, config.gc_grace)
            failures = 0
        except QuotaExceeded as error:
            failures += 1
            log.error("garbage_collection_failed", reason=str(error), hint="Restart the node: it makes room.")
        except DecentraSpaceError as error:
            failures += 1
            log.error("garbage_collection_failed", reason=str(error), hint=error.hint)
        except Exception:  # the store may be of use again later, and the node is of use without collecting
            failures += 1
            log.exception("garbage_collection_failed")


async def _run_once(store: BlockStore, grace: float) -> None:
    # What a reader that was killed had open would keep pages from being used again.
    await trio.to_thread.run_sync(store.env.reader_check)
    blocks = size = 0
    while progress := await trio.to_thread.run_sync(_batch, store, grace, 500):
        blocks += progress.blocks
        size += progress.bytes
        await trio.sleep(_PAUSE)
    if blocks:
        log.info("garbage_collected", blocks=blocks, bytes=size)
