"""Blocks for one worker: read and verified here, brought by the node where they are missing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from decentraspace.content import cid as cids
from decentraspace.content.blockstore import BlockStore
from decentraspace.content.reader import BlockMissing
from decentraspace.errors import Unprocessable
from decentraspace.gateway.control import ControlClient

_THREADS = 4
_MISSES_MOST = 10_000  # blocks asked for on behalf of one request
_PIECE = 256 * 1024  # bytes read at once for an answer that is streamed
T = TypeVar("T")


class Supply:
    """Blocking reads run in threads: hashing a large block would stop every other visitor meanwhile. `check`
    raises for a block that may not be served."""

    def __init__(
        self,
        store: BlockStore,
        control: ControlClient,
        timeout: float,
        check: Callable[[bytes], None] = lambda cid: None,
    ) -> None:
        self._store, self._control, self._timeout, self._check = store, control, timeout, check
        self._threads = ThreadPoolExecutor(_THREADS, "render")
        self._fetching: dict[bytes, asyncio.Future[bool]] = {}

    def verified(self, cid: bytes) -> bytes:
        """A block as its CID says; a damaged one counts as missing. Blocked."""
        self._check(cid)
        block = self._store.get(cid)
        if block is None or not cids.digest_matches(cid, block):
            raise BlockMissing(cid)
        return block

    async def patiently(self, root: bytes, work: Callable[[], T]) -> T:
        """Run `work` in a thread; get the blocks it lacks from the node and run it again.

        TimeoutError when they do not come in time, Unprocessable for one that is here but damaged.
        """
        loop = asyncio.get_running_loop()
        brought: set[bytes] = set()
        async with asyncio.timeout(self._timeout):
            for _ in range(_MISSES_MOST):
                try:
                    return await loop.run_in_executor(self._threads, work)
                except BlockMissing as error:
                    if error.cid in brought:
                        raise Unprocessable(f"Block {cids.to_text(error.cid)} is damaged") from error
                    if not await self.bring(error.cid, root):
                        raise TimeoutError from error
                    brought.add(error.cid)
        raise TimeoutError

    async def pieces(self, root: bytes, make: Callable[[int], Iterator[bytes]]) -> AsyncIterator[bytes]:
        """What `make(0)` gives, in larger pieces. Where a block is missing it is brought, and `make(bytes
        given so far)` goes on. BlockMissing when it does not come."""
        loop = asyncio.get_running_loop()
        done, brought = 0, b""
        iterator = _gathered(make(0))
        while True:
            try:
                piece = await loop.run_in_executor(self._threads, next, iterator, None)
            except BlockMissing as error:
                if error.cid == brought or not await self.bring(error.cid, root):
                    raise
                brought = error.cid
                iterator = _gathered(make(done))
                continue
            if piece is None:
                return
            done += len(piece)
            yield piece

    async def bring(self, cid: bytes, root: bytes) -> bool:
        """Ask the node for a block; requests for one block at one time ask once."""
        under_way = self._fetching.get(cid)
        if under_way is not None:
            return await asyncio.shield(under_way)
        future = self._fetching[cid] = asyncio.get_running_loop().create_future()
        there = False
        try:
            there = await self._control.ask("fetch", self._timeout, cid=cid, root=root)
            return there
        finally:
            future.set_result(there)
            del self._fetching[cid]


def _gathered(parts: Iterator[bytes]) -> Iterator[bytes]:
    buffer = bytearray()
    try:
        for part in parts:
            buffer += part
            if len(buffer) >= _PIECE:
                yield bytes(buffer)
                buffer.clear()
    except BlockMissing:
        if buffer:
            yield bytes(buffer)  # what was read before goes out before the gap is filled
        raise
    if buffer:
        yield bytes(buffer)
