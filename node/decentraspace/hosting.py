"""What a node does for owners of sites: take a deploy, take a revocation, say how a site stands.

Order of a deploy, each step durable before the next: the whole DAG is present and pinned; the record is
committed; the gateway's index points at it; the receipt is signed and stored. Only then is the deploy
acknowledged, and only then gossiped. A crash in between leaves at most a pin without a record, which
`Holdings.reconcile` removes at the next start; whoever breaks off the request after the record is committed
has deployed all the same.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import structlog
import trio

from decentraspace.admission import Admission, check_name, check_turn
from decentraspace.challenges import Challenges
from decentraspace.config import Config
from decentraspace.content import cid as cids
from decentraspace.content.blockstore import BlockStore
from decentraspace.copies import Copies
from decentraspace.errors import (
    BadInput,
    Conflict,
    DecentraSpaceError,
    Forbidden,
    Unavailable,
)
from decentraspace.gateway import rulefiles
from decentraspace.holdings import Holdings
from decentraspace.identity.ethereum import checksum_address
from decentraspace.identity.keys import NodeKey
from decentraspace.leaving import Leaving
from decentraspace.moderation.enforce import enforce
from decentraspace.moderation.service import Moderation
from decentraspace.names import published
from decentraspace.network.fetch import Fetcher
from decentraspace.records.ownership import Fact
from decentraspace.records.schema import NodeAnnouncement, Receipt, Revocation, SiteManifest
from decentraspace.records.signing import sign_announcement, sponsor
from decentraspace.records.store import AddResult, RecordStore, SiteHead
from decentraspace.records.verdict import NetworkRules, verify
from decentraspace.shares import Shares
from decentraspace.standing import Standing

if TYPE_CHECKING:
    from trio_typing import TaskStatus

log = structlog.get_logger(__name__)

_FORGET_EVERY = 3600.0  # seconds between looks for nodes that are gone for good


@dataclass(frozen=True)
class Deployed:
    """A deploy this node has taken. `receipt` is the node's signed statement (a record block) that it
    holds every block of `head.root`; `holders` are peer ids of nodes known to hold a full copy;
    `warnings`: what of the site's rule files has no effect, a sentence each."""

    receipt: bytes
    head: SiteHead
    urls: dict[str, str]
    holders: list[str]
    warnings: list[str]


