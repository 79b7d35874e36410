"""Set exchange: two nodes compare the CIDs of all their records and give each other what is lacking.

    initiator                               responder
    {ids: [...]} ... {done: true}   ->
                                    <-      {records: [...]} ...  {want: [...]} ... {done: true}
    {records: [...]} ... {done: true} ->

Every message has a deadline, every list a bound. Costs 36 bytes per record and round.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import structlog
import trio

from decentraspace.errors import BadInput
from decentraspace.network import frames
from decentraspace.network.frames import Stream
from decentraspace.records.store import AddResult, RecordStore
from decentraspace.records.verdict import RecordRefused

log = structlog.get_logger(__name__)

PROTOCOL = "/decentraspace/sync/1"
_IDS_PER_MESSAGE = 4000
_RECORDS_PER_MESSAGE = 256 * 1024  # bytes
_IDS_MOST = 2_000_000
_RECORDS_MOST = 1_000_000
_REFUSALS_MOST = 200  # of one peer in one exchange
_MESSAGE_DEADLINE = 20.0  # seconds
EXCHANGE_DEADLINE = 600.0


@dataclass(frozen=True)
class SyncResult:
    """Records received and accepted, sent, and refused in one exchange."""

    received: int
    sent: int
    refused: int


Accepted = Callable[[AddResult], Awaitable[None]]


async def initiate(stream: Stream, store: RecordStore, accepted: Accepted, *, joining: bool) -> SyncResult:
    """The initiator's side. BadInput when the peer breaks the protocol, trio.TooSlowError when it dawdles."""
    mine = await trio.to_thread.run_sync(store.ids)
    await _send_ids(stream, "ids", mine)
    taker = _Taker(store, accepted, joining)
    wanted: list[bytes] = []
    async for message in _messages(stream):
        if "records" in message:
            await taker.take(message["records"])
        elif "want" in message:
            wanted.extend(_ids(message["want"], len(mine) - len(wanted)))
        else:
            raise BadInput("A peer sent a message that does not belong here")
    known = set(mine)
    sent = await _send_records(stream, store, [i for i in wanted if i in known])
    return SyncResult(taker.accepted, sent, taker.refused)


async def respond(stream: Stream, store: RecordStore, accepted: Accepted) -> SyncResult:
    """The responder's side; errors as for `initiate`."""
    theirs: set[bytes] = set()
    async for message in _messages(stream):
        theirs.update(_ids(message.get("ids"), _IDS_MOST - len(theirs)))
    mine = await trio.to_thread.run_sync(store.ids)
    sent = await _send_records(stream, store, [i for i in mine if i not in theirs], done=False)
    wanted = sorted(theirs.difference(mine))
    await _send_ids(stream, "want", wanted)
    taker = _Taker(store, accepted, joining=False)
    async for message in _messages(stream):
        if "records" not in message:
            raise BadInput("A peer sent a message that does not belong here")
        await taker.take(message["records"])
    return SyncResult(taker.accepted, sent, taker.refused)


async def _messages(stream: Stream) -> AsyncIterator[dict[str, Any]]:
    """Messages until {done: true}."""
    while True:
        with trio.fail_after(_MESSAGE_DEADLINE):
            message = await frames.receive(stream)
        if message == {"done": True}:
            return
        yield message


def _ids(value: Any, most: int) -> list[bytes]:
    if not isinstance(value, list) or len(value) > min(most, 2 * _IDS_PER_MESSAGE):
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

    def __init__(self, store: RecordStore, accepted: Accepted, joining: bool) -> None:
        self._store, self._on_accepted, self._joining = store, accepted, joining
        self.accepted = self.refused = self._seen = 0

    async def take(self, envelopes: Any) -> None:
        if not isinstance(envelopes, list) or not all(isinstance(e, bytes) for e in envelopes):
            raise BadInput("A peer sent records of a wrong form")
        self._seen += len(envelopes)
        if self._seen > _RECORDS_MOST:
            raise BadInput("A peer sent more records than a set may have")
        now = int(time.time())
        results = await trio.to_thread.run_sync(
            lambda: self._store.add_many(envelopes, now=now, joining=self._joining)
        )
        for result in results:
            if isinstance(result, RecordRefused):
                self.refused += 1
                log.debug("record_refused", reason=result.problem_slug, detail=str(result))
            elif result.status == "accepted":
                self.accepted += 1
                await self._on_accepted(result)
        if self.refused > _REFUSALS_MOST:
            raise BadInput(f"A peer sent more than {_REFUSALS_MOST} records that are not valid")
