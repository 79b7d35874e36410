"""Several nodes on loopback: gossip, late joiners, partitions, stopping and starting."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import trio
from libp2p.peer.peerinfo import info_from_p2p_addr
from multiaddr import Multiaddr

from decentraspace.config import RecordsConfig
from decentraspace.errors import ConfigError
from decentraspace.records import codec
from decentraspace.records.store import AddResult
from tests.network.peers import Factory, Peer, ordered_keys, running, sites, until
from tests.records.factory import make_session, make_site, make_wallet


def cids_of(records: list[bytes]) -> set[bytes]:
    return {codec.record_cid(record) for record in records}


def in_mesh(peer: Peer, count: int) -> bool:
    """So many others are known to listen to the topic."""
    live = peer.network._live
    return live is not None and len(live.pubsub.peer_topics.get(peer.network.topic, ())) >= count


def sockets() -> int:
    return sum(
        os.readlink(link).startswith("socket:")
        for link in Path("/proc/self/fd").iterdir()
        if os.path.lexists(link)
    )


async def test_a_record_reaches_all_by_gossip(factory: Factory) -> None:
    first = factory.make()
    async with running(first):
        others = [factory.make(bootstrap=[first.address]) for _ in range(3)]
        async with running(*others):
            await until(lambda: in_mesh(first, 3))
            for n, record in enumerate(sites(6)):
                source = [first, *others][n % 4]
                await source.network.publish(source.take(record))
                rest = [p for p in (first, *others) if p is not source]
                await until(
                    lambda rest=rest, record=record: all(cids_of([record]) <= set(p.accepted) for p in rest)
                )
            for peer in (first, *others):
                assert len(peer.store.ids()) == 6
                assert len(peer.accepted) == len(set(peer.accepted))  # each handed on once


async def test_a_burst_of_records_is_not_lost(factory: Factory) -> None:
    first = factory.make()
    async with running(first):
        second = factory.make(bootstrap=[first.address])
        async with running(second):
            await until(lambda: in_mesh(first, 1))
            records = sites(150)
            for record in records:
                await first.network.publish(first.take(record))
            await until(lambda: set(second.accepted) == cids_of(records))


@pytest.mark.parametrize("joiner_begins", [True, False])
async def test_a_late_joiner_gets_everything(factory: Factory, joiner_begins: bool) -> None:
    """Even records whose login has long run out: their sponsor attests that it took them in time."""
    low, high = ordered_keys(2)
    old_key, new_key = (low, high) if joiner_begins else (high, low)
    old = factory.make(key=old_key, sync_interval=0.5)
    long_ago = int(time.time()) - 40 * 86400
    expired = sites(30, issued_at=long_ago, expires_at=long_ago + 86400, created=long_ago + 100)
    for record in expired:
        old.take(record, long_ago + 100)
    fresh = sites(300)
    for record in fresh:
        old.take(record)
    async with running(old):
        joiner = factory.make(key=new_key, bootstrap=[old.address], sync_interval=0.5)
        async with running(joiner):
            await until(lambda: len(joiner.accepted) == 330)
    assert set(joiner.store.ids()) == set(old.store.ids()) == cids_of(expired + fresh)
    assert joiner.network.refused == 0


async def test_a_joiner_that_meets_an_empty_peer_first_still_gets_the_past(factory: Factory) -> None:
    low, middle, high = ordered_keys(3)
    empty, old = factory.make(key=low), factory.make(key=middle)
    long_ago = int(time.time()) - 40 * 86400
    for record in sites(3, issued_at=long_ago, expires_at=long_ago + 86400, created=long_ago + 100):
        old.take(record, long_ago + 100)
    async with running(empty, old):
        joiner = factory.make(key=high, bootstrap=[empty.address])
        async with running(joiner):
            await until(lambda: bool(joiner.network.rounds.met))
            assert joiner.network._live is not None
            await joiner.network._live.host.connect(info_from_p2p_addr(Multiaddr(old.address)))
            await until(lambda: len(joiner.accepted) == 3)


async def test_a_partition_heals_by_set_exchange(factory: Factory) -> None:
    """Two nodes that were apart end with one set, both ways, without anything being published again."""
    left = factory.make(name="left", sync_interval=0.3)
    async with running(left):
        right = factory.make(name="right", bootstrap=[left.address], sync_interval=0.3)
        async with running(right):
            await until(lambda: left.connected() == {right.key.peer_id})
        await until(lambda: not left.connected())
        here = [left.take(record) for record in sites(20)]
        there = [right.take(record) for record in sites(25)]
        assert (len(left.store.ids()), len(right.store.ids())) == (len(here), len(there)) == (20, 25)
        again = factory.make(name="right", key=right.key, bootstrap=[left.address], sync_interval=0.3)
        async with running(again):
            await until(lambda: len(left.store.ids()) == len(again.store.ids()) == 45)
            assert set(left.store.ids()) == set(again.store.ids())
            await until(lambda: len(left.accepted) == 25 and len(again.accepted) == 20)


async def test_what_an_exchange_brings_is_taken_on_before_the_next_round(factory: Factory) -> None:
    """From the first node by the second to the third, which would otherwise hear of it in ten minutes."""
    first = factory.make()
    async with running(first):
        second = factory.make(bootstrap=[first.address])
        async with running(second):
            third = factory.make(bootstrap=[second.address])
            async with running(third):
                met = second.network.rounds.peers
                await until(lambda: len(met) == 2 and all(this.done for this in met.values()))
                source, other = met[first.key.peer_id], met[third.key.peer_id]
                before = {id(this): this.due for this in (source, other)}
                first.take(sites(1)[0])
                first.network.rounds.demand()
                await until(lambda: len(second.accepted) == 1 and source.done > 1)
                assert other.due <= other.ended + 600 / 4 < before[id(other)]
                assert source.due > source.ended + 600 / 4
                other.ended = -1e9  # that long ago
                first.take(sites(1)[0])
                first.network.rounds.demand()
                await until(lambda: len(third.accepted) == 2)


async def test_what_gossip_lost_comes_with_the_next_exchange(factory: Factory) -> None:
    first = factory.make(sync_interval=0.3)
    async with running(first):
        second = factory.make(bootstrap=[first.address], sync_interval=0.3)
        async with running(second):
            await until(lambda: in_mesh(first, 1))
            record = sites(1)[0]
            second.take(record)  # stored and never published
            await until(lambda: set(first.accepted) == cids_of([record]))


async def test_records_over_a_quota_do_not_end_the_exchange(factory: Factory) -> None:
    """A quota is this node's own; the peer that passes records on is honest."""
    first = factory.make()
    for record in sites(60):
        first.take(record)
    async with running(first):
        second = factory.make(
            bootstrap=[first.address], records=RecordsConfig(sponsor_records=25), sync_interval=0.2
        )
        mine = sites(1)[0]
        second.take(mine)
        async with running(second):
            await until(lambda: len(second.accepted) == 25 and cids_of([mine]) <= set(first.accepted))
            assert len(second.network.rounds.lately_refused.ids()) == 35
            # Further rounds bring nothing that was refused, and nobody is cut off.
            rounds = [r for peer in (first, second) for r in peer.network.rounds.peers.values()]
            await until(lambda: sum(r.done for r in rounds) >= 3)
            assert len(second.accepted) == 25
            assert second.connected() == {first.key.peer_id}


