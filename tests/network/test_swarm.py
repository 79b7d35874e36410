"""What py-libp2p gets wrong for a node on the open internet, and network/swarm.py puts right."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
import trio
import trio.testing
from libp2p import generate_new_rsa_identity, new_host
from libp2p.custom_types import TProtocol
from libp2p.host.exceptions import StreamFailure
from libp2p.network.exceptions import SwarmException
from libp2p.peer.id import ID
from libp2p.peer.peerinfo import info_from_p2p_addr
from libp2p.security.insecure.transport import PLAINTEXT_PROTOCOL_ID, InsecureTransport
from multiaddr import Multiaddr

from decentraspace.identity.keys import NodeKey
from decentraspace.network import frames, swarm
from decentraspace.network.swarm import connections, listening, make_host
from tests.network.peers import Factory, running, stranger, until
from tests.support import free_port

LOOPBACK = Multiaddr("/ip4/127.0.0.1/tcp/0")


async def test_connections_that_ended_make_room_for_others(factory: Factory) -> None:
    peer = factory.make(max_peers=4)  # three of them inbound
    async with running(peer):
        for _ in range(8):
            async with stranger(peer):
                await until(lambda: len(peer.connected()) == 1)
            await until(lambda: not peer.connected())


async def test_a_share_of_the_connections_is_kept_for_those_this_node_makes(factory: Factory) -> None:
    wanted = factory.make()
    async with running(wanted):
        peer = factory.make(max_peers=4)
        async with (
            running(peer),
            stranger(peer),
            stranger(peer),
            stranger(peer),
            stranger(peer, connect=False) as fourth,
        ):
            await until(lambda: len(peer.connected()) == 3)
            with pytest.raises((SwarmException, ExceptionGroup)):
                await fourth.connect(info_from_p2p_addr(Multiaddr(peer.address)))
            assert peer.network.turned_away.connections >= 1
            assert peer.network._live is not None
            await peer.network._live.host.connect(info_from_p2p_addr(Multiaddr(wanted.address)))
            assert wanted.key.peer_id in peer.connected()
            assert peer.network.connection_counts() == (3, 1)


async def test_silent_connections_do_not_keep_peers_out(factory: Factory) -> None:
    """Sockets from one address that never shake hands fill only that address's share."""
    peer = factory.make(max_peers=4)
    async with running(peer):
        port = int(peer.address.split("/")[4])
        async with trio.open_nursery() as nursery:
            silent = [await trio.open_tcp_stream("127.0.0.1", port) for _ in range(40)]
            for stream in silent[swarm._HANDSHAKES_OF_ADDRESS :]:
                with trio.fail_after(10), suppress(trio.BrokenResourceError):
                    while await stream.receive_some():
                        pass
            for stream in silent:
                nursery.start_soon(stream.aclose)
        async with stranger(peer):
            await until(lambda: len(peer.connected()) == 1)


async def test_plaintext_is_not_spoken(factory: Factory) -> None:
    """A peer could claim any id."""
    peer = factory.make()
    key = generate_new_rsa_identity()
    plain = {TProtocol(PLAINTEXT_PROTOCOL_ID): InsecureTransport(key)}
    async with running(peer):
        host = new_host(key_pair=key, sec_opt=plain)
        async with listening(host, [LOOPBACK]):
            with pytest.raises((SwarmException, ExceptionGroup)):
                await host.connect(info_from_p2p_addr(Multiaddr(peer.address)))
        assert not peer.connected()


async def test_a_peer_that_ignores_the_window_does_not_fill_memory() -> None:
    async def reads_nothing(stream: Any) -> None:
        await trio.sleep_forever()

    server, client = make_host(NodeKey.generate(), 4), make_host(NodeKey.generate(), 4)
    server.set_stream_handler(TProtocol("/test/1"), reads_nothing)
    async with listening(server, [LOOPBACK]), listening(client, [LOOPBACK]):
        await client.connect(info_from_p2p_addr(server.get_addrs()[0]))
        stream = await client.new_stream(server.get_id(), [TProtocol("/test/1")])
        for _ in range(40):
            stream.muxed_stream.send_window = 1 << 30  # takes what it was not given
            with suppress(Exception):
                await stream.write(bytes(1 << 18))
        muxed = [c.muxed_conn for c in connections(server)]
        await until(lambda: any(buffer for m in muxed for buffer in m.stream_buffers.values()))
        assert all(len(buffer) <= swarm._BUFFER_MOST for m in muxed for buffer in m.stream_buffers.values())
        # Others are not disturbed.
        assert await client.new_stream(server.get_id(), [TProtocol("/test/1")])


