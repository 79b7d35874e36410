"""Taking records from one peer: those it was asked for, judged and stored while the next ones come.

What was refused lately is noted (refused.py); who sends too much that no honest node passes on is cut off.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import structlog
import trio

from decentraspace.errors import BadInput, innermost
from decentraspace.network import frames
from decentraspace.network.line import Line
from decentraspace.network.reconcile import ID, Tree
from decentraspace.network.refused import Refused
from decentraspace.records import codec
from decentraspace.records.judging import Judge, Judgement, Pool
from decentraspace.records.store import AddResult, RecordStore
from decentraspace.records.verdict import RecordRefused

log = structlog.get_logger(__name__)

_JUDGED_AT_ONCE = 3  # messages: so that who judges never waits for who stores, or for the network
_BATCHES_WAITING = 8  # messages whose records were judged: the more are stored at once, the less is written
_MANY = 2000  # records from which on the store is told beforehand
_FAULTS_MOST = 20  # records of one peer in one exchange that no honest node passes on
_REFUSALS_MOST = 20_000
_MISSING_MOST = 100  # records named and not sent: they may have been replaced meanwhile
_MATTERS_OF_VIEW = frozenset({"sponsor-quota", "unknown-sponsor", "future-record", "expired-delegation"})

Accepted = Callable[[Sequence[AddResult]], Awaitable[None]]
_Batch = tuple[list[bytes], list[Judgement], int]
"""Envelopes, what they were judged, and when."""


@dataclass(frozen=True)
class SyncResult:
    """Records received and accepted, sent, and refused in one exchange; `more`: it was cut short, and the
    sets still differ; bytes written and read by this side."""

    received: int
    sent: int
    refused: int
    more: bool = False
    bytes_out: int = 0
    bytes_in: int = 0


def is_fault(refusal: RecordRefused) -> bool:
    """Whether every honest node would have refused the record, and so not passed it on."""
    return refusal.problem_slug not in _MATTERS_OF_VIEW


class Taker:
    """Takes what was asked for, until the peer has sent too much that is not valid."""

    def __init__(
        self,
        line: Line,
        store: RecordStore,
        accepted: Accepted,
        joining: bool,
        refused: Refused,
        peer: str,
        pool: Pool | None,
    ) -> None:
        self._pool = pool or Pool(store.rules)
        self._line, self._store, self._on_accepted = line, store, accepted
        self._joining, self._lately, self._peer = joining, refused, peer
        self._awaited: set[bytes] = set()
        self.accepted = self.refused = self._faults = 0

    def result(self, sent: int, more: bool) -> SyncResult:
        return SyncResult(self.accepted, sent, self.refused, more, self._line.bytes_out, self._line.bytes_in)

    async def known(self) -> Tree:
        """What this node has, and what it refused that the peer has."""
        return await trio.to_thread.run_sync(lambda: self._store.tree().changed(self._lately.of(self._peer)))

    def lacking(self, names: Iterable[bytes]) -> list[bytes]:
        """Those that are worth asking the peer for, who has them all."""
        result = []
        for name in names:
            if name in self._lately:
                self._lately.also(name, self._peer)
            else:
                result.append(name)
        return result

    async def receive(
        self, awaited: Sequence[bytes], other: dict[str, Callable[[dict[str, Any]], None]] | None = None
    ) -> None:
        """Records until the peer is done: while one message is read, that before is judged and stored.

        `other`: what to do with messages of other kinds, by their name.
        """
        self._awaited = set(awaited)
        broken: Exception | None = None
        try:
            async with self._many(len(awaited)), self._pool.judges() as judge, trio.open_nursery() as nursery:
                to_judge, read = trio.open_memory_channel[list[bytes]](1)
                to_store, judged = trio.open_memory_channel[_Batch](_BATCHES_WAITING)
                nursery.start_soon(self._judge_all, judge, read, to_store)
                nursery.start_soon(self._store_all, judged)
                async with to_judge:
                    try:
                        await self._read_all(to_judge, other or {})
                    except Exception as error:  # noqa: BLE001 - raised again when what came before is stored
                        broken = error
        except ExceptionGroup as group:
            raise innermost(group) from group
        if broken is not None:
            raise broken
        if len(self._awaited) > max(_MISSING_MOST, len(awaited) // 10):
            raise BadInput(f"A peer named {len(self._awaited)} records that it did not send")

    @asynccontextmanager
    async def _many(self, count: int) -> AsyncIterator[None]:
        if count < _MANY:
            yield
            return
        expected = self._store.many()
        await trio.to_thread.run_sync(expected.__enter__)
        try:
            yield
        finally:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(expected.__exit__, None, None, None)

    async def _read_all(
        self,
        to_judge: trio.MemorySendChannel[list[bytes]],
        other: dict[str, Callable[[dict[str, Any]], None]],
    ) -> None:
        async for message in self._line.until_done():
            kind = next(iter(message), "")
            if len(message) == 1 and kind == "records":
                await to_judge.send(self._unpack(message["records"]))
            elif len(message) == 1 and kind in other:
                other[kind](message)
            else:
                raise BadInput("A peer sent a message that does not belong here")

    def _unpack(self, packed: Any) -> list[bytes]:
        envelopes = frames.unpack(packed)
        if len(envelopes) > len(self._awaited):
            raise BadInput("A peer sent more records than it was asked for")
        return envelopes

    async def _judge_all(
        self,
        judge: Judge,
        read: trio.MemoryReceiveChannel[list[bytes]],
        to_store: trio.MemorySendChannel[_Batch],
    ) -> None:
        async def one(envelopes: list[bytes], before: trio.Event, after: trio.Event) -> None:
            now = int(time.time())
            judgements = await judge(envelopes, now, self._joining)
            await before.wait()
            await to_store.send((envelopes, judgements, now))
            after.set()
            places.release()

        places = trio.Semaphore(_JUDGED_AT_ONCE)
        before = trio.Event()
        before.set()
        async with read, to_store, trio.open_nursery() as nursery:
            async for envelopes in read:
                await places.acquire()
                after = trio.Event()
                nursery.start_soon(one, envelopes, before, after)
                before = after

    async def _store_all(self, judged: trio.MemoryReceiveChannel[_Batch]) -> None:
        async with judged:
            async for batch in judged:
                # All that is waiting in one transaction: most of what a small one takes is the disk's time.
                batches = [batch]
                with suppress(trio.WouldBlock, trio.EndOfChannel):
                    while True:
                        batches.append(judged.receive_nowait())
                await self._store_batch(
                    [e for b in batches for e in b[0]], [j for b in batches for j in b[1]], batches[-1][2]
                )

    async def _store_batch(self, envelopes: list[bytes], judgements: list[Judgement], now: int) -> None:
        names = [_name_of(e, j) for e, j in zip(envelopes, judgements, strict=True)]
        for name in names:
            if name is not None and name not in self._awaited:
                raise BadInput("A peer sent a record that it was not asked for, or sent it twice")
            self._awaited.discard(name or b"")
        results = await trio.to_thread.run_sync(
            lambda: self._store.add_judged(judgements, now=now, joining=self._joining)
        )
        taken = [r for r in results if not isinstance(r, RecordRefused) and r.status == "accepted"]
        self.accepted += len(taken)
        if taken:
            await self._on_accepted(taken)
        for name, result in zip(names, results, strict=True):
            if isinstance(result, RecordRefused):
                self._note(name, result)

    def _note(self, name: bytes | None, refusal: RecordRefused) -> None:
        self.refused += 1
        self._faults += is_fault(refusal)
        if name is not None:
            self._lately.add(name, self._peer)
        log.debug("record_refused", reason=refusal.problem_slug, detail=str(refusal))
        if self._faults > _FAULTS_MOST or self.refused > _REFUSALS_MOST:
            raise BadInput(f"A peer sent {self.refused} records that are not valid")


def _name_of(envelope: bytes, judgement: Judgement) -> bytes | None:
    """None for what is no envelope."""
    if not isinstance(judgement, RecordRefused):
        return judgement.record.cid[-ID:]
    try:
        return codec.record_cid(codec.decode_envelope(envelope).record)[-ID:]
    except BadInput:
        return None
