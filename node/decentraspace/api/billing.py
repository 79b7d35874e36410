"""/billing/balance/ and /billing/deduct/: how a wallet stands at this node, and charging a use."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

import trio

from decentraspace.api.routing import Call, RouteTable
from decentraspace.api.schemas import attr, time
from decentraspace.errors import BadInput, Conflict, Forbidden, NotFound, PaymentRequired, Unauthorized
from decentraspace.identity.ethereum import checksum_address, parse_address
from decentraspace.ledger.allocations import Allocation
from decentraspace.ledger.cards import Card
from decentraspace.ledger.deposits import Deposit

table = RouteTable()

_SITE = "[a-z2-7]{16}"


@dataclass(frozen=True)
class OnChain:
    """Credits."""

    balance: int = attr("All that is the wallet's.")
    reserved: int = attr("Of it, what allocations may still take, and what is being withdrawn.")
    available: int = attr("Of it, what may be allocated or withdrawn.")
    withdrawing: int = attr("Requested for withdrawal.")
    withdraw_after: datetime | None = attr("From when that may be withdrawn.")
    block: int = attr("As of this final block.")


@dataclass(frozen=True)
class Granted:
    """An allocation to this node's operator. Amounts in credits."""

    allocation: str = attr("Its id on chain.")
    id: str = attr("The owner's number for it.")
    cap: int = attr("What the operator may take in all.")
    rate: int = attr("Credits a second, for storage.")
    start: datetime = attr("From when.")
    expires: datetime = attr("Until when.")
    settled: int = attr("Taken so far, by meter and by stream.")
    unsettled: int = attr("Charged, and not taken yet.")


@dataclass(frozen=True)
class CardAnswer:
    """A card payment: the payer may call it back for a while, and until then it is lent. Amounts in credits."""

    reference: str = attr("The plugin's name and the payment's.")
    credits: int = attr("Paid for.")
    reversed: int = attr("Of them, called back.")
    state: str = attr("held (can be called back), disputed (is being), cleared or reversed.")
    received: datetime = attr("When.")
    held_until: datetime = attr("Until when it can be called back.")
    deposit: str = attr("waiting, pending, final (in the vault), refused or void (called back before).")
    transaction: str = attr("Of the deposit; empty before there is one.")
    detail: str = attr("What is to be known of it.")


@dataclass(frozen=True)
class BalanceAnswer:
    """Amounts in credits of 10^-6 USD."""

    owner: str = attr("The wallet.")
    tier: str = attr("`free` or `paid`, at this node.")
    billing: bool = attr("Whether this node charges at all.")
    chain: OnChain | None = attr("What the wallet has in the vault; null where it cannot be asked now.")
    accrued: int = attr("Used in hours that are not over yet.")
    unsettled: int = attr("Charged, and not yet paid on chain.")
    room: int = attr("What may still be charged before services pause.")
    held: int = attr("Card money that can still be called back.")
    cards: list[CardAnswer] = attr("Card payments, the newest first; at most 100.")
    allowance: dict[str, int] = attr("What is left of this month's free allowance, by service, in its units.")
    allocations: list[Granted] = attr("What the wallet has granted this node's operator.")


@dataclass(frozen=True)
class OwnerQuery:
    owner: str | None = attr("Administrators: the wallet to look at; default: one's own.", None, most=42)


@table.add(
    "GET",
    "/billing/balance/",
    tag="billing",
    login=True,
    query=OwnerQuery,
    answers={200: BalanceAnswer},
    problems=(Unauthorized, Forbidden),
)
async def balance(call: Call) -> BalanceAnswer:
    """Balance on chain, what has been used and not settled, and the limits granted"""
    owner = whose(call, call.query.owner)
    account = await trio.to_thread.run_sync(call.node.ledger.account, owner)
    found = await call.node.plugins.first("chain_account", owner=checksum_address(owner))
    return BalanceAnswer(
        checksum_address(owner),
        account.tier,
        account.billing,
        _on_chain(found.value) if found is not None else None,
        account.accrued,
        account.unsettled,
        account.room,
        account.held,
        [_card(*one) for one in await trio.to_thread.run_sync(call.node.ledger.card_payments, owner)],
        account.allowance,
        [_granted(one) for one in account.allocations],
    )


def whose(call: Call, owner: str | None) -> bytes:
    """The wallet asked about: one's own, or for administrators any. Forbidden."""
    if owner is None:
        return call.owner
    wallet = parse_address(owner)
    if wallet != call.owner and not call.is_admin:
        raise Forbidden("Only an administrator of this node may look at another wallet")
    return wallet


