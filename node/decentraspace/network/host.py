"""This node on libp2p: gossip of records, set exchange, and finding and keeping peers.

Network.run     one nursery: host, pubsub, set exchange, dialling, mDNS; restarted if libp2p fails
Network.publish gossips an envelope; what gossip loses, set exchange brings
"""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import structlog
import trio
from libp2p import new_host
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.custom_types import TProtocol
from libp2p.network.config import ConnectionConfig
from libp2p.peer.id import ID
from libp2p.peer.peerinfo import info_from_p2p_addr
from libp2p.pubsub.gossipsub import PROTOCOL_ID, PROTOCOL_ID_V11, GossipSub
from libp2p.pubsub.pubsub import Pubsub
from libp2p.tools.anyio_service import background_trio_service
from multiaddr import Multiaddr

from decentraspace.config import NetworkConfig
from decentraspace.errors import ConfigError, DecentraSpaceError
from decentraspace.identity.keys import NodeKey
from decentraspace.network import mdns, sync
from decentraspace.records.codec import MAX_ENVELOPE
from decentraspace.records.store import AddResult, RecordStore
from decentraspace.records.verdict import RecordRefused

if TYPE_CHECKING:
    from trio_typing import TaskStatus

log = structlog.get_logger(__name__)

_DIAL_DEADLINE = 10.0  # seconds
_DIAL_FIRST, _DIAL_MOST = 0.5, 60.0  # seconds between attempts to reach one address
_PEERS_WANTED = 8  # below this, announced nodes are dialled too
_RESTART_FIRST, _RESTART_MOST = 1.0, 60.0
_DISCOVERED_MOST = 200


@dataclass(frozen=True)
class PeerInfo:
    """A connected peer; `since` in Unix seconds."""

    peer_id: str
    since: float


@dataclass
class _Live:
    """What exists only while the host runs."""

    host: Any
    pubsub: Any
    nursery: trio.Nursery
    syncing: set[str] = field(default_factory=set)


