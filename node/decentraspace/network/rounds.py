"""When sets are exchanged, and with whom: with each peer when it connects, every `sync_interval`, on demand.

Of two peers the one with the higher id begins, and the exchange goes both ways; the other one begins only
when that one does not. What an exchange brings is not gossiped: exchanges with the other peers are brought
forward, so that news crosses the network within a round, not at a hop a round. A peer that breaks the
protocol loses its connection.

When all places for answers are taken, the peer that has kept this node waiting longest makes room, and if
none has, the new one is told that this node is busy.
"""

from __future__ import annotations

import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import structlog
import trio
from libp2p.custom_types import TProtocol
from libp2p.peer.id import ID

from decentraspace.config import NetworkConfig
from decentraspace.errors import BadInput
from decentraspace.network import sync
from decentraspace.network.guests import Guests
from decentraspace.network.pace import Pace
from decentraspace.network.refused import Refused
from decentraspace.network.serving import Serving
from decentraspace.network.streams import finish
from decentraspace.records.judging import Pool
from decentraspace.records.store import AddResult, RecordStore

log = structlog.get_logger(__name__)

_STREAM_DEADLINE = 10.0  # seconds
_LOOK = 0.2  # seconds between looks at who is connected
_RETRY = 0.5  # seconds after a first exchange that failed, doubled with each further one
_FAILURES_MOST = 6  # in a row, then the connection is given up
_ANSWERED_AT_ONCE = 16  # exchanges that peers began
_LAG_SPARED = 5.0  # seconds a peer may keep this node waiting without losing its place to another
_BUSY_RETRY = 2.0  # seconds until a busy peer is asked again, half of them to twice as many
_SILENT_ROUNDS = 3  # after so many rounds in which the other one should have begun, this one does
_BROUGHT_FORWARD = 4  # exchanges with a peer in an interval at most, when others bring news; it grants six
_JITTER = 0.2  # of the interval: nodes that started together do not stay together
_JOINING = 600.0  # seconds in which the first exchange with a peer brings what was there before


@dataclass
class Round:
    """Exchanges with one peer, as long as it is connected. `last`: when the last one ended, in Unix seconds, and
    `ended` by trio's clock; `more`: that one was cut short."""

    due: float
    failures: int = 0
    under_way: bool = False
    asked: bool = False
    done: int = 0
    last: float = 0.0
    ended: float = 0.0
    more: bool = False


@dataclass
class Totals:
    """Of all exchanges since the start: records and bytes."""

    exchanges: int = 0
    failed: int = 0
    received: int = 0
    sent: int = 0
    refused: int = 0
    bytes_in: int = 0
    bytes_out: int = 0


@dataclass
class _Answer:
    """An exchange that a peer began."""

    scope: trio.CancelScope
    pace: Pace


@dataclass
class _Live:
    """What exists only while the host runs."""

    host: Any
    nursery: trio.Nursery
    guests: Guests