async def test_a_bootstrap_peer_that_was_lost_is_found_again(factory: Factory) -> None:
    """It restarts at the same address; the node that names it as bootstrap comes back by itself."""
    first = factory.make(name="first")
    async with trio.open_nursery() as nursery:
        stop = trio.CancelScope()

        async def run_first(*, task_status: trio.TaskStatus[None]) -> None:
            with stop:
                await first.network.run(task_status=task_status)

        await nursery.start(run_first)
        port = first.address.split("/")[4]
        second = factory.make(bootstrap=[first.address])
        await nursery.start(second.network.run)
        await until(lambda: second.connected() == {first.key.peer_id})
        stop.cancel()
        await until(lambda: not second.connected())
        again = factory.make(name="first", key=first.key, listen=(f"/ip4/127.0.0.1/tcp/{port}",))
        await nursery.start(again.network.run)
        await until(lambda: second.connected() == {first.key.peer_id})
        await until(lambda: in_mesh(second, 1))
        record = sites(1)[0]
        await again.network.publish(again.take(record))
        await until(lambda: set(second.accepted) == cids_of([record]))
        nursery.cancel_scope.cancel()


async def test_stopping_leaves_nothing_behind(factory: Factory) -> None:
    """No socket, no thread but trio's own idle workers, and it can be done again."""
    before = sockets()
    for _ in range(3):
        first = factory.make()
        async with running(first):
            second = factory.make(bootstrap=[first.address])
            async with running(second):
                await until(lambda first=first: in_mesh(first, 1))
            await until(lambda first=first: not first.connected())
        assert not first.network.peers()
        assert first.network.addresses() == []
    await until(lambda: sockets() <= before)
    names = {thread.name for thread in threading.enumerate() if not thread.name.startswith("Trio thread")}
    assert not {name for name in names if "cleanup" in name or "zeroconf" in name.lower()}


