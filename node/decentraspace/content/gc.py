"""Garbage collection: unreferenced blocks go, oldest first, a few at a time.

The cost is that of the garbage, not of the store: `loose` lists exactly the blocks that nothing
references. A block goes only if it was last put or touched before the horizon, which lies a grace period
back and never after the start of an open hold.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import structlog
import trio

from decentraspace.config import StorageConfig
from decentraspace.content.blockstore import BlockStore

log = structlog.get_logger(__name__)

_PAUSE = 0.01  # seconds between batches, so that writers get their turn


class GcProgress(NamedTuple):
    """Blocks and bytes removed by one batch."""

    blocks: int
    bytes: int


def collect(store: BlockStore, *, grace: float, batch: int = 500) -> Iterator[GcProgress]:
    """Remove garbage in transactions of `batch` blocks; yields after each. Blocking."""
    while True:
        progress = _batch(store, grace, batch)
        if progress is None:
            return
        yield progress


def _batch(store: BlockStore, grace: float, batch: int) -> GcProgress | None:
    """None when nothing is old enough any more."""
    with store.read(buffers=True) as txn:
        cursor = txn.cursor(db=store.db["loose"])
        if not cursor.first() or int.from_bytes(cursor.key()[:8], "big") >= store.now() - int(grace * 1000):
            return None
    with store.write() as txn:
        horizon = store.horizon(grace)
        cursor = txn.cursor(db=store.db["loose"])
        blocks = size = seen = 0
        while seen < batch and cursor.first():
            entry = bytes(cursor.key())
            if int.from_bytes(entry[:8], "big") >= horizon:
                break
            seen += 1
            key = entry[8:]
            cursor.delete()
            txn.delete(key, db=store.db["since"])
            gone = txn.pop(key, db=store.db["blocks"])
            if gone is not None:
                blocks += 1
                size += len(gone)
        if not seen:
            return None
        store.count(txn, blocks=-blocks, size=-size)
        return GcProgress(blocks, size)


async def run_gc(store: BlockStore, config: StorageConfig) -> None:
    """Collect every `gc_interval` seconds, for ever."""
    while True:
        await trio.sleep(config.gc_interval)
        blocks = size = 0
        while progress := await trio.to_thread.run_sync(_batch, store, config.gc_grace, 500):
            blocks += progress.blocks
            size += progress.bytes
            await trio.sleep(_PAUSE)
        if blocks:
            log.info("garbage_collected", blocks=blocks, bytes=size)