def _on_chain(found: dict[str, Any]) -> OnChain:
    after = found["withdraw_after"]
    return OnChain(
        found["balance"],
        found["reserved"],
        found["available"],
        found["withdrawing"],
        time(after) if after else None,
        found["block"],
    )


_STANDING = {
    "held": "Held until {until}: the payer can call it back",
    "disputed": "The payer is calling it back",
    "cleared": "Can no longer be called back",
    "reversed": "Called back: nothing of it is left",
}


def _card(card: Card, deposit: Deposit | None) -> CardAnswer:
    words = _STANDING[card.state].format(until=f"{time(card.until):%Y-%m-%d}")
    if 0 < card.reversed < card.credits:
        words += f"; {card.reversed} credits were called back"
    return CardAnswer(
        card.reference,
        card.credits,
        card.reversed,
        card.state,
        time(card.received),
        time(card.until),
        deposit.status if deposit else "final",
        deposit.transaction if deposit else "",
        words + (f". Deposit: {deposit.detail}" if deposit and deposit.detail else "."),
    )


def _granted(one: Allocation) -> Granted:
    return Granted(
        "0x" + one.id.hex(),
        one.chosen,
        one.cap,
        one.rate,
        time(one.start),
        time(one.expires),
        one.settled + one.stream_settled,
        one.unsettled,
    )


# -- limits


@dataclass(frozen=True)
class LimitChange:
    site: str = attr("The site's id.", pattern=_SITE)
    monthly_cap: int | None = attr("Credits the site may cost in a month; null: the node's own cap.", least=0)


@dataclass(frozen=True)
class LimitAnswer:
    site: str = attr("The site's id.")
    monthly_cap: int = attr("Credits the site may cost in a calendar month.")
    spent: int = attr("What it has cost this month.")


@table.add(
    "PATCH",
    "/billing/balance/",
    tag="billing",
    login=True,
    json=LimitChange,
    answers={200: LimitAnswer},
    problems=(BadInput, Unauthorized, Forbidden, NotFound),
)
async def set_limit(call: Call) -> LimitAnswer:
    """Set the monthly cap of a site

    Beyond it visitors are told to come back next month, and nothing is charged; nothing is deleted.
    """
    site = call.body.site
    await own_site(call, site)
    await trio.to_thread.run_sync(call.node.ledger.set_cap, call.owner, site, call.body.monthly_cap)
    most, spent = await trio.to_thread.run_sync(call.node.ledger.cap, site)
    return LimitAnswer(site, most, spent)


async def own_site(call: Call, site: str) -> bytes:
    """The site's owner, who is logged in, or an administrator is. NotFound, Forbidden."""
    owner = await trio.to_thread.run_sync(call.node.billing.owner_of, site)
    if owner is None:
        raise NotFound(f"This node knows no site {site}")
    if owner != call.owner and not call.is_admin:
        raise Forbidden("The site belongs to another wallet")
    return owner


# -- charging a use


@dataclass(frozen=True)
class DeductRequest:
    owner: str = attr("Who pays.", pattern="0x[0-9a-fA-F]{40}")
    service: str = attr("Its name, such as `names` or `builds`.", pattern="[a-z][a-z0-9_-]{0,31}")
    key: str = attr(
        "Unique to the use: the same key is charged once, however often it is sent.", most=200, least=1
    )
    quantity: int = attr("By the price list, in the service's units.", 0, least=0)
    credits: int = attr("A price of its own, besides.", 0, least=0)
    site: str = attr("The site it is for, if any.", "", pattern=f"({_SITE})?")


@dataclass(frozen=True)
class DeductAnswer:
    owner: str = attr("Who pays.")
    service: str = attr("The service.")
    credits: int = attr("What it costs, beyond the allowance.")
    charged: datetime = attr("When it was charged first.")


@table.add(
    "POST",
    "/billing/deduct/",
    tag="billing",
    login=True,
    admin=True,
    json=DeductRequest,
    answers={200: DeductAnswer},
    problems=(BadInput, Unauthorized, PaymentRequired, Forbidden, Conflict),
)
async def deduct(call: Call) -> DeductAnswer:
    """Charge a use of a service (administrators; plugins have a function for it)

    Refused with what is missing where nobody would pay. What visitors use and what is stored is metered by the
    node itself and can not be charged here.
    """
    body: DeductRequest = call.body
    do = partial(
        call.node.ledger.deduct,
        body.key,
        parse_address(body.owner),
        body.service,
        body.quantity,
        credits=body.credits,
        site=body.site,
    )
    one = await trio.to_thread.run_sync(do)
    return DeductAnswer(checksum_address(one.owner), one.service, one.credits, time(one.at))