async def test_libp2p_that_fails_is_started_again(factory: Factory) -> None:
    first = factory.make()
    async with running(first):
        second = factory.make(bootstrap=[first.address], sync_interval=0.3)
        async with running(second):
            await until(lambda: in_mesh(second, 1))
            live = second.network._live
            assert live is not None
            live.pubsub.manager.cancel()  # gossip stops by itself, as after a failure inside libp2p
            await until(lambda: second.network._live not in (None, live))
            await until(lambda: in_mesh(second, 1))
            record = sites(1)[0]
            await first.network.publish(first.take(record))
            await until(lambda: set(second.accepted) == cids_of([record]))


async def test_an_exception_inside_libp2p_does_not_reach_the_node(factory: Factory) -> None:
    peer = factory.make()
    async with running(peer):
        live = peer.network._live
        assert live is not None

        async def fails() -> None:
            raise ExceptionGroup("odd", [ValueError("something inside libp2p")])

        live.pubsub.manager.run_task(fails)
        await until(lambda: peer.network._live not in (None, live))


async def test_a_record_that_cannot_be_handled_does_not_stop_those_after_it(factory: Factory) -> None:
    failed: list[AddResult] = []

    async def fails_once(results: Sequence[AddResult]) -> None:
        if not failed:
            failed.extend(results)
            raise OSError("the disk is full")

    first = factory.make()
    async with running(first):
        second = factory.make(bootstrap=[first.address], on_accepted=fails_once)
        async with running(second):
            await until(lambda: in_mesh(first, 1))
            for number, record in enumerate(sites(3), 1):
                await first.network.publish(first.take(record))
                await until(lambda number=number: len(second.accepted) == number)
                assert len(failed) == 1


async def test_an_address_in_use_is_said_in_words(factory: Factory) -> None:
    with trio.socket.socket() as other:
        await other.bind(("127.0.0.1", 0))
        other.listen(1)
        port = other.getsockname()[1]
        peer = factory.make(listen=(f"/ip4/127.0.0.1/tcp/{port}",))
        with pytest.raises(ConfigError, match="cannot listen"):
            await peer.network.run()
    for wrong in ("127.0.0.1:4001", "/ip4/300.0.0.1/tcp/1", "/ip4/127.0.0.1", ""):
        with pytest.raises(ConfigError):
            await factory.make(listen=(wrong,)).network.run()


async def test_peers_say_who_they_are(factory: Factory) -> None:
    first = factory.make()
    async with running(first):
        second = factory.make(bootstrap=[first.address])
        async with running(second):
            await until(
                lambda: bool(first.network.rounds.since) and first.connected() == {second.key.peer_id}
            )
            info = first.network.peers()[0]
            assert info.peer_id == second.key.peer_id
            assert abs(info.since - time.time()) < 60
            assert info.addresses[0].startswith("127.0.0.1:")
            assert first.address.endswith("/p2p/" + first.key.peer_id)


async def test_a_node_that_listens_everywhere_names_real_addresses(factory: Factory) -> None:
    peer = factory.make(listen=("/ip4/0.0.0.0/tcp/0",))
    async with running(peer):
        assert peer.network.addresses()
        assert not any("/0.0.0.0/" in a or "/tcp/0/" in a for a in peer.network.addresses())


async def test_deployed_here_is_known_there_before_anyone_notices(factory: Factory) -> None:
    """Newest version of one site, signed again and again, ends as the head at the other node."""
    first = factory.make()
    async with running(first):
        second = factory.make(bootstrap=[first.address])
        async with running(second):
            await until(lambda: in_mesh(first, 1))
            wallet = make_wallet()
            session = make_session(wallet)
            previous = None
            for seq in range(1, 6):
                record = make_site(wallet, session, seq=seq, prev=previous)
                previous = codec.record_cid(record)
                await first.network.publish(first.take(record))
            await until(lambda: [h.cid for h in second.store.all_heads()] == [previous])
