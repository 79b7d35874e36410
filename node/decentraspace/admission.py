"""Whether a deploy may be taken: who owns the site, which version comes next, what the tier has room for."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Protocol

import trio

from decentraspace.config import LimitsConfig
from decentraspace.content import cid as cids
from decentraspace.errors import Conflict, Forbidden, PaymentRequired, Unprocessable
from decentraspace.identity.ethereum import checksum_address
from decentraspace.records import naming
from decentraspace.records.schema import SiteManifest
from decentraspace.records.store import RecordStore, SiteHead
from decentraspace.records.verdict import VerifiedRecord
from decentraspace.units import size_of


class Credit(Protocol):
    """What is asked of the ledger. Blocking."""

    def require_storage(self, owner: bytes, site: str, size: int) -> None: ...
    def beyond_tier(self, owner: bytes, detail: str, hint: str, limit: int) -> PaymentRequired: ...


class _Unlimited:
    """Where nothing is charged."""

    def require_storage(self, owner: bytes, site: str, size: int) -> None: ...

    def beyond_tier(self, owner: bytes, detail: str, hint: str, limit: int) -> PaymentRequired:
        return PaymentRequired(detail, hint=hint, limit=limit)


class Admission:
    """`tier` of a wallet. `credit`: who says what can be paid. `look_at_chain`: have the records follow what the
    chain says by now."""

    def __init__(self, limits: LimitsConfig, records: RecordStore, tier: Callable[[bytes], str]) -> None:
        self.limits, self.records, self._tier = limits, records, tier
        self.look_at_chain: Callable[[], Awaitable[None]] | None = None
        self.credit: Credit = _Unlimited()

    async def check_owner(self, verified: VerifiedRecord, manifest: SiteManifest) -> None:
        """Whoever has just bought a site need not wait for the next look at the chain."""
        try:
            await trio.to_thread.run_sync(self._check_known_owner, verified, manifest)
        except Forbidden:
            if self.look_at_chain is None:
                raise
            await self.look_at_chain()
            await trio.to_thread.run_sync(self._check_known_owner, verified, manifest)

    def _check_known_owner(self, verified: VerifiedRecord, manifest: SiteManifest) -> None:
        """A site is its founder's until the chain says otherwise, and so is what was delegated for it. Blocking."""
        said = self.records.chain_owner(manifest.site_id)
        owner = said.owner if said else manifest.owner
        if verified.owner != owner:
            raise not_site_owner(manifest.site_id, owner)
        if self.records.is_ended(owner, manifest.site_id, verified.issued_at, int(time.time())):
            raise Forbidden(
                "What the wallet had delegated for this site before was ended on the chain",
                hint="Log in again: `decentraspace login`.",
                slug="ended-delegation",
                site=manifest.site_id,
            )

    def check_limits(self, owner: bytes, manifest: SiteManifest) -> None:
        """What the tier has room for and what can be paid, counting what is shown: the newest version of each
        channel. PaymentRequired. Blocking."""
        limits = self.limits
        paid = self._tier(owner) == "paid"
        most_sites = limits.paid_sites if paid else limits.free_sites
        most_bytes = limits.paid_bytes if paid else limits.free_bytes
        replicas = limits.paid_replicas if paid else limits.free_replicas
        beyond = partial(self.credit.beyond_tier, owner)
        if (manifest.replicas or 0) > replicas:
            raise beyond(
                f"This tier has {replicas} node(s) hold a site, not {manifest.replicas}",
                "Deploy with fewer copies, or ask the operator for the paid tier.",
                replicas,
            )
        here = (manifest.site_id, manifest.channel)
        others = [h for h in self.records.sites(owner, limit=-1) if (h.site_id, h.channel) != here]
        sites = len({h.site_id for h in others} - {manifest.site_id})
        if sites >= most_sites:
            raise beyond(
                f"This tier has room for {most_sites} site(s), and {sites} exist",
                "Deploy to the site you have, or ask the operator for the paid tier.",
                most_sites,
            )
        channels = sum(h.site_id == manifest.site_id for h in others)
        if channels >= limits.channels:
            raise PaymentRequired(
                f"A site has at most {limits.channels} channels, and {channels} exist",
                hint="Deploy to a channel that exists.",
                limit=limits.channels,
            )
        sizes = {h.root: h.size for h in others if h.root != manifest.root}
        total = sum(sizes.values()) + manifest.size
        if total > most_bytes:
            raise beyond(
                f"This tier stores {size_of(most_bytes)}; with this deploy it would be {size_of(total)}",
                "Make the site smaller, or ask the operator for the paid tier.",
                most_bytes,
            )
        of_site = {h.root for h in others if h.site_id == manifest.site_id}
        size = sum(sizes[root] for root in of_site & sizes.keys()) + manifest.size
        self.credit.require_storage(owner, manifest.site_id, size)


def check_name(verified: VerifiedRecord) -> None:
    """Others would take the version as one without a name; its owner is told."""
    manifest: Any = verified.body
    carried = manifest.ipns
    if carried is None:
        return
    good = bool(verified.named) and naming.signed(manifest, verified.issued_at, carried, both=True)
    if not good or carried[1] <= time.time():
        raise Unprocessable(
            "The record of the site's IPNS name is " + ("over" if good else "not what its key has signed"),
            hint="Update the program that you deploy with, or deploy without a name.",
            slug="invalid-ipns",
        )


def check_turn(manifest: SiteManifest, head: SiteHead | None, owner: bytes) -> None:
    """A deploy through this node must follow the version this node knows to be the newest. A new owner may begin
    anew: the one before may have used the highest number there is."""
    expected = (head.seq + 1, head.cid) if head else (1, None)
    if head is not None and head.wallet != owner and (manifest.seq, manifest.prev) == (1, None):
        return
    if (manifest.seq, manifest.prev) != expected:
        raise Conflict(
            f"Version {manifest.seq} does not follow version {expected[0] - 1}, the newest known here",
            hint="Fetch /hosting/status/ and sign the next version again.",
            slug="stale-sequence",
            seq=expected[0] - 1,
            head=cids.to_text(head.cid) if head else None,
        )


def not_site_owner(site_id: str, owner: bytes) -> Forbidden:
    return Forbidden(
        f"The site {site_id} belongs to {checksum_address(owner)}",
        hint="Only that wallet can publish it. It changes hands on the chain: `decentraspace owner SITE`.",
        slug="not-site-owner",
        site=site_id,
        owner=checksum_address(owner),
    )
