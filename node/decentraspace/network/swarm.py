"""The py-libp2p host as this node needs it: Noise and Yamux only, and bounded.

What version 0.8.1 does that a node on the open internet cannot live with, each put right here and held
by a test (tests/network/test_swarm.py):

- the slot of an inbound connection is given back only when the host stops, so that after `max_peers`
  connections ever nobody gets in
- a host that is cancelled leaves its sockets open, those that listen too; as they share the port, the
  next host would get only some of the connections
- it dials, by itself, whatever addresses peers say they have
- a peer that could not be reached once is not dialled again for a minute, whoever asks for it
- plaintext is offered beside Noise, so that a peer may claim any peer id
- a peer that ignores the receive window fills memory; windows grow to 16 MiB for each stream
- it gives peers more window than it takes in one frame, and cuts off those that use it (Helia does)
- the circuit breaker of its resource manager lets five refused connections close the door for a minute
- addresses that peers claim to have seen this node at are announced as its own
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import structlog
import trio
from libp2p import new_host
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.crypto.x25519 import create_new_key_pair as create_new_x25519_key_pair
from libp2p.custom_types import TProtocol
from libp2p.network.config import ConnectionConfig
from libp2p.network.connection.exceptions import RawConnError
from libp2p.network.exceptions import SwarmException
from libp2p.rcmgr import Direction
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE
from libp2p.security.noise.transport import Transport as NoiseTransport
from libp2p.stream_muxer.yamux import yamux
from multiaddr import Multiaddr

from decentraspace.identity.keys import NodeKey

log = structlog.get_logger(__name__)

_WINDOW = 512 * 1024  # bytes a peer may send on a stream before they are read; records are small
_BUFFER_MOST = _WINDOW + 256 * 1024
_STREAMS_OF_PEER = 16
_STREAMS_MOST = 1000
_HANDSHAKES, _HANDSHAKES_OF_ADDRESS = 256, 16  # under way at once
_HANDSHAKE_DEADLINE = 10.0  # seconds
_NEGOTIATE_DEADLINE = 10.0
_CLOSE_DEADLINE = 3.0

# What peers do wrong it reports as errors of its own, several lines each; what matters is logged here.
logging.getLogger("libp2p").setLevel(logging.CRITICAL)

# How the library is told: its stream class reads this when it enlarges a window.
yamux.MAX_WINDOW_SIZE = _WINDOW


async def _return_window(stream: Any, *, bytes_read: int = 0) -> None:
    """Let the peer send as much again as was read, once that is half a window."""
    async with stream.window_lock:
        buffered = len(stream.conn.stream_buffers.get(stream.stream_id, b""))
        free = _WINDOW - stream.recv_window - buffered
        if free < _WINDOW // 2:
            return
        stream.recv_window += free
    await stream.send_window_update(free)


yamux.YamuxStream._auto_tune_and_send_window_update = _return_window


@dataclass
class Refused:
    """Connections and streams of others that were refused because there were too many, since the start."""

    connections: int = 0
    streams: int = 0


def make_host(key: NodeKey, max_peers: int, refused: Refused | None = None) -> Any:
    """A host that does not listen yet. A quarter of `max_peers` is kept for connections this node makes.
    What it refuses is counted in `refused`."""
    refused = refused or Refused()
    pair = create_new_key_pair(key.private_bytes32())
    noise = NoiseTransport(pair, noise_privkey=create_new_x25519_key_pair().private_key)
    limits = _Streams(refused)
    host = new_host(
        key_pair=pair,
        sec_opt={NOISE: noise},
        muxer_opt={TProtocol(yamux.PROTOCOL_ID): yamux.Yamux},
        connection_config=ConnectionConfig(
            max_connections=max_peers,
            min_connections=0,
            low_watermark=0,
            high_watermark=max_peers,
            max_connections_per_peer=2,
            inbound_upgrade_timeout=_HANDSHAKE_DEADLINE,
            outbound_upgrade_timeout=_HANDSHAKE_DEADLINE,
            inbound_stream_protocol_negotiation_timeout=_NEGOTIATE_DEADLINE,
            outbound_stream_protocol_negotiation_timeout=_NEGOTIATE_DEADLINE,
        ),
        resource_manager=limits,
        disable_identify_address_discovery=True,
    )
    swarm = host.get_network()
    swarm.set_resource_manager(limits, enable_stream_semaphore=False)
    swarm._negative_peer_cache.mark_failed = lambda peer_id: None  # network/dialling.py waits as it sees fit
    _give_slots_back(swarm, max(1, max_peers - max_peers // 4), refused)
    _bound_buffers(swarm.upgrader.muxer_multistream)
    swarm.auto_connector.maybe_connect = trio.lowlevel.checkpoint  # network/dialling.py decides whom to dial
    return host


@asynccontextmanager
async def listening(host: Any, addresses: Sequence[Multiaddr]) -> AsyncIterator[None]:
    """Run the host; no socket of it is open afterwards."""
    async with host.run(listen_addrs=addresses):
        try:
            yield
        finally:
            with trio.CancelScope(deadline=trio.current_time() + _CLOSE_DEADLINE, shield=True):
                async with trio.open_nursery() as nursery:
                    for listener in list(host.get_network().listeners.values()):
                        nursery.start_soon(_close, listener)
                    for connection in list(connections(host)):
                        nursery.start_soon(_close, connection.muxed_conn.secured_conn)


def connections(host: Any) -> Iterator[Any]:
    for of_peer in list(host.get_network().connections.values()):
        yield from of_peer


def is_inbound(connection: Any) -> bool:
    return connection.direction is Direction.INBOUND


def remote_address(connection: Any) -> str:
    """IP address and port of the other end, or nothing when it is gone."""
    try:
        found = connection.muxed_conn.get_remote_address()
    except Exception:  # noqa: BLE001 - whatever the socket says once it is closed
        return ""
    if not found:
        return ""
    host, port = found[0], found[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


async def _close(thing: Any) -> None:
    try:
        await thing.close()
    except Exception as error:  # noqa: BLE001 - it is closed either way
        log.debug("close_failed", reason=repr(error))


def _give_slots_back(swarm: Any, most_inbound: int, refused: Refused) -> None:
    """Have the task of an inbound connection end with the connection, and so its slot be free again."""
    upgrade = swarm.upgrade_inbound_raw_conn
    # The library's limiter counts handshakes too; who may come in and stay is decided here.
    swarm._inbound_limiter = trio.CapacityLimiter(most_inbound + _HANDSHAKES)
    handshakes: Counter[str] = Counter()

    async def until_closed(raw_conn: Any, address: Any) -> None:
        inbound = sum(
            c.direction is Direction.INBOUND for of_peer in swarm.connections.values() for c in of_peer
        )
        remote = str((raw_conn.get_remote_address() or ("", 0))[0])
        if (
            inbound >= most_inbound
            or handshakes[remote] >= _HANDSHAKES_OF_ADDRESS
            or handshakes.total() >= _HANDSHAKES
        ):
            refused.connections += 1
            await raw_conn.close()
            raise SwarmException("There are as many inbound connections as there may be")
        handshakes[remote] += 1
        try:
            muxed = await upgrade(raw_conn, address)
        finally:
            handshakes[remote] -= 1
            if not handshakes[remote]:
                del handshakes[remote]
        await muxed.event_closed.wait()
        raise SwarmException("The connection has ended")

    swarm.upgrade_inbound_raw_conn = until_closed


class _Streams:
    """In place of the library's resource manager: bounds the streams that peers open."""

    graceful_degradation = None
    connection_lifecycle = None
    limits = SimpleNamespace(max_streams=_STREAMS_MOST)

    def __init__(self, refused: Refused) -> None:
        self._open: Counter[str] = Counter()
        self._refused = refused

    def open_connection(self, *_: object, **__: object) -> SimpleNamespace:
        return SimpleNamespace(close=lambda: None)

    def acquire_stream(self, peer_id: str, direction: Direction) -> bool:
        if direction is Direction.INBOUND and (
            self._open[peer_id] >= _STREAMS_OF_PEER or self._open.total() >= _STREAMS_MOST
        ):
            self._refused.streams += 1
            log.info("stream_refused", peer=peer_id, reason="it has opened too many")
            return False
        if direction is Direction.INBOUND:
            self._open[peer_id] += 1
        return True

    def release_stream(self, peer_id: str, direction: Direction) -> None:
        if direction is not Direction.INBOUND:
            return
        self._open[peer_id] -= 1
        if self._open[peer_id] <= 0:
            del self._open[peer_id]


class _Buffer(bytearray):
    def extend(self, data: Any) -> None:
        if len(self) + len(data) > _BUFFER_MOST:
            raise RawConnError("The peer sends more than the window it was given")
        super().extend(data)


class _Buffers(dict[int, bytearray]):
    def __setitem__(self, stream: int, data: bytearray) -> None:
        super().__setitem__(stream, _Buffer(data))


def _bound_buffers(muxers: Any) -> None:
    """Have what a peer sends beyond the window it was given fail at once instead of filling memory."""
    make = muxers.new_conn

    async def bounded(connection: Any, peer: Any) -> Any:
        muxed = await make(connection, peer)
        muxed.stream_buffers = _Buffers()  # before it reads: no stream is open yet
        return muxed

    muxers.new_conn = bounded
