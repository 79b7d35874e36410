"""Set exchange: two nodes find out which records only one of them has, and give each other those.

    asks                                        answers
    {root, count}                       ->
                                        <-      {root, count}           equal: that was all; or {busy}: another time
    {split: [...], names: [...]}        ->
                                        <-      {split: [...], names: [...]}    as often as it takes
    {want: ids} … {offer: ids} … {done}  ->
                                        <-      {take: ids} … {records: pack} … {done}
    {records: pack} … {done}            ->

Names of records are the 32 bytes of their SHA-256; how differences are found says reconcile.py. Each side
compares snapshots, and takes only records that it asked for by name. Every message has a deadline, every
list a bound, and an exchange in which too little moves ends (pace.py). What was taken before an exchange
breaks off is kept, and the next one finds what is left.

What this node refused lately is not asked for again. A peer that sent such records has them, and they are
not what the two differ in: so they count as known towards that peer. Refusals that other honest nodes may
see otherwise (quotas, clocks, delegations that ran out) are not held against the peer.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import structlog
import trio

from decentraspace.errors import BadInput, Unavailable
from decentraspace.network import frames, reconcile
from decentraspace.network.frames import Stream
from decentraspace.network.pace import Pace
from decentraspace.network.reconcile import FINGERPRINT, ID, Comparison, Summary, Tree
from decentraspace.network.refused import Refused
from decentraspace.records import codec
from decentraspace.records.judging import Judge, Judgement, Pool
from decentraspace.records.store import AddResult, RecordStore
from decentraspace.records.verdict import RecordRefused

log = structlog.get_logger(__name__)

_NAMES_PER_MESSAGE = 8192
_NAMED_MOST = 100_000  # records that one exchange brings, each way; the next one begins at once
_JUDGED_AT_ONCE = 3  # messages: so that who judges never waits for who stores, or for the network
_BATCHES_WAITING = 4  # messages whose records were judged, and wait to be stored
_READ_AT_ONCE = 256  # records, from the database
_FAULTS_MOST = 20  # records of one peer in one exchange that no honest node passes on
_REFUSALS_MOST = 20_000
_MISSING_MOST = 100  # records named and not sent: they may have been replaced meanwhile
_QUESTIONS_SLACK = 1 << 16  # bytes of answers beyond what telling the whole set takes
_BYTES_PER_NAME = 160  # that telling the whole set takes, at most
_RANGE_COSTS, _QUESTION_COSTS = 64, 256  # bytes that a range and a question count for beside its answer
_MESSAGE_DEADLINE = 20.0  # seconds
_STORING_DEADLINE = 100.0  # more, where the peer first has to store what it was sent
_REFUSAL_DEADLINE = 2.0
EXCHANGE_DEADLINE = 600.0
_BUSY = {"busy": True}
_PREFIX = codec.record_cid(b"")[:-ID]
_MATTERS_OF_VIEW = frozenset({"sponsor-quota", "unknown-sponsor", "future-record", "expired-delegation"})


def protocol(network: str) -> str:
    """The libp2p protocol id: nodes of different networks have nothing to tell each other."""
    return f"/decentraspace/{network}/sync/2"


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


Accepted = Callable[[Sequence[AddResult]], Awaitable[None]]
Spend = Callable[[int, int], None]
"""Told of each message's bytes before it goes out, and of the set's records; raises when the peer has had
enough."""


class PeerBusy(Unavailable):
    """The peer answers as many exchanges as it can. That is no failure of anybody's."""


async def refuse(stream: Stream) -> None:
    """Answer an exchange by `busy`."""
    with trio.fail_after(_REFUSAL_DEADLINE):
        await frames.send(stream, _BUSY)


def is_fault(refusal: RecordRefused) -> bool:
    """Whether every honest node would have refused the record, and so not passed it on."""
    return refusal.problem_slug not in _MATTERS_OF_VIEW


