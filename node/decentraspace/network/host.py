"""This node on libp2p: gossip of records, set exchange, and keeping peers.

Network.run     one nursery: host, gossip, set exchange, dialling, mDNS; restarted if libp2p fails
Network.publish gossips an envelope; what gossip loses, set exchange brings
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import structlog
import trio
from libp2p.peer.id import ID
from libp2p.tools.anyio_service import background_trio_service
from multiaddr import Multiaddr

from decentraspace import ports
from decentraspace.config import NetworkConfig
from decentraspace.errors import ConfigError, innermost
from decentraspace.identity.keys import NodeKey
from decentraspace.network import mdns, sync
from decentraspace.network.bitswap.service import Bitswap
from decentraspace.network.dht.client import Dht
from decentraspace.network.dht.wire import Mode
from decentraspace.network.dialling import Dialler
from decentraspace.network.gossip import RecordPubsub
from decentraspace.network.guests import Guests
from decentraspace.network.handover import Handover
from decentraspace.network.reachable import Reachability
from decentraspace.network.rounds import Rounds
from decentraspace.network.swarm import (
    Refused,
    connections,
    is_inbound,
    listening,
    make_host,
    remote_address,
)
from decentraspace.records.store import AddResult, RecordStore
from decentraspace.records.verdict import RecordRefused

if TYPE_CHECKING:
    from trio_typing import TaskStatus

log = structlog.get_logger(__name__)

_PUBLISH_DEADLINE = 10.0  # seconds
_STREAM_DEADLINE = 10.0
_RESTART_FIRST, _RESTART_MOST = 1.0, 60.0  # seconds between starts of a host that fails
_RESTART_FORGOTTEN = 300.0  # a host that ran this long has not failed at once
_STORE_THREADS = 2
_HANDED_MOST = 1000  # accepted records that wait for the rest of the node


@dataclass(frozen=True)
class PeerInfo:
    """A connected peer; `since` in Unix seconds, `addresses` as IP address and port."""

    peer_id: str
    since: float
    addresses: tuple[str, ...] = ()


@dataclass
class _Live:
    """What exists only while the host runs."""

    host: Any
    pubsub: RecordPubsub
    nursery: trio.Nursery
    guests: Guests


class Network:
    """`on_accepted` is awaited with new records that came from peers, in order, as many at once as wait."""

    def __init__(
        self,
        config: NetworkConfig,
        key: NodeKey,
        store: RecordStore,
        on_accepted: Callable[[Sequence[AddResult]], Awaitable[None]],
        bitswap: Bitswap | None = None,
    ) -> None:
        self.bitswap = bitswap
        self._config, self._key, self._store, self._on_accepted = config, key, store, on_accepted
        self.topic = f"/decentraspace/{config.name}/records/1"
        self._live: _Live | None = None
        self._handover = Handover(_HANDED_MOST)
        self.rounds = Rounds(config, key.peer_id, store, self._handover.put, self._cut_off, self._blame)
        self._threads = trio.CapacityLimiter(_STORE_THREADS)  # leave the others to the rest of the node
        self.refused = self.faults = self.cut_off = 0
        self.turned_away = Refused()
        # IPFS peers that do not count: those the operator named, and the DHT's while it asks them.
        self._kept = {address.rpartition("/")[2] for address in config.ipfs_peers}
        self.dht = self._make_dht()
        self.reachability = Reachability(key.peer_id, self.addresses, config.allow_private)

    def _make_dht(self) -> Dht | None:
        if self._config.dht == "off" or self.bitswap is None:
            return None
        mode: Mode = "lan" if self._config.dht == "lan" else "wan"
        return Dht(mode, self._key.peer_id, self.addresses, self._kept, self._config.max_peers)

    # -- questions

    def peers(self) -> list[PeerInfo]:
        if self._live is None:
            return []
        found: dict[str, list[str]] = {}
        for connection in connections(self._live.host):
            found.setdefault(str(connection.muxed_conn.peer_id), []).append(remote_address(connection))
        now = time.time()
        return [PeerInfo(p, self.rounds.since.get(p, now), tuple(filter(None, a))) for p, a in found.items()]

    def gossip_peers(self) -> tuple[int, int]:
        """(peers to which others' records are passed on, peers that take the topic)."""
        live = self._live
        if live is None:
            return 0, 0
        pubsub = live.pubsub
        return len(pubsub.router.mesh.get(self.topic, ())), len(pubsub.peer_topics.get(self.topic, ()))

    @property
    def max_peers(self) -> int:
        return self._config.max_peers

    def guest_count(self) -> int:
        """Connected peers that are no nodes of this network."""
        live = self._live  # which may end meanwhile: metrics are read in a thread
        return sum(live.guests.has(p) for p in live.host.get_connected_peers()) if live is not None else 0

    def connection_counts(self) -> tuple[int, int]:
        """(made by others, made by this node)."""
        live = self._live
        inbound = [is_inbound(c) for c in connections(live.host)] if live is not None else []
        return sum(inbound), len(inbound) - sum(inbound)

    def gossip_dropped(self) -> int:
        """Messages of peers that sent more than they may; set exchange brings what matters."""
        live = self._live
        return live.pubsub.dropped if live is not None else 0

    def unhandled(self) -> int:
        """Accepted records that the rest of the node has not looked at yet; peers wait beyond a thousand."""
        return len(self._handover)

    def is_guest(self, peer_id: str) -> bool:
        """Whether a connected peer is no node of this network."""
        return self._live is not None and self._live.guests.has(ID.from_base58(peer_id))

    def addresses(self) -> list[str]:
        """Where others reach this node, each ending in /p2p/PEERID."""
        suffix = f"/p2p/{self._key.peer_id}"
        if self._config.announce:
            own = list(self._config.announce)
        elif self._live is None:
            return []
        else:
            own = _reachable([str(a) for a in self._live.host.get_transport_addrs()])
        return [a if a.endswith(suffix) else a + suffix for a in own]

    # -- running

    async def run(self, *, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until cancelled. Started when listening; ConfigError when an address cannot be listened on."""
        for address in self._config.listen:
            _check_free(address)
        started = False

        def say_started() -> None:
            nonlocal started
            if not started:
                started = True
                task_status.started()

        delay = _RESTART_FIRST
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._hand_on)
            while True:
                begin = trio.current_time()
                try:
                    await self._run_host(say_started)
                except* Exception as group:  # whatever libp2p throws must not take the node down
                    if not started:
                        raise
                    if trio.current_time() - begin > _RESTART_FORGOTTEN:
                        delay = _RESTART_FIRST
                    log.error("libp2p_failed", reason=repr(innermost(group)), restart_in=delay)
                finally:
                    self._live = None
                await trio.sleep(delay)
                delay = min(delay * 2, _RESTART_MOST)

    async def _run_host(self, started: Callable[[], None]) -> None:
        host = make_host(self._key, self._config.max_peers, self.turned_away)
        pubsub = RecordPubsub(host, self.topic, self._validate, self._cut_off)
        host.set_stream_handler(self.rounds.protocol, self.rounds.answer)
        self.reachability.register(host)
        if self.bitswap is not None:
            self.bitswap.register(host)
        addresses = [Multiaddr(a) for a in self._config.listen]
        async with (
            listening(host, addresses),
            background_trio_service(pubsub) as gossip_service,
            background_trio_service(pubsub.router) as router_service,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(_must_not_end, gossip_service, "gossip")
            nursery.start_soon(_must_not_end, router_service, "the gossip router")
            await pubsub.wait_until_ready()
            guests_most = min(self._config.max_ipfs_peers, max(3, self._config.max_peers // 2))
            guests = Guests(host, str(self.rounds.protocol), guests_most, self._kept)
            self._live = _Live(host, pubsub, nursery, guests)
            await pubsub.subscribe(self.topic)
            nursery.start_soon(self.rounds.run, host, guests)
            nursery.start_soon(guests.run, partial(_disconnect, host))
            if self.bitswap is not None:
                nursery.start_soon(self.bitswap.run, host, self._cut_off)
            if self.dht is not None:
                nursery.start_soon(self.dht.run, host)
            nursery.start_soon(self.reachability.run, host)
            dialler = Dialler(
                self._config, self._key.peer_id, host, self._announced_addresses, guests.members
            )
            nursery.start_soon(dialler.run, self.addresses())
            started()

    async def publish(self, envelope: bytes) -> None:
        """Gossip; best effort. What is lost comes by set exchange."""
        if self._live is None:
            return
        try:
            with trio.move_on_after(_PUBLISH_DEADLINE):
                await self._live.pubsub.publish(self.topic, envelope)
        except Exception as error:  # noqa: BLE001 - libp2p raises many things when peers vanish meanwhile
            log.warning("gossip_failed", reason=repr(error))

    async def _announced_addresses(self) -> list[str]:
        nodes = await trio.to_thread.run_sync(self._store.nodes, int(time.time()))
        return [a for n in nodes if n.key != self._key.public for a in n.body.addrs]

    # -- gossip

    async def _validate(self, sender: ID, data: bytes) -> bool:
        """Store what is valid; only that is passed on."""
        now = int(time.time())
        try:
            result = await trio.to_thread.run_sync(
                lambda: self._store.add(data, now=now), limiter=self._threads
            )
        except RecordRefused as error:
            self.refused += 1
            log.info("record_refused", peer=str(sender), reason=error.problem_slug, detail=str(error))
            if sync.is_fault(error):
                self._blame(sender)
            return False
        except Exception:  # the disk is full, or the like: the peer is not to blame, and others come
            log.exception("record_not_stored")
            return False
        if result.status == "accepted":
            await self._handover.put([result])
        return result.status != "stale"

    async def _hand_on(self) -> None:
        while True:
            results = await self._handover.take()
            try:
                await self._on_accepted(results)
            except Exception:  # what cannot be handled must not stop what comes after it
                log.exception("records_not_handled", count=len(results))

    def _blame(self, peer: ID) -> None:
        """A peer has done what honest ones seldom do; if it goes on, its connection ends."""
        self.faults += 1
        if self._live is not None:
            self._live.pubsub.fault(peer)

    def _cut_off(self, peer: ID, reason: str) -> None:
        """A peer has broken the rules: its connection ends."""
        self.cut_off += 1
        log.warning("peer_cut_off", peer=str(peer), reason=reason)
        if self._live is not None:
            self._live.nursery.start_soon(_disconnect, self._live.host, peer)


async def _must_not_end(service: Any, name: str) -> None:
    await service.wait_finished()
    raise RuntimeError(f"libp2p has stopped {name} by itself")


async def _disconnect(host: Any, peer: ID) -> None:
    try:
        with trio.move_on_after(_STREAM_DEADLINE):
            await host.disconnect(peer)
    except Exception as error:  # noqa: BLE001 - it is gone, or will be
        log.debug("disconnect_failed", peer=str(peer), reason=repr(error))


def _reachable(listened: list[str]) -> list[str]:
    """Addresses to tell others; one that stands for all interfaces becomes those there are."""
    result: list[str] = []
    for address in listened:
        if address.startswith("/ip4/0.0.0.0/"):
            own = sorted(set(mdns.own_addresses()), key=lambda a: (a.startswith("127."), a))
            result.extend(address.replace("0.0.0.0", ip, 1) for ip in own)  # noqa: S104 - not bound here
        else:
            result.append(address)
    # A loopback address means something only where there is no other.
    return [a for a in result if "/ip4/127." not in a] or result


def _check_free(address: str) -> None:
    """ConfigError where libp2p would only log that it cannot listen."""
    try:
        parts = Multiaddr(address)
        host = parts.value_for_protocol("ip4") if "/ip4/" in address else parts.value_for_protocol("ip6")
        port = int(parts.value_for_protocol("tcp") or 0)
    except Exception as error:  # multiaddr raises a dozen kinds
        raise ConfigError(
            f"network.listen: {address!r} is not an address like /ip4/0.0.0.0/tcp/4001"
        ) from error
    ports.check_free(host, port, f"network.listen: cannot listen on {address}", "network.listen")
