"""Reading all blocks again, slowly and for ever: what a disk has lost or changed is found before it is needed.

A damaged block is taken out, so that it counts as missing, and brought again from other nodes. When it was let
go before that, references are counted anew (recount.py): what it linked to would never be garbage.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import lmdb
import structlog
import trio

from decentraspace.config import StorageConfig
from decentraspace.content import cid as cids
from decentraspace.content.blockstore import BlockStore
from decentraspace.content.recount import is_due, recount
from decentraspace.errors import DecentraSpaceError

log = structlog.get_logger(__name__)

_TICK = 10.0  # seconds
_LEAST = 1024 * 1024  # bytes read per tick
_MOST = 32 * 1024 * 1024
_BLOCKS_MOST = 2000
_MENDED = 8  # blocks looked for per tick
_RECOUNT = 600.0  # seconds between attempts to count references anew
_FIRST = b"\x12\x20"  # how multihashes of SHA2-256 start
_STEP = 64  # of the 65,536 values of the two bytes after that


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
    """All blocks once in `scrub_interval` seconds, for ever. `bring(cid, root)` fetches a block.

    What cannot even be read, because a page of the store itself is damaged, is stepped over.
    """
    at, lost = b"", OrderedDict[bytes, None]()
    recounted = -math.inf
    while True:
        await trio.sleep(_TICK)
        try:
            if trio.current_time() >= recounted + _RECOUNT and await trio.to_thread.run_sync(is_due, store):
                recounted = trio.current_time()
                await trio.to_thread.run_sync(recount, store)
            share = int(store.stats().bytes * _TICK / config.scrub_interval)
            try:
                done = await trio.to_thread.run_sync(scrub, store, at, min(max(share, _LEAST), _MOST))
            except lmdb.Error as error:
                log.error(
                    "store_damaged", reason=str(error), hint="Make a new store: the network has copies."
                )
                at = _beyond(at)
                continue
            at = done.next
            lost.update(dict.fromkeys(done.damaged))
            await _mend(store, lost, bring)
        except DecentraSpaceError as error:
            log.error("scrub_failed", reason=str(error))
        except Exception:  # the node is of use without scrubbing
            log.exception("scrub_failed")


def _beyond(at: bytes) -> bytes:
    """A place some thousandths of all hashes further on; b"" at the end of them."""
    head = (at or _FIRST)[:2]
    place = int.from_bytes((at or _FIRST)[2:4].ljust(2, b"\0"), "big") + _STEP
    return head + place.to_bytes(2, "big") if place < 1 << 16 else b""


async def _mend(
    store: BlockStore, lost: OrderedDict[bytes, None], bring: Callable[[bytes, bytes], Awaitable[bool]]
) -> None:
    """Bring some of what was lost; those first that have waited longest. What nothing refers to any more is
    forgotten."""
    for cid in list(lost)[:_MENDED]:
        lost.move_to_end(cid)
        wanted = await trio.to_thread.run_sync(store.referenced_as, cids.multihash(cid))
        if not wanted:
            del lost[cid]
        elif await bring(cid, cid):
            del lost[cid]
            log.info("block_mended", cid=cids.to_text(cid))