class Hosting:
    """See the module. `publish` gossips an envelope; `emit` tells plugins (hook name, arguments);
    `connected` gives the peer ids of connected nodes."""

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
        connected: Callable[[], Collection[str]] = tuple,
    ) -> None:
        self.config, self.key, self.rules = config, key, rules
        self.blocks, self.records, self.fetcher = blocks, records, fetcher
        self.moderation = Moderation(config, key, blocks)
        self.shares = Shares(config, key.public, records, connected, refused=self.moderation.refused)
        self.holdings = Holdings(
            config, key, rules, blocks, records, self._add_and_publish, tier, self.moderation.flags
        )
        self.challenges = Challenges(config, key.public, records, blocks, self.holdings)
        self.copies = Copies(
            config, blocks, records, self.holdings, self.shares, fetcher, emit, self.challenges
        )
        self.copies.on_blocked = self.moderation.taint
        self.moderation.enforce = partial(enforce, self.moderation, self.holdings, self.copies)
        self.shares.refuted, self.shares.room = self.challenges.refuted, self._room
        self.leaving = Leaving(records, self.shares, self.holdings, self.challenges)
        self.index = self.holdings.index
        self.admission = Admission(config.limits, records, tier)
        self.standing = Standing(config, key.public, records, self.holdings, self.shares, self.challenges)
        self.urls, self.holders = self.standing.urls, self.standing.holders
        self.status = self.standing.status
        self._publish, self._emit = publish, emit
        self._outbox_send, self._outbox = trio.open_memory_channel[bytes](1000)

    async def run(self, *, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._gossip)
            nursery.start_soon(self.challenges.run)
            nursery.start_soon(self.leaving.run)
            nursery.start_soon(self._forget)
            await self.moderation.load()  # before anything is copied or served
            await nursery.start(self.copies.run)
            await nursery.start(self.moderation.run)
            task_status.started()

    async def _forget(self) -> None:
        """Now and then, what nodes that are gone for good have stated."""
        while True:
            await trio.sleep(_FORGET_EVERY)
            try:
                while count := await trio.to_thread.run_sync(self.records.forget_departed, int(time.time())):
                    log.info(
                        "statements_forgotten", count=count, reason="their nodes have been gone for 30 days"
                    )
            except DecentraSpaceError as error:  # the disk fails
                log.error("statements_not_forgotten", reason=str(error))

    # -- taking deploys

    async def deploy(self, owner: bytes, record: bytes) -> Deployed:
        """Take a signed site manifest of `owner` whose blocks were uploaded before.

        Errors: Forbidden (another's; `not-site-owner` and `ended-delegation`, as the chain says), Conflict
        `missing-blocks` or `stale-sequence`, PaymentRequired (tier limits), TooLarge (more bytes than the manifest
        says), Unprocessable (`_redirects` or `_headers` have a fault), RecordRefused, Blocked. Repeating a deploy
        that was taken answers the same again.
        """
        if self.shares.leaving:
            raise Unavailable(
                "This node is leaving the network and takes no deploys", hint="Deploy at another node."
            )
        verified = await trio.to_thread.run_sync(verify, record, self.rules)
        manifest = verified.body
        if not isinstance(manifest, SiteManifest):
            raise BadInput("The record is not a site manifest")
        if verified.owner != owner:
            raise Forbidden("The record belongs to another wallet than the one logged in")
        await self.admission.check_owner(verified, manifest)
        check_name(verified)
        refusal = await trio.to_thread.run_sync(
            self.moderation.refusal, manifest.site_id, owner, manifest.root
        )
        if refusal is not None:
            raise refusal
        async with self.holdings.lock(owner):
            head = await trio.to_thread.run_sync(self.records.head, manifest.site_id, manifest.channel)
            if head is None or head.cid != verified.cid:
                check_turn(manifest, head, owner)
                await trio.to_thread.run_sync(self.admission.check_limits, owner, manifest)
                head = await self._take(record, verified.cid, manifest, owner)
            else:
                if self.shares.unpaid(manifest.site_id):
                    await trio.to_thread.run_sync(self.admission.check_limits, owner, manifest)
                # It may have come by gossip, its content not yet: nothing is said before that is here.
                await self.holdings.hold(manifest.root, verified.cid, owner, manifest.size)
            await self.holdings.show(head)
            receipt = await self.holdings.receipt(head)
        await self._emit("site_deployed", site=manifest.site_id, root=cids.to_text(manifest.root))
        self.copies.enqueue(head.site_id, head.channel)  # lets go of old versions
        warnings = await trio.to_thread.run_sync(rulefiles.warnings, self.blocks.get_or_raise, head.root)
        return Deployed(receipt, head, self.urls(head), await self.holders(head.root), warnings)

    async def revoke(self, owner: bytes, record: bytes, delegated: int = 0) -> None:
        """Take a signed revocation of one of `owner`'s session keys and publish it.

        `delegated`: when the newest delegation of the key was signed, as far as the caller knows.
        Conflict `revocation-too-old` when it could not take effect: only a newer login revokes a key.
        """
        verified = await trio.to_thread.run_sync(verify, record, self.rules)
        if not isinstance(verified.body, Revocation):
            raise BadInput("The record is not a revocation")
        if verified.owner != owner:
            raise Forbidden("The record belongs to another wallet than the one logged in")
        key = verified.body.key
        known = await trio.to_thread.run_sync(self.records.delegated_at, owner, key)
        if key == verified.key or verified.issued_at <= max(delegated, known or 0):
            raise Conflict(
                "A session key is revoked by a newer login, and this one is "
                + ("that key's own" if key == verified.key else "not newer than that key's"),
                hint="Log in again, then revoke it.",
                slug="revocation-too-old",
            )
        await self._changed(await self._add_and_publish(record))

    async def _take(
        self, record: bytes, manifest_cid: bytes, manifest: SiteManifest, owner: bytes
    ) -> SiteHead:
        """Pin, then commit. What fails or is broken off before the commit leaves no pin behind."""
        await self.holdings.hold(manifest.root, manifest_cid, owner, manifest.size)
        try:
            await trio.to_thread.run_sync(rulefiles.examine_stored, self.blocks.get_or_raise, manifest.root)
            await self._add_and_publish(record)
        except BaseException:
            await self.holdings.release(manifest.root, manifest_cid)
            raise
        self.copies.enqueue(manifest.site_id, manifest.channel)
        head = await trio.to_thread.run_sync(self.records.head, manifest.site_id, manifest.channel)
        if head is None or head.cid != manifest_cid:
            await self.holdings.release(manifest.root, manifest_cid)  # it is not shown, so it is not kept
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
        """A visitor asks for a host that the index lacks, for a root (a CID) that no pin here reaches, or for a
        key's name; whether it may be served now."""
        try:
            root = cids.parse(label)
        except BadInput:
            pass
        else:
            if cids.codec(root) == cids.LIBP2P_KEY:
                return await self._resolve_name(root)
            return await trio.to_thread.run_sync(self.records.is_named, root)
        head = await trio.to_thread.run_sync(self.records.at_host, label)
        if head is None:
            return False
        async with self.holdings.lock(head.owner):
            head = await trio.to_thread.run_sync(self.records.head, head.site_id, head.channel)
            if head is not None:
                await self.holdings.show(head)
        return head is not None

    async def _resolve_name(self, name: bytes) -> bool:
        found = await trio.to_thread.run_sync(published.by_name, self.records, name)
        head = await trio.to_thread.run_sync(self.records.head, found.site_id) if found else None
        return head is not None and await self.resolve_host(head.host_label)

    async def add_link(self, record: bytes) -> AddResult:
        """Take a wallet's link of a name, verified before."""
        return await self._add_and_publish(record)

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

    def _room(self) -> bool:
        """Whether sites that other nodes took may still be copied: the rest is for this node's own users."""
        stats = self.blocks.stats()
        return stats.bytes * 100 < stats.quota * self.config.hosting.replica_percent

    async def _gossip(self) -> None:
        async for envelope in self._outbox:
            await self._publish(envelope)

    async def let_go(self, site_id: str, still: Callable[[str], bool]) -> None:
        """Keep no version of a site any more, if that is `still` so; its hosts stay as they are."""
        for channel in await trio.to_thread.run_sync(self.records.channels, site_id):
            head = await trio.to_thread.run_sync(self.records.head, site_id, channel)
            if head is not None:
                await self.holdings.let_go(head, partial(still, site_id))

    # -- what the chain says

    async def follow_chain(self, facts: Sequence[Fact], source: str, next_block: int) -> None:
        """Take over who owns which site (RecordStore.apply_chain), and show what follows from it."""
        followed = await trio.to_thread.run_sync(
            lambda: self.records.apply_chain(facts, source=source, next_block=next_block)
        )
        for site_id in followed.sites:
            said = await trio.to_thread.run_sync(self.records.chain_owner, site_id)
            log.info("site_owned", site=site_id, owner=checksum_address(said.owner) if said else None)
            await self.holdings.moved(site_id)
        await self._follow_heads(followed.heads, followed.removed)

    # -- what other nodes took

    async def on_accepted(self, results: Sequence[AddResult]) -> None:
        """The network's callback: records of other nodes were verified and stored."""
        for result in results:
            try:
                await self._changed(result)
                if isinstance(result.record.body, Receipt):
                    self.copies.witnessed(result.record.body.site)
                await self._emit(
                    "record_accepted", kind=result.record.kind, cid=cids.to_text(result.record.cid)
                )
            except Exception:  # one record that cannot be handled must not stop those after it
                log.exception("record_not_handled")

    async def _changed(self, result: AddResult) -> None:
        await self._follow_heads(result.heads, result.removed)

    async def _follow_heads(self, heads: Sequence[SiteHead], removed: Sequence[tuple[str, str]]) -> None:
        """Follow new heads; what has none any more (its key was revoked) is served no longer."""
        for head in heads:
            self.copies.enqueue(head.site_id, head.channel)
        for site_id, channel in removed:
            try:
                await self.holdings.drop(site_id, channel)
            except DecentraSpaceError as error:  # at the next start it is looked at again
                log.error("site_not_dropped", site=site_id, reason=str(error))
