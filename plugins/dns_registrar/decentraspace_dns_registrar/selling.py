"""Prices and purchases. A purchase asks the registrar once, whatever happens; what came of it is then looked up."""

from __future__ import annotations

import ipaddress
import re
import time
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import trio

from decentraspace.errors import BadInput, TooMany, Unavailable, in_words
from decentraspace.public import NodeAPI
from decentraspace_dns_registrar import domains
from decentraspace_dns_registrar.purchases import Purchase, Purchases
from decentraspace_dns_registrar.registrars import Entry, Lost, Process, Refused, Registrar
from decentraspace_dns_registrar.settings import Settings

_YEARS_MOST = 10
_QUOTES_MOST = 1000
_LOOKS_MOST, _MINUTE = 8, 60.0
_KEY_MOST = 200
_NEEDED = ("given", "family", "email", "streetaddr", "city", "country", "phone", "type")
_FIELDS = (*_NEEDED, "zip", "state", "orgname")
_TYPES = ("individual", "company", "association", "publicbody")
_VALUE_MOST = 200
Order = Callable[..., Awaitable[None]]


class Shop:
    def __init__(self, node: NodeAPI, settings: Settings, registrar: Registrar, purchases: Purchases) -> None:
        self._node, self._settings = node, settings
        self._registrar, self._purchases = registrar, purchases
        self._quotes: OrderedDict[tuple[str, int, Process], tuple[int, float]] = OrderedDict()
        self._looked: deque[float] = deque()
        self._lock = trio.Lock()

    async def run(self) -> None:
        """Until the node stops; then the connections and the file are closed."""
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await self._registrar.aclose()
                await trio.to_thread.run_sync(self._purchases.close)

    async def quote(self, name: str, years: int) -> dict[str, Any]:
        """As `name_quote` answers. A name of the account is not available, and has the price of renewing it."""
        nothing = {"available": False, "credits": 0, "years": years}
        if not 1 <= years <= _YEARS_MOST:
            return {**nothing, "detail": f"Domains are sold for 1 to {_YEARS_MOST} years."}
        if self._purchases.open_for(name) is not None:
            return {**nothing, "detail": "A purchase of this name is under way."}
        self._turn()
        held = await self._registrar.holding(name)
        process: Process = "create" if held is None else "renew"
        offer = await self._registrar.offer(name, years, process)
        if not offer.available:
            return {**nothing, "detail": f"{name} cannot be bought: {offer.detail}."}
        credits = credits_for(offer.hundredths, self._settings)
        if credits > self._settings.most:
            return {**nothing, "detail": f"{name} is dearer than this node sells names for."}
        until = time.time() + self._settings.quote_valid
        self._quotes[name, years, process] = credits, until
        self._quotes.move_to_end((name, years, process))
        while len(self._quotes) > _QUOTES_MOST:
            self._quotes.popitem(last=False)
        span = f"for {years} {'year' if years == 1 else 'years'} through {self._registrar.name}"
        return {
            "available": held is None,
            "credits": credits,
            "years": years,
            "valid_until": int(until),
            "detail": f"Bought {span}." if held is None else f"It was bought here; it can be renewed {span}.",
        }

    def _turn(self) -> None:
        """Whoever only looks at prices shall not keep those who buy from the registrar."""
        now = time.monotonic()
        while self._looked and self._looked[0] <= now - _MINUTE:
            self._looked.popleft()
        if len(self._looked) >= _LOOKS_MOST:
            raise TooMany("Too many prices are asked for at the moment", hint="Try again in a minute.")
        self._looked.append(now)

    async def purchase(
        self, name: str, years: int, owner: str, key: str, contact: Mapping[str, str] | None
    ) -> dict[str, Any]:
        """As `name_purchase` answers."""
        if not 1 <= len(key) <= _KEY_MOST:
            raise BadInput(f"A purchase's key has 1 to {_KEY_MOST} characters")
        async with self._lock:
            known = self._purchases.get(key)
            if known is None:
                known = await self._begin(name, years, owner, key, contact)
            elif (known.name, known.years, known.owner) != (name, years, owner.lower()):
                raise BadInput("This key was used for another purchase")
            elif known.state == "asked":
                known = await self._look(known)
            if known.state == "bought":
                known = await self._enter(known)
            return known.answer(self._node.peer_id)

    async def _begin(
        self, name: str, years: int, owner: str, key: str, contact: Mapping[str, str] | None
    ) -> Purchase:
        now = int(time.time())
        purchase = Purchase(key, name, years, owner.lower(), "create", 0, now)
        try:
            purchase, order = await self._agreed(purchase, contact)
        except (BadInput, Refused) as error:
            purchase = replace(purchase, state="refused", detail=in_words(error)[:1000])
            await trio.to_thread.run_sync(self._purchases.add, purchase, now)
            return purchase
        await trio.to_thread.run_sync(self._purchases.add, purchase, now)
        try:
            await order(rehearse=False)
        except Refused as error:
            return await self._change(purchase, state="refused", detail=in_words(error)[:1000])
        except Lost as error:
            self._node.log.warning("domain_purchase_unanswered", name=name, reason=error.detail)
            return await self._change(purchase, detail="The registrar has not answered yet.")
        except Unavailable as error:  # it never was asked
            return await self._change(purchase, state="refused", detail=in_words(error)[:1000])
        purchase = await self._change(purchase, detail="The registrar is at work.")
        try:
            return await self._look(purchase)
        except Unavailable:
            return purchase

    async def _agreed(self, purchase: Purchase, contact: Mapping[str, str] | None) -> tuple[Purchase, Order]:
        """The purchase with its price, and how it is ordered. Refused, BadInput: not to be had at the price told."""
        name, years = purchase.name, purchase.years
        if self._purchases.open_for(name) is not None:
            raise Refused("Another purchase of this name is under way")
        held = await self._registrar.holding(name)
        process: Process = "create" if held is None else "renew"
        credits, until = self._quotes.get((name, years, process), (0, 0.0))
        if until < purchase.made:
            raise Refused("The price no longer holds: ask for it again")
        if process == "renew" and self._offered(name, purchase.made):
            # Whoever was told that it is free shall not renew what somebody else bought meanwhile.
            raise Refused("The name was bought a moment ago: ask for its price again later")
        offer = await self._registrar.offer(name, years, process)
        if not offer.available:
            raise Refused(f"{name} cannot be bought: {offer.detail}")
        if credits_for(offer.hundredths, self._settings) > credits:
            raise Refused("The price has risen: ask for it again")
        if self._purchases.spent(purchase.made) + credits > self._settings.most_daily:
            raise Refused("This node sells no more names today")
        if held is None:
            order: Order = partial(self._registrar.buy, name, years, checked_contact(contact))
        else:
            order = partial(self._registrar.renew, name, years)
        await order(rehearse=True)
        before = held.ends if held is not None else 0
        return replace(purchase, process=process, credits=credits, before=before), order

    def _offered(self, name: str, now: int) -> bool:
        """Whether somebody may still think that it is free."""
        return any(
            until >= now
            for (of, _, process), (_, until) in self._quotes.items()
            if of == name and process == "create"
        )

    async def _look(self, purchase: Purchase) -> Purchase:
        """What came of it, from the account itself."""
        held = await self._registrar.holding(purchase.name)
        if held is not None and held.ends > purchase.before:
            self._node.log.info("domain_bought", name=purchase.name, process=purchase.process)
            state = "bought" if purchase.process == "create" else "done"
            detail = "Bought." if state == "bought" else "Renewed."
            return await self._change(purchase, state=state, ends=held.ends, detail=detail)
        if time.time() < purchase.made + self._settings.lost_after:
            return purchase
        if purchase.process == "renew":
            unchanged = held is not None
        else:
            unchanged = (await self._registrar.offer(purchase.name, purchase.years, "create")).available
        if unchanged:
            return await self._change(
                purchase, state="refused", detail="The registrar has not taken the order."
            )
        if not purchase.unclear:
            self._node.log.error("domain_purchase_unclear", name=purchase.name, made=purchase.made)
            purchase = await self._change(
                purchase, unclear=True, detail="What came of it is not known; the operator has to look."
            )
        return purchase

    async def _enter(self, purchase: Purchase) -> Purchase:
        """The proof that the buyer may link it, and the way here: the account, and so the zone, is the operator's."""
        host = domains.PROOF_HOST
        entries = [Entry(host, "TXT", (f'"{domains.proof(purchase.owner)}"',))]
        for version, kind in ((4, "A"), (6, "AAAA")):
            of_kind = [a for a in self._settings.addresses if ipaddress.ip_address(a).version == version]
            if of_kind:
                entries.append(Entry("@", kind, tuple(of_kind)))
        if len(entries) == 1 and self._settings.gateways:
            entries.append(Entry("@", "ALIAS", (self._settings.gateways[0] + ".",)))
        try:
            await self._registrar.enter(purchase.name, entries)
        except Unavailable as error:
            return await self._change(purchase, detail=f"Bought; its records wait: {error.detail}"[:1000])
        except Refused as error:
            self._node.log.error("domain_records_refused", name=purchase.name, reason=error.detail)
            detail = "Bought. The operator has to enter its records: the registrar refused them."
            return await self._change(purchase, state="done", detail=detail)
        return await self._change(purchase, state="done", detail="Bought; its records are entered.")

    async def _change(self, purchase: Purchase, **changes: Any) -> Purchase:
        return await trio.to_thread.run_sync(partial(self._purchases.change, purchase, **changes))


