"""What owners, and those who serve them, can ask of the ledger and tell it. Blocking and thread-safe."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from decentraspace.config import Config
from decentraspace.database import reading
from decentraspace.errors import BadInput, Forbidden, PaymentRequired
from decentraspace.ledger import allocations, covering, facts, journal, meters, pauses, rollup, statements
from decentraspace.ledger.charging import CREDITS_MOST, Carry, Charged, Use, charge
from decentraspace.ledger.clock import HOUR, month_of
from decentraspace.ledger.covering import Cover
from decentraspace.ledger.merkle import service_words, site_bytes
from decentraspace.ledger.prices import NAMES, SERVED, STORAGE
from decentraspace.ledger.purse import Purse
from decentraspace.ledger.rollup import Terms, address

_PAGE = 1000


@dataclass(frozen=True)
class Account:
    """How an owner stands at this node, in credits. `accrued`: of hours that are not over; `unsettled`: charged,
    and not paid on chain; `room`: what may still be charged now; `allowance`: what is left of it this month, by
    service, in its quantities; `held`: card money that can be called back; `balance`: on chain, as of the last
    final event that this node has seen."""

    owner: bytes
    tier: str
    billing: bool
    balance: int
    accrued: int
    unsettled: int
    room: int
    held: int
    allowance: dict[str, int]
    allocations: tuple[allocations.Allocation, ...]


class UsedRow(NamedTuple):
    """A line of an owner's history; `number` says where the next page begins."""

    number: int
    hour: int
    site: str
    service: str
    quantity: int
    free: int
    credits: int
    streamed: int
    waived: int


def _nothing(owner: bytes) -> int:
    return 0


