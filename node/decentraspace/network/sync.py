"""Set exchange: two nodes compare the CIDs of all their records and give each other what is lacking.

    initiator                               responder
    {ids: [...]} ... {done: true}   ->
                                    <-      {records: [...]} ...  {want: [...]} ... {done: true}
    {records: [...]} ... {done: true} ->

Ids come in ascending order, so that the responder compares while it reads and holds none of them. Every
message has a deadline, every list a bound. Costs 36 bytes per record and round.

What this node refused lately counts as known, so that it is not sent again in every round. Refusals that
other honest nodes may see otherwise (quotas, clocks, delegations that ran out) are not held against the
peer that passed the record on.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import structlog
import trio

from decentraspace.errors import BadInput, DecentraSpaceError
from decentraspace.network import frames
from decentraspace.network.frames import Stream
from decentraspace.records import codec
from decentraspace.records.store import AddResult, RecordStore
from decentraspace.records.verdict import RecordRefused

log = structlog.get_logger(__name__)

_IDS_PER_MESSAGE = 4000
_RECORDS_PER_MESSAGE = 256 * 1024  # bytes
_IDS_MOST = 5_000_000
_WANT_MOST = 100_000  # the rest comes with the next exchange
_RECORDS_MOST = 1_000_000
_FAULTS_MOST = 20  # records of one peer in one exchange that no honest node passes on
_REFUSALS_MOST = 20_000
_MESSAGE_DEADLINE = 20.0  # seconds
EXCHANGE_DEADLINE = 600.0
_REFUSED_FOR = 600.0  # seconds
_REFUSED_MOST = 50_000
_MATTERS_OF_VIEW = frozenset({"sponsor-quota", "unknown-sponsor", "future-record", "expired-delegation"})


def protocol(network: str) -> str:
    """The libp2p protocol id: nodes of different networks have nothing to tell each other."""
    return f"/decentraspace/{network}/sync/1"


@dataclass(frozen=True)
class SyncResult:
    """Records received and accepted, sent, and refused in one exchange."""

    received: int
    sent: int
    refused: int


Accepted = Callable[[AddResult], Awaitable[None]]


def is_fault(refusal: RecordRefused) -> bool:
    """Whether every honest node would have refused the record, and so not passed it on."""
    return refusal.problem_slug not in _MATTERS_OF_VIEW


class Refused:
    """Records that were refused lately, by CID; bounded, and forgotten after a while."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._until: OrderedDict[bytes, float] = OrderedDict()

    def add(self, envelope: bytes) -> None:
        try:
            cid = codec.record_cid(codec.decode_envelope(envelope).record)
        except DecentraSpaceError:
            return  # it has no name
        self._until.pop(cid, None)
        self._until[cid] = self._clock() + _REFUSED_FOR
        if len(self._until) > _REFUSED_MOST:
            self._until.popitem(last=False)

    def ids(self) -> list[bytes]:
        now = self._clock()
        while self._until and next(iter(self._until.values())) <= now:
            self._until.popitem(last=False)
        return list(self._until)


async def initiate(
    stream: Stream, store: RecordStore, accepted: Accepted, *, joining: bool, refused: Refused | None = None
) -> SyncResult:
    """The initiator's side. BadInput when the peer breaks the protocol, trio.TooSlowError when it dawdles.

    `joining`: what was there before this node is taken as records/verdict.py says.
    """
    taker = _Taker(store, accepted, joining, refused)
    mine = await trio.to_thread.run_sync(store.ids)
    offered = taker.known(mine)
    await _send_ids(stream, "ids", offered)
    wanted: dict[bytes, None] = {}
    async for message in _messages(stream):
        if "records" in message:
            await taker.take(message["records"])
        elif "want" in message:
            wanted.update(dict.fromkeys(_ids(message["want"])))
            if len(wanted) > len(offered):
                raise BadInput("A peer wants records that it was not offered")
        else:
            raise BadInput("A peer sent a message that does not belong here")
    sent = await _send_records(stream, store, [i for i in mine if i in wanted])
    return SyncResult(taker.accepted, sent, taker.refused)


async def respond(
    stream: Stream,
    store: RecordStore,
    accepted: Accepted,
    *,
    joining: bool = False,
    refused: Refused | None = None,
) -> SyncResult:
    """The responder's side; arguments and errors as for `initiate`."""
    taker = _Taker(store, accepted, joining, refused)
    mine = await trio.to_thread.run_sync(store.ids)
    comparison = Comparison(taker.known(mine))
    async for message in _messages(stream):
        comparison.feed(_ids(message.get("ids")))
    kept = set(mine)
    lacking = [i for i in comparison.finish() if i in kept]  # of what was refused, nothing is here
    sent = await _send_records(stream, store, lacking, done=False)
    await _send_ids(stream, "want", comparison.wanted)
    async for message in _messages(stream):
        if "records" not in message:
            raise BadInput("A peer sent a message that does not belong here")
        await taker.take(message["records"])
    return SyncResult(taker.accepted, sent, taker.refused)


