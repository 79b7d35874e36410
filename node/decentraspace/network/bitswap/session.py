"""Fetching one DAG from several peers: who has the first block is asked for all, each block from one at a time.

    Session.run     asks who has it, then keeps up to `_WINDOW` wants open at each peer that does
    Session.wants   whether a block from a peer is one that it was asked for
    Session.take    blocks that were verified, as fast as they can be stored

A peer that says it lacks a block is not asked for it again; one that gives nothing for `_PATIENCE` loses
what it was asked for to the others. The session fails when nobody is left.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import trio
from libp2p.peer.id import ID

from decentraspace.content import cid as cids
from decentraspace.content import dagpb
from decentraspace.content.blockstore import BlockStore
from decentraspace.errors import BadInput, DecentraSpaceError, TooLarge, Unprocessable
from decentraspace.network.bitswap.wire import Message, Want
from decentraspace.network.source import ProviderFailed

_WINDOW = 64  # wants open at one peer
_PATIENCE = 5.0  # seconds without a block that was asked for
_LOOK = 0.5  # seconds between looks for peers that give nothing
_STRIKES = 2  # times a peer may run out of patience
_BATCH = 4 * 1024 * 1024  # bytes stored at once
_BLOCKS_MOST = 500_000  # of one DAG; bounds what its links take in memory

# Kubo says that it does not have the block without bytes, also when it does.
_EMPTY = {cids.multihash(cids.make(cids.RAW, b""))}

Key = bytes  # a multihash
Blocks = list[tuple[Key, bytes]]


class Budget(Protocol):
    def spend(self, size: int) -> None: ...


@dataclass
class _Peer:
    open: dict[Key, None] = field(default_factory=dict)
    progress: float = 0.0
    strikes: int = 0


@dataclass
class _Event:
    peer: ID
    blocks: Blocks = field(default_factory=list)
    presences: list[tuple[Key, bool]] = field(default_factory=list)
    gone: bool = False


class Session:
    """`send(peer, message)` raises when the peer cannot be reached. `whole`: with everything below the root."""

    def __init__(
        self,
        store: BlockStore,
        send: Callable[[ID, Message], Awaitable[None]],
        root: bytes,
        budget: Budget,
        *,
        whole: bool = True,
    ) -> None:
        self._store, self._send, self._root, self._budget, self._whole = store, send, root, budget, whole
        self._events_in, self._events = trio.open_memory_channel[_Event](2)
        self._asked: set[ID] = set()  # whether they have the first block
        self._peers: dict[ID, _Peer] = {}  # that have said they do
        self._todo: deque[Key] = deque()
        self._names: dict[Key, list[bytes]] = {}  # CIDs of the blocks that are still to come
        self._lacking: defaultdict[Key, set[ID]] = defaultdict(set)
        self._seen: set[bytes] = set()
        self._batch: list[tuple[bytes, bytes]] = []
        self._batch_size = 0

    # -- what peers say

    def asks(self, peer: ID) -> bool:
        """Whether something was asked of that peer and may come yet."""
        return peer in self._asked or peer in self._peers

    def wants(self, peer: ID, key: Key) -> bool:
        return key in self._names and self.asks(peer)

    async def take(self, peer: ID, blocks: Blocks, presences: Sequence[tuple[Key, bool]]) -> None:
        """Waits while earlier ones are being stored; forgotten when the session has ended."""
        mine = [(key, there) for key, there in presences if key in self._names]
        if blocks or mine:
            await self._tell(_Event(peer, blocks, mine))

    async def gone(self, peer: ID) -> None:
        if self.asks(peer):
            await self._tell(_Event(peer, gone=True))

    async def _tell(self, event: _Event) -> None:
        try:
            await self._events_in.send(event)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return

    # -- the fetch

    async def run(self, peers: Iterable[ID]) -> None:
        """Until all is stored. ProviderFailed when no peer gives what is missing; what the budget raises;
        Unprocessable when the content is malformed."""
        failure: Exception | None = None
        try:
            async with trio.open_nursery() as nursery:
                try:
                    await self._run(list(peers), nursery)
                except (ProviderFailed, DecentraSpaceError) as error:
                    failure = error  # raised by itself, not in a group
                nursery.cancel_scope.cancel()
        finally:
            self._events.close()
            with trio.CancelScope(shield=True):
                await self._flush()  # verified, and nobody need send it again
        if failure is not None:
            raise failure

    async def _run(self, peers: list[ID], nursery: trio.Nursery) -> None:
        await self._want(await trio.to_thread.run_sync(self._expand, [self._root]))
        if not self._names:
            return
        first = next(iter(self._names))
        began = trio.current_time()
        for peer in peers:
            self._asked.add(peer)
            wants = [Want(self._names[first][0], have=True, dont_have=True)]
            nursery.start_soon(self._deliver, peer, wants)
        while self._names:
            self._ask(nursery)
            now = trio.current_time()
            if now - began > _PATIENCE:
                self._asked.clear()  # they had the time to say so
            if not self._peers and not self._asked:
                raise ProviderFailed("no IPFS peer that is connected has it")
            with trio.move_on_after(_LOOK):
                await self._handle(await self._events.receive())
            self._judge(trio.current_time(), nursery)

    async def _handle(self, event: _Event) -> None:
        peer, now = event.peer, trio.current_time()
        if event.gone:
            self._asked.discard(peer)
            self._drop(peer)
            return
        for key, there in event.presences:
            if there and peer in self._asked:
                self._peers.setdefault(peer, _Peer(progress=now))
            elif not there:
                self._lacks(peer, key)
            self._asked.discard(peer)
        new: list[tuple[bytes, bytes]] = []
        for key, data in event.blocks:
            names = self._names.pop(key, None)
            if names is None:
                continue  # two peers gave it
            self._lacking.pop(key, None)
            for other in self._peers.values():
                other.open.pop(key, None)
            known = self._peers.setdefault(peer, _Peer())
            known.progress, known.strikes = now, 0
            self._asked.discard(peer)
            self._budget.spend(len(data))
            new += [(name, data) for name in names]
        if new:
            self._batch += new
            self._batch_size += sum(len(data) for _, data in new)
            if self._whole:
                await self._want(await trio.to_thread.run_sync(self._below, new))
            if self._batch_size >= _BATCH or not self._names:
                await self._flush()

    def _ask(self, nursery: trio.Nursery) -> None:
        """Give each peer as many wants as it may have open."""
        chosen: defaultdict[ID, list[Want]] = defaultdict(list)
        later: list[Key] = []
        while self._todo and any(len(p.open) < _WINDOW for p in self._peers.values()):
            key = self._todo.popleft()
            if key not in self._names:
                continue
            able = [p for p in self._peers if p not in self._lacking.get(key, ())]
            if not able and not self._asked:
                raise ProviderFailed(f"no peer has {cids.to_text(self._names[key][0])}")
            peer = min(able, key=lambda p: len(self._peers[p].open), default=None)
            if peer is None or len(self._peers[peer].open) >= _WINDOW:
                later.append(key)
                if len(later) > _WINDOW:
                    break
                continue
            state = self._peers[peer]
            if not state.open:
                state.progress = trio.current_time()
            state.open[key] = None
            chosen[peer].append(Want(self._names[key][0], dont_have=True))
        self._todo.extendleft(reversed(later))
        for peer, wants in chosen.items():
            nursery.start_soon(self._deliver, peer, wants)

    def _judge(self, now: float, nursery: trio.Nursery) -> None:
        """Take away what peers were asked for that give nothing."""
        for peer, state in list(self._peers.items()):
            if not state.open or now - state.progress <= _PATIENCE:
                continue
            state.strikes += 1
            state.progress = now
            cancels = [Want(self._names[key][0], cancel=True) for key in state.open if key in self._names]
            if state.strikes >= _STRIKES or len(self._peers) > 1:
                self._drop(peer)
            else:
                self._again(state)
            if cancels:
                nursery.start_soon(self._deliver, peer, cancels)

    def _lacks(self, peer: ID, key: Key) -> None:
        self._lacking[key].add(peer)
        state = self._peers.get(peer)
        if state is not None and key in state.open:
            del state.open[key]
            self._todo.appendleft(key)

    def _drop(self, peer: ID) -> None:
        state = self._peers.pop(peer, None)
        if state is not None:
            self._again(state)

    def _again(self, state: _Peer) -> None:
        self._todo.extendleft(key for key in reversed(state.open) if key in self._names)
        state.open.clear()

    async def _deliver(self, peer: ID, wants: list[Want]) -> None:
        try:
            await self._send(peer, Message(wants=wants))
        except Exception:  # noqa: BLE001 - whatever libp2p raises: this peer is of no use
            await self.gone(peer)

    # -- the DAG

    async def _want(self, missing: list[bytes]) -> None:
        for cid in missing:
            names = self._names.setdefault(cids.multihash(cid), [])
            if not names:
                self._todo.append(cids.multihash(cid))
            names.append(cid)

    def _below(self, blocks: list[tuple[bytes, bytes]]) -> list[bytes]:
        """What those blocks link to and is not here. Blocking."""
        return self._expand([link for cid, data in blocks for link in _links(cid, data)])

    def _expand(self, todo: list[bytes]) -> list[bytes]:
        """Of these CIDs and all below them that is here, those that are missing, each named once. Blocking."""
        missing: list[bytes] = []
        while todo:
            new = [cid for cid in dict.fromkeys(todo) if cid not in self._seen]
            self._seen.update(new)
            if len(self._seen) > _BLOCKS_MOST:
                raise TooLarge(f"The content has more than {_BLOCKS_MOST} blocks")
            todo = []
            for cid, present in zip(new, self._store.has_many(new), strict=True):
                if not present and cids.multihash(cid) in _EMPTY:
                    self._store.put_many([(cid, b"")])
                elif not present:
                    missing.append(cid)
                elif self._whole and cids.codec(cid) != cids.RAW:
                    todo += _links(cid, self._store.get_or_raise(cid))
        return missing

    async def _flush(self) -> None:
        batch, self._batch, self._batch_size = self._batch, [], 0
        if batch:
            await trio.to_thread.run_sync(self._store.put_many, batch)


def _links(cid: bytes, data: bytes) -> list[bytes]:
    try:
        return dagpb.links_of(cid, data)
    except BadInput as error:
        raise Unprocessable(f"The content under {cids.to_text(cid)} is malformed: {error.detail}") from error