class Owners(Purse):
    """Over an open ledger. `terms` says what is charged now."""

    def __init__(
        self,
        db: sqlite3.Connection,
        lock: AbstractContextManager[Any],
        config: Config,
        tier: Callable[[bytes], str],
    ) -> None:
        self._db, self._lock, self.config = db, lock, config
        self._granted_tier = tier
        self.set_aside: Callable[[bytes], int] = _nothing
        """Credits of an owner that are reserved for what is being bought: nothing else may be charged to them."""

    @property
    def terms(self) -> Terms:
        raise NotImplementedError

    def _write(self) -> AbstractContextManager[Any]:
        raise NotImplementedError

    def tier(self, owner: bytes) -> str:
        """ "paid" as the operator set it, or with an allocation to this node of `billing.paid_least` credits at
        least, until `billing.grace` after its end; else "free"."""
        terms = self.terms
        if terms.operator is None:
            return self._granted_tier(owner)
        with self._lock, reading():
            granted = allocations.of_owner(self._db, owner, terms.operator)
        return self._tier_with(owner, granted, int(time.time()))

    def _tier_with(self, owner: bytes, granted: Sequence[allocations.Allocation], at: int) -> str:
        billing = self.config.billing
        since = at - billing.grace
        paid = any(a.cap >= billing.paid_least and a.live(at, since) for a in granted)
        return "paid" if paid else self._granted_tier(owner)

    # -- before and after a charged action

    def can(
        self,
        owner: bytes,
        service: str,
        quantity: int = 0,
        *,
        credits: int = 0,
        site: str = "",
        lasting: int = 0,
    ) -> Cover:
        """Whether `quantity` of a service by the price list, or `credits` asked explicitly, is covered now. `lasting`:
        by what is granted for so many seconds still."""
        with self._lock, reading():
            return self._cover(owner, service, quantity, credits, site, lasting)

    def require(
        self,
        owner: bytes,
        service: str,
        quantity: int = 0,
        *,
        credits: int = 0,
        site: str = "",
        lasting: int = 0,
    ) -> Cover:
        """`can`, or PaymentRequired with `missing` (credits), `reason` and what to do."""
        cover = self.can(owner, service, quantity, credits=credits, site=site, lasting=lasting)
        self._refuse(cover, service)
        return cover

    def deduct(
        self, key: str, owner: bytes, service: str, quantity: int = 0, *, credits: int = 0, site: str = ""
    ) -> meters.Deduct:
        """Charge a use once for its `key`; the same again for a key that was used. PaymentRequired, Conflict,
        BadInput."""
        service_words(service)
        site_bytes(site)
        if not 0 < len(key) <= 200 or not 0 <= quantity < CREDITS_MOST or not 0 <= credits < CREDITS_MOST:
            raise BadInput("A charge has a key of 1 to 200 characters, and amounts that are not negative")
        if service in SERVED or service == "storage":
            raise BadInput(f"{service} is metered by the node itself")
        with self._write():
            now = int(time.time())
            clock = facts.clock(self._db)
            hour = meters.open_hour(clock, clock.hour) if clock.last else now // HOUR
            if meters.deducted(self._db, key) is None:
                cover = self._cover(owner, service, quantity, credits, site)
                self._refuse(cover, service)
                worth = cover.credits
            else:
                worth = 0
            one = meters.Deduct(owner, site, service, quantity, credits, worth, hour, now)
            return meters.deduct(self._db, key, one)

    def settle_aside(self, key: str, owner: bytes, service: str, credits: int) -> meters.Deduct:
        """Charge what was set aside before, once for its `key`: it was covered then, and is not refused now."""
        service_words(service)
        with self._write():
            now = int(time.time())
            clock = facts.clock(self._db)
            hour = meters.open_hour(clock, clock.hour) if clock.last else now // HOUR
            one = meters.Deduct(owner, "", service, 0, credits, credits, hour, now)
            return meters.deduct(self._db, key, one)

    def _cover(
        self, owner: bytes, service: str, quantity: int, credits: int, site: str, lasting: int = 0
    ) -> Cover:
        terms = self.terms
        if terms.operator is None:
            return Cover(0, 0, "")
        out = self._outlook(owner, [site], lasting)
        carry = out.carries.get((site, service))
        if carry is None:
            found = self._db.execute(
                "SELECT paid, free, seconds FROM carries WHERE owner = ? AND site = ? AND service = ?",
                (owner, site, service),
            ).fetchone()
            carry = Carry(*found) if found else Carry()
        return covering.cover([Use(site, service, quantity, credits, carry)], out.after, terms.asked)

    def require_storage(self, owner: bytes, site: str, size: int) -> None:
        """PaymentRequired unless `size` bytes of a site, instead of what is held of it, and all that is held of
        the owner's others can be paid for the next `billing.cover` seconds. `site` "": of none."""
        terms = self.terms
        if terms.operator is None:
            return
        seconds = self.config.billing.cover
        with self._lock, reading():
            now = int(time.time())
            after = self._outlook(owner, [site]).after
            granted = {a.number: a for a in allocations.of_owner(self._db, owner, terms.operator)}
            funds = [
                fund._replace(stream=fund.stream + a.streamed(now + seconds) - a.streamed(now))
                for fund in after.funds
                if (a := granted[fund.number])
            ]
            rows = self._db.execute(
                "SELECT site, bytes FROM holdings WHERE owner = ? AND site <> ? ORDER BY site", (owner, site)
            ).fetchall()
        uses = [Use(name, STORAGE, most * seconds // HOUR) for name, most in [*rows, (site, max(1, size))]]
        uses[-1] = uses[-1]._replace(quantity=max(1, uses[-1].quantity))
        after = replace(after, funds=tuple(funds))
        self._refuse(covering.cover(uses, after, terms.asked), STORAGE)

    def beyond_tier(self, owner: bytes, detail: str, hint: str, limit: int) -> PaymentRequired:
        """402 for what the owner's tier has no room for; with what the paid tier costs, where that is to be had."""
        if self.terms.operator is None or self.tier(owner) == "paid":
            return PaymentRequired(detail, hint=hint, limit=limit)
        found = self._refusal(detail, "tier", self.config.billing.paid_least, STORAGE)
        found.members["limit"] = limit
        return found

    def _outlook(self, owner: bytes, sites: Sequence[str] = (), lasting: int = 0) -> Charged:
        terms, now = self.terms, int(time.time())
        out = rollup.outlook(self._db, owner, facts.clock(self._db), now, terms, sites)
        if lasting and terms.operator is not None:
            granted = allocations.of_owner(self._db, owner, terms.operator)
            live = {one.number for one in granted if one.live(now + lasting)}
            funds = tuple(fund for fund in out.after.funds if fund.number in live)
            out = replace(out, after=replace(out.after, funds=funds))
        credits = self.set_aside(owner) if terms.operator is not None else 0
        if not credits:
            return out
        return replace(out, after=charge([Use("", NAMES, 0, credits)], out.after, terms.asked).after)

    def _refuse(self, cover: Cover, service: str) -> None:
        if not cover.ok:
            detail = f"{cover.missing} credits are missing for {service}"
            raise self._refusal(detail, cover.reason, cover.missing, service)

    def _refusal(self, detail: str, reason: str, missing: int, service: str) -> PaymentRequired:
        return covering.refusal(detail, reason, missing, service, self.config.api_url)

    # -- how an owner stands

    def account(self, owner: bytes) -> Account:
        tier, terms = self.tier(owner), self.terms
        with self._lock, reading():
            out = self._outlook(owner)
            granted = allocations.of_owner(self._db, owner, terms.operator) if terms.operator else []
            balance = self._db.execute("SELECT balance FROM wallets WHERE owner = ?", (owner,)).fetchone()
            return Account(
                owner,
                tier,
                terms.operator is not None,
                int(balance[0]) if balance else 0,
                sum(leaf.credits + leaf.streamed for leaf in out.leaves),
                sum(a.unsettled for a in granted),
                out.after.room(),
                max(0, journal.balance(self._db, f"card:{address(owner)}")),
                dict(out.after.allowance),
                tuple(granted),
            )

    def history(
        self, owner: bytes, *, since: int = 0, until: int = 2**40, after: int = 0, limit: int = _PAGE
    ) -> list[UsedRow]:
        """What was used, hour by hour (Unix hours, `until` excluded). `after`: the last line of the page before."""
        with self._lock, reading():
            rows = self._db.execute(
                "SELECT id, hour, site, service, quantity, free, credits, streamed, waived FROM leaves "
                "WHERE owner = ? AND hour >= ? AND hour < ? AND id > ? ORDER BY id LIMIT ?",
                (owner, since, until, after, limit),
            ).fetchall()
        return [UsedRow(*row) for row in rows]

    def statements(self, owner: bytes, limit: int = 100, before: int | None = None) -> list[dict[str, Any]]:
        with self._lock, reading():
            return statements.listed(self._db, owner, limit, before)

    def statement(self, root: bytes, allocation: bytes) -> dict[str, Any]:
        """See `statements.statement`. Whose it is, `owner` in it says: show it to nobody else."""
        with self._lock, reading():
            return statements.statement(self._db, root, allocation)

    def statements_of(self, root: bytes) -> Iterator[dict[str, Any]]:
        """All statements of a batch, for the operator; nobody else gets at the ledger meanwhile."""
        with self._lock, reading():
            yield from statements.of_batch(self._db, root)

    # -- what an owner decides

    def cap(self, site: str) -> tuple[int, int]:
        """(credits a month that a site may cost, what it has cost this month)."""
        with self._lock, reading():
            month = month_of(facts.clock(self._db).hour)
            most = rollup.cap_of(self._db, site, self.config.billing.site_monthly_cap)
            return most, rollup.spent(self._db, site, month)

    def set_cap(self, owner: bytes, site: str, credits: int | None) -> None:
        """The monthly cap of a site, None for the node's own. BadInput beyond what the node allows."""
        most = self.config.billing.site_monthly_cap_most
        if credits is not None and not 0 <= credits <= most:
            raise BadInput(f"A site's monthly cap is 0 to {most} credits here")
        with self._write():
            self._db.execute("DELETE FROM caps WHERE site = ?", (site,))
            if credits is not None:
                self._db.execute("INSERT INTO caps VALUES (?, ?, ?)", (site, owner, credits))
        self.changed(owner)

    def pause(self, owner: bytes, site: str) -> None:
        """The owner wants a site to be shown no more for now; nothing is deleted."""
        with self._write():
            now = int(time.time())
            changes = [c for s in SERVED for c in pauses.pause(self._db, owner, site, s, pauses.OWNER, now)]
        self.announce(changes)

    def resume(self, owner: bytes, site: str) -> None:
        with self._write():
            changes = [c for s in SERVED for c in pauses.resume(self._db, owner, site, s, pauses.OWNER)]
        self.announce(changes)

    def site_state(self, site: str, owner: bytes) -> pauses.SiteState:
        tier, billing = self.tier(owner), self.config.billing
        with self._lock, reading():
            return pauses.state_of(
                self._db, site, tier, billing.free_lifetime, billing.grace, int(time.time())
            )

    def renew(self, owner: bytes, site: str) -> None:
        """A site of the free tier lives on for another while. Forbidden for another's."""
        with self._write():
            found = self._db.execute("SELECT owner FROM terms WHERE site = ?", (site,)).fetchone()
            if found is not None and found[0] != owner:
                raise Forbidden("The site belongs to another wallet")
            pauses.seen(self._db, site, owner, int(time.time()))
        self.changed(owner)

    def set_expiry(self, owner: bytes, site: str, expires: int | None) -> None:
        """The operator decides when a site ends: Unix seconds, 0 for never, None for the rule."""
        with self._write():
            pauses.seen(self._db, site, owner, 0)
            self._db.execute("UPDATE terms SET expires = ? WHERE site = ?", (expires, site))
        self.changed(owner)

    # -- what the ledger makes of it

    def changed(self, owner: bytes) -> None:
        """Something of an owner has changed: look at it at the next tick."""
        raise NotImplementedError

    def announce(self, changes: Sequence[pauses.Change]) -> None:
        """Services were paused or resumed: tell the gateway and the plugins."""
        raise NotImplementedError


__all__ = ["Account", "Cover", "Owners", "UsedRow"]
