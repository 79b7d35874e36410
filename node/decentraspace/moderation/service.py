"""Moderation of one node: its decisions and lists as rules, asked wherever content comes in or is held."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

import structlog
import trio

from decentraspace.carrying_on import carrying_on
from decentraspace.config import Config
from decentraspace.content import cid as cids
from decentraspace.content import denied
from decentraspace.content.blockstore import BlockStore
from decentraspace.content.denied import Denied, DenyRules
from decentraspace.content.denylist import GONE
from decentraspace.content.siteindex import FLAG_BLOCKED, FLAG_GONE
from decentraspace.errors import Blocked, DecentraSpaceError
from decentraspace.identity.keys import NodeKey
from decentraspace.moderation.decisions import Decision, Decisions, Made
from decentraspace.moderation.lists import Lists
from decentraspace.moderation.reports import Reports
from decentraspace.moderation.targets import Target
from decentraspace.records.store import SiteHead

if TYPE_CHECKING:
    from trio_typing import TaskStatus

D = TypeVar("D", Decision, Made)

log = structlog.get_logger(__name__)

_LOOK = 0.5  # seconds between looks at the files of denylists
_LOOK_AGAIN = 60.0  # seconds; after a failure, or a change that came while it looked
_TAINTED_MOST = 100_000


class Moderation:
    """`enforce(whole)` is called when rules have changed: at once for what is named by them, and with True,
    in the background, for what contains blocked blocks somewhere."""

    def __init__(self, config: Config, key: NodeKey, blocks: BlockStore) -> None:
        self._blocks = blocks
        self.rules = DenyRules(blocks)
        self.decisions = Decisions(config.data_dir / "moderation.sqlite", key)
        self.reports = Reports(self.decisions)
        self.rules.tidy()
        self._applied = -1  # generation of rules that pins and index follow
        self.rules.set_own(self.decisions.rules())
        self.lists = Lists(self.rules, config.moderation.denylists)
        self._lock, self._applying = trio.Lock(), trio.Lock()
        self._wake = trio.Event()
        self._tainted: dict[bytes, tuple[int, DecentraSpaceError]] = {}  # manifest -> (generation, why)
        self.enforce: Callable[[bool], Awaitable[None]] | None = None
        # (root, pin's name). The API, once it runs, has it forget what it lists and charges for as well; what
        # is unpinned before that, it forgets when it starts.
        self.drop_upload: Callable[[bytes, str], None] = blocks.unpin
        blocks.guard = self._guard

    def close(self) -> None:
        self.decisions.close()

    async def load(self) -> None:
        """Read the lists that have changed. A list that cannot be read leaves what it said before in force."""
        with carrying_on(log, "denylists_not_followed"):
            async with self._lock:
                await trio.to_thread.run_sync(self.lists.update)

    async def run(self, *, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Follow decisions and the lists' files until cancelled; started when pins follow them."""
        with carrying_on(log, "rules_not_applied"):
            await self._apply()
        task_status.started()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._look_inside)
            while True:
                await trio.sleep(_LOOK)
                await self.load()
                with carrying_on(log, "rules_not_applied"):
                    await self._apply()

    async def _apply(self) -> None:
        """Have index and pins follow the rules as they are now."""
        async with self._applying:
            generation = self.rules.state.generation
            if generation != self._applied and self.enforce is not None:
                await self.enforce(False)
                self._applied = generation
                self._wake.set()

    async def _look_inside(self) -> None:
        """Once for every change, let go of what has a blocked block anywhere in it."""
        while True:
            generation = str(self.rules.state.generation).encode()
            with carrying_on(log, "blocked_content_not_looked_for"):
                done = await trio.to_thread.run_sync(self.decisions.get_meta, "looked")
                if done != generation and self.enforce is not None:
                    await self.enforce(True)
                    await trio.to_thread.run_sync(self.decisions.set_meta, "looked", generation)
            with trio.move_on_after(_LOOK_AGAIN):
                await self._wake.wait()
            self._wake = trio.Event()

    # -- decisions

    async def block(self, target: Target, **facts: Any) -> Made:
        """See Decisions.block; when it returns, gateway workers refuse it, or will within a second."""
        return await self._decide(lambda: self.decisions.block(target, **facts))

    async def unblock(self, target: Target | int, **facts: Any) -> Decision:
        return await self._decide(lambda: self.decisions.unblock(target, **facts))

    async def _decide(self, decide: Callable[[], D]) -> D:
        def work() -> D:
            decision = decide()
            self.rules.set_own(self.decisions.rules())
            return decision

        # What was decided is done, whether or not the administrator waits for the answer.
        with trio.CancelScope(shield=True):
            async with self._lock:
                decision = await trio.to_thread.run_sync(work)
            await self._apply()
        return decision

    # -- questions, all blocking but short

    def imposed(self, site_id: str, owner: bytes) -> Denied | None:
        """The operator's decision about a site or about its owner."""
        return self.rules.imposed(denied.site_digest(site_id)) or self.rules.imposed(
            denied.owner_digest(owner)
        )

    def flags(self, site_id: str, owner: bytes) -> int:
        """Those of the gateway's index that such a decision sets."""
        found = self.imposed(site_id, owner)
        if found is None:
            return 0
        return FLAG_BLOCKED | (FLAG_GONE if found.status == GONE else 0)

    def refusal(self, site_id: str, owner: bytes, root: bytes) -> DecentraSpaceError | None:
        """Why this node neither takes nor holds such a version; None if it may."""
        found = self.imposed(site_id, owner)
        if found is not None:
            return found.error(f"Site {site_id}")
        found = self.rules.find(root)
        return found.error(f"The content {cids.to_text(root)}") if found is not None else None

    def refused(self, head: SiteHead) -> DecentraSpaceError | None:
        """As `refusal`; also for what was found to have blocked content in it, while the rules are the same."""
        generation, why = self._tainted.get(head.cid, (-1, None))
        if generation == self.rules.state.generation:
            return why
        return self.refusal(head.site_id, head.owner, head.root)

    def taint(self, head: SiteHead) -> None:
        """That version has blocked content somewhere in it: it is not tried again before the rules change."""
        if len(self._tainted) >= _TAINTED_MOST:
            self._tainted.clear()
        why = Blocked(f"The content {cids.to_text(head.root)} has blocked content in it")
        self._tainted[head.cid] = self.rules.state.generation, why

    def _guard(self, cid: bytes, txn: Any) -> DecentraSpaceError | None:
        found = self.rules.find_block(cid, txn=txn)
        return found.error(f"Block {cids.to_text(cid)}") if found is not None else None
