"""Following what other nodes took: which sites to copy, from whom, how often to try, what to let go.

New heads are followed at once; a look at all sites now and then (shares.py) finds what lacks copies, and
what enough others hold.
"""

from __future__ import annotations

import math
import random
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import structlog
import trio

from decentraspace.carrying_on import carrying_on
from decentraspace.challenges import Challenges
from decentraspace.config import Config
from decentraspace.content import cid as cids
from decentraspace.content.blockstore import BlockStore
from decentraspace.errors import Blocked, DecentraSpaceError, TooLarge, Unprocessable
from decentraspace.holdings import Holdings
from decentraspace.lanes import Channel, Lane, Tries
from decentraspace.network.fetch import Fetcher
from decentraspace.records.store import RecordStore, SiteHead
from decentraspace.shares import Shares

if TYPE_CHECKING:
    from trio_typing import TaskStatus

log = structlog.get_logger(__name__)

# A provider that trickles must not keep other sites from being copied: who does not make it at first goes
# to a lane of its own, and no sponsor's sites take all the places.
_FAST, _FAST_EACH, _FAST_DEADLINE = 4, 2, 15.0  # at once, of one sponsor; seconds
_SLOW, _SLOW_EACH, _SLOW_DEADLINE = 2, 1, 600.0
_TICK = 0.25  # seconds between looks at what is to be tried again
_WITNESS_FIRST, _WITNESS_MOST = 2.0, 3600.0  # seconds between receipts of one site
_WITNESSES_MOST = 10_000  # sites remembered
_PAGE = 500  # channels looked at at once
_VERIFIED = 20  # versions whose blocks are counted after each look


