"""Reading all blocks again, slowly and for ever: what a disk has lost or changed is found before it is needed.

A damaged block is taken out, so that it counts as missing, and brought again from other nodes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NamedTuple

import structlog
import trio

from decentraspace.config import StorageConfig
from decentraspace.content import cid as cids
from decentraspace.content.blockstore import BlockStore
from decentraspace.errors import DecentraSpaceError

log = structlog.get_logger(__name__)

_TICK = 10.0  # seconds
_LEAST = 1024 * 1024  # bytes read per tick
_MOST = 32 * 1024 * 1024
_BLOCKS_MOST = 2000


class Scrubbed(NamedTuple):
    """`next`: multihash to go on from, b"" at the end; `size`: bytes read; `damaged`: CIDs, as they are referenced,
    of blocks that were taken out."""

    next: bytes
    size: int
    damaged: list[bytes]


def scrub(store: BlockStore, start: bytes, most: int) -> Scrubbed:
    """Read about `most` bytes of blocks from the multihash `start` on, and take out damaged ones. Blocking."""
    size, damaged = 0, []
    with store.read() as txn:
        cursor = txn.cursor(db=store.db["blocks"])
        more = cursor.set_range(start) if start else cursor.first()
        for _ in range(_BLOCKS_MOST):
            if not more or size >= most:
                break
            key, data = bytes(cursor.key()), bytes(cursor.value())
            size += len(data)
            if not cids.digest_matches(b"\x01\x55" + key, data):
                damaged.append(key)
            more = cursor.next()
        following = bytes(cursor.key()) if more else b""
    found: list[bytes] = []
    for key in damaged:
        named = store.referenced_as(key)
        if store.drop_damaged(key):
            found += named
            log.error("block_damaged", multihash=key.hex(), referenced=bool(named))
    return Scrubbed(following, size, found)


async def run_scrub(
    store: BlockStore, bring: Callable[[bytes, bytes], Awaitable[bool]], config: StorageConfig
) -> None:
    """All blocks once in `scrub_interval` seconds, for ever. `bring(cid, root)` fetches a block."""
    at = b""
    lost: set[bytes] = set()
    while True:
        await trio.sleep(_TICK)
        share = int(store.stats().bytes * _TICK / config.scrub_interval)
        try:
            done = await trio.to_thread.run_sync(scrub, store, at, min(max(share, _LEAST), _MOST))
            at = done.next
            lost.update(done.damaged)
            for cid in list(lost):
                if await bring(cid, cid):
                    lost.discard(cid)
                    log.info("block_mended", cid=cids.to_text(cid))
        except DecentraSpaceError as error:
            log.error("scrub_failed", reason=str(error))
