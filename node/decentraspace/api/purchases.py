"""/domain/purchase/: names bought and renewed with credits."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import trio

from decentraspace.api.routing import Call, RouteTable
from decentraspace.api.schemas import attr, time
from decentraspace.errors import BadInput, Conflict, NotFound, PaymentRequired, Unauthorized, Unavailable
from decentraspace.names import spelling
from decentraspace.names.buying import Purchase, Quote

table = RouteTable()


@dataclass(frozen=True)
class PurchaseQuery:
    name: str | None = attr("The name to ask the price of.", None, most=1000)
    years: int = attr("For how many years.", 1, least=1, most=100)


@dataclass(frozen=True)
class QuoteAnswer:
    name: str = attr("In its one spelling.")
    shown: str = attr("What it says in its own script.")
    years: int = attr("For so many years.")
    available: bool = attr("Whether it can be had.")
    credits: int = attr("What it costs.")
    valid_until: datetime | None = attr("How long that price holds.")
    detail: str = attr("What else is to be known.")
    warnings: list[str] = attr("What to beware of.")


@dataclass(frozen=True)
class BoughtAnswer:
    name: str = attr("The name.")
    years: int = attr("For so many years.")
    credits: int = attr("What it costs: set aside until it is done, and given back when it is refused.")
    status: Literal["reserved", "pending", "done", "refused"] = attr("How it stands.")
    reference: str = attr("What the seller calls it.")
    detail: str = attr("What else is to be known.")
    expires: datetime | None = attr("When the name ends if it is not renewed.")
    begun: datetime = attr("When.")


@dataclass(frozen=True)
class PurchasesAnswer:
    quote: QuoteAnswer | None = attr("For the name that was asked for.")
    purchases: list[BoughtAnswer] = attr("One's own, with a login: the newest first, at most 100.")


@table.add(
    "GET",
    "/domain/purchase/",
    tag="domain",
    login="optional",
    query=PurchaseQuery,
    answers={200: PurchasesAnswer},
    problems=(BadInput, Unauthorized, NotFound, Unavailable),
)
async def purchases(call: Call) -> PurchasesAnswer:
    """What a name costs; how one's purchases stand"""
    quote = None
    if call.query.name is not None:
        name = spelling.ascii_name(call.query.name)
        quote = _quote(await call.node.buying.quote(name, call.query.years))
    elif call.session is None:
        raise Unauthorized("Name a name, or log in to see your purchases")
    found = await trio.to_thread.run_sync(call.node.buying.of, call.owner) if call.session else []
    return PurchasesAnswer(quote, [_bought(one) for one in found])


def _quote(one: Quote) -> QuoteAnswer:
    warning = spelling.warning(one.name)
    until = time(one.valid_until) if one.valid_until else None
    return QuoteAnswer(
        one.name, spelling.shown(one.name), one.years, one.available, one.credits, until, one.detail,
        [warning] if warning else [],
    )  # fmt: skip


def _bought(one: Purchase) -> BoughtAnswer:
    status: Literal["reserved", "pending", "done", "refused"] = "reserved"
    if one.status in ("pending", "done", "refused"):
        status = one.status  # type: ignore[assignment]
    expires = time(one.expires) if one.expires else None
    return BoughtAnswer(
        one.name, one.years, one.credits, status, one.reference, one.detail, expires, time(one.at)
    )


@dataclass(frozen=True)
class BuyRequest:
    name: str = attr("The name.", most=1000)
    years: int = attr("For how many years.", 1, least=1, most=100)
    renew: bool = attr("It is one's own, and is to last longer.", False)
    credits: int | None = attr("What it may cost at most: the price that was agreed to.", None, least=0)
    key: str | None = attr("Unique to the purchase, as the header Idempotency-Key.", None, least=1, most=200)
    contact: dict[str, str] | None = attr(
        "What the registrar wants to know of its holder; passed on to it, and not kept.", None
    )


@table.add(
    "POST",
    "/domain/purchase/",
    tag="domain",
    login=True,
    json=BuyRequest,
    answers={200: BoughtAnswer},
    problems=(BadInput, Unauthorized, PaymentRequired, NotFound, Conflict, Unavailable),
)
async def buy(call: Call) -> BoughtAnswer:
    """Buy or renew a name with credits

    The credits are set aside before, charged when it is done, and free again when it is refused. With a `key` (or the
    header Idempotency-Key) the same request says how that purchase stands, and never buys a second time: send one.
    """
    body: BuyRequest = call.body
    if body.contact is not None and (
        len(body.contact) > 40 or any(len(k) > 100 or len(v) > 1000 for k, v in body.contact.items())
    ):
        raise BadInput("contact has too many members, or too long ones")
    name = spelling.ascii_name(body.name)
    call.node.linking.check_foreign(name)
    key = body.key or call.headers.get("Idempotency-Key") or secrets.token_hex(16)
    made = await call.node.buying.buy(
        call.owner, name, body.years, key, most=body.credits, renew=body.renew, contact=body.contact
    )
    return _bought(made)
