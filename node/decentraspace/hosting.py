"""What a node does with sites: take a deploy, hold copies of what others took, say so in receipts.

Order of a deploy, each step durable before the next: the whole DAG is present and pinned; the record is
committed; the gateway's index points at it; the receipt is signed and stored. Only then is the deploy
acknowledged, and only then gossiped. A crash in between leaves at most a pin without a record, which
`reconcile` removes at the next start.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import structlog
import trio

from decentraspace.config import Config
from decentraspace.content import cid as cids
from decentraspace.content.blockstore import BlockStore
from decentraspace.content.reader import BlockMissing
from decentraspace.content.siteindex import SiteEntry, SiteIndex
from decentraspace.errors import BadInput, Conflict, DecentraSpaceError, Forbidden, NotFound, PaymentRequired
from decentraspace.identity.ethereum import checksum_address
from decentraspace.identity.keys import NodeKey, peer_id_of
from decentraspace.identity.siwe import rfc3339
from decentraspace.network.fetch import Fetcher
from decentraspace.records.schema import MAX_HOLDERS, NodeAnnouncement, Receipt, Revocation, SiteManifest
from decentraspace.records.signing import sign_announcement, sign_receipt, sponsor
from decentraspace.records.store import AddResult, RecordStore, SiteHead
from decentraspace.records.verdict import NetworkRules, RecordRefused, verify

if TYPE_CHECKING:
    from trio_typing import TaskStatus

log = structlog.get_logger(__name__)

PRODUCTION = "production"
_COPIES_AT_ONCE = 4
_RETRY_FIRST, _RETRY_MOST = 0.25, 120.0  # seconds between attempts to copy a site
_WITNESS_EVERY = 2.0  # seconds
_SITE_LOCKS_MOST = 10_000


@dataclass(frozen=True)
class Deployed:
    """A deploy this node has taken. `receipt` is the node's signed statement (a record block) that it
    holds every block of `head.root`; `holders` are peer ids of nodes known to hold a full copy."""

    receipt: bytes
    head: SiteHead
    urls: dict[str, str]
    holders: list[str]


class Hosting:
    """See the module. `publish` gossips an envelope; `emit` tells plugins (hook name, arguments)."""

    def __init__(
        self,
        config: Config,
        key: NodeKey,
        rules: NetworkRules,
        blocks: BlockStore,
        records: RecordStore,
        fetcher: Fetcher,
        publish: Callable[[bytes], Awaitable[None]],
        emit: Callable[..., Awaitable[Any]],
        tier: Callable[[bytes], str],
    ) -> None:
        self.config, self.key, self.rules = config, key, rules
        self.blocks, self.records, self.fetcher = blocks, records, fetcher
        self.index = SiteIndex(blocks)
        self._publish, self._emit, self._tier = publish, emit, tier
        self._locks: dict[str, trio.Lock] = {}
        self._held: set[bytes] = set()  # manifests (record CIDs) whose DAG is whole and pinned here
        self._queued: set[tuple[str, str]] = set()
        self._attempts: dict[bytes, int] = {}
        self._send, self._receive = trio.open_memory_channel[tuple[str, str]](float("inf"))
        self._outbox_send, self._outbox = trio.open_memory_channel[bytes](1000)
        self._mirror_send, self._mirror_queue = trio.open_memory_channel[tuple[str, bytes]](10_000)
        self._witnessed: set[str] = set()  # sites for which other nodes have signed receipts lately
        self.reconciled = False

    # -- taking deploys

    async def deploy(self, owner: bytes, record: bytes) -> Deployed:
        """Take a signed site manifest of `owner` whose blocks were uploaded before.

        Errors: Forbidden (another's), Conflict `missing-blocks` or `stale-sequence`, PaymentRequired
        (tier limits), RecordRefused. Repeating a deploy that was taken answers the same again.
        """
        verified = await trio.to_thread.run_sync(verify, record, self.rules)
        manifest = verified.body
        if not isinstance(manifest, SiteManifest):
            raise BadInput("The record is not a site manifest")
        if verified.owner != owner:
            raise Forbidden("The record belongs to another wallet than the one logged in")
        async with self._lock(manifest.site_id):
            head = await trio.to_thread.run_sync(self.records.head, manifest.site_id, manifest.channel)
            if head is None or head.cid != verified.cid:
                self._check_turn(manifest, head)
                await trio.to_thread.run_sync(self._check_limits, owner, manifest)
                await self._pin(manifest.root, verified.cid)
                self._mirror("storage_pin", manifest.root)
                head = await self._commit(record, verified.cid, manifest)
            await trio.to_thread.run_sync(self._point, head)
            receipt = await self._receipt(head)
        await self._emit("site_deployed", site=manifest.site_id, root=cids.to_text(manifest.root))
        self._enqueue(head.site_id, head.channel)  # trims old versions
        return Deployed(receipt, head, self.urls(head), await self.holders(head.root))

    async def revoke(self, owner: bytes, record: bytes) -> None:
        """Take a signed revocation of one of `owner`'s session keys and publish it."""
        verified = await trio.to_thread.run_sync(verify, record, self.rules)
        if not isinstance(verified.body, Revocation):
            raise BadInput("The record is not a revocation")
        if verified.owner != owner:
            raise Forbidden("The record belongs to another wallet than the one logged in")
        await self._changed(await self._add_and_publish(record))

    def _check_turn(self, manifest: SiteManifest, head: SiteHead | None) -> None:
        """A deploy through this node must follow the version this node knows to be the newest."""
        expected = (head.seq + 1, head.cid) if head else (1, None)
        if (manifest.seq, manifest.prev) != expected:
            raise Conflict(
                f"Version {manifest.seq} does not follow version {expected[0] - 1}, the newest known here",
                hint="Fetch /hosting/status/ and sign the next version again.",
                slug="stale-sequence",
                seq=expected[0] - 1,
                head=cids.to_text(head.cid) if head else None,
            )

    def _check_limits(self, owner: bytes, manifest: SiteManifest) -> None:
        limits = self.config.limits
        paid = self._tier(owner) == "paid"
        most_sites = limits.paid_sites if paid else limits.free_sites
        most_bytes = limits.paid_bytes if paid else limits.free_bytes
        others = [h for h in self.records.sites(owner=owner) if h.site_id != manifest.site_id]
        sites = len({h.site_id for h in others})
        if sites >= most_sites:
            raise PaymentRequired(
                f"This tier has room for {most_sites} site(s), and {sites} exist",
                hint="Deploy to the site you have, or ask the operator for the paid tier.",
                limit=most_sites,
            )
        total = sum(h.size for h in others) + manifest.size
        if total > most_bytes:
            raise PaymentRequired(
                f"This tier stores {most_bytes} bytes; with this deploy it would be {total}",
                hint="Make the site smaller, or ask the operator for the paid tier.",
                limit=most_bytes,
            )

    async def _pin(self, root: bytes, manifest_cid: bytes) -> None:
        try:
            await trio.to_thread.run_sync(self.blocks.pin, root, _pin_name(manifest_cid))
        except BlockMissing as error:
            missing = await trio.to_thread.run_sync(self.blocks.missing, root)
            raise Conflict(
                f"{len(missing) or 1} or more blocks of the site are not here",
                hint="Upload the blocks named in `missing`, then deploy again.",
                slug="missing-blocks",
                missing=[cids.to_text(c) for c in missing or [error.cid]],
            ) from error

    async def _commit(self, record: bytes, manifest_cid: bytes, manifest: SiteManifest) -> SiteHead:
        try:
            await self._add_and_publish(record)
        except RecordRefused:
            await trio.to_thread.run_sync(self.blocks.unpin, manifest.root, _pin_name(manifest_cid))
            raise
        self._held.add(manifest_cid)
        head = await trio.to_thread.run_sync(self.records.head, manifest.site_id, manifest.channel)
        if head is None or head.cid != manifest_cid:
            raise Conflict(
                "Another version of this site takes precedence over this one",
                hint="Your login may be older than the one that published last: log in again and redeploy.",
                slug="superseded",
            )
        return head

    async def announce(self, announcement: NodeAnnouncement) -> None:
        """Tell the network who and where this node is."""
        await self._add_and_publish(sign_announcement(announcement, self.key, self.rules))

    async def resolve_host(self, label: str) -> bool:
        """A visitor asks for a host that the index lacks; whether it is there now."""
        site_id = label.rpartition("--")[2]
        head = await trio.to_thread.run_sync(self.records.head, site_id)
        if head is None or host_label(head) != label:
            return False
        await trio.to_thread.run_sync(self._point, head)
        return True

    async def _add_and_publish(self, record: bytes) -> AddResult:
        """Sponsor a record made or taken here: durable in the store first, then gossiped."""
        now = int(time.time())
        envelope = sponsor(record, self.key, now)
        result = await trio.to_thread.run_sync(lambda: self.records.add(envelope, now=now, local=True))
        try:
            self._outbox_send.send_nowait(envelope)
        except trio.WouldBlock:
            log.warning("gossip_backlog", note="peers will get the record by set exchange")
        return result

    # -- the state of a site, for people

    def urls(self, head: SiteHead) -> dict[str, str]:
        """`site`: its own host (production only); `version`: this very content, for ever; `path`: by CID."""
        gateway = urlsplit(self.config.gateway_url)
        port = f":{gateway.port}" if gateway.port else ""
        domain, root = self.config.gateway.domain, cids.to_text(head.root)
        urls = {
            "version": f"{gateway.scheme}://{root}.ipfs.{domain}{port}/",
            "path": f"{self.config.gateway_url}/ipfs/{root}/",
        }
        if head.channel == PRODUCTION:
            urls["site"] = f"{gateway.scheme}://{host_label(head)}.{domain}{port}/"
        return urls

    async def holders(self, root: bytes) -> list[str]:
        """Peer ids of nodes whose signed receipt says they hold all of `root`."""
        receipts = await trio.to_thread.run_sync(self.records.receipts, root)
        return sorted(peer_id_of(r.key) for r in receipts)

    async def status(self, site_id: str, channel: str = PRODUCTION) -> dict[str, Any]:
        """Head, history (newest first), holders with their receipts, whether held here, usage here."""
        head = await trio.to_thread.run_sync(self.records.head, site_id, channel)
        if head is None:
            raise NotFound(f"No site {site_id} with channel {channel} is known here")
        history = await trio.to_thread.run_sync(self.records.history, site_id, channel)
        receipts = await trio.to_thread.run_sync(self.records.receipts, head.root)
        return {
            **describe_head(head),
            "urls": self.urls(head),
            "held_here": head.cid in self._held,
            "holders": [
                {
                    "peer_id": peer_id_of(r.key),
                    "bytes": r.body.size,
                    "created": rfc3339(r.body.created),
                    "receipt": cids.to_text(r.cid),
                }
                for r in receipts
            ],
            "channels": await trio.to_thread.run_sync(self.records.channels, site_id),
            "history": [describe_head(h) for h in history],
        }

    # -- copies of what other nodes took

    async def on_accepted(self, result: AddResult) -> None:
        """The network's callback: a record of another node was verified and stored."""
        await self._changed(result)
        if isinstance(result.record.body, Receipt):
            self._witnessed.add(result.record.body.site)
        await self._emit("record_accepted", kind=result.record.kind, cid=cids.to_text(result.record.cid))

    async def _changed(self, result: AddResult) -> None:
        """Follow new heads; what has none any more (its key was revoked) is served no longer."""
        for head in result.heads:
            self._enqueue(head.site_id, head.channel)
        for site_id, channel in result.removed:
            if channel == PRODUCTION:
                await trio.to_thread.run_sync(self._unpoint, site_id)

    async def run(self, *, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        await trio.to_thread.run_sync(self.reconcile)
        for head in await trio.to_thread.run_sync(self.records.all_heads):
            self._enqueue(head.site_id, head.channel)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._gossip)
            nursery.start_soon(self._mirror_loop)
            nursery.start_soon(self._witness_loop)
            for _ in range(_COPIES_AT_ONCE):
                nursery.start_soon(self._copy_loop, nursery)
            self.reconciled = True
            task_status.started()

    def reconcile(self) -> None:
        """Make pins and index follow the records, whatever a crash left behind. Blocking."""
        known: dict[str, bytes] = {}
        for head in self.records.all_heads():
            for version in self._kept(head):
                known[_pin_name(version.cid)] = version.cid
        live = {host_label(head) for head in self.records.all_heads() if head.channel == PRODUCTION}
        for label, _ in list(self.index.all()):
            if label not in live:
                self.index.delete(label)
        for root, name in list(self.blocks.pins()):
            if name in known:
                self._held.add(known[name])
            elif name.startswith("site:"):
                self.blocks.unpin(root, name)

    def _kept(self, head: SiteHead) -> list[SiteHead]:
        """The versions whose content stays: the head, and the newest before it that count."""
        history = self.records.history(head.site_id, head.channel, limit=-1)
        counting = [v for v in history if v.refused is None and v.cid != head.cid]
        return [head, *counting[: self.config.hosting.keep_versions - 1]]

    def _enqueue(self, site_id: str, channel: str) -> None:
        if (site_id, channel) not in self._queued:
            self._queued.add((site_id, channel))
            self._send.send_nowait((site_id, channel))

    async def _copy_loop(self, nursery: trio.Nursery) -> None:
        async for site in self._receive:
            self._queued.discard(site)
            head = await trio.to_thread.run_sync(self.records.head, *site)
            if head is None:
                continue
            try:
                await self._follow(head)
            except DecentraSpaceError as error:
                attempt = self._attempts[head.cid] = self._attempts.get(head.cid, 0) + 1
                delay = min(_RETRY_FIRST * 2 ** min(attempt, 16), _RETRY_MOST)
                log.info("copy_failed", site=site[0], reason=str(error), retry_in=delay)
                nursery.start_soon(self._later, delay, site)

    async def _later(self, delay: float, site: tuple[str, str]) -> None:
        await trio.sleep(delay)
        self._enqueue(*site)

    async def _follow(self, head: SiteHead) -> None:
        """Bring this node to `head`: content first, then the pointer, then the receipt, then trimming."""
        copies = self.config.hosting.replicate and head.size <= self.config.hosting.max_site_bytes
        if head.cid not in self._held:
            if not copies or await trio.to_thread.run_sync(self.index.get, host_label(head)) is None:
                # Nothing older to show meanwhile, or no copy wanted: what visitors ask for is fetched then.
                await trio.to_thread.run_sync(self._point, head)
            if not copies:
                return
            await self._bring(head.root, 2 * head.size + 2**20)
        async with self._lock(head.site_id):
            if await trio.to_thread.run_sync(self.records.head, head.site_id, head.channel) != head:
                self._enqueue(head.site_id, head.channel)  # a newer version came while this one was copied
                return
            if head.cid not in self._held:
                await self._pin(head.root, head.cid)
                self._mirror("storage_pin", head.root)
                self._held.add(head.cid)
                self._attempts.pop(head.cid, None)
                log.info("site_copied", site=head.site_id, seq=head.seq, root=cids.to_text(head.root))
            await trio.to_thread.run_sync(self._point, head)
            await self._receipt(head)
            for root in await trio.to_thread.run_sync(self._trim, head):
                self._mirror("storage_unpin", root)

    async def _bring(self, root: bytes, max_bytes: int) -> None:
        """Get the whole DAG from other nodes or, when none gives it, from where storage plugins keep copies."""
        try:
            await self.fetcher.fetch(root, deadline=600.0, max_bytes=max_bytes)
        except DecentraSpaceError:
            await self._emit("storage_fetch", cid=cids.to_text(root), max_bytes=max_bytes)
            if await trio.to_thread.run_sync(self.blocks.missing, root, 1):
                raise

    def _point(self, head: SiteHead) -> None:
        """Switch the gateway to `head`, in one transaction."""
        if head.channel == PRODUCTION:
            entry = SiteEntry(head.site_id, head.label, head.owner, head.root, head.seq)
            if self.index.get(host_label(head)) != entry:
                self.index.put(host_label(head), entry)

    def _unpoint(self, site_id: str) -> None:
        """Serve a site no longer under its host."""
        for version in self.records.history(site_id, PRODUCTION, limit=1):
            self.index.delete(host_label(version))

    def _trim(self, head: SiteHead) -> list[bytes]:
        """Let go of versions beyond those kept; the roots that no pin holds any more. Blocking."""
        gone: list[bytes] = []
        kept = {version.cid for version in self._kept(head)}
        for version in self.records.history(head.site_id, head.channel, limit=-1):
            if version.cid in self._held and version.cid not in kept:
                self.blocks.unpin(version.root, _pin_name(version.cid))
                gone.append(version.root)
                self._held.discard(version.cid)
        return [root for root in gone if not self.blocks.is_pinned(root)]

    async def _receipt(self, head: SiteHead) -> bytes:
        """This node's receipt for `head`: signed once and then always the same, but for a site deployed
        here, whose later receipts name the other nodes that have signed theirs."""
        receipts = await trio.to_thread.run_sync(self.records.receipts, head.root)
        own = next((r for r in receipts if r.key == self.key.public), None)
        holders: tuple[bytes, ...] = ()
        if await trio.to_thread.run_sync(self.records.sponsor, head.cid) == self.key.public:
            holders = tuple(r.key for r in receipts if r.key != self.key.public)[:MAX_HOLDERS]
        if own is not None and own.body.holders == holders:
            return own.record
        now = int(time.time())
        receipt = Receipt(
            root=head.root,
            size=await trio.to_thread.run_sync(self.blocks.dag_size, head.root),
            site=head.site_id,
            seq=head.seq,
            holders=holders,
            created=max(now, own.body.created + 1) if own else now,
        )
        record = sign_receipt(receipt, self.key, self.rules)
        if self.config.hosting.receipts:
            await self._add_and_publish(record)
        return record

    async def _witness_loop(self) -> None:
        """Every so often, have receipts name the holders that have turned up since."""
        while True:
            await trio.sleep(_WITNESS_EVERY)
            sites, self._witnessed = self._witnessed, set()
            for site in sites:
                for channel in await trio.to_thread.run_sync(self.records.channels, site):
                    self._enqueue(site, channel)

    def _mirror(self, hook: str, root: bytes) -> None:
        """Have storage plugins follow, in the background."""
        try:
            self._mirror_send.send_nowait((hook, root))
        except trio.WouldBlock:
            log.warning("mirror_backlog", root=cids.to_text(root), note="storage plugins are too slow")

    async def _mirror_loop(self) -> None:
        async for hook, root in self._mirror_queue:
            await self._emit(hook, cid=cids.to_text(root))

    async def _gossip(self) -> None:
        async for envelope in self._outbox:
            await self._publish(envelope)

    def _lock(self, site_id: str) -> AbstractAsyncContextManager[None]:
        if len(self._locks) > _SITE_LOCKS_MOST:
            self._locks = {k: lock for k, lock in self._locks.items() if lock.locked()}
        return self._locks.setdefault(site_id, trio.Lock())


def host_label(head: SiteHead) -> str:
    return f"{head.label}--{head.site_id}"


def describe_head(head: SiteHead) -> dict[str, Any]:
    """A version of a site as JSON: CIDs as text, owner in EIP-55 form, created in RFC 3339."""
    return {
        "site": head.site_id,
        "label": head.label,
        "host": host_label(head),
        "owner": checksum_address(head.owner),
        "channel": head.channel,
        "seq": head.seq,
        "root": cids.to_text(head.root),
        "manifest": cids.to_text(head.cid),
        "size": head.size,
        "created": rfc3339(head.created),
        **({"refused": head.refused} if head.refused else {}),
    }


def _pin_name(manifest_cid: bytes) -> str:
    return "site:" + cids.to_text(manifest_cid)
