"""What is taken from answers of the DHT, how servers are remembered, and how a search ends."""

from __future__ import annotations

import pytest
import trio
from libp2p.kad_dht.pb.kademlia_pb2 import Message
from libp2p.peer.id import ID
from multiaddr import Multiaddr

from decentraspace.content import cid as cids
from decentraspace.errors import BadInput
from decentraspace.identity.keys import NodeKey
from decentraspace.network.dht import wire
from decentraspace.network.dht.search import Search
from decentraspace.network.dht.table import Servers
from decentraspace.network.dht.wire import K, Known, position


def some_id() -> ID:
    return ID.from_string(NodeKey.generate().peer_id)


def answer(*peers: tuple[bytes, list[bytes]], kind: int = Message.FIND_NODE) -> bytes:
    message = Message(type=kind)
    for peer, addresses in peers:
        message.closerPeers.add(id=peer, addrs=addresses)
        message.providerPeers.add(id=peer, addrs=addresses)
    return bytes(message.SerializeToString())


@pytest.mark.parametrize(
    ("address", "wan", "lan"),
    [
        ("/ip4/8.8.8.8/tcp/4001", True, False),
        ("/ip6/2606:4700::1/tcp/4001", True, False),
        ("/ip4/127.0.0.1/tcp/4001", False, True),
        ("/ip4/192.168.1.7/tcp/4001", False, True),
        ("/ip4/169.254.169.254/tcp/80", False, True),
        ("/ip6/::ffff:7f00:1/tcp/4001", False, True),
        ("/ip4/0.0.0.0/tcp/4001", False, False),
        ("/ip4/224.0.0.1/tcp/4001", False, False),
        ("/ip4/8.8.8.8/tcp/0", False, False),
        ("/ip4/8.8.8.8/tcp/4001/ws", False, False),
        ("/ip4/8.8.8.8/udp/4001/quic-v1", False, False),
        ("/dns4/localhost/tcp/4001", False, False),
    ],
)
def test_only_addresses_of_the_network_that_is_meant_are_taken(address: str, wan: bool, lan: bool) -> None:
    peer, raw = some_id().to_bytes(), Multiaddr(address).to_bytes()
    assert bool(wire.address_of(raw, peer, "wan")) is wan
    assert bool(wire.address_of(raw, peer, "lan")) is lan


def test_an_address_may_end_in_its_peer_and_in_no_other() -> None:
    peer, other = some_id(), some_id()
    of_peer = Multiaddr(f"/ip4/8.8.8.8/tcp/4001/p2p/{peer}").to_bytes()
    assert wire.address_of(of_peer, peer.to_bytes(), "wan") == "/ip4/8.8.8.8/tcp/4001"
    assert wire.address_of(of_peer, other.to_bytes(), "wan") == ""
    relayed = Multiaddr(f"/ip4/8.8.8.8/tcp/4001/p2p/{other}/p2p-circuit").to_bytes()
    assert wire.address_of(relayed, peer.to_bytes(), "wan") == ""


@pytest.mark.parametrize("length", range(12))
def test_addresses_that_are_cut_off_are_left_out(length: int) -> None:
    raw = Multiaddr("/ip4/8.8.8.8/tcp/4001").to_bytes()
    taken = wire.address_of(raw[:length], some_id().to_bytes(), "wan")
    assert bool(taken) is (length >= len(raw))


def test_an_answer_is_bounded() -> None:
    address = Multiaddr("/ip4/8.8.8.8/tcp/4001").to_bytes()
    many = [Multiaddr(f"/ip4/8.8.8.8/tcp/{port}").to_bytes() for port in range(1, 200)]
    ids = [some_id().to_bytes() for _ in range(150)]
    found = wire.decode(answer(*[(i, [address]) for i in ids]), Message.FIND_NODE, "wan")
    assert (len(found.closer), len(found.providers)) == (K, 100)
    assert found.ids == set(ids)
    [only] = wire.decode(answer((ids[0], many)), Message.FIND_NODE, "wan").closer
    assert len(only.addresses) == 8


@pytest.mark.parametrize("peer", [b"", b"\x00", b"\x12\x20short", b"x" * 34, b"\x00\x24" + b"y" * 500])
def test_what_is_no_peer_id_is_left_out(peer: bytes) -> None:
    address = Multiaddr("/ip4/8.8.8.8/tcp/4001").to_bytes()
    found = wire.decode(answer((peer, [address])), Message.FIND_NODE, "wan")
    assert not found.closer
    assert not found.providers


