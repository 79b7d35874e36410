"""Bitswap between nodes, and with peers that break its rules: honest ones are served on."""

from __future__ import annotations

import random
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import trio
from libp2p.network.stream.exceptions import StreamError

from decentraspace.content import cid as cids
from decentraspace.content import dagpb
from decentraspace.errors import TooLarge, Unavailable, Unprocessable
from decentraspace.network.bitswap import channel, serve, service, session, wire
from decentraspace.network.bitswap.wire import Message, Want
from tests.network.exchanging import ByHand, Node, add, by_hand, node
from tests.network.peers import Factory, stranger, until

RAW = b"\x01\x55\x12\x20"


def raw(data: bytes) -> bytes:
    return cids.make(cids.RAW, data)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    rng = random.Random(3)
    folder = tmp_path / "site"
    (folder / "deep" / "er").mkdir(parents=True)
    (folder / "deep" / "er" / "a").write_bytes(rng.randbytes(2_000_000))
    (folder / "empty").write_bytes(b"")
    for number in range(50):
        (folder / f"{number}.txt").write_bytes(rng.randbytes(2000))
    return folder


async def gives(holder: Node, root: bytes) -> None:
    """An honest peer gets a block from that node."""
    async with by_hand(holder) as honest:
        await honest.say(Message([Want(root)]))
        await until(lambda: honest.blocks() == [holder.blocks.get_or_raise(root)])


async def test_a_site_goes_from_node_to_node(factory: Factory, site: Path, tmp_path: Path) -> None:
    async with node(factory, tmp_path / "1") as first:
        root = add(first.blocks, site)
        async with node(factory, tmp_path / "2", bootstrap=[first.peer.address]) as second:
            await until(lambda: first.peer.key.peer_id in second.peer.connected())
            result = await second.fetcher.fetch(root, deadline=30, max_bytes=10**7)
            assert second.blocks.missing(root) == []
            assert result.bytes == second.blocks.dag_size(root) == second.bitswap.fetched_bytes
            assert first.bitswap.served.blocks == result.blocks == second.bitswap.fetched_blocks
            assert await second.fetcher.fetch_block(root, root)


async def test_one_peer_is_asked_for_a_block_that_is_here_as_well(
    factory: Factory, site: Path, tmp_path: Path
) -> None:
    async with node(factory, tmp_path / "1") as first:
        root = add(first.blocks, site)
        here_only = raw(b"only the second has it")
        who = first.peer.key.peer_id
        async with node(factory, tmp_path / "2", bootstrap=[first.peer.address]) as second:
            add(second.blocks, site)
            second.blocks.put_many([(here_only, b"only the second has it")])
            await until(lambda: who in second.peer.connected())
            served = first.bitswap.served.blocks
            assert await second.bitswap.ask(who, root, 30.0) is True
            assert first.bitswap.served.blocks == served + 1
            assert await second.bitswap.ask(who, here_only, 30.0) is False
            assert await second.bitswap.ask(second.peer.key.peer_id, root, 30.0) is None
        assert await second.bitswap.ask(who, root, 30.0) is None, "it is down"


@pytest.mark.parametrize("says", ["nothing", "other bytes", "that it has it"])
async def test_who_is_asked_and_gives_no_block_has_proved_nothing(
    factory: Factory, tmp_path: Path, says: str
) -> None:
    cid = raw(b"the block")
    heard = trio.Event()
    async with node(factory, tmp_path / "1") as asking, by_hand(asking) as peer:

        async def answer(message: Message) -> None:
            if says == "other bytes":
                await peer.say(Message(blocks=[(RAW, b"something else")]))
            elif says == "that it has it":
                await peer.say(Message(presences=[(cid, True)]))
            heard.set()

        peer.answer = answer
        await until(lambda: bool(asking.bitswap._live and asking.bitswap._speaking(asking.bitswap._live)))
        assert await asking.bitswap.ask(peer.id, cid, 1.0) is None
        assert heard.is_set()


async def test_what_is_only_uploaded_is_not_given(factory: Factory, site: Path, tmp_path: Path) -> None:
    async with node(factory, tmp_path / "1") as ours, by_hand(ours) as peer:
        private = add(ours.blocks, site, "upload:7")
        inlined = b"\x01\x55\x00\x02hi"
        await peer.say(Message([Want(private, dont_have=True), Want(inlined, dont_have=True)]))
        await until(lambda: peer.presences() == {private: False, inlined: False})
        ours.blocks.pin(private, "site:now")
        await until(lambda: len(peer.blocks()) == 1)  # it still wants it
        assert peer.blocks() == [ours.blocks.get_or_raise(private)]


