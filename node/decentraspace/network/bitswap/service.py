"""Bitswap of one node: streams in and out, a queue for each peer that asks, a session for each fetch.

    Bitswap.run      while a libp2p host runs: answer, and read what comes
    Bitswap.fetch    one DAG, or one block, from the peers that are connected
    Bitswap.ask      whether one of them gives a block

What peers may make this node hold, each: one incoming message (a large one only if they were asked for
something), one outgoing message, a queue of wants. Who sends what nobody asked for is cut off.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import structlog
import trio
from libp2p.custom_types import TProtocol
from libp2p.peer.id import ID

from decentraspace.content import cid as cids
from decentraspace.content.blockstore import BlockStore
from decentraspace.errors import BadInput
from decentraspace.network.bitswap import wire
from decentraspace.network.bitswap.asking import Asking
from decentraspace.network.bitswap.channel import Incoming, Outgoing
from decentraspace.network.bitswap.serve import Queue, Served, Server, Serves
from decentraspace.network.bitswap.session import Blocks, Budget, Session
from decentraspace.network.guests import protocols
from decentraspace.network.source import ProviderFailed

log = structlog.get_logger(__name__)

_SMALL = 256 * 1024  # bytes of a message from a peer that was asked for nothing
_LATE = 30.0  # seconds in which answers may come after the last question
_RATE, _BURST = 2_000.0, 10_000.0  # wants of one peer a second, and at once
_UNASKED_RATE, _UNASKED_MOST = 256 * 1024.0, 48.0 * 1024 * 1024  # bytes nobody asked for: a second, at once
_IN_THREAD = 32 * 1024  # bytes; longer messages are not read on the loop everything else runs on
_CANDIDATES = 32  # peers asked in one fetch
_LOOK = 0.2  # seconds between looks at who is connected

Abuse = Callable[[ID, str], None]


class _Bucket:
    def __init__(self, rate: float, most: float) -> None:
        self._rate, self._most = rate, most
        self.left, self._since = most, trio.current_time()

    def spend(self, amount: float) -> float:
        """Seconds to wait until there is so much; negative if there is some left."""
        now = trio.current_time()
        self.left = min(self._most, self.left + (now - self._since) * self._rate) - amount
        self._since = now
        return -self.left / self._rate


@dataclass
class _Peer:
    id: ID
    out: Outgoing
    queue: Queue
    turn: trio.Lock = field(default_factory=trio.Lock)  # one message of it is in memory
    wants: _Bucket = field(default_factory=lambda: _Bucket(_RATE, _BURST))
    unasked: _Bucket = field(default_factory=lambda: _Bucket(_UNASKED_RATE, _UNASKED_MOST))
    serving: bool = False
    late_until: float = -1.0
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)


@dataclass
class _Live:
    host: Any
    nursery: trio.Nursery
    abuse: Abuse
    peers: dict[ID, _Peer] = field(default_factory=dict)


class Bitswap:
    """`serves(cid)` says, blocking, what is given to anybody. `first`: peer ids asked before others."""

    def __init__(self, store: BlockStore, serves: Serves, first: frozenset[str] = frozenset()) -> None:
        self._store, self._first = store, first
        self._server = Server(store, serves)
        self._sessions: list[Session | Asking] = []
        self._live: _Live | None = None
        self.fetched_blocks = self.fetched_bytes = self.unasked_bytes = 0

    @property
    def served(self) -> Served:
        return self._server.served

    def waiting(self) -> int:
        """Wants of all peers that are not answered yet."""
        live = self._live  # which may end meanwhile: metrics are read in a thread
        return sum(len(p.queue) for p in list(live.peers.values())) if live else 0

    def register(self, host: Any) -> None:
        """Before the host listens, so that nobody is told that it does not speak Bitswap."""
        host.set_stream_handler(TProtocol(wire.PROTOCOL), self._on_stream)

    async def run(self, host: Any, abuse: Abuse) -> None:
        """Until cancelled. `abuse` is told of peers that break the rules."""
        try:
            async with trio.open_nursery() as nursery:
                self._live = _Live(host, nursery, abuse)
                while True:
                    await trio.sleep(_LOOK)
                    await self._forget_those_gone(self._live)
        finally:
            self._live = None

    async def _forget_those_gone(self, live: _Live) -> None:
        connected = set(live.host.get_connected_peers())
        for peer in [p for p in live.peers.values() if p.id not in connected]:
            del live.peers[peer.id]
            peer.scope.cancel()
            for session in list(self._sessions):
                await session.gone(peer.id)

    # -- fetching

    async def fetch(
        self, root: bytes, budget: Budget, *, whole: bool = True, of: bytes | None = None
    ) -> None:
        """Store the DAG, or without `whole` that block, `of` whatever site. ProviderFailed when no peer gives
        all that is missing; what `budget.spend(bytes)` raises; Unprocessable when the content is malformed."""
        live = self._live
        if live is None or not (candidates := self._candidates(live)):
            raise ProviderFailed("no IPFS peer is connected")
        session = Session(self._store, self._send, root, budget, whole=whole)
        self._sessions.append(session)
        try:
            await session.run(candidates)
        finally:
            self._sessions.remove(session)

    async def ask(self, peer_id: str, cid: bytes, patience: float) -> bool | None:
        """Whether that peer gives a block, out of its own store, in `patience` seconds; None when it is not
        connected or does not answer. That the block is here as well does not matter."""
        live = self._live
        peer = next((p for p in self._speaking(live) if str(p) == peer_id), None) if live else None
        if peer is None:
            return None
        asking = Asking(peer, cid)
        self._sessions.append(asking)
        try:
            with trio.move_on_after(patience):
                await self._send(peer, wire.Message(wants=[wire.Want(cid, dont_have=True)]))
                await asking.ended.wait()
        except Exception as error:  # noqa: BLE001 - whatever libp2p raises: it does not answer
            log.debug("bitswap_not_asked", peer=peer_id, reason=repr(error))
        finally:
            self._sessions.remove(asking)
        return asking.given

    def _speaking(self, live: _Live) -> list[ID]:
        connected = live.host.get_connected_peers()
        return [p for p in connected if wire.PROTOCOL in protocols(live.host, p, wire.PROTOCOL)]

    def _candidates(self, live: _Live) -> list[ID]:
        return sorted(self._speaking(live), key=lambda p: str(p) not in self._first)[:_CANDIDATES]

    async def _send(self, to: ID, message: wire.Message) -> None:
        if self._live is None:
            raise ProviderFailed("the network is down")
        peer = self._peer(self._live, to)
        peer.late_until = trio.current_time() + _LATE
        await peer.out.send(wire.encode(message))

    def _peer(self, live: _Live, of: ID) -> _Peer:
        peer = live.peers.get(of)
        if peer is None:
            out = Outgoing(live.host, of)
            peer = live.peers[of] = _Peer(of, out, Queue(self._server, out))
        return peer

    # -- what comes

    async def _on_stream(self, stream: Any) -> None:
        live = self._live
        if live is None:
            await stream.reset()
            return
        peer = self._peer(live, stream.muxed_conn.peer_id)
        try:
            incoming = Incoming(stream)
            while (length := await incoming.length()) is not None:
                async with peer.turn:
                    await self._receive(live, peer, incoming, length)
        except BadInput as error:
            live.abuse(peer.id, f"Bitswap: {error.detail}")
        except Exception as error:  # noqa: BLE001 - it has gone, or trickles, or libp2p fails at what it sent
            log.debug("bitswap_stream_ended", peer=str(peer.id), reason=repr(error))
        finally:
            with trio.CancelScope(deadline=trio.current_time() + 1, shield=True):
                await stream.reset()

    async def _receive(self, live: _Live, peer: _Peer, incoming: Incoming, length: int) -> None:
        asked = trio.current_time() < peer.late_until or any(s.asks(peer.id) for s in self._sessions)
        if length > _SMALL and not asked:
            self._unasked(peer, length)
            await incoming.skip(length)
            return
        data = await incoming.message(length)
        if length > _IN_THREAD:
            message = await trio.to_thread.run_sync(wire.decode, data)
        else:
            message = wire.decode(data)
        if message.blocks or message.presences:
            await self._hand_on(peer, message, asked)
        if message.wants or message.full:
            peer.queue.take(message)
            if len(peer.queue) and not peer.serving:
                peer.serving = True
                live.nursery.start_soon(self._serve, live, peer)
            # Who floods waits for itself: nothing more is read from it meanwhile.
            await trio.sleep(max(0.0, peer.wants.spend(len(message.wants))))

    async def _hand_on(self, peer: _Peer, message: wire.Message, asked: bool) -> None:
        if not asked:
            self._unasked(peer, sum(len(data) for _, data in message.blocks))
            return
        blocks: Blocks = await trio.to_thread.run_sync(wire.named, message.blocks)
        presences = [(key, there) for cid, there in message.presences if (key := _key(cid)) is not None]
        wanted: set[bytes] = set()
        for session in list(self._sessions):
            mine = [(key, data) for key, data in blocks if session.wants(peer.id, key)]
            wanted.update(key for key, _ in mine)
            if mine or (presences and session.asks(peer.id)):
                await session.take(peer.id, mine, presences)
        sizes = {key: len(data) for key, data in blocks}
        self.fetched_blocks += len(wanted)
        self.fetched_bytes += (useful := sum(sizes[key] for key in wanted))
        self._unasked(peer, sum(len(data) for _, data in message.blocks) - useful)

    def _unasked(self, peer: _Peer, size: int) -> None:
        """BadInput for a peer that sends more than can have been on its way when it was told to stop."""
        self.unasked_bytes += size
        if peer.unasked.spend(size) > 0:
            raise BadInput("it sends blocks that nobody asked for")

    async def _serve(self, live: _Live, peer: _Peer) -> None:
        try:
            with peer.scope:
                await peer.queue.run()
        except Exception as error:  # noqa: BLE001 - too slow, or gone: it may ask again
            log.info("bitswap_peer_lost", peer=str(peer.id), reason=repr(error))
        finally:
            if live.peers.get(peer.id) is peer:
                peer.queue, peer.serving = Queue(self._server, peer.out), False


def _key(cid: bytes) -> bytes | None:
    try:
        return cids.multihash(cids.normal(cid))
    except BadInput:
        return None
