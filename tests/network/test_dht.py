"""A node among servers of the DHT that lie, stall, flood or go away: real libp2p hosts on loopback."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from libp2p.custom_types import TProtocol
from libp2p.kad_dht.pb.kademlia_pb2 import Message
from libp2p.peer.id import ID
from multiaddr import Multiaddr

from decentraspace.content import cid as cids
from decentraspace.errors import Unavailable
from decentraspace.identity.keys import NodeKey
from decentraspace.network.dht import wire
from decentraspace.network.dht.client import Dht
from decentraspace.network.swarm import listening, make_host
from tests.network.exchanging import Node, node
from tests.network.peers import Factory, until

CID = cids.make(cids.RAW, b"content")
Answer = Callable[[Any, Message], Awaitable[None]]


@pytest.fixture
def factory(tmp_path: Path) -> Any:
    made = Factory(tmp_path)
    yield made
    made.close()


async def read(stream: Any) -> Message:
    length = shift = 0
    while True:
        byte = (await stream.read(1))[0]
        length |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            break
    data = b""
    while len(data) < length:
        data += await stream.read(length - len(data))
    message = Message()
    message.ParseFromString(data)
    return message


async def say(stream: Any, message: Message) -> None:
    data = message.SerializeToString()
    await stream.write(cids.varint(len(data)) + data)


@asynccontextmanager
async def server(answer: Answer) -> AsyncIterator[str]:
    """A host that says it is a server of the DHT; its address. `answer(stream, question)` for each question."""

    async def on_stream(stream: Any) -> None:
        try:
            while True:
                await answer(stream, await read(stream))
        except Exception:  # noqa: BLE001 - the node has hung up
            return

    host = make_host(NodeKey.generate(), 100)
    host.set_stream_handler(TProtocol(wire.PROTOCOLS["lan"]), on_stream)
    async with listening(host, [Multiaddr("/ip4/127.0.0.1/tcp/0")]):
        yield f"{host.get_transport_addrs()[0]}/p2p/{host.get_id()}"


async def honest(stream: Any, question: Message) -> None:
    """Knows nobody and keeps nothing."""
    if question.type != Message.ADD_PROVIDER:
        await say(stream, Message(type=question.type))


def dht_of(ours: Node) -> Dht:
    assert ours.peer.network.dht is not None
    return ours.peer.network.dht


@asynccontextmanager
async def joined(factory: Factory, folder: Path, *answers: Answer) -> AsyncIterator[Dht]:
    """A node that is connected with such servers."""
    async with AsyncExitStack() as stack:
        addresses = [await stack.enter_async_context(server(answer)) for answer in answers]
        async with node(factory, folder, dht="lan", ipfs_peers=tuple(addresses)) as ours:
            dht = dht_of(ours)
            await until(lambda: dht.counts.asked >= len(answers))
            yield dht


async def test_without_servers_nothing_is_found_and_telling_fails_in_words(
    factory: Factory, tmp_path: Path
) -> None:
    async with node(factory, tmp_path / "blocks", dht="lan") as ours:
        assert await dht_of(ours).find(CID) == []
        with pytest.raises(Unavailable, match="no server of it is known"):
            await dht_of(ours).provide(CID)


async def test_a_node_that_cannot_be_reached_tells_nobody(factory: Factory, tmp_path: Path) -> None:
    async with node(factory, tmp_path / "blocks", dht="wan") as ours:
        with pytest.raises(Unavailable, match="no address"):
            await dht_of(ours).provide(CID)


async def test_it_is_off_unless_asked_for(factory: Factory, tmp_path: Path) -> None:
    async with node(factory, tmp_path / "blocks") as ours:
        assert ours.peer.network.dht is None


async def test_a_server_that_keeps_nothing_does_not_count(factory: Factory, tmp_path: Path) -> None:
    async with joined(factory, tmp_path / "blocks", honest) as dht:
        await until(lambda: dht.servers == 1)
        with pytest.raises(Unavailable, match="none of its servers took it"):
            await dht.provide(CID)


async def floods(stream: Any, question: Message) -> None:
    await stream.write(cids.varint(1 << 30))
    while True:
        await stream.write(bytes(60_000))


async def lies(stream: Any, question: Message) -> None:
    await stream.write(cids.varint(100) + b"\xff" * 100)


async def answers_something_else(stream: Any, question: Message) -> None:
    await say(stream, Message(type=Message.PING))


async def hangs_up(stream: Any, question: Message) -> None:
    await stream.reset()


@pytest.mark.parametrize("hostile", [floods, lies, answers_something_else, hangs_up])
async def test_a_hostile_server_costs_itself_its_place_and_others_are_asked(
    factory: Factory, tmp_path: Path, hostile: Answer
) -> None:
    async with joined(factory, tmp_path / "blocks", hostile, honest) as dht:
        await until(lambda: dht.servers == 1 and dht.counts.failed >= 1)
        assert await dht.find(CID) == []


async def test_providers_are_told_with_addresses_that_may_be_dialled(
    factory: Factory, tmp_path: Path
) -> None:
    peer = NodeKey.generate().peer_id

    async def knows(stream: Any, question: Message) -> None:
        answer = Message(type=question.type)
        if question.type == Message.GET_PROVIDERS:
            for address in ("/ip4/127.0.0.1/tcp/1", "/ip4/8.8.8.8/tcp/80", "/dns4/localhost/tcp/2"):
                answer.providerPeers.add(
                    id=ID.from_string(peer).to_bytes(), addrs=[Multiaddr(address).to_bytes()]
                )
        await say(stream, answer)

    async with joined(factory, tmp_path / "blocks", knows) as dht:
        [found] = await dht.find(CID)
        assert (str(found.id), found.addresses) == (peer, ("/ip4/127.0.0.1/tcp/1",))


async def test_silent_servers_hold_nobody_up_for_longer_than_a_deadline(
    factory: Factory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def silent(stream: Any, question: Message) -> None:
        await trio.sleep_forever()

    monkeypatch.setattr("decentraspace.network.dht.client._QUESTION", 0.5)
    async with joined(factory, tmp_path / "blocks", silent, honest) as dht:
        await until(lambda: dht.servers == 1 and dht.counts.failed >= 1)
        with trio.fail_after(30):
            assert await dht.find(CID) == []
