"""Peers that break the rules, with real libp2p hosts: they are cut off, and honest ones are served on."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import libipld
import pytest
import trio
import zstandard
from libp2p.custom_types import TProtocol
from libp2p.host.exceptions import StreamFailure
from libp2p.peer.id import ID
from libp2p.peer.peerinfo import info_from_p2p_addr
from libp2p.pubsub.gossipsub import PROTOCOL_ID_V11
from libp2p.pubsub.pb import rpc_pb2
from libp2p.utils import encode_varint_prefixed
from multiaddr import Multiaddr
from structlog.testing import capture_logs

from decentraspace.identity.keys import NodeKey
from decentraspace.network import frames, line, pace, rounds, sync
from decentraspace.network.refused import Refused
from decentraspace.records.codec import MAX_ENVELOPE
from tests.network.peers import Factory, Peer, ordered_keys, running, sites, stranger, until
from tests.network.test_network import cids_of, in_mesh
from tests.records.factory import RULES, take

SYNC = TProtocol(sync.protocol(RULES.name))
NODE = NodeKey.generate()
Attack = Callable[[Any], Awaitable[None]]


@asynccontextmanager
async def honest_pair(factory: Factory, **settings: Any) -> AsyncIterator[tuple[Peer, Peer]]:
    first = factory.make(**settings)
    async with running(first):
        second = factory.make(bootstrap=[first.address], **settings)
        async with running(second):
            await until(lambda: in_mesh(first, 1) and in_mesh(second, 1))
            yield first, second


async def still_works(first: Peer, second: Peer) -> None:
    """A record deployed at one reaches the other by gossip."""
    record = sites(1)[0]
    await first.network.publish(first.take(record))
    await until(lambda: cids_of([record]) <= set(second.accepted))


async def ended(stream: Any, deadline: float = 20.0) -> None:
    """Read until the other side has closed or reset the stream."""
    with trio.fail_after(deadline):
        while True:
            try:
                if not await stream.read(65536):
                    return
            except Exception:  # noqa: BLE001 - closed, reset, or the connection has gone: all are ends
                return


# -- set exchange


def framed(body: bytes, length: int | None = None) -> bytes:
    return (len(body) if length is None else length).to_bytes(4, "big") + body


def names(start: int, count: int) -> bytes:
    """Names of records that do not exist, ascending."""
    return b"".join((start + n).to_bytes(32, "big") for n in range(count))


OTHER_SET = {"root": bytes(24), "count": 3}


def offered_then(*messages: dict[str, Any], count: int = 3) -> Attack:
    """Offer records that do not exist, and then send these messages."""

    async def attack(stream: Any) -> None:
        for message in (OTHER_SET, {"offer": names(1, count)}, {"done": True}, *messages):
            await frames.send(stream, message)

    return attack


def saying(*messages: dict[str, Any]) -> Attack:
    async def attack(stream: Any) -> None:
        for message in messages:
            await frames.send(stream, message)

    return attack


def for_ever(message: dict[str, Any]) -> Attack:
    async def attack(stream: Any) -> None:
        await frames.send(stream, OTHER_SET)
        while True:
            await frames.send(stream, message)
            await frames.receive(stream)

    return attack


def packed(*items: bytes) -> bytes:
    [(pack, _)] = frames.packs(items)
    return pack


def bomb(size: int) -> bytes:
    """A pack that says nothing of its size and would have this many bytes."""
    compressor = zstandard.ZstdCompressor(level=19, write_content_size=False).compressobj()
    return compressor.compress(bytes(size)) + compressor.flush()


async def oversized_frame(stream: Any) -> None:
    await stream.write(framed(b"", 1 << 31))


async def empty_frame(stream: Any) -> None:
    await stream.write(framed(b""))


async def random_bytes(stream: Any) -> None:
    await stream.write(os.urandom(5000))


async def not_cbor(stream: Any) -> None:
    await stream.write(framed(b"\xff" * 100))


async def not_a_map(stream: Any) -> None:
    await stream.write(framed(bytes(libipld.encode_dag_cbor([1, 2, 3]))))


async def deep_nesting(stream: Any) -> None:
    await stream.write(framed(b"\x81" * 100_000 + b"\x01"))


async def hangs_up(stream: Any) -> None:
    await stream.write(framed(b"", 5000) + b"half")
    await stream.close()


async def endless_packs(stream: Any) -> None:
    await offered_then()(stream)
    while True:
        await frames.send(stream, {"records": packed(b"x")})


ATTACKS: dict[str, Attack] = {
    "oversized frame": oversized_frame,
    "empty frame": empty_frame,
    "random bytes": random_bytes,
    "not CBOR": not_cbor,
    "not a map": not_a_map,
    "deep nesting": deep_nesting,
    "hangs up": hangs_up,
    "unknown message": saying({"surprise": b"x" * 1000}),
    "unknown message later": saying(OTHER_SET, {"surprise": b"x" * 1000}),
    "records at once": saying({"records": packed(b"x")}),
    "root of a wrong form": saying({"root": b"short", "count": 1}),
    "negative count": saying({"root": bytes(24), "count": -1}),
    "huge count": saying({"root": bytes(24), "count": 1 << 60}),
    "count that is none": saying({"root": bytes(24), "count": True}),
    "no questions": saying(OTHER_SET, {"split": [], "names": []}),
    "questions of a wrong form": saying(OTHER_SET, {"split": b"", "names": 5}),
    "ranges that cannot be": saying(OTHER_SET, {"split": [], "names": [b"\x10"]}),
    "ranges of a wrong form": saying(OTHER_SET, {"split": [], "names": [None, 5]}),
    "a range too deep": saying(OTHER_SET, {"split": [], "names": [bytes(64)]}),
    "parts of what has none": saying(OTHER_SET, {"split": [b""], "names": []}),
    "too many ranges": saying(OTHER_SET, {"split": [], "names": [b"\x01"] * 600}),
    "the same again and again": for_ever({"split": [], "names": [b""]}),
    "wants more than there is": saying(OTHER_SET, {"want": names(1, 100)}),
    "offers of a wrong form": saying(OTHER_SET, {"offer": b"x" * 33}),
    "offers that are no bytes": saying(OTHER_SET, {"offer": [b"x" * 32]}),
    "offers nothing": saying(OTHER_SET, {"offer": b""}),
    "offers out of order": saying(OTHER_SET, {"offer": names(5, 1) + names(1, 1)}),
    "offers the same again": saying(OTHER_SET, {"offer": names(5, 1)}, {"offer": names(5, 1)}),
    "offers too many at once": saying(OTHER_SET, {"offer": names(1, 9000)}),
    "offers too many": saying(OTHER_SET, *({"offer": names(1 + n * 8192, 8192)} for n in range(30))),
    "offers what it has not": offered_then({"done": True}, count=150),
    "records that are not valid": offered_then({"records": packed(*[os.urandom(500)] * 50)}, count=100),
    "records not asked for": offered_then({"records": packed(take(sites(1)[0], NODE))}),
    "more records than asked for": offered_then({"records": packed(*[b"x"] * 4)}),
    "records that are no pack": offered_then({"records": [b"x"]}),
    "an empty pack": offered_then({"records": zstandard.compress(b"")}),
    "a cut pack": offered_then({"records": packed(b"x" * 1000)[:-3]}),
    "a pack with a length too long": offered_then({"records": zstandard.compress(b"\xff" * 9)}),
    "a bomb": offered_then({"records": bomb(1 << 30)}),
    "endless packs": endless_packs,
}


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
async def test_an_exchange_with_a_hostile_peer_ends_and_is_logged(factory: Factory, attack: Attack) -> None:
    async with honest_pair(factory) as (first, second), stranger(first) as host:
        with capture_logs() as logs:
            stream = await host.new_stream(ID.from_string(first.key.peer_id), [SYNC])
            with trio.move_on_after(10):
                with suppress(Exception):  # the victim hangs up in the middle: as it should
                    await attack(stream)
            await ended(stream)
            await until(lambda: any(entry["event"] == "exchange_failed" for entry in logs))
        await still_works(first, second)
        assert first.store.ids() == sorted(first.store.ids())
        await until(
            lambda: first.network.rounds.answering == {}
        )  # the other may be in an exchange of its own


async def test_a_peer_that_says_nothing_is_left(factory: Factory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Slow-loris: a byte now and then, and a message never. Also as the responder."""
    monkeypatch.setattr(line, "_MESSAGE_DEADLINE", 0.5)
    async with honest_pair(factory) as (first, second), stranger(first) as host:
        stream = await host.new_stream(ID.from_string(first.key.peer_id), [SYNC])
        begin = trio.current_time()
        with suppress(Exception):  # hung up on, as it should be
            for byte in framed(b"x" * 1000):
                await stream.write(bytes([byte]))
                await trio.sleep(0.05)
        await ended(stream)
        assert trio.current_time() - begin < 20
        await still_works(first, second)


