"""A DAG that comes as a CAR: received, verified and stored, all three at the same time.

While the disk takes one batch, the blocks of the next are hashed, and what comes after them is read. What
waits between the three is bounded, so a slow disk slows down the provider and fills no memory. Only blocks
that the DAG asks for are taken, each once.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

import trio

from decentraspace import heap
from decentraspace.content import car, dagpb
from decentraspace.content import cid as cids
from decentraspace.content.blockstore import BlockStore
from decentraspace.errors import BadInput, TooLarge, Unprocessable
from decentraspace.network.source import ProviderFailed

_SLOWEST = 4 * 1024  # verified bytes a second, on average over the stall limit and longer
_BATCH = 4 * 1024 * 1024  # bytes stored at once
_TOGETHER, _SOON = 1024 * 1024, 0.1  # bytes, seconds: what a stream brings is looked at in such pieces
_AHEAD = 1  # such pieces that may wait to be looked at
_BLOCKS_MOST = 500_000  # of one DAG under way; bounds what its links take in memory

Block = tuple[bytes, bytes]


class Budget(Protocol):
    def spend(self, size: int) -> None:
        """Raises TooLarge beyond what there is."""


async def take_in(
    chunks: AsyncIterator[bytes], root: bytes, store: BlockStore, budget: Budget, stall: float
) -> None:
    """Store the DAG under `root` as far as `chunks` bring it. Its root has to come, so that every stream is a
    step forward; after an error, what was verified until then is stored all the same.

    ProviderFailed for bytes that are not what was asked for or stop coming for `stall` seconds; Unprocessable,
    TooLarge for what is wrong with the content; what the store and the chunks raise.
    """
    with heap.keeping_buffers():
        await _Intake(root, store, budget, stall).run(chunks)


class _Intake:
    def __init__(self, root: bytes, store: BlockStore, budget: Budget, stall: float) -> None:
        self._root, self._store, self._budget, self._stall = root, store, budget, stall
        self._decoder, self._wanted = car.CarDecoder(), _Wanted(root)
        self._batch: list[Block] = []  # verified, and not handed over yet
        self._size = self._verified = 0  # bytes: of the batch, of all
        self._broken: Exception | None = None  # how the stream ended before its end
        self._failed: Exception | None = None

    async def run(self, chunks: AsyncIterator[bytes]) -> None:
        pieces_in, pieces = trio.open_memory_channel[list[bytes]](_AHEAD)
        batches_in, batches = trio.open_memory_channel[list[Block]](0)
        try:
            async with trio.open_nursery() as nursery:
                self._scope = nursery.cancel_scope
                nursery.start_soon(self._receive, chunks, pieces_in)
                nursery.start_soon(self._verify, pieces, batches_in)
                nursery.start_soon(self._keep, batches)
        finally:
            if self._batch:  # verified, and the next provider need not send it again
                with trio.CancelScope(shield=True):
                    await trio.to_thread.run_sync(self._store.put_many, self._batch)
        if self._failed is not None:
            raise self._failed
        if self._broken is not None:
            raise self._broken
        _finish(self._decoder)
        if not self._verified and self._wanted.has(self._root):
            raise ProviderFailed("it sends a CAR without the block that was asked for")

    def _fail(self, error: Exception) -> None:
        """The first failure counts, by itself and not in a group, and ends all three."""
        self._failed = self._failed or error
        self._scope.cancel()

    async def _receive(
        self, chunks: AsyncIterator[bytes], pieces: trio.MemorySendChannel[list[bytes]]
    ) -> None:
        async with pieces:
            try:
                async for piece in _together(chunks):
                    await pieces.send(piece)
            except Exception as error:  # noqa: BLE001 - it is told once all that came before is kept
                self._broken = error

    async def _verify(
        self, pieces: trio.MemoryReceiveChannel[list[bytes]], batches: trio.MemorySendChannel[list[Block]]
    ) -> None:
        async with pieces, batches:
            try:
                start = progress = trio.current_time()
                async for piece in pieces:
                    # In a thread: hashing and decoding a large block would stop everything else meanwhile.
                    for block in await trio.to_thread.run_sync(self._look, piece):
                        self._budget.spend(len(block[1]))
                        self._batch.append(block)
                        self._size += len(block[1])
                        self._verified += len(block[1])
                        progress = trio.current_time()
                    now = trio.current_time()
                    if now - progress > self._stall:
                        raise ProviderFailed("it stalls")
                    if now - start > self._stall and self._verified < (now - start) * _SLOWEST:
                        raise ProviderFailed("it is too slow")
                    if self._size >= _BATCH:
                        await batches.send(self._batch)
                        self._batch, self._size = [], 0
                        ours = trio.current_time() - now  # our own disk's time is no provider's fault
                        start, progress = start + ours, progress + ours
            except Exception as error:  # noqa: BLE001 - it is raised again where the three end
                self._fail(error)

    async def _keep(self, batches: trio.MemoryReceiveChannel[list[Block]]) -> None:
        async with batches:
            try:
                async for batch in batches:
                    with trio.CancelScope(shield=True):
                        await trio.to_thread.run_sync(self._store.put_many, batch)
            except Exception as error:  # noqa: BLE001 - it is raised again where the three end
                self._fail(error)

    def _look(self, piece: list[bytes]) -> list[Block]:
        """The blocks that it completes, verified."""
        blocks: list[Block] = []
        try:
            for chunk in piece:
                blocks += self._decoder.feed(chunk)
        except (BadInput, Unprocessable) as error:
            raise ProviderFailed(str(error)) from error
        for cid, data in blocks:
            self._wanted.take(cid, data)
        return blocks


class _Wanted:
    """Which blocks a stream may bring now: those linked from what it brought, each once."""

    def __init__(self, root: bytes) -> None:
        self._expected: set[bytes] = set()
        self._taken: set[bytes] = set()
        self._add([root])

    def has(self, cid: bytes) -> bool:
        return cid in self._expected

    def take(self, cid: bytes, data: bytes) -> None:
        """ProviderFailed for a block nobody asked for; Unprocessable for content that is malformed."""
        if cid not in self._expected:
            raise ProviderFailed("it sends blocks that nobody asked for")
        self._expected.discard(cid)
        self._taken.add(cid)
        try:
            self._add(dagpb.links_of(cid, data))
        except BadInput as error:
            raise malformed(cid, error) from error
        if len(self._expected) + len(self._taken) > _BLOCKS_MOST:
            raise TooLarge(f"The content has more than {_BLOCKS_MOST} blocks")

    def _add(self, links: list[bytes]) -> None:
        todo = list(links)
        while todo:
            link = todo.pop()
            inlined = cids.identity_data(link)
            if inlined is not None:
                todo.extend(dagpb.links_of(link, inlined))  # not sent, but its links are
            elif link not in self._taken:
                self._expected.add(link)


async def _together(chunks: AsyncIterator[bytes]) -> AsyncIterator[list[bytes]]:
    """Several chunks at a time, all of what came before the stream broke among them."""
    waiting: list[bytes] = []
    size, since = 0, trio.current_time()
    try:
        async for chunk in chunks:
            waiting.append(chunk)
            size += len(chunk)
            if size >= _TOGETHER or trio.current_time() - since > _SOON:
                yield waiting
                waiting, size, since = [], 0, trio.current_time()
    except Exception:
        if waiting:
            yield waiting
        raise
    if waiting:
        yield waiting


def _finish(decoder: car.CarDecoder) -> None:
    try:
        decoder.close()
    except BadInput as error:
        raise ProviderFailed(str(error)) from error


def malformed(cid: bytes, error: BadInput) -> Unprocessable:
    """What is wrong with the content itself."""
    return Unprocessable(f"The content under {cids.to_text(cid)} is malformed: {error.detail}")
