"""/billing/payment-methods/, /billing/recharge/ and /billing/webhook/: how credits are bought at this node."""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from typing import Any

from quart import request

from decentraspace.api.blockchain import TransactionAnswer, transaction
from decentraspace.api.routing import Call, Media, RouteTable
from decentraspace.api.schemas import attr
from decentraspace.errors import BadInput, Forbidden, NotFound, TooLarge, Unauthorized, Unavailable
from decentraspace.identity.ethereum import checksum_address

table = RouteTable()

TOKEN = "token"
_WEBHOOK_MOST = 512 * 1024
_TITLE = "The coin itself, from the wallet: credits at once, for the fee of the chain"


@dataclass(frozen=True)
class MethodAnswer:
    id: str = attr("Its name, for `method` of /billing/recharge/.")
    title: str = attr("What it is.")
    currency: str | None = attr("What is paid in.")
    fee_credits: int = attr("Fixed fee, in credits.")
    address: str | None = attr("Whom it is paid to, where that is a wallet or contract.")
    detail: str = attr("What else there is to know.")


@dataclass(frozen=True)
class MethodsAnswer:
    methods: list[MethodAnswer] = attr("Ways to pay; none where this node charges nothing.")


@table.add("GET", "/billing/payment-methods/", tag="billing", answers={200: MethodsAnswer}, problems=())
async def methods(call: Call) -> MethodsAnswer:
    """What this node accepts, with fees and addresses"""
    found = []
    status = await call.node.plugins.first("chain_status")
    if status is not None:
        token, vault = status.value.get("token"), status.value["vault"]
        found.append(MethodAnswer(TOKEN, _TITLE, token, 0, vault, f"On chain {status.value['chain']}."))
    for result in await call.node.plugins.call("payment_methods"):
        found += [_method(one) for one in result.value if one["id"] != TOKEN]
    return MethodsAnswer(found)


def _method(one: dict[str, Any]) -> MethodAnswer:
    return MethodAnswer(
        one["id"],
        one["title"],
        one.get("currency"),
        one.get("fee_credits", 0),
        one.get("address"),
        one.get("detail", ""),
    )


@dataclass(frozen=True)
class RechargeRequest:
    method: str = attr("One of /billing/payment-methods/.", pattern="[a-z][a-z0-9_-]{0,39}", example=TOKEN)
    credits: int = attr("How many, of 10^-6 USD each.", least=1, most=2**53 - 1, example=5_000_000)


@dataclass(frozen=True)
class RechargeAnswer:
    status: str = attr("pending until it is paid, done, or refused.")
    reference: str = attr("The payment's name at its service; empty for the coin itself.")
    url: str | None = attr("Where to pay.")
    transactions: list[TransactionAnswer] = attr("To sign and send with the wallet, in this order.")
    detail: str = attr("What else there is to know.")


@table.add(
    "POST",
    "/billing/recharge/",
    tag="billing",
    login=True,
    json=RechargeRequest,
    answers={200: RechargeAnswer},
    problems=(BadInput, Unauthorized, NotFound, Unavailable),
    replay=True,
)
async def recharge(call: Call) -> RechargeAnswer:
    """Buy credits: transactions for the wallet to sign, or where to pay

    With an Idempotency-Key the same payment is begun once, however often it is sent. Credits count when the chain
    has them in a final block. Card money is lent by this node's operator until it can no longer be called back.
    """
    body: RechargeRequest = call.body
    if body.method == TOKEN:
        amount = {"amount": str(body.credits)}
        steps = [await transaction(call, action, amount) for action in ("approve", "deposit")]
        return RechargeAnswer("pending", "", None, steps, "Approve, then deposit.")
    found = await call.node.plugins.first(
        "payment_recharge",
        method=body.method,
        owner=checksum_address(call.owner),
        credits=body.credits,
        key=call.headers.get("Idempotency-Key") or secrets.token_hex(16),
    )
    if found is None:
        raise NotFound(f"There is no way to pay called {body.method!r}", hint="GET /billing/payment-methods/")
    made: dict[str, Any] = found.value
    return RechargeAnswer(
        made["status"], made["reference"], made.get("url"), _transactions(made), made.get("detail", "")
    )


def _transactions(made: dict[str, Any]) -> list[TransactionAnswer]:
    """What a plugin gave as JSON text: a transaction, or several."""
    if not made.get("transaction"):
        return []
    try:
        given = json.loads(made["transaction"])
        given = given if isinstance(given, list) else [given]
        return [
            TransactionAnswer(
                int(one["chain_id"]),
                str(one["to"]),
                str(one["data"]),
                str(int(one.get("value", 0))),
                one.get("typed_data"),
                str(one.get("detail", "")),
            )
            for one in given
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise Unavailable("The payment plugin gave a transaction that makes no sense") from error


@dataclass(frozen=True)
class TakenAnswer:
    status: str = attr("How the payment stands, or `ignored` for a call that concerns none of this node's.")


@table.add(
    "POST",
    "/billing/webhook/{method}/",
    tag="billing",
    params={"method": "The way to pay, one of /billing/payment-methods/."},
    streams={"application/json": Media("As the payment service signs it.", {"type": "object"})},
    answers={200: TakenAnswer},
    problems=(BadInput, Forbidden, NotFound, TooLarge, Unavailable),
)
async def webhook(call: Call) -> TakenAnswer:
    """For payment services: call when a payment has changed

    Signed by the service; checked by the plugin of that way to pay, byte by byte, with the address it came from.
    """
    found = await call.node.plugins.first(
        "payment_webhook",
        method=call.params["method"],
        headers=dict(call.headers),
        body=await call.stream.read(_WEBHOOK_MOST),
        source=request.remote_addr or "",
    )
    if found is None:
        raise NotFound("There is no such way to pay here", hint="GET /billing/payment-methods/")
    await call.node.billing.crediting.called(found.plugin, found.value)
    return TakenAnswer(found.value["status"])