async def initiate(
    stream: Stream,
    store: RecordStore,
    accepted: Accepted,
    *,
    joining: bool,
    refused: Refused | None = None,
    peer: str = "",
    pool: Pool | None = None,
) -> SyncResult:
    """The initiator's side. BadInput when the peer breaks the protocol, trio.TooSlowError when it dawdles.

    `joining`: what was there before this node is taken as records/verdict.py says. `pool`: judges of records,
    which all exchanges of a node have in common.
    """
    line = _Line(stream)
    taker = _Taker(line, store, accepted, joining, refused or Refused(), peer, pool)
    mine = await taker.known()
    await line.write({"root": mine.fingerprint, "count": mine.count})
    answer = await line.read()
    if answer == _BUSY:
        raise PeerBusy("A peer has no place for an exchange of records now")
    theirs = _summary(answer)
    if theirs == mine.summary:
        return taker.result(sent=0, more=False)
    comparison = Comparison(mine, theirs, _NAMED_MOST)
    while (question := comparison.question()) is not None:
        await line.write({"split": question.split, "names": question.names})
        answer = await line.read()
        comparison.learn(_list(answer, "split"), _list(answer, "names"))
    wanted = sorted(taker.lacking(comparison.wanted))
    # Of what was refused nothing is here, though towards this peer it counts as known.
    kept = await trio.to_thread.run_sync(store.tree)
    offered = sorted(name for name in comparison.offered if name in kept)
    await line.write_names("want", wanted)
    await line.write_names("offer", offered)
    await line.write({"done": True})
    taken: list[bytes] = []
    offers = set(offered)

    def take(message: dict[str, Any]) -> None:
        taken.extend(_names(message["take"], after=taken[-1] if taken else b""))
        if not offers.issuperset(taken[-len(message["take"]) // ID :]):
            raise BadInput("A peer takes records that it was not offered")

    await taker.receive(wanted, other={"take": take})
    sent = await _send_records(line, store, taken)
    return taker.result(sent, comparison.more)


async def respond(
    stream: Stream,
    store: RecordStore,
    accepted: Accepted,
    *,
    joining: bool = False,
    refused: Refused | None = None,
    peer: str = "",
    spend: Spend | None = None,
    pace: Pace | None = None,
    pool: Pool | None = None,
) -> SyncResult:
    """The responder's side; arguments and errors as for `initiate`. `pace`: where the peer's is noted."""
    line = _Line(stream, spend, pace)
    taker = _Taker(line, store, accepted, joining, refused or Refused(), peer, pool)
    mine = await taker.known()
    line.records = mine.count
    theirs = _summary(await line.read())
    await line.write({"root": mine.fingerprint, "count": mine.count})
    if theirs == mine.summary:
        return taker.result(sent=0, more=False)
    message = await _answer_questions(line, mine)
    wanted, offered = await _read_names(line, message, mine.count)
    takes = sorted(taker.lacking(offered))[:_NAMED_MOST]
    await line.write_names("take", takes)
    sent = await _send_records(line, store, wanted)
    await taker.receive(takes)
    return taker.result(sent, more=max(len(wanted), len(offered)) >= _NAMED_MOST)


async def _answer_questions(line: _Line, mine: Tree) -> dict[str, Any]:
    """Until a message comes that asks nothing; that one."""
    left = _QUESTIONS_SLACK + _BYTES_PER_NAME * mine.count
    while True:
        message = await line.read()
        if not message.keys() & {"split", "names"}:
            return message
        split, names = reconcile.answer(mine, _list(message, "split"), _list(message, "names"))
        left -= _QUESTION_COSTS + sum(_RANGE_COSTS + len(told) for told in (*split, *names))
        if left < 0:
            raise BadInput("A peer asks again and again what it was told")
        await line.write({"split": split, "names": names})


async def _read_names(line: _Line, message: dict[str, Any], count: int) -> tuple[list[bytes], list[bytes]]:
    """What the peer wants and offers."""
    named: dict[str, list[bytes]] = {"want": [], "offer": []}
    most = {"want": count, "offer": 2 * _NAMED_MOST}
    while message != {"done": True}:
        for kind in message.keys() & named.keys():
            so_far = named[kind]
            so_far += _names(message[kind], after=so_far[-1] if so_far else b"")
            if len(so_far) > most[kind]:
                raise BadInput("A peer names more records than it may")
        if len(message) != 1 or not message.keys() & named.keys():
            raise BadInput("A peer sent a message that does not belong here")
        message = await line.read()
    return named["want"], named["offer"]


async def _send_records(line: _Line, store: RecordStore, names: Sequence[bytes]) -> int:
    sent = 0
    for start in range(0, len(names), _READ_AT_ONCE):
        ids = [_PREFIX + name for name in names[start : start + _READ_AT_ONCE]]
        for packed, count in await trio.to_thread.run_sync(
            lambda ids=ids: list(frames.packs(store.envelopes(ids)))
        ):
            await line.write({"records": packed})
            sent += count
    await line.write({"done": True})
    if sent:
        line.be_patient()
    return sent


# -- messages


class _Line:
    """Messages to and from one peer, counted."""

    def __init__(self, stream: Stream, spend: Spend | None = None, pace: Pace | None = None) -> None:
        self._stream, self._spend, self._pace = stream, spend, pace or Pace()
        self._patience = 0.0
        self.records = 0  # of this side's set
        self.bytes_out = self.bytes_in = 0

    def be_patient(self) -> None:
        """With the next message only."""
        self._patience = _STORING_DEADLINE

    async def write(self, message: dict[str, Any]) -> None:
        data = frames.encode(message)
        if self._spend is not None:
            self._spend(len(data), self.records)
        with self._pace.waiting(_MESSAGE_DEADLINE):
            await frames.send(self._stream, data)
        self._pace.moved(len(data))
        self.bytes_out += len(data)

    async def write_names(self, kind: str, names: Sequence[bytes]) -> None:
        for start in range(0, len(names), _NAMES_PER_MESSAGE):
            await self.write({kind: b"".join(names[start : start + _NAMES_PER_MESSAGE])})

    async def read(self) -> dict[str, Any]:
        # What this side sent before, the peer may still have to store.
        patience, self._patience = self._patience, 0.0
        with self._pace.waiting(_MESSAGE_DEADLINE, patience):
            message, size = await frames.receive(self._stream)
        self._pace.moved(size)
        self.bytes_in += size
        return message

    async def until_done(self) -> AsyncIterator[dict[str, Any]]:
        while (message := await self.read()) != {"done": True}:
            yield message


def _summary(message: dict[str, Any]) -> Summary:
    root, count = message.get("root"), message.get("count")
    if (
        set(message) != {"root", "count"}
        or type(root) is not bytes
        or len(root) != FINGERPRINT
        or type(count) is not int
        or not 0 <= count < reconcile.COUNT_MOST
    ):
        raise BadInput("A peer did not say what its set is")
    return Summary(count, root)


def _list(message: dict[str, Any], name: str) -> list[Any]:
    value = message.get(name)
    if set(message) != {"split", "names"} or not isinstance(value, list):
        raise BadInput("A peer sent a message that does not belong here")
    return value


def _names(value: Any, *, after: bytes) -> list[bytes]:
    """Ascending names, the first beyond `after`."""
    if type(value) is not bytes or not 0 < len(value) <= ID * _NAMES_PER_MESSAGE or len(value) % ID:
        raise BadInput("A peer sent too many record names, or none where they belong")
    names = [value[at : at + ID] for at in range(0, len(value), ID)]
    last = after
    for name in names:
        if name <= last:
            raise BadInput("A peer sent record names out of order")
        last = name
    return names


# -- taking records


_Batch = tuple[list[bytes], list[Judgement], int]
"""Envelopes, what they were judged, and when."""


class _Taker:
    """Takes what was asked for, until the peer has sent too much that is not valid."""

    def __init__(
        self,
        line: _Line,
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
            async with self._pool.judges() as judge, trio.open_nursery() as nursery:
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
            raise _first(group) from group
        if broken is not None:
            raise broken
        if len(self._awaited) > max(_MISSING_MOST, len(awaited) // 10):
            raise BadInput(f"A peer named {len(self._awaited)} records that it did not send")

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


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    found: BaseException = group
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found
