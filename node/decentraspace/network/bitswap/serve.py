"""Blocks for peers: each peer has a queue of its own, of bounded length, and one answer in memory at a time.

What is asked for is answered in order, as fast as the peer takes it; a peer that takes too slowly loses its
queue. Wants that cannot be met are kept for a while, as the protocol has it: a peer that asks just before
a site arrives gets it without asking again.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice

import trio

from decentraspace.content import cid as cids
from decentraspace.content.blockstore import BlockStore
from decentraspace.errors import BadInput
from decentraspace.network.bitswap.channel import Outgoing
from decentraspace.network.bitswap.wire import MAX_WANTS, Message, Want, encode, prefix

_ANSWER = 256 * 1024  # bytes of blocks in one message, or one block
_SMALL = 1024  # bytes; such a block is the answer also where only whether it is there was asked
_LOOKS = 256  # wants looked up at once
_UNMET_MOST = 256  # wants of one peer that wait for a block to come
_AGAIN = 5.0  # seconds between looks for those
_READS = 2  # threads for all peers

Serves = Callable[[bytes], bool]
"""Whether this node gives the block with that CID (version 1) to anybody. Blocking."""


@dataclass
class Served:
    """Totals since the node started."""

    blocks: int = 0
    bytes: int = 0
    refused: int = 0  # wants beyond what a queue holds


@dataclass
class _Answer:
    message: Message = field(default_factory=Message)
    done: int = 0
    unmet: list[Want] = field(default_factory=list)
    size: int = 0


class Queue:
    """What one peer wants from here. `run` until cancelled, or until the peer is gone or too slow (raises)."""

    def __init__(self, server: Server, out: Outgoing) -> None:
        self._server, self._out = server, out
        self._wants: OrderedDict[bytes, Want] = OrderedDict()
        self._unmet: OrderedDict[bytes, Want] = OrderedDict()
        self._wake = trio.Event()

    def __len__(self) -> int:
        return len(self._wants) + len(self._unmet)

    def take(self, message: Message) -> None:
        if message.full:
            self._wants.clear()
            self._unmet.clear()
        for want in message.wants:
            self._unmet.pop(want.cid, None)
            known = self._wants.get(want.cid)
            if want.cancel:
                self._wants.pop(want.cid, None)
            elif known is not None:
                if known.have:  # who asks for the block need not be told that it is here
                    self._wants[want.cid] = want
            elif len(self._wants) < MAX_WANTS:
                self._wants[want.cid] = want
            else:
                self._server.served.refused += 1
        if self._wants:
            self._wake.set()

    async def run(self) -> None:
        while True:
            with trio.move_on_after(_AGAIN):
                await self._wake.wait()
            self._wake = trio.Event()
            await self._out.rest()
            self._wants.update(self._unmet)
            self._unmet.clear()
            while self._wants:
                await self._answer_some()

    async def _answer_some(self) -> None:
        chosen = list(islice(self._wants.values(), _LOOKS))
        answer = await trio.to_thread.run_sync(self._server.look_up, chosen, limiter=self._server.threads)
        # What was cancelled, or asked for in another way, while it was looked up is not kept.
        done = {want.cid for want in chosen[: answer.done] if self._wants.get(want.cid) == want}
        for cid in done:
            del self._wants[cid]
        for want in answer.unmet:
            if want.cid in done:
                self._unmet[want.cid] = want
        while len(self._unmet) > _UNMET_MOST:
            self._unmet.popitem(last=False)
        if answer.message.blocks or answer.message.presences:
            await self._out.send(encode(answer.message))
            self._server.served.blocks += len(answer.message.blocks)
            self._server.served.bytes += answer.size


class Server:
    """What all queues share."""

    def __init__(self, store: BlockStore, serves: Serves) -> None:
        self._store, self._serves = store, serves
        self.threads = trio.CapacityLimiter(_READS)
        self.served = Served()

    def look_up(self, wants: list[Want]) -> _Answer:
        """The answer to the first of these wants: as many as fit into one message. Blocking."""
        answer = _Answer()
        for want in wants:
            if answer.size >= _ANSWER:
                break
            block = self._block(want)
            given = block is not None and (not want.have or len(block) <= _SMALL)
            if block is not None and given and answer.size and answer.size + len(block) > _ANSWER:
                break
            answer.done += 1
            if block is None:
                if want.dont_have:
                    # Told once; should it come later, the peer will hear of it as if it had not asked so.
                    answer.message.presences.append((want.cid, False))
                answer.unmet.append(want._replace(dont_have=False))
            elif not given:
                answer.message.presences.append((want.cid, True))
            else:
                answer.message.blocks.append((prefix(want.cid), block))
                answer.size += len(block)
        return answer

    def _block(self, want: Want) -> bytes | None:
        """None when it is not here, or not for everybody."""
        try:
            cid = cids.normal(want.cid)
            if cids.identity_data(cid) is not None or not self._serves(cid):
                return None
        except BadInput:
            return None
        return self._store.get(cid)