async def test_a_silent_responder_is_given_up(factory: Factory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line, "_MESSAGE_DEADLINE", 0.05)
    monkeypatch.setattr("decentraspace.network.rounds._RETRY", 0.01)
    monkeypatch.setattr("decentraspace.network.rounds._SILENT_ROUNDS", 0)
    async with honest_pair(factory) as (first, second), stranger(first, connect=False) as host:

        async def silent(stream: Any) -> None:
            await trio.sleep_forever()

        host.set_stream_handler(SYNC, silent)  # before it is asked what it speaks
        await host.connect(info_from_p2p_addr(Multiaddr(first.address)))
        await until(lambda: str(host.get_id()) in first.connected())
        await until(lambda: str(host.get_id()) not in first.connected())
        assert first.connected() == {second.key.peer_id}
        await still_works(first, second)


async def test_exchanges_that_one_peer_begins_are_one_at_a_time(factory: Factory) -> None:
    async with honest_pair(factory) as (first, second), stranger(first) as host:
        target = ID.from_string(first.key.peer_id)
        held = await host.new_stream(target, [SYNC])
        await frames.send(held, {"root": bytes(24), "count": 1})
        await until(lambda: len(first.network.rounds.answering) == 1)
        for _ in range(5):
            with trio.fail_after(10), suppress(StreamFailure):
                await ended(await host.new_stream(target, [SYNC]))
        assert len(first.network.rounds.answering) == 1
        await still_works(first, second)


