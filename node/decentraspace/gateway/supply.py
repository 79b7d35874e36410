"""Blocks for one worker: read and verified here, brought by the node where they are missing."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from decentraspace.content import cid as cids
from decentraspace.content.blockstore import BlockStore
from decentraspace.content.reader import BlockMissing
from decentraspace.errors import Unavailable, Unprocessable
from decentraspace.gateway.control import ControlClient

_THREADS = 4
_WAITING = 32  # threads of requests that lack blocks: there, waiting keeps nobody else from being answered
_WORK_MOST = 3600.0  # seconds of work for one answer that is streamed, without those its client takes
_LOOK = 0.25  # seconds between looks at whether a block is still waited for
_PIECE = 256 * 1024  # bytes read at once for an answer that is streamed
_PARTS = 4096  # of which it may be put together
T = TypeVar("T")


class TooLong(Unavailable):
    """Work that was given up."""

    slug, title = "too-long", "The content takes too long to be read"


class _Work:
    """What a thread does for one request. It ends at the next block once `stop` is set, as when nobody waits for
    it any more, or after `seconds`. `bring`: gets a missing block, blocked; None where none is to be got."""

    def __init__(self, seconds: float) -> None:
        self.until = time.monotonic() + seconds
        self.stop = threading.Event()
        self.bring: Callable[[bytes], bool] | None = None
        self.brought: set[bytes] = set()

    def check(self) -> None:
        if self.stop.is_set() or time.monotonic() > self.until:
            raise TooLong("The content takes too long to be read")


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
        self._patient = ThreadPoolExecutor(_WAITING, "waiting")
        self._here = threading.local()  # .work: of this thread
        self._fetching: dict[tuple[bytes, bytes], asyncio.Task[bool]] = {}

    def verified(self, cid: bytes) -> bytes:
        """A block as its CID says; a damaged one counts as missing. Blocked."""
        work: _Work | None = getattr(self._here, "work", None)
        if work is not None:
            work.check()
        self._check(cid)
        block = self._store.get(cid)
        if block is not None and cids.digest_matches(cid, block):
            return block
        if work is None or work.bring is None:
            raise BlockMissing(cid)
        if cid in work.brought:
            raise Unprocessable(f"Block {cids.to_text(cid)} is damaged")
        if not work.bring(cid):
            raise BlockMissing(cid)
        work.brought.add(cid)
        return self.verified(cid)

    async def _run(self, work: _Work, function: Callable[[], T]) -> T:
        """In a thread, which is free again at the next block when this is cancelled."""

        def run() -> T:
            self._here.work = work
            try:
                work.check()  # it may have waited for a thread
                return function()
            finally:
                self._here.work = None

        threads = self._threads if work.bring is None else self._patient
        try:
            return await asyncio.get_running_loop().run_in_executor(threads, run)
        except asyncio.CancelledError:
            work.stop.set()
            raise

    def _may_wait(self, work: _Work, root: bytes) -> None:
        """From here on missing blocks are brought where they are missed, and nothing is read again."""
        loop = asyncio.get_running_loop()

        def bring(cid: bytes) -> bool:
            asked = asyncio.run_coroutine_threadsafe(self.bring(cid, root), loop)
            while not work.stop.is_set() and time.monotonic() < work.until:
                try:
                    return asked.result(_LOOK)
                except TimeoutError:
                    continue
            asked.cancel()
            return False

        work.bring = bring

    async def patiently(self, root: bytes, work: Callable[[], T]) -> T:
        """Run `work` in a thread; where it lacks blocks, once more, with the node bringing them.

        TimeoutError when they do not come in time, Unprocessable for one that is here but damaged.
        """
        job = _Work(self._timeout)
        try:
            async with asyncio.timeout(self._timeout):
                try:
                    return await self._run(job, work)
                except BlockMissing:
                    self._may_wait(job, root)
                    return await self._run(job, work)
        except (BlockMissing, TooLong) as error:
            raise TimeoutError from error

    async def pieces(
        self, root: bytes, make: Callable[[int], Iterator[bytes]], gone: asyncio.Future[None]
    ) -> AsyncIterator[bytes]:
        """What `make(0)` gives, in larger pieces. Where a block is missing, `make(bytes given so far)` goes on,
        and missing blocks are brought. BlockMissing when one does not come, TooLong when no piece does, or
        the client is `gone`."""
        done, left = 0, _WORK_MOST
        work = _Work(0)
        iterator = _gathered(make(0))
        gone.add_done_callback(lambda _: work.stop.set())
        try:
            while True:
                began = time.monotonic()
                work.until = began + min(self._timeout, left)
                try:
                    piece = await self._run(work, partial(next, iterator, None))
                except BlockMissing:
                    if work.bring is not None:
                        raise
                    self._may_wait(work, root)
                    iterator = _gathered(make(done))
                    continue
                left -= time.monotonic() - began
                if piece is None:
                    return
                done += len(piece)
                yield piece
        finally:
            work.stop.set()

    async def bring(self, cid: bytes, root: bytes) -> bool:
        """Ask the node for a block below `root`; requests for the same at one time ask once. Who asked first may
        leave: the others are answered all the same."""
        asking = self._fetching.get((cid, root))
        if asking is None:
            asking = asyncio.create_task(self._control.ask("fetch", self._timeout, cid=cid, root=root))
            self._fetching[cid, root] = asking
            asking.add_done_callback(lambda _: self._fetching.pop((cid, root), None))
        return await asyncio.shield(asking)


def _gathered(parts: Iterator[bytes]) -> Iterator[bytes]:
    waiting: list[bytes] = []
    size = 0
    try:
        for part in parts:
            waiting.append(part)
            size += len(part)
            if size >= _PIECE or len(waiting) >= _PARTS:
                yield b"".join(waiting)
                waiting, size = [], 0
    except BlockMissing:
        if waiting:
            yield b"".join(waiting)  # what was read before goes out before the gap is filled
        raise
    if waiting:
        yield b"".join(waiting)
