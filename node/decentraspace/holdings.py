"""The versions of sites that a node holds: pinned, receipted, shown, let go.

A version is *held* when every block of its root is here and pinned; only then is a receipt signed. What
changes an owner's pins or the gateway's index of them happens under that owner's lock.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeVar

import structlog
import trio

from decentraspace import mirroring, retention
from decentraspace.config import Config
from decentraspace.content import cid as cids
from decentraspace.content.blockstore import BlockStore
from decentraspace.content.ipns import SiteNames
from decentraspace.content.reader import BlockMissing
from decentraspace.content.siteindex import FLAG_BLOCKED, FLAG_GONE, FLAG_PAUSED, SiteEntry, SiteIndex
from decentraspace.errors import Conflict, TooLarge
from decentraspace.identity.keys import NodeKey
from decentraspace.names import published
from decentraspace.receipts import Receipts
from decentraspace.records.schema import PRODUCTION, host_label
from decentraspace.records.store import RecordStore, SiteHead
from decentraspace.records.verdict import NetworkRules

log = structlog.get_logger(__name__)
T = TypeVar("T")

_LOCKS_MOST = 10_000
_PINNING = 2  # threads: counting a large DAG keeps the others' waiting, and they must not be all there are
_PIN = mirroring.SITE


class Holdings:
    """`publish` takes a record of this node: durable when it returns, then gossiped. `tier` of a wallet.
    `flags` that the operator imposes on a site of an owner."""

    def __init__(
        self,
        config: Config,
        key: NodeKey,
        rules: NetworkRules,
        blocks: BlockStore,
        records: RecordStore,
        publish: Callable[[bytes], Awaitable[Any]],
        tier: Callable[[bytes], str],
        flags: Callable[[str, bytes], int] = lambda site, owner: 0,
    ) -> None:
        self.config, self.key, self.rules = config, key, rules
        self.blocks, self.records = blocks, records
        self.index, self._names = SiteIndex(blocks), SiteNames(blocks)
        self.receipts = Receipts(config, key, rules, blocks, records, publish)
        self._tier, self._flags = tier, flags
        self._pinning = trio.CapacityLimiter(_PINNING)
        self._locks: dict[bytes, trio.Lock] = {}
        self._held: dict[bytes, bytes] = {}  # manifest (record CID) -> owner
        self._of: dict[bytes, set[bytes]] = {}  # owner -> manifests
        self.paused: Callable[[str], bool] = lambda site: False  # for want of credit; must not block
        self.on_pins: Callable[[bytes], None] = lambda root: None  # a root was pinned, or no longer is

    def reconcile(self) -> None:
        """Make pins and index follow the records, whatever a crash left behind. Blocking."""
        heads = self.records.all_heads()
        live = {head.host_label for head in heads}
        self.index.complete()
        for label, _ in list(self.index.all()):
            if label not in live:
                self.index.delete(label)
                self._names.set(label, None)
        pinned = [
            (root, cids.parse(name.removeprefix(_PIN)))
            for root, name in self.blocks.pins()
            if name.startswith(_PIN)
        ]
        versions = {v.cid: v for v in self.records.versions([manifest for _, manifest in pinned])}
        for root, manifest in pinned:
            version = versions.get(manifest)
            if version is not None and version.refused is None:
                self._note(manifest, version.owner)
            else:
                self.blocks.unpin(root, _pin_name(manifest))
        for owner in list(self._of):
            self._trim(owner)

    def _note(self, manifest: bytes, owner: bytes) -> None:
        self._held[manifest] = owner
        self._of.setdefault(owner, set()).add(manifest)

    def _forget(self, manifest: bytes) -> None:
        owner = self._held.pop(manifest, None)
        if owner is not None:
            self._of[owner].discard(manifest)
            if not self._of[owner]:
                del self._of[owner]

    def holds(self, manifest: bytes) -> bool:
        """Whether the whole DAG of that version (record CID) is here and pinned."""
        return manifest in self._held

    def all(self) -> list[bytes]:
        """Manifests (record CIDs) of the versions held."""
        return list(self._held)

    def lock(self, owner: bytes) -> AbstractAsyncContextManager[None]:
        """Held by whoever changes that owner's sites here: what one may have is counted over all of them."""
        if len(self._locks) > _LOCKS_MOST:
            self._locks = {k: lock for k, lock in self._locks.items() if lock.locked()}
        return self._locks.setdefault(owner, trio.Lock())

    async def hold(self, root: bytes, manifest: bytes, owner: bytes, size: int) -> None:
        """Pin the DAG of a version. Repeating it changes nothing.

        Conflict `missing-blocks`, naming them; TooLarge when there is more of it than `size` bytes.
        """
        if manifest in self._held:
            await self._check_whole(root)  # a disk may have lost some of it since
            return
        try:
            await self._thread(self.blocks.pin, root, _pin_name(manifest))
        except BlockMissing as error:
            raise await self._missing(root, error.cid) from error
        try:
            # What is counted already was not looked at again.
            found = await self._check_whole(root)
            if found > size:
                raise TooLarge(
                    f"The site has {found} bytes of blocks; its manifest says {size}",
                    hint="Sign the manifest with the size of the whole DAG.",
                )
        except BaseException:
            await self.release(root, manifest)
            raise
        self._note(manifest, owner)
        self.on_pins(root)

    async def _check_whole(self, root: bytes) -> int:
        """Bytes of the DAG. Conflict `missing-blocks`."""
        try:
            return await trio.to_thread.run_sync(self.blocks.dag_size, root)
        except BlockMissing as error:
            raise await self._missing(root, error.cid) from error

    async def _missing(self, root: bytes, one: bytes) -> Conflict:
        missing = await trio.to_thread.run_sync(self.blocks.missing, root)
        return Conflict(
            f"{len(missing) or 1} or more blocks of the site are not here",
            hint="Upload the blocks named in `missing`, then deploy again.",
            slug="missing-blocks",
            missing=[cids.to_text(c) for c in missing or [one]],
        )

    async def _thread(self, work: Callable[..., T], *arguments: Any) -> T:
        """In one of the few threads that pins are counted in."""
        return await trio.to_thread.run_sync(work, *arguments, limiter=self._pinning)

    async def release(self, root: bytes, manifest: bytes) -> None:
        """Undo `hold`, also while being cancelled."""
        with trio.CancelScope(shield=True):
            await self._thread(self.blocks.unpin, root, _pin_name(manifest))
        self._forget(manifest)
        self.on_pins(root)

    async def show(self, head: SiteHead) -> None:
        """Switch the gateway to `head`, in one transaction."""
        await trio.to_thread.run_sync(self._point, head)

    def _point(self, head: SiteHead) -> None:
        old = self.index.get(head.host_label)
        # What is imposed is imposed on the site: a preview that is new has it from production.
        before = old or self.index.get(host_label(head.label, PRODUCTION, head.site_id))
        flags = self._imposed(head.site_id, head.owner, before.flags if before is not None else 0)
        entry = SiteEntry(head.site_id, head.label, head.owner, head.root, head.seq, flags)
        if old != entry:
            self.index.put(head.host_label, entry)
        if head.channel == PRODUCTION:
            named = published.of_site(self.records, head.site_id)
            if named is None:
                self._names.set(head.host_label, None)
            else:
                self._names.set(head.host_label, named.name, named.record)

    def _imposed(self, site_id: str, owner: bytes, flags: int) -> int:
        """A new version does not lift what was imposed on the one before."""
        paused = FLAG_PAUSED if self.paused(site_id) else 0
        return flags & ~(FLAG_BLOCKED | FLAG_GONE | FLAG_PAUSED) | self._flags(site_id, owner) | paused

    async def flag(self) -> None:
        """Have the gateway's index follow what the operator imposes by now."""
        for label, entry in await trio.to_thread.run_sync(lambda: list(self.index.all())):
            if self._imposed(entry.site_id, entry.owner, entry.flags) != entry.flags:
                async with self.lock(entry.owner):
                    await trio.to_thread.run_sync(self._flag, label)

    def _flag(self, label: str) -> None:
        entry = self.index.get(label)
        if entry is not None:
            flags = self._imposed(entry.site_id, entry.owner, entry.flags)
            self.index.put(label, entry._replace(flags=flags))

    async def receipt(self, head: SiteHead) -> bytes:
        """This node's receipt for a version it holds."""
        if head.cid not in self._held:
            raise RuntimeError("a receipt for what is not held")
        return await self.receipts.give(head)

    async def drop(self, site_id: str, channel: str) -> None:
        """Hold and show a channel no longer that has no version left: its key was revoked."""
        versions = await trio.to_thread.run_sync(self.records.history, site_id, channel, 1)
        if not versions:
            return
        async with self.lock(versions[0].owner):
            if await trio.to_thread.run_sync(self.records.head, site_id, channel) is not None:
                return  # it has a version again
            # The receipt first: after a crash in between nobody counts on what is not here.
            await self.receipts.take_back(site_id, channel)
            for root in await self._thread(self._drop, site_id, channel):
                self.on_pins(root)

    async def moved(self, site_id: str) -> None:
        """A site has another owner: what is held of it counts as that one's, and the gateway knows whose it is."""
        for channel in await trio.to_thread.run_sync(self.records.channels, site_id):
            versions = await trio.to_thread.run_sync(
                lambda channel=channel: self.records.history(site_id, channel, -1)
            )
            if not versions:
                continue
            async with self.lock(versions[0].owner):
                for version in versions:
                    if version.cid in self._held:
                        self._forget(version.cid)
                        self._note(version.cid, version.owner)
                head = await trio.to_thread.run_sync(self.records.head, site_id, channel)
                if head is not None and self.index.get(head.host_label) is not None:
                    await self.show(head)

    async def take_back_lost(self) -> None:
        """At the start, after `reconcile`: say so of what this node has signed for and its disk has lost, before
        it is fetched again. Others must not count on it meanwhile."""
        held = {version.root for version in await trio.to_thread.run_sync(self.versions)}
        for site_id, channel, root in await trio.to_thread.run_sync(self.records.signed_for, self.key.public):
            if root not in held:
                log.error("copy_lost", site=site_id, channel=channel, root=cids.to_text(root))
                await self.receipts.take_back(site_id, channel)

    def _drop(self, site_id: str, channel: str) -> list[bytes]:
        versions = self.records.history(site_id, channel, limit=-1)
        for label in {version.host_label for version in versions}:
            self.index.delete(label)
            self._names.set(label, None)
        return self._release(site_id, channel)

    async def trim(self, owner: bytes) -> None:
        """Let go of an owner's versions beyond those kept."""
        for root in await self._thread(self._trim, owner):
            self.on_pins(root)

    def _trim(self, owner: bytes) -> list[bytes]:
        """The roots that no pin holds any more. Blocking.

        Other sites of the owner change meanwhile: only what was held before the newest versions were asked for
        can be old.
        """
        held = self.records.versions(list(self._of.get(owner, ())))
        limits = self.config.limits
        most = limits.paid_bytes if self._tier(owner) == "paid" else limits.free_bytes
        kept = retention.kept(
            self.records.sites(owner, limit=-1),
            held,
            most_versions=self.config.hosting.keep_versions,
            most_bytes=most,
        )
        return self._let_go(version for version in held if version.cid not in kept)

    def _let_go(self, versions: Iterable[SiteHead]) -> list[bytes]:
        gone: list[bytes] = []
        for version in versions:
            self.blocks.unpin(version.root, _pin_name(version.cid))
            self._forget(version.cid)
            gone.append(version.root)
        return [root for root in gone if not self.blocks.is_pinned(root)]

    async def let_go(self, head: SiteHead, still: Callable[[], bool]) -> None:
        """All versions of a channel, held by others. The receipt goes first: who counts holders must not
        count on this node. `still` (blocking): whether it is to be let go once it is this one's turn: a deploy
        may have come before."""
        async with self.lock(head.owner):
            if not await trio.to_thread.run_sync(still):
                return
            await self.receipts.take_back(head.site_id, head.channel)
            gone = await self._thread(self._release, head.site_id, head.channel)
        for root in gone:
            self.on_pins(root)
            log.info("site_let_go", site=head.site_id, channel=head.channel, seq=head.seq)

    def versions(self) -> list[SiteHead]:
        """All that are held. Blocking."""
        return self.records.versions(list(self._held))

    async def refuse(self, version: SiteHead) -> None:
        """Let go of one version that the operator does not want; where it is the newest, with its receipt."""
        async with self.lock(version.owner):
            head = await trio.to_thread.run_sync(self.records.head, version.site_id, version.channel)
            if head is not None and head.cid == version.cid:
                await self.receipts.take_back(version.site_id, version.channel)
            gone = await self._thread(self._let_go, [version])
        for root in gone:
            self.on_pins(root)

    def _release(self, site_id: str, channel: str) -> list[bytes]:
        versions = self.records.history(site_id, channel, limit=-1)
        return self._let_go(version for version in versions if version.cid in self._held)


def _pin_name(manifest: bytes) -> str:
    return _PIN + cids.to_text(manifest)