class Rounds:
    """`accepted` is awaited with new records; `cut_off` and `fault` say that a peer has broken the rules,
    or done what honest ones seldom do."""

    def __init__(
        self,
        config: NetworkConfig,
        peer_id: str,
        store: RecordStore,
        accepted: Callable[[Sequence[AddResult]], Awaitable[None]],
        cut_off: Callable[[ID, str], None],
        fault: Callable[[ID], None],
    ) -> None:
        self._config, self._own, self._store = config, peer_id, store
        self._accepted, self._cut_off, self._fault = accepted, cut_off, fault
        self.protocol = TProtocol(sync.protocol(config.name))
        self._live: _Live | None = None
        self._joining_until = -1.0  # trio's clock; set by the first start
        self.met: set[str] = set()  # peers with which a whole exchange was done while joining
        self.lately_refused = Refused()
        self._pool = Pool(store.rules)
        self._serving = Serving(config.sync_interval)
        self.peers: dict[str, Round] = {}
        self.answering: dict[str, _Answer] = {}
        self.since: dict[str, float] = {}
        self.totals = Totals()

    def under_way(self) -> int:
        """Exchanges, those that others began among them."""
        return len(self.answering) + sum(r.under_way for r in list(self.peers.values()))

    async def run(self, host: Any, guests: Guests) -> None:
        """Until cancelled."""
        if self._joining_until < 0:
            self._joining_until = trio.current_time() + _JOINING
        self.peers.clear()
        self.answering.clear()
        try:
            async with trio.open_nursery() as nursery:
                self._live = live = _Live(host, nursery, guests)
                while True:
                    self._look(live)
                    await trio.sleep(_LOOK)
        finally:
            self._live = None

    def demand(self, peer: str | None = None) -> int:
        """Exchange with that connected peer, or with all, as soon as may be. With how many."""
        chosen = [this for name, this in self.peers.items() if peer in (None, name)]
        for this in chosen:
            this.asked = True
        return len(chosen)

    def _look(self, live: _Live) -> None:
        connected = {str(peer): peer for peer in live.host.get_connected_peers()}
        now = trio.current_time()
        self.since = {p: self.since.get(p, time.time()) for p in connected}
        for name in self.peers.keys() - connected.keys():
            del self.peers[name]
            self.lately_refused.forget(name)
        for name, peer in connected.items():
            this = self._round(name)
            if not live.guests.has(peer) and not this.under_way and (this.asked or now >= this.due):
                this.under_way, this.asked = True, False
                live.nursery.start_soon(self._begin, live, peer, this)

    def _round(self, name: str) -> Round:
        this = self.peers.get(name)
        if this is None:
            silent = 0.0 if name < self._own else _SILENT_ROUNDS * self._config.sync_interval
            this = self.peers[name] = Round(trio.current_time() + silent)
        return this

    async def _begin(self, live: _Live, peer: ID, this: Round) -> None:
        stream = None
        name = str(peer)
        try:
            with trio.fail_after(sync.EXCHANGE_DEADLINE):
                with trio.fail_after(_STREAM_DEADLINE):
                    stream = await live.host.new_stream(peer, [self.protocol])
                result = await sync.initiate(
                    stream,
                    self._store,
                    self._accepted,
                    joining=self._joins(name),
                    refused=self.lately_refused,
                    peer=name,
                    pool=self._pool,
                )
            self._exchanged(name, this, result)
        except sync.PeerBusy:
            this.due = trio.current_time() + _BUSY_RETRY * random.uniform(0.5, 2)  # noqa: S311
        except Exception as error:  # noqa: BLE001 - a peer's failure, of whatever kind, is no failure of this node
            this.failures += 1
            self.totals.failed += 1
            this.due = trio.current_time() + min(_RETRY * 2**this.failures, self._config.sync_interval)
            log.info("exchange_failed", peer=name, reason=repr(error), failures=this.failures)
            await finish(stream, reset=True)
            if isinstance(error, BadInput):
                self._cut_off(peer, str(error))
            elif this.failures >= _FAILURES_MOST:
                self._cut_off(peer, "no exchange of records with it succeeds")
        finally:
            this.under_way = False
            await finish(stream)

    async def answer(self, stream: Any) -> None:
        """The handler of streams that peers open."""
        peer = stream.muxed_conn.peer_id
        name = str(peer)
        if self._live is None:
            await finish(stream, reset=True)  # it tries again
            return
        if name in self.answering or not self._serving.begins(name):
            self._fault(peer)
            await finish(stream, reset=True)
            return
        if len(self.answering) >= _ANSWERED_AT_ONCE and not self._make_room():
            await _refuse(stream)
            return
        mine = self.answering[name] = _Answer(
            trio.CancelScope(deadline=trio.current_time() + sync.EXCHANGE_DEADLINE), Pace()
        )
        try:
            result = None
            with mine.scope:
                result = await sync.respond(
                    stream,
                    self._store,
                    self._accepted,
                    joining=self._joins(name),
                    refused=self.lately_refused,
                    peer=name,
                    pool=self._pool,
                    spend=lambda size, records: self._serving.spend(name, size, records),
                    pace=mine.pace,
                )
            if result is None:
                raise trio.TooSlowError
            self._exchanged(name, self._round(name), result)  # it may begin before it was seen here
        except Exception as error:  # noqa: BLE001 - as above: the peer's failure
            self.totals.failed += 1
            log.info("exchange_failed", peer=name, reason=repr(error))
            await finish(stream, reset=True)
            if isinstance(error, BadInput):
                self._cut_off(peer, str(error))
        finally:
            if self.answering.get(name) is mine:
                del self.answering[name]
            await finish(stream)

    def _make_room(self) -> bool:
        """End the exchange of the peer that this node waited for longest, if it was long."""
        slowest = max(self.answering, key=lambda name: self.answering[name].pace.lag)
        if self.answering[slowest].pace.lag < _LAG_SPARED:
            return False
        self.answering.pop(slowest).scope.cancel()
        return True

    def _joins(self, peer: str) -> bool:
        """Whether an exchange with this peer brings what was there before this node: the first with each
        peer, for some time. (The first of all may be with one that has nothing.)"""
        return trio.current_time() < self._joining_until and peer not in self.met

    def _exchanged(self, peer: str, this: Round, result: sync.SyncResult) -> None:
        now = trio.current_time()
        if now < self._joining_until and not result.more:
            self.met.add(peer)
        this.failures, this.done, this.last, this.more = 0, this.done + 1, time.time(), result.more
        this.ended = now
        wait = self._config.sync_interval * random.uniform(1 - _JITTER, 1 + _JITTER)  # noqa: S311
        begins = peer < self._own
        this.due = now + wait * (1 if begins else _SILENT_ROUNDS)
        if result.more and begins:
            this.due = now
        if result.received:
            self._bring_forward(peer, now)
        totals = self.totals
        totals.exchanges += 1
        totals.received += result.received
        totals.sent += result.sent
        totals.refused += result.refused
        totals.bytes_in += result.bytes_in
        totals.bytes_out += result.bytes_out
        if result.received or result.sent or result.refused:
            log.info(
                "records_exchanged",
                peer=peer,
                received=result.received,
                sent=result.sent,
                refused=result.refused,
                bytes_in=result.bytes_in,
                bytes_out=result.bytes_out,
            )

    def _bring_forward(self, source: str, now: float) -> None:
        """Exchanges with peers other than `source`, which brought news."""
        apart = self._config.sync_interval / _BROUGHT_FORWARD
        for name, this in self.peers.items():
            if name != source and not this.failures:
                this.due = min(this.due, max(now, this.ended + apart))


async def _refuse(stream: Any) -> None:
    try:
        await sync.refuse(stream)
    except Exception as error:  # noqa: BLE001 - whoever does not listen asks again
        log.debug("busy_not_told", reason=repr(error))
    await finish(stream)