def credits_for(hundredths: int, settings: Settings) -> int:
    """Exact but for one rounding, up."""
    paid, given = settings.rate
    return -(-hundredths * given * (10_000 + settings.fee_bps) // (paid * 10_000))


def checked_contact(contact: Mapping[str, str] | None) -> dict[str, str]:
    """BadInput, which names fields and never what is in them."""
    given = {name: value.strip() for name, value in (contact or {}).items() if value.strip()}
    if unknown := set(given) - set(_FIELDS):
        raise BadInput(f"A contact has no {min(unknown)[:40]!r}", hint=f"There are {', '.join(_FIELDS)}.")
    if missing := [name for name in _NEEDED if name not in given]:
        raise BadInput(
            f"To buy a domain, its owner's {', '.join(missing)} is needed",
            hint="They go to the registrar alone.",
        )
    for name, value in given.items():
        if len(value) > _VALUE_MOST or not value.isprintable():
            raise BadInput(f"The contact's {name} is too long, or cannot be printed")
    if given["type"] not in _TYPES:
        raise BadInput(f"The contact's type must be one of {', '.join(_TYPES)}")
    if given["type"] != "individual" and "orgname" not in given:
        raise BadInput(f"The contact's orgname is needed for a {given['type']}")
    if not re.fullmatch(r"[A-Z]{2}", given["country"]):
        raise BadInput("The contact's country must be two capital letters (ISO 3166)")
    if not re.fullmatch(r"\+[0-9]{1,3}\.[0-9]{4,14}", given["phone"]):
        raise BadInput("The contact's phone must look like +33.123456789")
    if not re.fullmatch(r"[^@\s]{1,64}@[^@\s]+\.[^@\s]+", given["email"]):
        raise BadInput("The contact's email is no address")
    return given