class Network:
    """`on_accepted` is awaited, one at a time, for each new record that came from a peer."""

    def __init__(
        self,
        config: NetworkConfig,
        key: NodeKey,
        store: RecordStore,
        on_accepted: Callable[[AddResult], Awaitable[None]],
    ) -> None:
        self._config, self._key, self._store, self._on_accepted = config, key, store, on_accepted
        self.topic = f"/decentraspace/{config.name}/records/1"
        self._live: _Live | None = None
        self._since: dict[str, float] = {}
        self._joined = False  # a whole exchange has been done since this node started
        self._discovered: set[str] = set()
        self._accepted_send, self._accepted = trio.open_memory_channel[AddResult](1000)
        self.refused = 0

    # -- questions

    def peers(self) -> list[PeerInfo]:
        if self._live is None:
            return []
        ids = [str(peer) for peer in self._live.host.get_connected_peers()]
        return [PeerInfo(peer, self._since.get(peer, time.time())) for peer in ids]

    def addresses(self) -> list[str]:
        """Where others reach this node, each ending in /p2p/PEERID."""
        suffix = f"/p2p/{self._key.peer_id}"
        if self._config.announce:
            own = list(self._config.announce)
        elif self._live is None:
            return []
        else:
            own = [str(address) for address in self._live.host.get_addrs()]
        return [a if a.endswith(suffix) else a + suffix for a in own]

    # -- running

    async def run(self, *, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until cancelled. Started when listening; ConfigError when an address cannot be listened on."""
        for address in self._config.listen:
            _check_free(address)
        started = False

        class Status:
            def started(self, value: object = None) -> None:
                nonlocal started
                if not started:
                    started = True
                    task_status.started()

        delay = _RESTART_FIRST
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._hand_on)
            while True:
                try:
                    await self._run_host(Status())
                except* Exception as group:  # whatever libp2p throws must not take the node down
                    if not started:
                        raise
                    log.error("libp2p_failed", reason=repr(group.exceptions[0]), restart_in=delay)
                finally:
                    self._live = None
                await trio.sleep(delay)
                delay = min(delay * 2, _RESTART_MOST)

    async def _run_host(self, status: Any) -> None:
        host = new_host(
            key_pair=create_new_key_pair(self._key.private_bytes32()),
            muxer_preference="YAMUX",
            connection_config=ConnectionConfig(
                max_connections=self._config.max_peers,
                min_connections=0,
                low_watermark=0,
                high_watermark=self._config.max_peers,
            ),
        )
        gossip = GossipSub(
            protocols=[PROTOCOL_ID_V11, PROTOCOL_ID],
            degree=6,
            degree_low=4,
            degree_high=12,
            heartbeat_interval=1,
            max_messages_per_topic_per_second=1000.0,
            # Several nodes behind one address are usual in a small network.
            eclipse_protection_enabled=False,
        )
        # A record carries its own signatures, so a message needs none; equal records are one message.
        pubsub = Pubsub(
            host,
            gossip,
            strict_signing=False,
            msg_id_constructor=lambda message: bytes(message.data),
            max_inbound_rpc_size=1 << 20,
        )
        addresses = [Multiaddr(a) for a in self._config.listen]
        async with (
            host.run(listen_addrs=addresses),
            background_trio_service(pubsub),
            background_trio_service(gossip),
            trio.open_nursery() as nursery,
        ):
            await pubsub.wait_until_ready()
            self._live = _Live(host, pubsub, nursery)
            host.set_stream_handler(TProtocol(sync.PROTOCOL), self._on_sync_stream)
            pubsub.set_topic_validator(self.topic, self._validate, True)
            subscription = await pubsub.subscribe(self.topic)
            nursery.start_soon(self._drain, subscription)
            nursery.start_soon(self._sync_loop)
            for address in self._config.bootstrap:
                nursery.start_soon(self._keep, address)
            nursery.start_soon(self._fill_up)
            if self._config.mdns:
                nursery.start_soon(self._discover)
            status.started()

    async def publish(self, envelope: bytes) -> None:
        """Gossip; best effort. What is lost comes by set exchange."""
        if self._live is None:
            return
        try:
            with trio.move_on_after(_DIAL_DEADLINE):
                await self._live.pubsub.publish(self.topic, envelope)
        except Exception as error:  # noqa: BLE001 - libp2p raises many things when peers vanish meanwhile
            log.warning("gossip_failed", reason=repr(error))

    # -- gossip

    async def _validate(self, sender: ID, message: Any) -> bool:
        """Store what is valid; only that is passed on."""
        data = bytes(message.data)
        if len(data) > MAX_ENVELOPE:
            return False
        now = int(time.time())
        try:
            result = await trio.to_thread.run_sync(lambda: self._store.add(data, now=now))
        except RecordRefused as error:
            self.refused += 1
            log.info("record_refused", peer=str(sender), reason=error.problem_slug, detail=str(error))
            return False
        if result.status == "accepted":
            await self._accepted_send.send(result)
        return result.status != "stale"

    async def _drain(self, subscription: Any) -> None:
        # The validator has done the work; an unread subscription would fill up.
        while True:
            await subscription.get()

    async def _hand_on(self) -> None:
        async for result in self._accepted:
            try:
                await self._on_accepted(result)
            except DecentraSpaceError as error:
                log.error("record_not_handled", reason=str(error))

    # -- set exchange

    async def _sync_loop(self) -> None:
        """Exchange with each peer when it connects and then every `sync_interval`."""
        last: dict[str, float] = {}
        while True:
            live = self._live
            if live is None:
                return
            connected = {str(peer): peer for peer in live.host.get_connected_peers()}
            self._since = {p: self._since.get(p, time.time()) for p in connected}
            last = {p: t for p, t in last.items() if p in connected}
            for name, peer in connected.items():
                # One of the two begins; the exchange goes both ways.
                if name > self._key.peer_id or name in live.syncing:
                    continue
                if trio.current_time() - last.get(name, float("-inf")) >= self._config.sync_interval:
                    last[name] = trio.current_time()
                    live.syncing.add(name)
                    live.nursery.start_soon(self._sync_with, peer)
            await trio.sleep(0.2)

    async def _sync_with(self, peer: ID) -> None:
        live = self._live
        if live is None:
            return
        stream = None
        try:
            with trio.fail_after(sync.EXCHANGE_DEADLINE):
                with trio.fail_after(_DIAL_DEADLINE):
                    stream = await live.host.new_stream(peer, [TProtocol(sync.PROTOCOL)])
                result = await sync.initiate(
                    stream, self._store, self._accepted_send.send, joining=not self._joined
                )
                self._joined = True
                if result.received or result.sent:
                    log.info("records_exchanged", peer=str(peer), received=result.received, sent=result.sent)
        except Exception as error:  # noqa: BLE001 - a peer's failure, of whatever kind, is no failure of this node
            log.info("exchange_failed", peer=str(peer), reason=repr(error))
        finally:
            live.syncing.discard(str(peer))
            await _finish(stream)

    async def _on_sync_stream(self, stream: Any) -> None:
        try:
            with trio.fail_after(sync.EXCHANGE_DEADLINE):
                await sync.respond(stream, self._store, self._accepted_send.send)
                self._joined = True
        except Exception as error:  # noqa: BLE001 - as above: the peer's failure
            log.info("exchange_failed", reason=repr(error))
        finally:
            await _finish(stream)

    # -- finding peers

    async def _keep(self, address: str) -> None:
        """Stay connected to a bootstrap address."""
        delay = _DIAL_FIRST
        while True:
            if await self._dial(address):
                delay = _DIAL_FIRST
            else:
                delay = min(delay * 2, _DIAL_MOST)
            await trio.sleep(delay * random.uniform(0.8, 1.2))  # noqa: S311 - jitter

    async def _fill_up(self) -> None:
        """While peers are few, try nodes that were announced or discovered."""
        while True:
            await trio.sleep(random.uniform(1.0, 3.0))  # noqa: S311 - jitter
            if len(self.peers()) >= _PEERS_WANTED:
                continue
            nodes = await trio.to_thread.run_sync(self._store.nodes, int(time.time()))
            announced = [a for n in nodes if n.key != self._key.public for a in n.body.addrs]
            candidates = [*self._discovered, *announced]
            if candidates:
                await self._dial(random.choice(candidates))  # noqa: S311 - no secret

    async def _dial(self, address: str) -> bool:
        """Whether this node is connected to that address's peer afterwards."""
        live = self._live
        if live is None:
            return False
        try:
            info = info_from_p2p_addr(Multiaddr(address))
            if str(info.peer_id) == self._key.peer_id:
                return False
            if info.peer_id in live.host.get_connected_peers():
                return True
            with trio.fail_after(_DIAL_DEADLINE):
                await live.host.connect(info)
        except Exception as error:  # noqa: BLE001 - a peer that cannot be reached is nothing unusual
            log.debug("dial_failed", address=address, reason=repr(error))
            return False
        return True

    async def _discover(self) -> None:
        token = trio.lowlevel.current_trio_token()

        def found(address: str) -> None:
            def note() -> None:
                if len(self._discovered) < _DISCOVERED_MOST:
                    self._discovered.add(address)

            try:
                token.run_sync_soon(note)
            except trio.RunFinishedError:
                return

        watch = mdns.discover(self.addresses(), found)
        await trio.to_thread.run_sync(watch.__enter__)
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 5):
                await trio.to_thread.run_sync(watch.__exit__, None, None, None)


async def _finish(stream: Any) -> None:
    if stream is None:
        return
    with trio.CancelScope(deadline=trio.current_time() + 2, shield=True):
        try:
            await stream.close()
        except Exception as error:  # noqa: BLE001 - it is gone either way
            log.debug("stream_close_failed", reason=repr(error))


def _check_free(address: str) -> None:
    """ConfigError where libp2p would only log that it cannot listen."""
    try:
        parts = Multiaddr(address)
        host = parts.value_for_protocol("ip4") if "/ip4/" in address else parts.value_for_protocol("ip6")
        port = int(parts.value_for_protocol("tcp") or 0)
    except Exception as error:
        raise ConfigError(
            f"network.listen: {address!r} is not an address like /ip4/0.0.0.0/tcp/4001"
        ) from error
    family = socket.AF_INET if "/ip4/" in address else socket.AF_INET6
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ConfigError(
                f"network.listen: cannot listen on {address}: {error.strerror}",
                hint="Stop what uses the port, or name another in network.listen.",
            ) from error