async def test_old_cids_and_questions_are_answered(factory: Factory, site: Path, tmp_path: Path) -> None:
    async with node(factory, tmp_path / "1") as ours, by_hand(ours) as peer:
        root = add(ours.blocks, site)
        assert len(ours.blocks.get_or_raise(root)) > serve._SMALL
        await peer.say(Message([Want(root, have=True)]))
        await until(lambda: peer.presences() == {root: True})
        await peer.say(Message([Want(root[2:])]))
        await until(lambda: len(peer.blocks()) == 1)
        assert [prefix for m in peer.heard for prefix, _ in m.blocks] == [b"\x00\x70\x12\x20"]


async def test_a_wantlist_without_end_is_cut(factory: Factory, site: Path, tmp_path: Path) -> None:
    """Each peer's queue is bounded, and others are served meanwhile."""
    async with node(factory, tmp_path / "1") as ours, by_hand(ours) as flood:
        root = add(ours.blocks, site)
        flood.deaf = True
        longest = 0

        async def pour() -> None:
            stream = await flood.open()
            for number in range(200):
                wants = [Want(raw(b"%d %d" % (number, n)), dont_have=True) for n in range(2000)]
                await stream.write(wire.encode(Message(wants)))

        async def watch() -> None:
            nonlocal longest
            while True:
                longest = max(longest, ours.bitswap.waiting())
                await trio.sleep(0.001)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(pour)
            nursery.start_soon(watch)
            await until(lambda: longest > 0)
            await gives(ours, root)
            await until(lambda: ours.bitswap.served.refused > 0)
            nursery.cancel_scope.cancel()
        assert longest <= wire.MAX_WANTS + 2 * serve._UNMET_MOST


async def giant(stream: Any) -> None:
    await stream.write(cids.varint(1 << 30))


async def endless_length(stream: Any) -> None:
    await stream.write(b"\xff" * 100)


async def garbage(stream: Any) -> None:
    await stream.write(b"\x05\xff\xff\xff\xff\xff")


@pytest.mark.parametrize("attack", [giant, endless_length, garbage])
async def test_malformed_messages_cost_the_connection(
    factory: Factory, site: Path, tmp_path: Path, attack: Any
) -> None:
    async with node(factory, tmp_path / "1") as ours, by_hand(ours) as peer:
        root = add(ours.blocks, site)
        await attack(await peer.open())
        await until(lambda: peer.id not in ours.peer.connected())
        await gives(ours, root)


async def test_blocks_that_nobody_asked_for_are_not_kept(
    factory: Factory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "_UNASKED_MOST", 4_000_000.0)
    async with node(factory, tmp_path / "1") as ours, by_hand(ours) as peer:
        small, large = b"small", bytes(1_500_000)
        await peer.say(Message(blocks=[(RAW, small)]))
        await peer.say(Message(blocks=[(RAW, large)]))
        await until(lambda: ours.bitswap.unasked_bytes >= len(small) + len(large))
        assert peer.id in ours.peer.connected()
        with suppress(StreamError):  # it is cut off in the middle
            for _ in range(2):
                await peer.say(Message(blocks=[(RAW, large)]))
        await until(lambda: peer.id not in ours.peer.connected())
        assert ours.blocks.stats().blocks == 0


async def lies(peer: ByHand, wrong: bytes) -> None:
    """Have the peer say that it has everything, and give the same bytes for all of it."""

    async def answer(message: Message) -> None:
        reply = Message()
        for want in message.wants:
            if want.have:
                reply.presences.append((want.cid, True))
            elif not want.cancel:
                reply.blocks.append((wire.prefix(want.cid), wrong))
        if reply != Message():
            await peer.say(reply)

    peer.answer = answer


@pytest.mark.parametrize("silent", [False, True])
async def test_wrong_blocks_are_not_stored_and_others_are_asked(
    factory: Factory, site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, silent: bool
) -> None:
    monkeypatch.setattr(session, "_PATIENCE", 1.0)
    async with node(factory, tmp_path / "1") as ours:
        root = add(ours.blocks, site)
        async with (
            node(factory, tmp_path / "2", bootstrap=[ours.peer.address]) as second,
            by_hand(second) as liar,
        ):
            await lies(liar, b"" if silent else b"wrong")
            await until(lambda: len(second.peer.connected()) == 2)
            await second.fetcher.fetch(root, deadline=60, max_bytes=10**7)
            assert second.blocks.missing(root) == []
            assert second.blocks.stats().blocks == ours.blocks.stats().blocks
            assert liar.heard


