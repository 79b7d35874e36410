"""The copies of sites that a node holds: getting them, pinning them, saying so in receipts, letting go.

A version is *held* when every block of its root is here and pinned; only then is a receipt signed. What
changes a site's pins or the gateway's index happens under that site's lock.
"""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import structlog
import trio

from decentraspace import retention
from decentraspace.config import Config
from decentraspace.content import cid as cids
from decentraspace.content.blockstore import BlockStore
from decentraspace.content.reader import BlockMissing
from decentraspace.content.siteindex import SiteEntry, SiteIndex
from decentraspace.errors import Conflict, DecentraSpaceError, TooLarge, Unprocessable
from decentraspace.identity.keys import NodeKey
from decentraspace.network.fetch import Fetcher
from decentraspace.records.schema import MAX_HOLDERS, PRODUCTION, Receipt
from decentraspace.records.signing import sign_receipt
from decentraspace.records.store import RecordStore, SiteHead
from decentraspace.records.verdict import NetworkRules

if TYPE_CHECKING:
    from trio_typing import TaskStatus

log = structlog.get_logger(__name__)

Channel = tuple[str, str]
"""Site id, name of the channel."""

# A provider that trickles must not keep other sites from being copied: who does not make it at first goes
# to a lane of its own, where each sponsor's sites take at most one place.
_FAST, _FAST_DEADLINE = 4, 15.0  # at once; seconds
_SLOW, _SLOW_DEADLINE = 2, 600.0
_RETRY_FIRST, _RETRY_MOST = 0.25, 3600.0  # seconds between attempts to copy a site
_BUSY = 5.0  # seconds until a sponsor's next site is tried
_WITNESS_FIRST, _WITNESS_MOST = 2.0, 3600.0  # seconds between receipts of one site
_SITE_LOCKS_MOST = 10_000


