"""Leaving the network in good order: nothing is let go before enough others hold it.

A node that leaves takes no deploys and no share, and says so; the nodes that come after it in rank copy what
it holds (shares.py). Once they have, it is safe to stop it. A restart takes the leave back.

What they have signed is not enough: a holder counts once it has given a random block of the version since the
leave began (challenges.py), and as long as it goes on answering.
"""

from __future__ import annotations

import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog
import trio

from decentraspace.challenges import Challenges
from decentraspace.errors import DecentraSpaceError
from decentraspace.holdings import Holdings
from decentraspace.identity.keys import peer_id_of
from decentraspace.records.store import RecordStore, SiteHead
from decentraspace.shares import Shares

log = structlog.get_logger(__name__)

_NAMED_MOST = 20
# Seconds from the announcement until what others hold counts: some may be about to let go of what this node
# holds as well, and do not when they have heard of it.
_HEARD = 3.0
_EVERY = 1.0  # seconds between rounds of questions
_AT_ONCE = 16  # questions under way
_ROUND = 1000  # questions of one round
_ASK_AGAIN, _FRESH = 5.0, 20.0  # seconds after which who has answered is asked again, and counts no longer


@dataclass(frozen=True)
class Progress:
    """`heard`: the others have had time to hear of it. `waiting` sites, of `waiting_bytes` bytes, are held
    here and not by enough others; `sites`: the newest versions held here when the leave began, and those that
    have come since. `named`: some that wait. `silent`: peer ids of some that have signed for what waits, and
    do not give it."""

    leaving: bool
    heard: bool
    others: int
    sites: int
    waiting: int
    waiting_bytes: int
    named: tuple[SiteHead, ...]
    silent: tuple[str, ...] = ()

    @property
    def safe(self) -> bool:
        """Whether the node can be stopped without the network losing a copy it counts on."""
        return self.leaving and self.heard and self.waiting == 0


class Leaving:
    """`on_change` announces that the node leaves, or no longer does."""

    def __init__(
        self,
        records: RecordStore,
        shares: Shares,
        holdings: Holdings,
        challenges: Challenges,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._records, self._shares, self._holdings, self.clock = records, shares, holdings, clock
        self.challenges = challenges
        self.on_change: Callable[[], Awaitable[None]] = trio.lowlevel.checkpoint
        self._told: float | None = None  # when the leave was announced
        self._seen: set[bytes] = set()  # versions held at some time since the leave began
        self._given: dict[bytes, set[bytes]] = {}  # root -> who has given a block of it since
        self._answered: dict[bytes, float] = {}  # by key
        self._failed: dict[tuple[bytes, bytes], float] = {}  # (key, root)

    async def set(self, leaving: bool) -> None:
        """Begin to leave, or stay after all. Repeating it changes nothing, unless the announcement failed."""
        if leaving != self._shares.leaving:
            log.info("leaving" if leaving else "staying")
            self._shares.leaving = leaving
            self._seen, self._told = set(), None
            self._given, self._answered, self._failed = {}, {}, {}
        elif self._told is not None or not leaving:
            return
        await self.on_change()
        self._told = self.clock() if leaving else None

    async def run(self) -> None:
        """While the node leaves, have holders show that they are. Until cancelled."""
        while True:
            await trio.sleep(_EVERY)
            if self._told is not None:
                try:
                    await self.ask()
                except DecentraSpaceError as error:  # the disk fails
                    log.warning("holders_not_asked", reason=str(error))

    async def ask(self) -> None:
        """One round of questions: to those whose copies are counted on, and not known to be there."""
        questions = await trio.to_thread.run_sync(self._questions)
        limit = trio.CapacityLimiter(_AT_ONCE)

        async def one(key: bytes, root: bytes) -> None:
            async with limit:
                good = await self.challenges.confirm(key, root)
            if good is not None:
                self._answered[key] = self.clock()
            if good:
                self._given.setdefault(root, set()).add(key)
            else:
                self._given.get(root, set()).discard(key)
                self._failed[key, root] = self.clock()

        async with trio.open_nursery() as nursery:
            for key, root in questions:
                nursery.start_soon(one, key, root)

    def _questions(self) -> list[tuple[bytes, bytes]]:
        """(node, root), each node about each root once in a leave, and now and then about any. Blocking."""
        live, now = self._shares.live(), self.clock()
        found: list[tuple[bytes, bytes]] = []
        again = {key for key, at in self._answered.items() if now - at >= _ASK_AGAIN}
        for head in self._held():
            given, enough = self._given.get(head.root, set()), self._shares.enough(head, live)
            holders = self._shares.holders(head, live)
            for key in holders:
                if key in again and key in given:
                    again.discard(key)
                    found.append((key, head.root))
            if len(given.intersection(holders)) < enough:
                left = [key for key in holders if key not in given and self._may_ask(key, head.root)]
                found += [(key, head.root) for key in random.sample(left, min(enough, len(left)))]
            if len(found) >= _ROUND:
                break
        return found

    def _may_ask(self, key: bytes, root: bytes) -> bool:
        return self.clock() - self._failed.get((key, root), -_ASK_AGAIN) >= _ASK_AGAIN

    def _held(self) -> list[SiteHead]:
        return [head for head in self._records.all_heads() if self._holdings.holds(head.cid)]

    def _counted(self, head: SiteHead, live: frozenset[bytes]) -> frozenset[bytes]:
        """Those that may count as holders of a version."""
        if not self._shares.leaving:
            return live
        given, now = self._given.get(head.root, set()), self.clock()
        return frozenset(
            key for key in given if key in live and now - self._answered.get(key, -_FRESH) < _FRESH
        )

    def progress(self) -> Progress:
        """How far it is. Blocking."""
        live = self._shares.live()
        held = self._held()
        counted = {head.cid: self._counted(head, live) for head in held}
        waiting = [head for head in held if not self._shares.enough_others(head, live, counted[head.cid])]
        if self._shares.leaving:
            self._seen |= {head.cid for head in held}
        silent = {
            key
            for head in waiting[:_NAMED_MOST]
            for key in self._shares.holders(head, live)
            if key not in counted[head.cid]
        }
        return Progress(
            self._shares.leaving,
            self._told is not None and self.clock() - self._told >= _HEARD,
            len(live - {self._shares.key}),
            max(len(held), len(self._seen)),
            len(waiting),
            sum(head.size for head in waiting),
            tuple(waiting[:_NAMED_MOST]),
            tuple(sorted(map(peer_id_of, silent))[:_NAMED_MOST]),
        )