class Copies:
    """`emit` tells plugins (hook name, arguments)."""

    def __init__(
        self,
        config: Config,
        blocks: BlockStore,
        records: RecordStore,
        holdings: Holdings,
        shares: Shares,
        fetcher: Fetcher,
        emit: Callable[..., Awaitable[Any]],
        challenges: Challenges,
    ) -> None:
        self.config, self.blocks, self.records, self.challenges = config, blocks, records, challenges
        self.holdings, self.shares, self.fetcher, self._emit = holdings, shares, fetcher, emit
        self.on_blocked: Callable[[SiteHead], None] = lambda head: None  # it has blocked content in it
        self._queued: set[Channel] = set()
        self._incoming_send, self._incoming = trio.open_memory_channel[Channel](math.inf)
        self._fast, self._slow = Lane(_FAST_EACH), Lane(_SLOW_EACH)
        self._tries = Tries()
        self._witnesses: dict[str, tuple[float, float]] = {}  # site -> (when to sign again, delay after that)

    async def run(self, *, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        await trio.to_thread.run_sync(self.holdings.reconcile)
        await self.holdings.take_back_lost()
        for head in await trio.to_thread.run_sync(self.records.all_heads):
            self.enqueue(head.site_id, head.channel)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._witness_loop)
            nursery.start_soon(self._look_loop)
            nursery.start_soon(self._sort)
            nursery.start_soon(self._try_again)
            for _ in range(_FAST):
                nursery.start_soon(self._lane, self._fast, _FAST_DEADLINE)
            for _ in range(_SLOW):
                nursery.start_soon(self._lane, self._slow, _SLOW_DEADLINE)
            task_status.started()

    def enqueue(self, site_id: str, channel: str) -> None:
        """Have this node follow the head of a channel, soon."""
        if (site_id, channel) not in self._queued:
            self._queued.add((site_id, channel))
            self._incoming_send.send_nowait((site_id, channel))

    def witnessed(self, site_id: str) -> None:
        """Another node has signed a receipt for a version of that site."""
        due, delay = self._witnesses.pop(site_id, (0.0, _WITNESS_FIRST))
        if due > 0.0:
            self._witnesses[site_id] = (due, delay)
        else:
            if len(self._witnesses) >= _WITNESSES_MOST:
                del self._witnesses[next(iter(self._witnesses))]
            self._witnesses[site_id] = (trio.current_time() + delay, min(delay * 4, _WITNESS_MOST))

    async def _witness_loop(self) -> None:
        """Have receipts name the holders that have turned up since, less and less often."""
        while True:
            await trio.sleep(_WITNESS_FIRST / 2)
            now = trio.current_time()
            for site, (due, delay) in list(self._witnesses.items()):
                if 0.0 < due <= now:
                    self._witnesses[site] = (0.0, delay)
                    with carrying_on(log, "receipts_not_renewed"):
                        for channel in await trio.to_thread.run_sync(self.records.channels, site):
                            self.enqueue(site, channel)

    async def _look_loop(self) -> None:
        """Now and then look which sites this node should have and lacks, and which it may let go."""
        while True:
            await trio.sleep(self.config.hosting.check_every * random.uniform(0.75, 1.25))  # noqa: S311
            with carrying_on(log, "shares_not_looked_at"):
                await self.look()
                await self.verify()

    async def look(self) -> None:
        """One look at all sites, a page at a time, so that nothing else has to wait for it."""
        live = await trio.to_thread.run_sync(self.shares.live)
        after = ""
        while True:
            heads = await trio.to_thread.run_sync(self._page, after)
            if not heads:
                return
            wanted, spare = await trio.to_thread.run_sync(self._sorted_out, heads, live)
            for head in wanted:
                self.enqueue(head.site_id, head.channel)
            for head in spare:
                with carrying_on(log, "site_not_let_go"):
                    await self._let_go(head)
            after = heads[-1].site_id

    async def _let_go(self, head: SiteHead) -> None:
        """Once those this node relies on have each given a block, not only signed for it."""
        live = await trio.to_thread.run_sync(self.shares.live)
        relied_on = await trio.to_thread.run_sync(
            self.shares.holders, head, self.shares.relied_on(head, live)
        )
        enough = self.shares.enough(head, live)
        given = await self.challenges.confirmed(head.root, relied_on, enough)
        if len(given) < enough:
            log.warning(
                "copy_kept",
                site=head.site_id,
                channel=head.channel,
                signed=len(relied_on),
                gave=len(given),
                note="others have signed for it, and too few give blocks of it",
            )
            return
        await self.holdings.let_go(head, partial(self._is_spare, head))

    async def verify(self, most: int = _VERIFIED) -> None:
        """See whether some of the versions held are still whole; get what is missing, or take the receipt
        back until it has come."""
        for head in await trio.to_thread.run_sync(self._sample, most):
            if not await trio.to_thread.run_sync(self.blocks.missing, head.root, 1):
                continue
            log.error("site_damaged", site=head.site_id, channel=head.channel, seq=head.seq)
            try:
                await self._bring(head.root, 2 * head.size + 2**20, _SLOW_DEADLINE)
            except DecentraSpaceError as error:
                log.error("site_not_mended", site=head.site_id, reason=str(error))
                async with self.holdings.lock(head.owner):
                    if await self._is_newest(head):
                        await self.holdings.receipts.take_back(head.site_id, head.channel)
            else:
                self.enqueue(head.site_id, head.channel)  # the receipt is given again

    def _sample(self, most: int) -> list[SiteHead]:
        held = self.holdings.all()
        return self.records.versions(random.sample(held, min(most, len(held))))

    def _page(self, after: str) -> list[SiteHead]:
        """Some channels of the sites after one; all channels of a site are in one page."""
        heads = self.records.sites(after=after, limit=_PAGE)
        last = heads[-1].site_id if len(heads) == _PAGE else ""
        whole = [head for head in heads if head.site_id != last]
        return whole or self.records.sites(after=after, limit=-1)

    def _sorted_out(
        self, heads: list[SiteHead], live: frozenset[bytes]
    ) -> tuple[list[SiteHead], list[SiteHead]]:
        """(those that are to be copied, those that may be let go). Blocking."""
        wanted, spare = [], []
        for head in heads:
            wants = self.shares.wants(head, live)
            holds = self.holdings.holds(head.cid)
            if wants and not holds and self._tries.may((head.site_id, head.channel), head.cid):
                wanted.append(head)
            elif not wants and holds and self.shares.may_let_go(head, live):
                spare.append(head)
        return wanted, spare

    async def _sort(self) -> None:
        """Into the lanes, by the node that took the newest version."""
        async for channel in self._incoming:
            with carrying_on(log, "site_not_followed"):
                found = await trio.to_thread.run_sync(self._head_and_sponsor, channel)
                if found is None:
                    self._queued.discard(channel)
                    continue
                head, sponsor = found
                slow = self._tries.failed_before(channel, head.cid)
                (self._slow if slow else self._fast).put(sponsor, channel)

    def _head_and_sponsor(self, channel: Channel) -> tuple[SiteHead, bytes] | None:
        head = self.records.head(*channel)
        return (head, self.records.sponsor(head.cid) or b"") if head is not None else None

    async def _try_again(self) -> None:
        while True:
            await trio.sleep(_TICK)
            for channel in self._tries.due():
                self.enqueue(*channel)

    async def _lane(self, lane: Lane, deadline: float) -> None:
        while True:
            sponsor, channel = await lane.take()
            self._queued.discard(channel)
            try:
                # One site's trouble must not end the copying of all.
                with carrying_on(log, "copy_error"):
                    await self._attempt(channel, deadline)
            finally:
                lane.done(sponsor)

    async def _attempt(self, channel: Channel, deadline: float) -> None:
        head = await trio.to_thread.run_sync(self.records.head, *channel)
        if head is None or not (self.holdings.holds(head.cid) or self._tries.may(channel, head.cid)):
            return
        try:
            await self._follow(head, deadline)
        except (TooLarge, Unprocessable) as error:
            log.warning("copy_refused", site=head.site_id, seq=head.seq, reason=str(error))
            self._tries.refused(channel, head.cid)
        except Blocked as error:
            log.warning("copy_refused", site=head.site_id, seq=head.seq, reason=str(error))
            self.on_blocked(head)
        except DecentraSpaceError as error:
            log.info("copy_failed", site=head.site_id, seq=head.seq, reason=str(error))
            self._tries.failed(channel, head.cid)
        except Exception:
            self._tries.failed(channel, head.cid)
            raise
        else:
            self._tries.succeeded(channel)

    async def _follow(self, head: SiteHead, deadline: float) -> None:
        """Bring this node to `head`: content first, then the pointer, then the receipt, then trimming."""
        holdings = self.holdings
        held = holdings.holds(head.cid)
        if not held:
            wanted = await trio.to_thread.run_sync(self.shares.wants, head)
            if not wanted or await trio.to_thread.run_sync(holdings.index.get, head.host_label) is None:
                # Nothing older to show meanwhile, or no copy wanted: what visitors ask for is fetched then.
                async with holdings.lock(head.owner):
                    if await self._is_newest(head):
                        await holdings.show(head)
            if not wanted:
                # Older versions, of which this node has no newest to go with.
                await holdings.let_go(head, lambda: not holdings.holds(head.cid) and self._is_unwanted(head))
                return
            await self._bring(head.root, 2 * head.size + 2**20, deadline)
        async with holdings.lock(head.owner):
            if not await self._is_newest(head):
                self.enqueue(head.site_id, head.channel)  # a newer version came while this one was copied
                return
            if not holdings.holds(head.cid):
                if held:
                    return  # it was let go while this waited for its turn
                await holdings.hold(head.root, head.cid, head.owner, head.size)
                log.info("site_copied", site=head.site_id, seq=head.seq, root=cids.to_text(head.root))
            await holdings.show(head)
            await holdings.receipt(head)
            await holdings.trim(head.owner)

    def _is_unwanted(self, head: SiteHead) -> bool:
        """Whether it is still the newest version, and no copy is wanted here. Blocking."""
        return self.records.head(head.site_id, head.channel) == head and not self.shares.wants(head)

    def _is_spare(self, head: SiteHead) -> bool:
        return self._is_unwanted(head) and self.shares.may_let_go(head, self.shares.live())

    async def _is_newest(self, head: SiteHead) -> bool:
        return await trio.to_thread.run_sync(self.records.head, head.site_id, head.channel) == head

    async def _bring(self, root: bytes, max_bytes: int, deadline: float) -> None:
        """Get the whole DAG from other nodes or, when none gives it, from where storage plugins keep copies."""
        try:
            await self.fetcher.fetch(root, deadline=deadline, max_bytes=max_bytes)
        except DecentraSpaceError:
            with trio.move_on_after(deadline):
                await self._emit("storage_fetch", cid=cids.to_text(root), max_bytes=max_bytes)
            if await trio.to_thread.run_sync(self.blocks.missing, root, 1):
                raise
