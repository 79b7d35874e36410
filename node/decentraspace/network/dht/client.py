"""A client of the DHT: it asks its servers, stores with them, and answers nobody.

    Dht.run       while a libp2p host runs: know some servers at every distance
    Dht.provide   have the servers nearest to a CID say that this node has it; those that confirm are counted
    Dht.publish   have them keep an IPNS record
    Dht.find      who is said to have a CID

py-libp2p has a DHT, and its messages are used. The rest of it a node on the open internet cannot live with:
it dials whatever address strangers name, keeps the connections, asks also peers that do not speak the
protocol, speaks only one of the two there are, and says that a record was stored once it was sent.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import structlog
import trio
from libp2p.custom_types import TProtocol
from libp2p.kad_dht.pb.kademlia_pb2 import Message
from libp2p.network.exceptions import SwarmException
from libp2p.peer.id import ID
from libp2p.peer.peerinfo import PeerInfo
from libp2p.utils.varint import read_varint_prefixed_bytes_limited
from multiaddr import Multiaddr

from decentraspace.content import cid as cids
from decentraspace.errors import Unavailable
from decentraspace.network.dht import wire
from decentraspace.network.dht.search import Search
from decentraspace.network.dht.table import Servers
from decentraspace.network.dht.wire import Known, Mode
from decentraspace.network.guests import protocols
from decentraspace.network.swarm import connections, is_inbound, remote_address

log = structlog.get_logger(__name__)

_QUESTION = 10.0  # seconds for one server to answer, with connecting
_PROVIDE, _FIND = 90.0, 20.0  # seconds for all of it
_ENOUGH = 5  # providers found
_TOLD_AT_ONCE = 6
_REFRESH_FIRST, _REFRESH_MOST = 1.0, 600.0  # seconds between searches for servers, doubled each time
_CLOSE = 3.0
_ATTEMPTS, _PAUSE = 4, 0.1  # to open a stream; seconds, doubled each time


@dataclass
class Counts:
    """Since the start. `asked` servers and those that `failed` to answer as they should; content that was
    `sought` for somebody, and for which a holder was `found`."""

    searches: int = 0
    asked: int = 0
    failed: int = 0
    sought: int = 0
    found: int = 0


@dataclass
class _Visit:
    """Connections made for one search, to be closed after it, and those that are in use now."""

    opened: dict[ID, None] = field(default_factory=dict)
    busy: set[ID] = field(default_factory=set)


class Dht:
    """`addresses()` gives this node's, each ending in /p2p/PEERID; `kept` is a set of peer ids that nobody
    else may disconnect meanwhile."""

    def __init__(
        self, mode: Mode, peer_id: str, addresses: Callable[[], list[str]], kept: set[str], max_peers: int
    ) -> None:
        self._mode, self._own, self._addresses = mode, ID.from_string(peer_id), addresses
        self._kept, self._most = kept, max(4, min(wire.K, max_peers // 5))
        self._protocol = TProtocol(wire.PROTOCOLS[mode])
        self._host: Any = None
        self._turn, self._finding = trio.Lock(), trio.Lock()  # so that few connections are needed
        self._servers = Servers(self._own)
        self.counts = Counts()

    @property
    def servers(self) -> int:
        """How many are known that have answered."""
        return len(self._servers)

    def announced(self) -> list[str]:
        """Where the DHT's peers are told that this node is. Empty: nobody of them could reach it."""
        return wire.announced(self._addresses(), self._mode)

    async def run(self, host: Any) -> None:
        """Until cancelled."""
        self._host, delay = host, _REFRESH_FIRST
        try:
            while True:
                if self._servers or self._seeds():
                    with trio.move_on_after(_PROVIDE):
                        async with self._turn:
                            await self._search(self._own.to_bytes())
                delay = min(delay * 2, _REFRESH_MOST) if self._servers else _REFRESH_FIRST
                await trio.sleep(delay)
        finally:
            self._host = None

    async def provide(self, cid: bytes) -> int:
        """How many servers say, asked again, that this node has it: `wire.K` where all goes well.

        Unavailable when there is none, no server is known, or this node has no address to tell.
        """
        key, addresses = cids.multihash(cid), self.announced()
        if not addresses:
            raise Unavailable(
                "This node has no address that peers of the DHT could reach",
                hint="Set network.announce to its public address.",
            )
        # On one stream, so that the question comes after what it asks about.
        request = wire.add_provider(key, self._own.to_bytes(), addresses) + wire.get_providers(key)

        def confirms(data: bytes) -> bool:
            return self._own.to_bytes() in wire.decode(data, Message.GET_PROVIDERS, self._mode).ids

        return await self._tell(key, request, confirms, cids.to_text(cid))

    async def publish(self, name: bytes, record: bytes) -> int:
        """How many servers have taken an IPNS record; `name` as in content/ipns.py. Unavailable when none has."""
        key = wire.name_key(name)

        def confirms(data: bytes) -> bool:
            return wire.taken(data, key, record)

        return await self._tell(key, wire.put_value(key, record), confirms, cids.to_text(name, "base36"))

    async def _tell(self, key: bytes, request: bytes, confirms: Callable[[bytes], bool], what: str) -> int:
        """Send it to the servers nearest to the key; how many confirm it by their answer, at least one."""
        taken = 0

        async def tell(server: Known, limit: trio.Semaphore) -> None:
            nonlocal taken
            try:
                answer = await self._ask(server, request, visit)
                taken += confirms(answer)
            except Exception as error:  # noqa: BLE001 - whatever libp2p raises
                log.debug("dht_not_told", peer=str(server.id), reason=repr(error))
            finally:
                limit.release()

        with trio.move_on_after(_PROVIDE):
            async with self._turn, self._visit() as visit:
                nearest = await self._search(key, visit)
                limit = trio.Semaphore(_TOLD_AT_ONCE)
                async with trio.open_nursery() as nursery:
                    for server in nearest:
                        await limit.acquire()
                        nursery.start_soon(tell, server, limit)
        if not taken:
            known = "none of its servers took it" if self._servers else "no server of it is known"
            raise Unavailable(
                f"The DHT was not told of {what}: {known}",
                hint="Name an IPFS peer that is a server of the DHT in network.ipfs_peers.",
            )
        return taken

    async def find(self, cid: bytes) -> list[Known]:
        """Peers that servers say have it, each with an address; none when nobody says so in time."""
        key, found = cids.multihash(cid), dict[ID, Known]()

        async def ask(server: Known) -> list[Known]:
            data = await self._ask(server, wire.get_providers(key), visit)
            answer = wire.decode(data, Message.GET_PROVIDERS, self._mode)
            for provider in answer.providers:
                if provider.id != self._own and len(found.get(provider.id, provider).addresses) > 0:
                    found.setdefault(provider.id, provider)
            return answer.closer

        with trio.move_on_after(_FIND):
            async with self._finding, self._visit() as visit:
                await self._searched(key, ask, lambda: len(found) >= _ENOUGH)
        return list(found.values())[:_ENOUGH]

    # -- searching

    async def _search(self, key: bytes, visit: _Visit | None = None) -> list[Known]:
        if visit is None:
            async with self._visit() as visit:
                return await self._search(key, visit)
        made = visit

        async def ask(server: Known) -> list[Known]:
            data = await self._ask(server, wire.find_node(key), made)
            return wire.decode(data, Message.FIND_NODE, self._mode).closer

        return await self._searched(key, ask)

    async def _searched(
        self, key: bytes, ask: Callable[[Known], Any], enough: Callable[[], bool] = lambda: False
    ) -> list[Known]:
        self.counts.searches += 1

        async def counted(server: Known) -> list[Known]:
            self.counts.asked += 1
            try:
                closer: list[Known] = await ask(server)
            except Exception as error:
                log.debug("dht_server_failed", peer=str(server.id), reason=repr(error)[:200])
                self.counts.failed += 1
                self._servers.failed(server.id)
                raise
            if server.addresses:
                self._servers.note(server)
            return closer

        search = Search(wire.position(key), self._own, counted, enough)
        return await search.run([*self._servers.closest(wire.position(key)), *self._seeds()])

    def _seeds(self) -> Iterable[Known]:
        """Connected peers that say they are servers."""
        if self._host is None:
            return []
        here = {c.muxed_conn.peer_id: remote_address(c) for c in connections(self._host) if not is_inbound(c)}
        return [
            Known(peer, _as_multiaddress(here.get(peer, "")))
            for peer in self._host.get_connected_peers()
            if self._protocol in protocols(self._host, peer)
        ]

    # -- asking one

    async def _ask(self, server: Known, request: bytes, visit: _Visit) -> bytes:
        """One answer. Raises what libp2p does, MessageTooLarge, TooSlowError, Unavailable."""
        visit.busy.add(server.id)
        try:
            with trio.fail_after(_QUESTION):
                stream = await self._stream(server, visit)
                try:
                    await stream.write(request)
                    return bytes(await read_varint_prefixed_bytes_limited(stream, wire.MAX_ANSWER))
                finally:
                    with trio.CancelScope(deadline=trio.current_time() + _CLOSE, shield=True):
                        await stream.reset()
        finally:
            visit.busy.discard(server.id)

    async def _stream(self, server: Known, visit: _Visit) -> Any:
        for attempt in range(_ATTEMPTS):
            await self._open(server, visit)
            try:
                return await self._host.new_stream(server.id, [self._protocol])
            except SwarmException:
                # A connection that is just ending still counts as one for a moment.
                if attempt == _ATTEMPTS - 1:
                    raise
                await trio.sleep(_PAUSE * 2**attempt)
        raise AssertionError

    async def _open(self, server: Known, visit: _Visit) -> None:
        if self._host is not None and server.id in self._host.get_connected_peers():
            return
        idle = [peer for peer in visit.opened if peer not in visit.busy]
        for peer in idle[: max(0, len(visit.opened) + 1 - self._most)]:  # the first are the farthest
            await self._close(peer, visit)
        if str(server.id) not in self._kept:  # else it is to stay: the operator has named it
            visit.opened[server.id] = None
            self._kept.add(str(server.id))
        await self.connect(server)

    async def connect(self, peer: Known) -> None:
        """To one of the addresses it is named with, and no other. Raises what libp2p does, Unavailable."""
        if self._host is None:
            raise Unavailable("The network is down")
        if peer.id not in self._host.get_connected_peers():
            # It may have been known with other addresses, which peers tell of themselves.
            if self._host.get_peerstore().has_peer(peer.id):
                self._host.get_peerstore().clear_peerdata(peer.id)
            await self._host.connect(PeerInfo(peer.id, [Multiaddr(a) for a in peer.addresses]))

    @asynccontextmanager
    async def _visit(self) -> AsyncIterator[_Visit]:
        visit = _Visit()
        try:
            yield visit
        finally:
            with trio.CancelScope(deadline=trio.current_time() + _CLOSE, shield=True):
                for peer in list(visit.opened):
                    await self._close(peer, visit)
            self._kept.difference_update(map(str, visit.opened))  # where closing took too long

    async def _close(self, peer: ID, visit: _Visit) -> None:
        visit.opened.pop(peer, None)
        self._kept.discard(str(peer))
        try:
            if self._host is not None:
                await self._host.disconnect(peer)
        except Exception as error:  # noqa: BLE001 - it is gone either way
            log.debug("dht_close_failed", peer=str(peer), reason=repr(error))


def _as_multiaddress(address: str) -> tuple[str, ...]:
    """Of an IP address and port; nothing for none."""
    host, _, port = address.rpartition(":")
    if not host:
        return ()
    return (f"/ip6/{host[1:-1]}/tcp/{port}" if host.startswith("[") else f"/ip4/{host}/tcp/{port}",)