@asynccontextmanager
async def stalled(
    factory: Factory, monkeypatch: pytest.MonkeyPatch, spared: float
) -> AsyncIterator[tuple[Peer, Peer, Any]]:
    """A node whose one place for answers is held by somebody silent, and an honest one that begins exchanges."""
    monkeypatch.setattr(rounds, "_ANSWERED_AT_ONCE", 1)
    monkeypatch.setattr(rounds, "_LAG_SPARED", spared)
    monkeypatch.setattr(rounds, "_BUSY_RETRY", 0.05)
    low, high = ordered_keys(2)
    first = factory.make(key=low)
    first.take(sites(1)[0])
    async with running(first), stranger(first) as host:
        held = await host.new_stream(ID.from_string(first.key.peer_id), [SYNC])
        await frames.send(held, {"root": bytes(24), "count": 1})
        await until(lambda: len(first.network.rounds.answering) == 1)
        second = factory.make(key=high, bootstrap=[first.address])
        async with running(second):
            yield first, second, held


async def test_a_busy_node_says_so_and_keeps_its_peers(
    factory: Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = 0

    async def refuse(stream: Any) -> None:
        nonlocal told
        await refuse_really(stream)
        told += 1

    refuse_really = sync.refuse
    monkeypatch.setattr(sync, "refuse", refuse)
    async with stalled(factory, monkeypatch, spared=1000.0) as (first, second, held):
        await until(lambda: told > rounds._FAILURES_MOST + 2)
        assert second.network.rounds.totals.failed == 0
        assert first.key.peer_id in second.connected()
        assert second.store.ids() == []
        await held.reset()
        await until(lambda: second.store.ids() == first.store.ids())
        assert second.network.rounds.totals.failed == 0


async def test_a_peer_that_stalls_makes_room_for_another(
    factory: Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with stalled(factory, monkeypatch, spared=0.3) as (first, second, held):
        await until(lambda: second.store.ids() == first.store.ids())
        await ended(held)
        await until(lambda: first.network.rounds.answering == {})


async def test_an_exchange_in_which_little_moves_ends(
    factory: Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each message is in time, and asks little: together they take longer than what they bring is worth."""
    monkeypatch.setattr(pace, "LAG_MOST", 1.0)
    async with honest_pair(factory) as (first, second), stranger(first) as host:
        first.take(sites(1)[0])
        stream = await host.new_stream(ID.from_string(first.key.peer_id), [SYNC])
        with capture_logs() as logs:
            with trio.fail_after(20), suppress(Exception):  # hung up on, as it should be
                await frames.send(stream, OTHER_SET)
                await frames.receive(stream)
                while True:
                    await trio.sleep(0.4)
                    await frames.send(stream, {"split": [], "names": [b""]})
                    await frames.receive(stream)
            await until(lambda: any(entry["event"] == "exchange_failed" for entry in logs))
        [entry] = [entry for entry in logs if entry["event"] == "exchange_failed"]
        assert "TooSlowError" in entry["reason"]
        await still_works(first, second)


async def test_refused_records_are_not_fetched_in_every_round() -> None:
    clock = [0.0]
    refused = Refused(clock=lambda: clock[0])
    refused.add(b"1" * 32, "a peer")
    refused.also(b"1" * 32, "another")
    refused.add(b"2" * 32, "another")
    assert refused.ids() == [b"1" * 32, b"2" * 32]
    assert b"1" * 32 in refused
    assert b"3" * 32 not in refused
    assert refused.of("a peer") == [b"1" * 32]
    assert refused.of("another") == [b"1" * 32, b"2" * 32]
    assert refused.of("a third") == []
    refused.forget("another")
    assert refused.of("another") == []
    clock[0] += 3600
    assert refused.ids() == refused.of("a peer") == []


# -- gossip


async def gossip_stream(host: Any, target: Peer) -> Any:
    return await host.new_stream(ID.from_string(target.key.peer_id), [PROTOCOL_ID_V11])


async def send_rpc(stream: Any, rpc: Any) -> None:
    await stream.write(encode_varint_prefixed(rpc.SerializeToString()))


async def gossip_garbage(stream: Any, topic: str) -> None:
    await stream.write(encode_varint_prefixed(b"\xff" * 300))


async def gossip_oversized(stream: Any, topic: str) -> None:
    await stream.write(b"\xff\xff\xff\xff\x7f" + b"x" * 1000)


async def gossip_endless_length(stream: Any, topic: str) -> None:
    await stream.write(b"\xff" * 50)


async def gossip_not_records(stream: Any, topic: str) -> None:
    for n in range(200):
        message = rpc_pb2.Message(data=b"rubbish %d" % n, topicIDs=[topic])
        await send_rpc(stream, rpc_pb2.RPC(publish=[message]))


async def gossip_too_large(stream: Any, topic: str) -> None:
    for n in range(100):
        message = rpc_pb2.Message(data=b"%06d" % n + bytes(MAX_ENVELOPE), topicIDs=[topic])
        await send_rpc(stream, rpc_pb2.RPC(publish=[message]))


async def gossip_subscriptions(stream: Any, topic: str) -> None:
    await send_rpc(
        stream,
        rpc_pb2.RPC(subscriptions=[{"subscribe": True, "topicid": f"t{n}"} for n in range(10_000)]),
    )


async def gossip_foreign_record(stream: Any, topic: str) -> None:
    await send_rpc(stream, rpc_pb2.RPC(senderRecord=b"not an envelope"))


@pytest.mark.parametrize(
    "attack",
    [
        gossip_garbage,
        gossip_oversized,
        gossip_endless_length,
        gossip_not_records,
        gossip_too_large,
        gossip_subscriptions,
        gossip_foreign_record,
    ],
    ids=lambda a: a.__name__,
)
async def test_hostile_gossip_costs_the_peer_its_connection(
    factory: Factory, attack: Callable[[Any, str], Awaitable[None]]
) -> None:
    async with honest_pair(factory) as (first, second), stranger(first) as host:
        stream = await gossip_stream(host, first)
        with capture_logs() as logs:
            with suppress(Exception):  # cut off in the middle: as it should be
                await attack(stream, first.network.topic)
            await until(lambda: str(host.get_id()) not in first.connected())
            assert any(entry["event"] == "peer_cut_off" for entry in logs)
        assert first.network.cut_off >= 1
        assert first.connected() == {second.key.peer_id}
        await still_works(first, second)
        await still_works(second, first)


async def test_control_messages_cannot_fill_memory(factory: Factory) -> None:
    async with honest_pair(factory) as (first, second), stranger(first) as host:
        assert first.network._live is not None
        router = first.network._live.pubsub.router
        record = sites(1)[0]
        await first.network.publish(first.take(record))
        stream = await gossip_stream(host, first)
        topic = first.network.topic
        known = list(router.mcache.msgs)
        for n in range(20):
            control = rpc_pb2.ControlMessage()
            for m in range(500):
                control.prune.add(topicID=f"topic{n}.{m}", backoff=1 << 40)
                control.graft.add(topicID=f"topic{n}.{m}")
                control.ihave.add(topicID=f"topic{n}.{m}", messageIDs=[os.urandom(32)])
            control.iwant.add(messageIDs=known * 3000)
            control.ihave.add(topicID=topic, messageIDs=[os.urandom(32) for _ in range(3000)])
            control.prune.add(topicID=topic, peers=[{"peerID": os.urandom(38)} for _ in range(50)])
            control.idontwant.add(messageIDs=[os.urandom(32) for _ in range(3000)])
            await send_rpc(stream, rpc_pb2.RPC(control=control))
        await still_works(first, second)
        assert set(router.back_off) <= {topic}
        assert all(set(topics) <= {topic} for topics in router.graft_flood_tracking.values())
        assert sum(len(queue) for queue in first.network._live.pubsub.peer_queues.values()) < 500


async def test_a_record_asked_for_many_times_is_sent_once(factory: Factory) -> None:
    async with honest_pair(factory) as (first, _), stranger(first) as host:
        assert first.network._live is not None
        pubsub = first.network._live.pubsub
        control = rpc_pb2.ControlMessage()
        control.iwant.add(messageIDs=[b"\x01" * 32, b"\x02" * 32] * 1000)
        control.iwant.add(messageIDs=[b"\x01" * 32] * 1000)
        assert [list(i.messageIDs) for i in pubsub._bounded(control).iwant] == [[b"\x01" * 32, b"\x02" * 32]]
        assert host.get_id() is not None


async def test_a_forged_sender_does_not_silence_anyone(factory: Factory) -> None:
    """Someone sends a valid record in another's name, with the sequence number that one will use next."""
    async with honest_pair(factory) as (first, second), stranger(first) as host:
        assert second.network._live is not None
        victim = ID.from_string(second.key.peer_id)
        stream = await gossip_stream(host, first)
        for n, record in enumerate(sites(3)):
            message = rpc_pb2.Message(
                data=take(record, first.key),
                topicIDs=[first.network.topic],
                from_id=victim.to_bytes(),
                seqno=(second.network._live.pubsub.counter + 1 + n).to_bytes(8, "big"),
            )
            await send_rpc(stream, rpc_pb2.RPC(publish=[message]))
        await until(lambda: len(first.accepted) == 3)
        await still_works(second, first)
        await still_works(first, second)


async def test_a_flood_does_not_keep_records_of_others_out(factory: Factory) -> None:
    async with honest_pair(factory) as (first, second), stranger(first) as host:
        stream = await gossip_stream(host, first)
        topic = first.network.topic

        async def flood() -> None:
            n = 0
            while True:
                n += 1
                rpc = rpc_pb2.RPC(
                    publish=[{"data": b"%d.%d" % (n, m), "topicIDs": [topic]} for m in range(200)]
                )
                try:
                    await send_rpc(stream, rpc)
                except Exception:  # noqa: BLE001 - cut off
                    return

        async with trio.open_nursery() as nursery:
            nursery.start_soon(flood)
            for _ in range(5):
                await still_works(second, first)
            nursery.cancel_scope.cancel()
        await until(lambda: first.connected() == {second.key.peer_id})
        assert first.network.faults + first.network.gossip_dropped() > 0


async def test_an_expired_login_is_refused_and_its_bringer_stays(factory: Factory) -> None:
    """Clocks differ: who passes on what another thinks too old has done nothing wrong."""
    async with honest_pair(factory) as (first, second), stranger(first) as host:
        long_ago = int(time.time()) - 40 * 86400
        expired = sites(100, issued_at=long_ago, expires_at=long_ago + 86400, created=long_ago + 1)
        stream = await gossip_stream(host, first)
        for record in expired:
            message = rpc_pb2.Message(
                data=take(record, second.key, long_ago + 1), topicIDs=[first.network.topic]
            )
            await send_rpc(stream, rpc_pb2.RPC(publish=[message]))
        await until(lambda: first.network.refused == 100)
        assert str(host.get_id()) in first.connected()
        assert first.store.ids() == []
        await still_works(first, second)
