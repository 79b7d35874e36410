"""Which sites this node should hold, and which it may let go: its share of the network's.

The R nodes that come first for a site (placement.py) hold it, and the node that took the deploy; R is in the
site's record, so that all read the same. Who comes after them steps in, one after the other, when for a while
fewer than R live nodes hold it; nobody lets go before R others do. What counts as holding is a signed receipt that
spot checks have not refuted; who lets go asks those it relies on once more (copies.py).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection

from decentraspace.config import Config
from decentraspace.placement import rank, score
from decentraspace.records.store import RecordStore, SiteHead

_STEP = 2  # checks that a site must be found short before the next node in line steps in
_MARKS_MOST = 100_000


class Shares:
    """`connected` gives peer ids; `refuted(key, root)`: whether spot checks say a node does not hold it;
    `refused`: why this node's operator does not want a version, None if there is no such reason; `room`:
    whether the store has room for other nodes' sites."""

    def __init__(
        self,
        config: Config,
        key: bytes,
        records: RecordStore,
        connected: Callable[[], Collection[str]] = tuple,
        refuted: Callable[[bytes, bytes], bool] = lambda key, root: False,
        refused: Callable[[SiteHead], object] = lambda head: None,
        clock: Callable[[], float] = time.monotonic,
        room: Callable[[], bool] = lambda: True,
    ) -> None:
        self.config, self.key, self.records = config, key, records
        self.connected, self.refuted, self.refused, self._clock = connected, refuted, refused, clock
        self.room = room
        self.leaving = False
        self.unpaid: Callable[[str], bool] = lambda site: (
            False
        )  # for so long that it is not kept; must not block
        self._short: dict[bytes, float] = {}  # manifest -> since when too few hold it
        self._spare: dict[bytes, float] = {}  # manifest -> since when enough others hold it

    @property
    def willing(self) -> bool:
        """Whether this node takes a share at all; it says so by the capacity it announces."""
        return self.config.hosting.replicate and not self.leaving

    def live(self) -> frozenset[bytes]:
        """Keys of the nodes that share the work: announced lately, or connected now. Blocking."""
        now = int(time.time())
        fresh = now - self.config.hosting.live_for
        connected = set(self.connected())
        nodes = {
            node.key
            for node in self.records.nodes(now)
            if node.body.capacity > 0
            and node.body.gateway
            and (node.body.created >= fresh or node.peer_id in connected)
        }
        return frozenset(nodes - {self.key} | ({self.key} if self.willing else set()))

    def others(self, head: SiteHead, live: Collection[bytes]) -> int:
        """How many live nodes besides this one hold the content of a version. Blocking."""
        return len(self.holders(head, live))

    def holders(self, head: SiteHead, live: Collection[bytes]) -> list[bytes]:
        """Keys of the live nodes besides this one that hold the content of a version. Blocking."""
        return [
            key
            for key in self.records.holders(head.root)
            if key in live and key != self.key and not self.refuted(key, head.root)
        ]

    def replicas(self, head: SiteHead) -> int:
        """How many nodes should hold a version, 0: every one. What a record asks for is bounded here: any node may
        have taken it, and granted its owner whatever it likes."""
        hosting = self.config.hosting
        return hosting.replicas if head.replicas is None else min(head.replicas, hosting.replicas_max)

    def enough(self, head: SiteHead, live: Collection[bytes]) -> int:
        """How many others should hold a version: as many as are there, where they are few."""
        return min(self.replicas(head) or len(live), len(set(live) - {self.key}))

    def copies(self, head: SiteHead, held: bool) -> tuple[int, int]:
        """(nodes that should hold a version, live nodes that do); `held`: whether this one does. Blocking."""
        live = self.live()
        return self.replicas(head) or len(live), self.others(head, live) + held

    def wants(self, head: SiteHead, live: Collection[bytes] | None = None) -> bool:
        """Whether this node should have a copy of that version now. Blocking."""
        hosting = self.config.hosting
        if not self.willing or head.size > hosting.max_site_bytes or self.refused(head) is not None:
            return False
        if self.unpaid(head.site_id):
            return False
        live = self.live() if live is None else live
        if self._share(head, live) and self.room():
            return True
        return self.records.sponsor(head.cid) == self.key  # last: it has to be looked up for each

    def _share(self, head: SiteHead, live: Collection[bytes]) -> bool:
        hosting, replicas = self.config.hosting, self.replicas(head)
        place = rank(head.site_id, live, self.key)
        if hosting.replicas == 0 or place < replicas:
            return True
        if self.others(head, live) >= replicas:
            self._short.pop(head.cid, None)
            return False
        since = self._mark(self._short, head.cid)
        return self._clock() - since >= (place - replicas + 1) * _STEP * hosting.check_every

    def may_let_go(self, head: SiteHead, live: Collection[bytes]) -> bool:
        """Whether a copy that is not wanted any more has been spare for long enough. Blocking.

        The holders that count are those before this node in rank: were it all others, holders that look at
        the same time would each count on the rest, and let go together.
        """
        if not self.enough_others(head, live, self.relied_on(head, live)):
            self._spare.pop(head.cid, None)
            return False
        since = self._mark(self._spare, head.cid)
        return self.leaving or self._clock() - since >= self.config.hosting.release_after

    def enough_others(
        self, head: SiteHead, live: Collection[bytes], counted: Collection[bytes] | None = None
    ) -> bool:
        """Whether as many others of `counted` (all that live) hold a version as should. Blocking."""
        enough = self.enough(head, live)
        return enough >= 1 and self.others(head, live if counted is None else counted) >= enough

    def relied_on(self, head: SiteHead, live: Collection[bytes]) -> Collection[bytes]:
        """Who may count as a holder when this node lets go."""
        if self.key not in live:
            return live  # nobody counts on this one
        own = score(head.site_id, self.key)
        return {node for node in live if score(head.site_id, node) > own}

    def _mark(self, marks: dict[bytes, float], manifest: bytes) -> float:
        if len(marks) > _MARKS_MOST:
            marks.clear()
        return marks.setdefault(manifest, self._clock())
