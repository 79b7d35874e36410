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

from collections.abc import Sequence
from typing import Any

import trio

from decentraspace.errors import BadInput, Unavailable
from decentraspace.network import frames, reconcile
from decentraspace.network.frames import Stream
from decentraspace.network.line import Line, Spend, list_in, names_in, summary_in
from decentraspace.network.pace import Pace
from decentraspace.network.reconcile import ID, Comparison, Tree
from decentraspace.network.refused import Refused
from decentraspace.network.taking import Accepted, SyncResult, Taker, is_fault
from decentraspace.records import codec
from decentraspace.records.judging import Pool
from decentraspace.records.store import RecordStore

__all__ = [
    "EXCHANGE_DEADLINE",
    "PeerBusy",
    "SyncResult",
    "initiate",
    "is_fault",
    "protocol",
    "refuse",
    "respond",
]

_NAMED_MOST = 100_000  # records that one exchange brings, each way; the next one begins at once
_READ_AT_ONCE = 256  # records, from the database
_QUESTIONS_SLACK = 1 << 16  # bytes of answers beyond what telling the whole set takes
_BYTES_PER_NAME = 160  # that telling the whole set takes, at most
_RANGE_COSTS, _QUESTION_COSTS = 64, 256  # bytes that a range and a question count for beside its answer
_REFUSAL_DEADLINE = 2.0
EXCHANGE_DEADLINE = 600.0
_BUSY = {"busy": True}
_PREFIX = codec.record_cid(b"")[:-ID]


def protocol(network: str) -> str:
    """The libp2p protocol id: nodes of different networks have nothing to tell each other."""
    return f"/decentraspace/{network}/sync/2"


class PeerBusy(Unavailable):
    """The peer answers as many exchanges as it can. That is no failure of anybody's."""


async def refuse(stream: Stream) -> None:
    """Answer an exchange by `busy`."""
    with trio.fail_after(_REFUSAL_DEADLINE):
        await frames.send(stream, _BUSY)


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
    line = Line(stream)
    taker = Taker(line, store, accepted, joining, refused or Refused(), peer, pool)
    mine = await taker.known()
    await line.write({"root": mine.fingerprint, "count": mine.count})
    answer = await line.read()
    if answer == _BUSY:
        raise PeerBusy("A peer has no place for an exchange of records now")
    theirs = summary_in(answer)
    if theirs == mine.summary:
        return taker.result(sent=0, more=False)
    comparison = Comparison(mine, theirs, _NAMED_MOST)
    while (question := comparison.question()) is not None:
        await line.write({"split": question.split, "names": question.names})
        answer = await line.read()
        comparison.learn(list_in(answer, "split"), list_in(answer, "names"))
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
        taken.extend(names_in(message["take"], after=taken[-1] if taken else b""))
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
    line = Line(stream, spend, pace)
    taker = Taker(line, store, accepted, joining, refused or Refused(), peer, pool)
    mine = await taker.known()
    line.records = mine.count
    theirs = summary_in(await line.read())
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


async def _answer_questions(line: Line, mine: Tree) -> dict[str, Any]:
    """Until a message comes that asks nothing; that one."""
    left = _QUESTIONS_SLACK + _BYTES_PER_NAME * mine.count
    while True:
        message = await line.read()
        if not message.keys() & {"split", "names"}:
            return message
        split, names = reconcile.answer(mine, list_in(message, "split"), list_in(message, "names"))
        left -= _QUESTION_COSTS + sum(_RANGE_COSTS + len(told) for told in (*split, *names))
        if left < 0:
            raise BadInput("A peer asks again and again what it was told")
        await line.write({"split": split, "names": names})


async def _read_names(line: Line, message: dict[str, Any], count: int) -> tuple[list[bytes], list[bytes]]:
    """What the peer wants and offers."""
    named: dict[str, list[bytes]] = {"want": [], "offer": []}
    most = {"want": count, "offer": 2 * _NAMED_MOST}
    while message != {"done": True}:
        for kind in message.keys() & named.keys():
            so_far = named[kind]
            so_far += names_in(message[kind], after=so_far[-1] if so_far else b"")
            if len(so_far) > most[kind]:
                raise BadInput("A peer names more records than it may")
        if len(message) != 1 or not message.keys() & named.keys():
            raise BadInput("A peer sent a message that does not belong here")
        message = await line.read()
    return named["want"], named["offer"]


async def _send_records(line: Line, store: RecordStore, names: Sequence[bytes]) -> int:
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