async def test_nobody_has_it(factory: Factory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "_PATIENCE", 0.5)
    wanted = raw(b"nowhere")
    async with node(factory, tmp_path / "1") as ours:
        with pytest.raises(Unavailable):
            await ours.fetcher.fetch(wanted, deadline=30, max_bytes=1000)
        async with by_hand(ours) as liar, node(factory, tmp_path / "2", bootstrap=[ours.peer.address]):
            await lies(liar, b"wrong")
            await until(lambda: len(ours.peer.connected()) == 2)
            with pytest.raises(Unavailable):
                await ours.fetcher.fetch(wanted, deadline=30, max_bytes=1000)
            assert not await ours.fetcher.fetch_block(wanted, wanted)
        assert ours.bitswap._sessions == []


async def test_content_is_bounded_and_well_formed(factory: Factory, site: Path, tmp_path: Path) -> None:
    async with node(factory, tmp_path / "1") as ours:
        root = add(ours.blocks, site)
        async with (
            node(factory, tmp_path / "2", bootstrap=[ours.peer.address]) as second,
            by_hand(second) as peer,
        ):
            await until(lambda: len(second.peer.connected()) == 2)
            with pytest.raises(TooLarge):
                await second.fetcher.fetch(root, deadline=30, max_bytes=100_000)
            await second.fetcher.fetch(root, deadline=30, max_bytes=10**7)  # and goes on from what there is
            broken = cids.make(cids.DAG_PB, b"\xff")
            await lies(peer, b"\xff")
            with pytest.raises(Unprocessable):
                await second.fetcher.fetch(broken, deadline=30, max_bytes=1000)


async def test_a_peer_that_does_not_read_holds_nobody_up(
    factory: Factory, site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channel, "_DEADLINE", 1.0)
    monkeypatch.setattr(channel, "_SLOWEST", 10**9)
    async with node(factory, tmp_path / "1") as ours, by_hand(ours) as slow:
        root = add(ours.blocks, site)
        slow.deaf = True
        (large,) = (
            link.cid for link in dagpb.decode(ours.blocks.get_or_raise(root)).links if link.name == "deep"
        )
        leaves: list[bytes] = []
        todo = [large]
        while todo:
            links = dagpb.links_of(cid := todo.pop(), ours.blocks.get_or_raise(cid))
            todo += [c for c in links if cids.codec(c) != cids.RAW]
            leaves += [c for c in links if cids.codec(c) == cids.RAW]
        assert len(leaves) == 8
        await slow.say(Message([Want(leaf) for leaf in leaves]))
        await until(lambda: ours.bitswap.waiting() > 0)
        await gives(ours, root)
        await until(lambda: ours.bitswap.waiting() == 0)  # given up
        assert ours.bitswap.served.bytes < sum(len(ours.blocks.get_or_raise(leaf)) for leaf in leaves)


async def test_who_has_gone_is_forgotten(factory: Factory, tmp_path: Path) -> None:
    async with node(factory, tmp_path / "1") as ours:
        async with by_hand(ours) as peer:
            await peer.say(Message([Want(raw(b"later"))]))
            await until(lambda: ours.bitswap.waiting() == 1)
        await until(lambda: ours.bitswap._live is not None and not ours.bitswap._live.peers)
        assert ours.bitswap.waiting() == 0


async def test_cancelled_wants_are_not_answered(factory: Factory, tmp_path: Path) -> None:
    async with node(factory, tmp_path / "1") as ours, by_hand(ours) as peer:
        wanted, other = raw(b"later"), raw(b"other")
        await peer.say(Message([Want(wanted)]))
        await until(lambda: ours.bitswap.waiting() == 1)
        await peer.say(Message([Want(wanted, cancel=True), Want(other, dont_have=True)]))
        await until(lambda: other in peer.presences())
        assert ours.bitswap.waiting() == 1
        await peer.say(Message([Want(other, dont_have=True)], full=True))
        await until(lambda: len(peer.heard) == 2)
        assert ours.bitswap.waiting() == 1


async def test_guests_have_places_of_their_own(factory: Factory, tmp_path: Path) -> None:
    """Peers that are no nodes of this network go when there are too many of them, those that came last
    first; nodes stay, and get along without exchanges of records with guests."""
    async with (
        node(factory, tmp_path / "1", max_ipfs_peers=1, sync_interval=0.2) as ours,
        node(factory, tmp_path / "2", bootstrap=[ours.peer.address]) as second,
        by_hand(ours) as guest,
    ):
        await until(lambda: {second.peer.key.peer_id, guest.id} <= ours.peer.connected())
        live = ours.peer.network._live
        assert live is not None
        await until(lambda: [str(p) for p in live.guests.members()] == [second.peer.key.peer_id])
        async with stranger(ours.peer) as late:
            await until(lambda: str(ours.peer.key.peer_id) not in map(str, late.get_connected_peers()))
        assert ours.peer.connected() == {second.peer.key.peer_id, guest.id}