@pytest.mark.parametrize("data", [b"\xff" * 40, answer(kind=Message.PING)])
def test_answers_to_another_question_are_refused(data: bytes) -> None:
    with pytest.raises(BadInput):
        wire.decode(data, Message.FIND_NODE, "wan")


def test_only_addresses_that_others_could_reach_are_announced() -> None:
    addresses = [
        "/ip4/8.8.8.8/tcp/4001/p2p/X",
        "/ip4/10.0.0.1/tcp/4001/p2p/X",
        "/dns4/node.example/tcp/4001",
    ]
    assert wire.announced(addresses, "wan") == ["/ip4/8.8.8.8/tcp/4001", "/dns4/node.example/tcp/4001"]
    assert wire.announced(addresses, "lan") == ["/ip4/10.0.0.1/tcp/4001"]


def test_few_servers_of_one_network_are_remembered() -> None:
    servers = Servers(some_id())
    for number in range(300):
        servers.note(Known(some_id(), (f"/ip4/8.8.8.{number % 250 + 1}/tcp/4001",)))
    of_one_network = len(servers)
    assert of_one_network < 30  # two for each distance at which there is one
    for number in range(300):
        servers.note(Known(some_id(), (f"/ip4/{number % 90 + 11}.8.{number % 200}.1/tcp/4001",)))
    assert of_one_network < len(servers) <= 300


def test_the_nearest_servers_come_first_and_failed_ones_go() -> None:
    servers, target = Servers(some_id()), position(b"a key")
    known = [Known(some_id(), (f"/ip4/10.0.0.{n}/tcp/1",)) for n in range(1, 16)]
    for one in known:
        servers.note(one)
    nearest = sorted(known, key=lambda s: position(s.id.to_bytes()) ^ target)
    assert servers.closest(target, 5) == nearest[:5]
    servers.failed(nearest[0].id)
    assert servers.closest(target, 5) == nearest[1:6]


async def test_a_search_finds_the_nearest_of_all() -> None:
    """Of 500 servers, each of which knows 30 others at random and those next to it."""
    everyone = {k.id: k for k in (Known(some_id(), ("/ip4/10.0.0.1/tcp/1",)) for _ in range(500))}
    ordered = sorted(everyone.values(), key=lambda k: position(k.id.to_bytes()))
    target = position(b"somewhere")

    async def ask(server: Known) -> list[Known]:
        await trio.lowlevel.checkpoint()
        if server.id in silent:
            raise OSError
        place = ordered.index(server)
        knows = ordered[max(0, place - 40) : place + 40] + ordered[place % 16 :: 16]
        return sorted(knows, key=lambda k: position(k.id.to_bytes()) ^ target)[:K]

    nearest = sorted(ordered, key=lambda k: position(k.id.to_bytes()) ^ target)
    silent = {k.id for k in nearest[3:6]}
    found = await Search(target, some_id(), ask).run(k for k in ordered[::100] if k.id not in silent)
    alive = [k for k in nearest if k.id not in silent]
    assert len(found) == K
    assert found[:10] == alive[:10]


async def test_a_search_ends_among_servers_that_make_up_others_without_end() -> None:
    asked = 0

    async def ask(server: Known) -> list[Known]:
        nonlocal asked
        asked += 1
        await trio.lowlevel.checkpoint()
        return [Known(some_id(), ("/ip4/10.0.0.1/tcp/1",)) for _ in range(K)]

    with trio.fail_after(60):
        await Search(position(b"x"), some_id(), ask).run([Known(some_id(), ("/ip4/10.0.0.1/tcp/1",))])
    assert asked <= 80


async def test_nobody_is_asked_who_it_is_itself() -> None:
    own = some_id()

    async def ask(server: Known) -> list[Known]:
        assert server.id != own
        return [Known(own, ("/ip4/10.0.0.1/tcp/1",))]

    assert len(await Search(0, own, ask).run([Known(some_id(), ())])) == 1


def test_a_cid_has_the_place_of_its_multihash() -> None:
    """So one block has one place, whatever codec or version its CID has."""
    cid = cids.parse("QmUNLLsPACCz1vLxQVkXqqLX5R1X345qqfHbsf67hvA3Nn")
    request = wire.get_providers(cids.multihash(cid))
    message = Message()
    message.ParseFromString(request[1:])
    assert message.key == cids.multihash(cid)
    assert len(message.key) == 34