class Copies:
    """`publish` takes a record of this node: durable when it returns, then gossiped. `emit` tells plugins
    (hook name, arguments). `tier` of a wallet."""

    def __init__(
        self,
        config: Config,
        key: NodeKey,
        rules: NetworkRules,
        blocks: BlockStore,
        records: RecordStore,
        fetcher: Fetcher,
        publish: Callable[[bytes], Awaitable[Any]],
        emit: Callable[..., Awaitable[Any]],
        tier: Callable[[bytes], str],
    ) -> None:
        self.config, self.key, self.rules = config, key, rules
        self.blocks, self.records, self.fetcher = blocks, records, fetcher
        self.index = SiteIndex(blocks)
        self._publish, self._emit, self._tier = publish, emit, tier
        self._locks: dict[str, trio.Lock] = {}
        self._held: dict[bytes, bytes] = {}  # manifest (record CID) -> owner
        self._queued: set[Channel] = set()
        self._attempts: dict[Channel, tuple[bytes, int]] = {}
        self._busy: set[bytes] = set()  # sponsors whose site is in the slow lane
        self._fast_send, self._fast = trio.open_memory_channel[Channel](math.inf)
        self._slow_send, self._slow = trio.open_memory_channel[Channel](math.inf)
        self._mirror_send, self._mirror_queue = trio.open_memory_channel[tuple[str, bytes]](10_000)
        self._witnesses: dict[str, tuple[float, float]] = {}  # site -> (when to sign again, delay after that)
        self.reconciled = False

    def holds(self, manifest: bytes) -> bool:
        """Whether the whole DAG of that version (record CID) is here and pinned."""
        return manifest in self._held

    def lock(self, site_id: str) -> AbstractAsyncContextManager[None]:
        """Held by whoever changes that site here."""
        if len(self._locks) > _SITE_LOCKS_MOST:
            self._locks = {k: lock for k, lock in self._locks.items() if lock.locked()}
        return self._locks.setdefault(site_id, trio.Lock())

    # -- under a site's lock

    async def hold(self, root: bytes, manifest: bytes, owner: bytes, size: int) -> None:
        """Pin the DAG of a version. Repeating it changes nothing.

        Conflict `missing-blocks`, naming them; TooLarge when there is more of it than `size` bytes.
        """
        if manifest in self._held:
            return
        try:
            await trio.to_thread.run_sync(self.blocks.pin, root, _pin_name(manifest))
        except BlockMissing as error:
            missing = await trio.to_thread.run_sync(self.blocks.missing, root)
            raise Conflict(
                f"{len(missing) or 1} or more blocks of the site are not here",
                hint="Upload the blocks named in `missing`, then deploy again.",
                slug="missing-blocks",
                missing=[cids.to_text(c) for c in missing or [error.cid]],
            ) from error
        try:
            found = await trio.to_thread.run_sync(self.blocks.dag_size, root)
            if found > size:
                raise TooLarge(
                    f"The site has {found} bytes of blocks; its manifest says {size}",
                    hint="Sign the manifest with the size of the whole DAG.",
                )
        except BaseException:
            await self.release(root, manifest)
            raise
        self._held[manifest] = owner
        self._mirror("storage_pin", root)

    async def release(self, root: bytes, manifest: bytes) -> None:
        """Undo `hold`, also while being cancelled."""
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(self.blocks.unpin, root, _pin_name(manifest))
        self._held.pop(manifest, None)

    async def show(self, head: SiteHead) -> None:
        """Switch the gateway to `head`, in one transaction."""
        await trio.to_thread.run_sync(self._point, head)

    def _point(self, head: SiteHead) -> None:
        if head.channel == PRODUCTION:
            old = self.index.get(head.host_label)
            flags = old.flags if old is not None else 0  # a new version does not lift what was imposed
            entry = SiteEntry(head.site_id, head.label, head.owner, head.root, head.seq, flags)
            if old != entry:
                self.index.put(head.host_label, entry)

    async def receipt(self, head: SiteHead) -> bytes:
        """This node's receipt for a version it holds: signed once and then always the same, but for a site
        deployed here, whose later receipts name the other nodes that have signed theirs."""
        if head.cid not in self._held:
            raise RuntimeError("a receipt for what is not held")
        receipts = await trio.to_thread.run_sync(self.records.receipts, head.root)
        holders: tuple[bytes, ...] = ()
        if await trio.to_thread.run_sync(self.records.sponsor, head.cid) == self.key.public:
            holders = tuple(r.key for r in receipts if r.key != self.key.public)[:MAX_HOLDERS]
        own = await trio.to_thread.run_sync(
            self.records.receipt_of, self.key.public, head.site_id, head.channel
        )
        if (
            own is not None
            and own.body.held
            and (own.body.root, own.body.seq, own.body.holders) == (head.root, head.seq, holders)
        ):
            return own.record
        now = int(time.time())
        again = own is not None and (not own.body.held or own.body.seq >= head.seq)
        receipt = Receipt(
            root=head.root,
            size=await trio.to_thread.run_sync(self.blocks.dag_size, head.root),
            site=head.site_id,
            channel=head.channel,
            seq=head.seq,
            holders=holders,
            held=True,
            created=max(now, own.body.created + again) if own else now,
        )
        record = sign_receipt(receipt, self.key, self.rules)
        if self.config.hosting.receipts:
            await self._publish(record)
        return record

    async def drop(self, site_id: str, channel: str) -> None:
        """Hold and show a channel no longer that has no version left: its key was revoked."""
        async with self.lock(site_id):
            for root in await trio.to_thread.run_sync(self._drop, site_id, channel):
                self._mirror("storage_unpin", root)
            await self._take_back(site_id, channel)

    async def _take_back(self, site_id: str, channel: str) -> None:
        """Say that this node no longer holds what its receipt for a channel names."""
        own = await trio.to_thread.run_sync(self.records.receipt_of, self.key.public, site_id, channel)
        if own is not None and own.body.held:
            now = max(int(time.time()), own.body.created)
            receipt = replace(own.body, holders=(), held=False, created=now)
            await self._publish(sign_receipt(receipt, self.key, self.rules))

    def _drop(self, site_id: str, channel: str) -> list[bytes]:
        if self.records.head(site_id, channel) is not None:
            return []  # it has a version again
        versions = self.records.history(site_id, channel, limit=-1)
        if channel == PRODUCTION:
            for label in {version.host_label for version in versions}:
                self.index.delete(label)
        return self._let_go(version for version in versions if version.cid in self._held)

    def _trim(self, owner: bytes) -> list[bytes]:
        """Let go of an owner's versions beyond those kept; the roots that no pin holds any more. Blocking."""
        kept = self._kept(owner)
        held = [cid for cid, whose in self._held.items() if whose == owner and cid not in kept]
        return self._let_go(self.records.versions(held))

    def _kept(self, owner: bytes) -> set[bytes]:
        limits = self.config.limits
        most = limits.paid_bytes if self._tier(owner) == "paid" else limits.free_bytes
        return retention.kept(
            self.records.sites(owner, limit=-1),
            self.records.versions([cid for cid, whose in self._held.items() if whose == owner]),
            most_versions=self.config.hosting.keep_versions,
            most_bytes=most,
        )

    def _let_go(self, versions: Iterable[SiteHead]) -> list[bytes]:
        gone: list[bytes] = []
        for version in versions:
            self.blocks.unpin(version.root, _pin_name(version.cid))
            self._held.pop(version.cid, None)
            gone.append(version.root)
        return [root for root in gone if not self.blocks.is_pinned(root)]

    # -- following what others took

    async def run(self, *, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        await trio.to_thread.run_sync(self.reconcile)
        for head in await trio.to_thread.run_sync(self.records.all_heads):
            self.enqueue(head.site_id, head.channel)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._mirror_loop)
            nursery.start_soon(self._witness_loop)
            for _ in range(_FAST):
                nursery.start_soon(self._lane, self._fast, _FAST_DEADLINE, nursery)
            for _ in range(_SLOW):
                nursery.start_soon(self._lane, self._slow, _SLOW_DEADLINE, nursery)
            self.reconciled = True
            task_status.started()

    def reconcile(self) -> None:
        """Make pins and index follow the records, whatever a crash left behind. Blocking."""
        heads = self.records.all_heads()
        live = {head.host_label for head in heads if head.channel == PRODUCTION}
        for label, _ in list(self.index.all()):
            if label not in live:
                self.index.delete(label)
        pinned = [
            (root, cids.parse(name.removeprefix(_PIN)))
            for root, name in self.blocks.pins()
            if name.startswith(_PIN)
        ]
        versions = {v.cid: v for v in self.records.versions([manifest for _, manifest in pinned])}
        for root, manifest in pinned:
            version = versions.get(manifest)
            if version is not None and version.refused is None:
                self._held[manifest] = version.owner
            else:
                self.blocks.unpin(root, _pin_name(manifest))
        for owner in set(self._held.values()):
            self._trim(owner)

    def enqueue(self, site_id: str, channel: str) -> None:
        """Have this node follow the head of a channel, soon."""
        if (site_id, channel) not in self._queued:
            self._queued.add((site_id, channel))
            self._fast_send.send_nowait((site_id, channel))

    def witnessed(self, site_id: str) -> None:
        """Another node has signed a receipt for a version of that site."""
        due, delay = self._witnesses.get(site_id, (0.0, _WITNESS_FIRST))
        if due == 0.0:
            self._witnesses[site_id] = (trio.current_time() + delay, min(delay * 4, _WITNESS_MOST))

    async def _witness_loop(self) -> None:
        """Have receipts name the holders that have turned up since, less and less often."""
        while True:
            await trio.sleep(_WITNESS_FIRST / 2)
            now = trio.current_time()
            for site, (due, delay) in list(self._witnesses.items()):
                if 0.0 < due <= now:
                    self._witnesses[site] = (0.0, delay)
                    for channel in await trio.to_thread.run_sync(self.records.channels, site):
                        self.enqueue(site, channel)

    async def _lane(
        self, queue: trio.MemoryReceiveChannel[Channel], deadline: float, nursery: trio.Nursery
    ) -> None:
        async for channel in queue:
            self._queued.discard(channel)
            try:
                await self._attempt(channel, deadline, nursery)
            except Exception as error:
                # One site's trouble must not end the copying of all.
                log.exception("copy_error", site=channel[0], error=repr(error))
                self._retry(channel, b"", nursery)

    async def _attempt(self, channel: Channel, deadline: float, nursery: trio.Nursery) -> None:
        head = await trio.to_thread.run_sync(self.records.head, *channel)
        if head is None:
            return
        sponsor: bytes | None = b""
        if deadline > _FAST_DEADLINE:
            sponsor = await trio.to_thread.run_sync(self.records.sponsor, head.cid)
            if sponsor in self._busy:
                nursery.start_soon(self._later, _BUSY, channel)
                return
            self._busy.add(sponsor or b"")
        try:
            await self._follow(head, deadline)
            self._attempts.pop(channel, None)
        except (TooLarge, Unprocessable) as error:
            log.warning("copy_refused", site=head.site_id, seq=head.seq, reason=str(error))
        except DecentraSpaceError as error:
            log.info("copy_failed", site=head.site_id, seq=head.seq, reason=str(error))
            self._retry(channel, head.cid, nursery)
        finally:
            if sponsor:
                self._busy.discard(sponsor)

    def _retry(self, channel: Channel, head: bytes, nursery: trio.Nursery) -> None:
        of, count = self._attempts.get(channel, (head, 0))
        count = count + 1 if of == head else 1
        self._attempts[channel] = (head, count)
        nursery.start_soon(self._later, min(_RETRY_FIRST * 2 ** min(count, 20), _RETRY_MOST), channel)

    async def _later(self, delay: float, channel: Channel) -> None:
        await trio.sleep(delay)
        if channel not in self._queued:
            self._queued.add(channel)
            self._slow_send.send_nowait(channel)

    async def _follow(self, head: SiteHead, deadline: float) -> None:
        """Bring this node to `head`: content first, then the pointer, then the receipt, then trimming."""
        wanted = self.config.hosting.replicate and head.size <= self.config.hosting.max_site_bytes
        if head.cid not in self._held:
            if not wanted or await trio.to_thread.run_sync(self.index.get, head.host_label) is None:
                # Nothing older to show meanwhile, or no copy wanted: what visitors ask for is fetched then.
                async with self.lock(head.site_id):
                    if await self._is_newest(head):
                        await self.show(head)
            if not wanted:
                return
            await self._bring(head.root, 2 * head.size + 2**20, deadline)
        async with self.lock(head.site_id):
            if not await self._is_newest(head):
                self.enqueue(head.site_id, head.channel)  # a newer version came while this one was copied
                return
            if head.cid not in self._held:
                await self.hold(head.root, head.cid, head.owner, head.size)
                log.info("site_copied", site=head.site_id, seq=head.seq, root=cids.to_text(head.root))
            await self.show(head)
            await self.receipt(head)
            for root in await trio.to_thread.run_sync(self._trim, head.owner):
                self._mirror("storage_unpin", root)

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

    # -- storage plugins

    def _mirror(self, hook: str, root: bytes) -> None:
        """Have storage plugins follow, in the background."""
        try:
            self._mirror_send.send_nowait((hook, root))
        except trio.WouldBlock:
            log.warning("mirror_backlog", root=cids.to_text(root), note="storage plugins are too slow")

    async def _mirror_loop(self) -> None:
        async for hook, root in self._mirror_queue:
            await self._emit(hook, cid=cids.to_text(root))


_PIN = "site:"


def _pin_name(manifest: bytes) -> str:
    return _PIN + cids.to_text(manifest)