async def test_a_reader_that_is_slow_does_not_lose_the_stream() -> None:
    """It takes longer than py-libp2p waits for room, as a slow disk does."""
    received: list[int] = []
    read = trio.Event()

    async def reads_later(stream: Any) -> None:
        await read.wait()
        for _ in range(8):
            message, _ = await frames.receive(stream)
            received.append(len(message["x"]))

    server, client = make_host(NodeKey.generate(), 4), make_host(NodeKey.generate(), 4)
    server.set_stream_handler(TProtocol("/test/1"), reads_later)
    async with listening(server, [LOOPBACK]), listening(client, [LOOPBACK]):
        await client.connect(info_from_p2p_addr(server.get_addrs()[0]))
        stream = await client.new_stream(server.get_id(), [TProtocol("/test/1")])
        begin = trio.current_time()
        async with trio.open_nursery() as nursery:

            async def send() -> None:
                for _ in range(8):
                    await frames.send(stream, {"x": bytes(100_000)})

            nursery.start_soon(send)
            await until(lambda: trio.current_time() - begin > 6)
            read.set()
        await until(lambda: received == [100_000] * 8)


async def test_the_streams_of_a_peer_are_bounded() -> None:
    started = 0

    async def reads_nothing(stream: Any) -> None:
        nonlocal started
        started += 1
        await trio.sleep_forever()

    counted = swarm.Refused()
    server, client = make_host(NodeKey.generate(), 4, counted), make_host(NodeKey.generate(), 4)
    server.set_stream_handler(TProtocol("/test/1"), reads_nothing)
    async with listening(server, [LOOPBACK]), listening(client, [LOOPBACK]):
        await client.connect(info_from_p2p_addr(server.get_addrs()[0]))
        refused = 0
        for _ in range(swarm._STREAMS_OF_PEER + 10):
            try:
                with trio.fail_after(10):
                    await client.new_stream(server.get_id(), [TProtocol("/test/1")])
            except StreamFailure:
                refused += 1
        assert refused >= 10
        assert counted.streams >= refused
        assert started <= swarm._STREAMS_OF_PEER


async def test_a_cancelled_host_frees_its_port() -> None:
    host = make_host(NodeKey.generate(), 4)
    with trio.CancelScope() as scope:
        async with listening(host, [LOOPBACK]):
            port = int(host.get_transport_addrs()[0].value_for_protocol("tcp"))
            scope.cancel()
            await trio.sleep_forever()
    with trio.socket.socket() as probe:
        await probe.bind(("127.0.0.1", port))


async def test_addresses_that_others_claim_are_not_dialled_unasked(factory: Factory) -> None:
    peer = factory.make()
    asked = []
    async with running(peer):
        listener = await trio.open_tcp_listeners(0, host="127.0.0.1")

        async def note(stream: trio.SocketStream) -> None:
            asked.append(stream)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, note, listener)
            assert peer.network._live is not None
            host = peer.network._live.host
            victim = Multiaddr(f"/ip4/127.0.0.1/tcp/{listener[0].socket.getsockname()[1]}")
            host.get_peerstore().add_addrs(ID.from_string(NodeKey.generate().peer_id), [victim], 600)
            await host.get_network().auto_connector.maybe_connect()
            for _ in range(20):
                await trio.testing.wait_all_tasks_blocked(0.01)
            nursery.cancel_scope.cancel()
    assert not asked


async def test_a_peer_is_never_given_more_window_than_one_frame_may_fill() -> None:
    """Who has a window may fill it with one frame, and the library cuts off who sends a larger frame."""
    server, client = (make_host(NodeKey.generate(), 4) for _ in range(2))
    size = 2_000_000

    async def read(stream: Any) -> None:
        total = 0
        while total < size:
            total += len(await stream.read(1000))
        await stream.write(b"!")

    server.set_stream_handler(TProtocol("/test/1"), read)
    async with listening(server, [LOOPBACK]), listening(client, [LOOPBACK]):
        await client.connect(info_from_p2p_addr(server.get_addrs()[0]))
        stream = await client.new_stream(server.get_id(), [TProtocol("/test/1")])
        with trio.fail_after(30):
            await stream.write(bytes(size))
            assert await stream.read(1) == b"!"
        assert swarm._WINDOW // 2 <= stream.muxed_stream.send_window <= swarm._WINDOW


async def test_a_peer_that_was_not_there_is_reached_as_soon_as_it_is() -> None:
    """Who is started a moment before its bootstrap peer must not be alone for a minute."""
    early, late = (make_host(NodeKey.generate(), 4) for _ in range(2))
    async with listening(early, [LOOPBACK]):
        address = Multiaddr(f"/ip4/127.0.0.1/tcp/{free_port()}")
        info = info_from_p2p_addr(address.encapsulate(Multiaddr(f"/p2p/{late.get_id()}")))
        with pytest.raises(SwarmException):
            await early.connect(info)
        async with listening(late, [address]):
            await early.connect(info)
            assert late.get_id() in early.get_connected_peers()
