"""Taking links of names from their owners, and saying how a name stands, in words for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol
from urllib.parse import urlsplit

import trio

from decentraspace.admission import not_site_owner
from decentraspace.config import Config
from decentraspace.errors import BadInput, Conflict, DecentraSpaceError, Forbidden, NotFound, PaymentRequired
from decentraspace.identity.ethereum import checksum_address
from decentraspace.names import spelling
from decentraspace.names.book import Found
from decentraspace.names.claims import Claims, label_of
from decentraspace.names.links import NotResolved
from decentraspace.names.proofs import HELD, STRANGER
from decentraspace.records import verdict
from decentraspace.records.domains import Link
from decentraspace.records.schema import DomainLink
from decentraspace.records.store import RecordStore
from decentraspace.records.verdict import NetworkRules, RecordRefused, VerifiedRecord

State = Literal["linked", "grace", "waiting", "stranger", "unlinked", "unknown"]
_PAGE_MOST = 1000
# Wallets that claim a name, after which a link without a proof is not taken: other nodes take so many claims of one
# name from a node and no more (records.sponsor_claims), and some of them must be left for whoever has a proof.
_CROWD = 8
# Proofs that are looked for at one time because wallets ask, and one wallet: visitors of names need the others.
_ASKING_MOST, _ASKING_EACH = 64, 4


class Credit(Protocol):
    def beyond_tier(self, owner: bytes, detail: str, hint: str, limit: int) -> PaymentRequired: ...


@dataclass(frozen=True)
class Standing:
    """How a name stands for one wallet. `host`: of the site that the wallet has it show, or is about to; `text`: all of
    it in words; `records`: to enter, as in the hook `name_instructions`; `number`: of the wallet's newest link."""

    name: str
    state: State
    text: str
    host: str = ""
    link: Link | None = None
    found: Found | None = None
    records: list[dict[str, str]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    number: int = 0


class Linking:
    """`add`: publishes a record that this node takes; `tier` of a wallet; `credit`: who says what a tier costs.
    `look_at_chain`: have the records follow what the chain says by now."""

    def __init__(
        self,
        config: Config,
        rules: NetworkRules,
        records: RecordStore,
        claims: Claims,
        add: Callable[[bytes], Awaitable[Any]],
        tier: Callable[[bytes], str],
        credit: Credit,
    ) -> None:
        self._config, self._rules, self._records, self.claims = config, rules, records, claims
        self._add, self._tier, self._credit = add, tier, credit
        self._asking: Counter[bytes] = Counter()
        self.look_at_chain: Callable[[], Awaitable[None]] | None = None

    # -- taking

    async def link(self, owner: bytes, record: bytes) -> Standing:
        """Take a wallet's signed link of a name to a site of its own.

        One without a proof yet is taken: it shows nothing, and begins to by itself when the proof is there. Forbidden:
        another's site or name (`name-not-yours`), or one of the gateway's own (`name-of-gateway`). Conflict: a newer
        link is here. PaymentRequired, NotFound, BadInput, RecordRefused.
        """
        verified, body = await self._verified(owner, record)
        site = body.site_id
        if site is None:
            raise BadInput("The record takes a name off", hint="Send it to /domain/unlink/.")
        self.check_foreign(body.name)
        head = await trio.to_thread.run_sync(self._records.head, site)
        if head is None:
            raise NotFound(
                f"No site {body.label} of that wallet is known here",
                hint="Deploy it first: `decentraspace deploy`.",
            )
        if head.owner != owner and self.look_at_chain is not None:
            await self.look_at_chain()  # it may just have been bought
            head = await trio.to_thread.run_sync(self._records.head, site) or head
        if head.owner != owner:
            raise not_site_owner(site, head.owner)
        await trio.to_thread.run_sync(self._check_limits, owner, body.name)
        try:
            found = await self._verify(body.name, owner, head.host_label, body.proof or "", keep=False)
        except DecentraSpaceError:
            found = None  # nobody can say just now; the link waits
        if found is not None and found.proof.state == STRANGER:
            raise Forbidden(
                f"{body.name} belongs to somebody else. {found.proof.detail}",
                hint=f"Only its owner can link it. `decentraspace domains status {body.name}` says how to prove that "
                "it is you.",
                slug="name-not-yours",
                name=body.name,
            )
        if found is None or found.proof.state != HELD:
            await trio.to_thread.run_sync(self._check_crowd, owner, body.name)
        await self._take(owner, record, verified, body)
        if found is not None:
            await trio.to_thread.run_sync(self.claims.remember, found)
        return await self.standing(owner, body.name, head.host_label, check=found is None)

    async def unlink(self, owner: bytes, record: bytes) -> Standing:
        """Take a wallet's signed word that a name no longer shows a site of its own. Repeatable."""
        verified, body = await self._verified(owner, record)
        if body.site_id is not None:
            raise BadInput("The record links a name", hint="Send it to /domain/link/.")
        if not await trio.to_thread.run_sync(self._records.link_number, body.name, owner):
            # It would say nothing, and count among the claims of the name.
            raise NotFound(f"No link of {body.name} by that wallet is known here")
        await self._take(owner, record, verified, body)
        return await self.standing(owner, body.name, "", check=False)

    async def _verified(self, owner: bytes, record: bytes) -> tuple[VerifiedRecord, DomainLink]:
        verified = await trio.to_thread.run_sync(verdict.verify, record, self._rules)
        body = verified.body
        if not isinstance(body, DomainLink):
            raise BadInput("The record is no link of a name")
        if verified.owner != owner:
            raise Forbidden("The record belongs to another wallet than the one logged in")
        return verified, body

    def check_foreign(self, name: str) -> None:
        """Forbidden for a name that this gateway serves itself, whatever anybody links."""
        if name in self._own() or name.endswith("." + self._config.gateway.domain):
            raise Forbidden(
                f"{name} is a name of this gateway's own",
                hint="Link a name that you hold yourself.",
                slug="name-of-gateway",
            )

    def _own(self) -> set[str]:
        config = self._config
        urls = (config.gateway.public_url, config.api.public_url)
        return {config.gateway.domain, *(urlsplit(url).hostname or "" for url in urls)} - {""}

    def is_own(self, name: str) -> bool:
        """Whether a host is that of the gateway, or of the node's API, itself."""
        return name in self._own()

    def _check_limits(self, owner: bytes, name: str) -> None:
        paid = self._tier(owner) == "paid"
        most = self._config.limits.paid_names if paid else self._config.limits.free_names
        names = self._records.names_of(owner, limit=_PAGE_MOST)
        if name not in names and len(names) >= min(self._config.records.owner_names, _PAGE_MOST):
            # Those that were taken off count, too: other nodes would not take it.
            raise RecordRefused("The wallet has links of too many names", slug="name-quota")
        others = [n for n in names if n != name and self._records.linked(n, owner) is not None]
        if len(others) >= most:
            raise self._credit.beyond_tier(
                owner,
                f"This tier has room for {most} linked name(s), and {len(others)} exist",
                "Unlink one, or ask the operator for the paid tier.",
                most,
            )

    def _check_crowd(self, owner: bytes, name: str) -> None:
        claimants = self._records.claimants(name, _CROWD)
        if len(claimants) >= _CROWD and self._records.link_number(name, owner) == 0:
            raise Conflict(
                f"Many wallets claim {name}, so its link needs a proof first",
                hint=f"`decentraspace domains status {name}` says which record to add; link it when that is seen.",
                slug="name-crowded",
                name=name,
            )

    async def _take(self, owner: bytes, record: bytes, verified: VerifiedRecord, body: DomainLink) -> None:
        await self._add(record)
        counting = await trio.to_thread.run_sync(self._records.link, body.name, owner)
        if counting is None or counting.cid != verified.cid:
            raise Conflict(
                "Another link of this name takes precedence over this one",
                hint="Your login may be older than the one that linked it last: log in again, and link it anew.",
                slug="superseded",
                number=await trio.to_thread.run_sync(self._records.link_number, body.name, owner),
            )

    # -- saying

    async def standing(self, owner: bytes, name: str, host: str = "", *, check: bool = True) -> Standing:
        """How a name stands for a wallet that has it show a site, or might (`host`: that site's host label). `check`:
        look now, else what was found last. Never raises for what a name server does."""
        link = await trio.to_thread.run_sync(self._records.linked, name, owner)
        number = await trio.to_thread.run_sync(self._records.link_number, name, owner)
        host = label_of(link) if link is not None else host
        unsaid = ""
        found = await trio.to_thread.run_sync(self.claims.known, name, owner)
        if check:
            try:
                given = (link.proof or "") if link is not None else ""
                found = await self._verify(name, owner, host, given, keep=link is not None)
            except DecentraSpaceError as error:
                unsaid = str(error)
        stands = found is not None and self.claims.stands(found)
        state: State = "unlinked"
        if link is not None:
            state = "unknown" if found is None or (unsaid and not stands) else "waiting"
            if found is not None and found.proof.state == STRANGER:
                state = "stranger"
            elif found is not None and stands:
                state = "linked" if found.proof.state == HELD else "grace"
        shown = await self.claims.shown(name) if state == "linked" else None
        text = _words(name, state, host, found, unsaid)
        if shown is not None and shown.link.wallet != owner:
            text = (
                f"{name} proves more than one wallet, and shows {shown.host} of "
                f"{checksum_address(shown.link.wallet)}, who linked it last."
            )
        records: list[dict[str, str]] = []
        if host and (found is None or state not in ("linked",) or found.proof.points is False):
            records = await self.instructions(name, owner, host)
        warnings = [said for said in [spelling.warning(name)] if said]
        return Standing(name, state, text, host, link, found, records, warnings, number)

    async def _verify(self, name: str, owner: bytes, host: str, proof: str, *, keep: bool) -> Found:
        if self._asking.total() >= _ASKING_MOST or self._asking[owner] >= _ASKING_EACH:
            raise NotResolved("Too many names are being looked into just now")
        self._asking[owner] += 1
        try:
            return await self.claims.verify(name, owner, host, proof, keep=keep)
        finally:
            self._asking[owner] -= 1
            self._asking += Counter()  # drops those at 0

    async def instructions(self, name: str, owner: bytes, host: str) -> list[dict[str, str]]:
        """The records to enter for a name to show the site of that host label."""
        return await self.claims.instructions(name, checksum_address(owner), host)

    async def listed(self, owner: bytes, after: str, limit: int) -> list[Standing]:
        names = await trio.to_thread.run_sync(self._records.names_of, owner, after, limit)
        return [await self.standing(owner, name, check=False) for name in names]


def _words(name: str, state: State, host: str, found: Found | None, unsaid: str) -> str:
    detail = found.proof.detail if found is not None else ""
    if state == "linked":
        points = found.proof.points if found is not None else None
        if points is False:
            return f"{name} is linked to {host}, and does not lead visitors here yet. {detail}"
        return f"{name} shows {host}. {detail}".strip()
    if state == "grace":
        return f"{name} still shows {host}, but its proof has gone, and soon it will not. {detail}"
    if state == "waiting":
        return f"{name} is linked to {host}, and waits for its proof. {detail}"
    if state == "stranger":
        return f"{name} shows nothing of yours: it belongs to somebody else. {detail}"
    if state == "unknown":
        return f"{name} is linked to {host}. Nobody could say just now whether it is yours. {unsaid}".strip()
    if found is None:
        return f"{name} is not linked. {unsaid}".strip()
    if found.proof.state == HELD:
        return f"{name} is yours to link, and not linked. {detail}"
    return f"{name} is not linked. {detail}"