class Comparison:
    """Of two ascending lists, one of which arrives in pieces: `wanted` is only there, `finish()` only here."""

    def __init__(self, mine: list[bytes]) -> None:
        self._mine, self._at = mine, 0
        self._lacking: list[bytes] = []
        self._last = b""
        self._count = 0
        self.wanted: list[bytes] = []

    def feed(self, theirs: list[bytes]) -> None:
        """BadInput when they do not ascend or are too many."""
        self._count += len(theirs)
        if self._count > _IDS_MOST:
            raise BadInput("A peer sent more record names than a set may have")
        for name in theirs:
            if name <= self._last:
                raise BadInput("A peer sent record names out of order")
            self._last = name
            while self._at < len(self._mine) and self._mine[self._at] < name:
                self._lacking.append(self._mine[self._at])
                self._at += 1
            if self._at < len(self._mine) and self._mine[self._at] == name:
                self._at += 1
            elif len(self.wanted) < _WANT_MOST:
                self.wanted.append(name)

    def finish(self) -> list[bytes]:
        self._lacking.extend(self._mine[self._at :])
        self._at = len(self._mine)
        return self._lacking


async def _messages(stream: Stream) -> AsyncIterator[dict[str, Any]]:
    """Messages until {done: true}."""
    while True:
        with trio.fail_after(_MESSAGE_DEADLINE):
            message = await frames.receive(stream)
        if message == {"done": True}:
            return
        yield message


def _ids(value: Any) -> list[bytes]:
    if not isinstance(value, list) or not 0 < len(value) <= 2 * _IDS_PER_MESSAGE:
        raise BadInput("A peer sent too many record names, or none where they belong")
    if not all(isinstance(i, bytes) and len(i) == 36 for i in value):
        raise BadInput("A peer sent a record name of a wrong form")
    return value


async def _write(stream: Stream, message: dict[str, Any]) -> None:
    with trio.fail_after(_MESSAGE_DEADLINE):
        await frames.send(stream, message)


async def _send_ids(stream: Stream, name: str, ids: list[bytes]) -> None:
    for start in range(0, len(ids), _IDS_PER_MESSAGE):
        await _write(stream, {name: ids[start : start + _IDS_PER_MESSAGE]})
    await _write(stream, {"done": True})


async def _send_records(stream: Stream, store: RecordStore, ids: list[bytes], *, done: bool = True) -> int:
    batch: list[bytes] = []
    size = sent = 0
    for start in range(0, len(ids), 100):
        for envelope in await trio.to_thread.run_sync(store.envelopes, ids[start : start + 100]):
            batch.append(envelope)
            size += len(envelope)
            sent += 1
            if size >= _RECORDS_PER_MESSAGE:
                await _write(stream, {"records": batch})
                batch, size = [], 0
    if batch:
        await _write(stream, {"records": batch})
    if done:
        await _write(stream, {"done": True})
    return sent


class _Taker:
    """Takes what a peer sends, until it has sent too much that is not valid."""

    def __init__(
        self, store: RecordStore, accepted: Accepted, joining: bool, refused: Refused | None
    ) -> None:
        self._store, self._on_accepted, self._joining = store, accepted, joining
        self._lately = refused if refused is not None else Refused()
        self.accepted = self.refused = self._faults = self._seen = 0

    def known(self, mine: list[bytes]) -> list[bytes]:
        """Ids not to be sent to this node, ascending."""
        lately = self._lately.ids()
        return sorted({*mine, *lately}) if lately else mine

    async def take(self, envelopes: Any) -> None:
        if (
            not isinstance(envelopes, list)
            or not envelopes
            or not all(isinstance(e, bytes) for e in envelopes)
        ):
            raise BadInput("A peer sent records of a wrong form")
        self._seen += len(envelopes)
        if self._seen > _RECORDS_MOST:
            raise BadInput("A peer sent more records than a set may have")
        for start in range(0, len(envelopes), 50):
            part = envelopes[start : start + 50]
            now = int(time.time())
            results = await trio.to_thread.run_sync(
                lambda part=part, now=now: self._store.add_many(part, now=now, joining=self._joining)
            )
            for envelope, result in zip(part, results, strict=True):
                await self._note(envelope, result)

    async def _note(self, envelope: bytes, result: AddResult | RecordRefused) -> None:
        if not isinstance(result, RecordRefused):
            if result.status == "accepted":
                self.accepted += 1
                await self._on_accepted(result)
            return
        self.refused += 1
        self._faults += is_fault(result)
        self._lately.add(envelope)
        log.debug("record_refused", reason=result.problem_slug, detail=str(result))
        if self._faults > _FAULTS_MOST or self.refused > _REFUSALS_MOST:
            raise BadInput(f"A peer sent {self.refused} records that are not valid")
