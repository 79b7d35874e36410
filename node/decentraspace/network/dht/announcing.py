"""Telling the DHT of the sites this node holds: each root once it is held, and again before servers forget it.

Roots only: a site has thousands of blocks, and announcing each takes a search. Who has found a holder of the
root asks it for the rest. One root is announced at a time, so that this takes a few connections and little
of a core; what waits is the backlog.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Collection, Iterable, Set
from dataclasses import dataclass

import structlog
import trio

from decentraspace.content import cid as cids
from decentraspace.errors import DecentraSpaceError
from decentraspace.network.dht.client import Dht
from decentraspace.network.dht.schedule import Schedule, Waiting

log = structlog.get_logger(__name__)

_LOOK = 5.0  # seconds between looks at what is held
_PAUSE, _PAUSE_MOST = 0.2, 60.0  # seconds after each; doubled while they fail


@dataclass
class Totals:
    """Since the start. `servers` that confirmed the last one; `caught_up`: when nothing waited last, Unix
    seconds, 0 for never."""

    announced: int = 0
    failed: int = 0
    servers: int = 0
    caught_up: float = 0.0


class Announcing:
    """`held()` gives what decides which roots there are, cheaply; `roots()` those roots, and `may(root)`
    whether this node gives it to anybody, both blocking. So is `names()`: IPNS names of the sites and their
    records, each new one of which is published, and again as roots are announced."""

    def __init__(
        self,
        dht: Dht,
        schedule: Schedule,
        held: Callable[[], Collection[bytes]],
        roots: Callable[[], Set[bytes]],
        may: Callable[[bytes], bool],
        names: Callable[[], Iterable[tuple[bytes, bytes]]] = tuple,
    ) -> None:
        self.dht = dht
        self._schedule, self._held, self._roots, self._may = schedule, held, roots, may
        self._names = names
        self._seen: frozenset[bytes] | None = None
        self._published: dict[
            bytes, tuple[bytes, bytes]
        ] = {}  # what stands in the schedule for (name, record)
        self.totals = Totals()

    def waiting(self) -> Waiting:
        """Blocking."""
        return self._schedule.waiting(time.time())

    def trouble(self) -> str:
        """Why nothing can be announced now, "" if it can."""
        if not self.dht.announced():
            return "this node has no address that the DHT's peers could reach (network.announce)"
        if not self.dht.servers:
            return "no server of the DHT is known (network.ipfs_peers)"
        return ""

    async def run(self) -> None:
        """Until cancelled. What fails, also the disk, is tried again."""
        pause = _PAUSE
        while True:
            try:
                failed = self.totals.failed
                if not await self._step():
                    await trio.sleep(_LOOK)
                elif self.totals.failed > failed:
                    pause = min(pause * 2, _PAUSE_MOST)
                else:
                    pause = _PAUSE
            except DecentraSpaceError as error:
                log.warning("dht_schedule_failed", reason=str(error))
                pause = _PAUSE_MOST
            await trio.sleep(pause)

    async def _step(self) -> bool:
        """Announce what has waited longest. False: nothing is due, or nothing can be announced."""
        held = frozenset(self._held())
        if held != self._seen:
            await trio.to_thread.run_sync(self._follow)
            self._seen = held
        root = await trio.to_thread.run_sync(self._schedule.next, time.time())
        if root is None:
            self.totals.caught_up = time.time()
            return False
        if self.trouble():
            return False
        published = self._published.get(root)
        if published is None and not await trio.to_thread.run_sync(self._may, root):
            await trio.to_thread.run_sync(self._schedule.told, root, time.time())  # looked at again then
            return True
        try:
            if published is not None:
                self.totals.servers = await self.dht.publish(*published)
            else:
                self.totals.servers = await self.dht.provide(root)
        except DecentraSpaceError as error:
            self.totals.failed += 1
            log.warning("not_announced", reason=str(error))
            await trio.to_thread.run_sync(self._schedule.failed, root, time.time())
        else:
            self.totals.announced += 1
            what = cids.to_text(root) if published is None else cids.to_text(published[0], "base36")
            log.info("announced", what=what, servers=self.totals.servers)
            await trio.to_thread.run_sync(self._schedule.told, root, time.time())
        return True

    def _follow(self) -> None:
        names = {_entry(*both): both for both in self._names()}
        self._schedule.follow(self._roots() | names.keys(), time.time())
        self._published = names


def _entry(name: bytes, record: bytes) -> bytes:
    """What stands for one record of a name: a later one is another, and due at once."""
    return b"/ipns/" + hashlib.sha256(name + record).digest()
