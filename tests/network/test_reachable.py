"""Whether a node learns that others can connect to it, or cannot, and what it refuses to try for others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio
from libp2p.host.autonat.pb.autonat_pb2 import Message
from libp2p.peer.id import ID
from libp2p.utils.varint import encode_varint_prefixed, read_varint_prefixed_bytes_limited
from multiaddr import Multiaddr

from decentraspace.network.reachable import PROTOCOL
from tests.network.peers import Factory, Peer, running, stranger, until
from tests.support import free_port


@pytest.fixture
def factory(tmp_path: Path) -> Any:
    made = Factory(tmp_path)
    yield made
    made.close()


async def test_a_node_that_others_can_connect_to_learns_so(factory: Factory) -> None:
    first, second = factory.make(), factory.make()
    async with running(first, second):
        third = factory.make(bootstrap=(first.address, second.address))
        async with running(third):
            await until(lambda: third.network.reachability.answers() == (2, 0))
            assert third.network.reachability.verdict == "yes"


async def test_a_node_behind_a_closed_door_learns_so(factory: Factory) -> None:
    """It listens, but says that it is elsewhere, where nobody is: as behind a router that forwards nothing."""
    first, second = factory.make(), factory.make()
    async with running(first, second):
        third = factory.make(
            bootstrap=(first.address, second.address), announce=(f"/ip4/127.0.0.1/tcp/{free_port()}",)
        )
        async with running(third):
            await until(lambda: third.network.reachability.answers() == (0, 2))
            assert third.network.reachability.verdict == "no"


async def test_another_node_at_that_address_does_not_count(factory: Factory) -> None:
    first, second = factory.make(), factory.make()
    async with running(first, second):
        elsewhere = second.address.partition("/p2p/")[0]
        third = factory.make(bootstrap=(first.address,), announce=(elsewhere,))
        async with running(third):
            await until(lambda: third.network.reachability.answers() == (0, 1))


async def asked(host: Any, target: Peer, peer: bytes, *addresses: str) -> int:
    """The status that a node answers with."""
    message = Message(type=Message.DIAL)
    message.dial.peer.id = peer
    message.dial.peer.addrs.extend(Multiaddr(a).to_bytes() for a in addresses)
    with trio.fail_after(30):
        stream = await host.new_stream(ID.from_string(target.key.peer_id), [PROTOCOL])
        await stream.write(encode_varint_prefixed(message.SerializeToString()))
        answer = Message()
        answer.ParseFromString(await read_varint_prefixed_bytes_limited(stream, 8192))
    return int(answer.dialResponse.status)


async def test_nobody_is_tried_but_the_asker_where_it_is_seen(factory: Factory) -> None:
    peer = factory.make()
    knocked = 0

    async def door(stream: trio.SocketStream) -> None:
        nonlocal knocked
        knocked += 1
        await stream.aclose()

    async with trio.open_nursery() as nursery:
        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.2")
        nursery.start_soon(trio.serve_listeners, door, [listener])
        port = listener.socket.getsockname()[1]
        async with running(peer):
            for addresses in (
                [f"/ip4/127.0.0.2/tcp/{port}"],
                [f"/ip4/127.0.0.2/tcp/{port}/p2p/{peer.key.peer_id}"],
                ["/dns4/localhost/tcp/80"],
                [],
            ):
                async with stranger(peer) as host:
                    own = host.get_id().to_bytes()
                    assert await asked(host, peer, own, *addresses) == Message.E_DIAL_REFUSED
            async with stranger(peer) as host:
                other = ID.from_string(peer.key.peer_id).to_bytes()
                status = await asked(host, peer, other, str(host.get_transport_addrs()[0]))
                assert status == Message.E_BAD_REQUEST
        assert knocked == 0
        nursery.cancel_scope.cancel()


async def test_a_peer_is_tried_for_once_in_a_while(factory: Factory) -> None:
    peer = factory.make()
    async with running(peer), stranger(peer) as host:
        own, address = host.get_id().to_bytes(), str(host.get_transport_addrs()[0])
        assert await asked(host, peer, own, address) == Message.OK
        assert await asked(host, peer, own, address) == Message.E_DIAL_REFUSED


async def test_private_addresses_are_not_tried_on_the_internet(factory: Factory) -> None:
    peer = factory.make(allow_private=False)
    async with running(peer), stranger(peer) as host:
        own, address = host.get_id().to_bytes(), str(host.get_transport_addrs()[0])
        assert await asked(host, peer, own, address) == Message.E_DIAL_REFUSED


async def test_one_peer_cannot_decide_against_others(factory: Factory) -> None:
    reachability = factory.make().network.reachability
    ids = [ID(bytes([0, 36]) + bytes([n]) * 36) for n in range(4)]
    reachability._answers.update({ids[0]: False})
    assert reachability.verdict == "no"
    reachability._answers.update({ids[1]: True})
    assert reachability.verdict == "unknown"
    reachability._answers.update({ids[2]: True, ids[3]: True})
    assert reachability.verdict == "yes"
