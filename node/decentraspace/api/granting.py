"""PUT /blockchain/credit/: a grant that its owner signed and this node's operator brings to the chain, for the gas."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import asdict, dataclass
from typing import Any

import trio

from decentraspace.api.blockchain import chain_status
from decentraspace.api.routing import Call, RouteTable
from decentraspace.api.schemas import attr
from decentraspace.errors import BadInput, Conflict, NotFound, PaymentRequired, Unauthorized, Unavailable
from decentraspace.identity.ethereum import checksum_address
from decentraspace.ledger import covering

table = RouteTable()

_NUMBER = "[0-9]{1,29}"
_CAP_MOST = 2**96 - 1


@dataclass(frozen=True)
class GrantRequest:
    """What `allocate` of POST /blockchain/credit/ gave to sign as `typed_data`, and the signature."""

    id: str = attr("The owner's number for it, in decimal.", pattern="[0-9]{1,78}")
    cap: str = attr("Credits that the operator may take in all, in decimal.", pattern=_NUMBER)
    rate: str = attr("Of them, credits a second for storage, in decimal.", pattern=_NUMBER)
    start: int = attr("From when, in Unix seconds.", least=0, most=2**40 - 1)
    expires: int = attr("Until when, in Unix seconds.", least=0, most=2**40 - 1)
    signature: str = attr(
        "Of the wallet (EIP-712; that of a contract as EIP-1271 has it), 0x and hex digits.",
        pattern="0x([0-9a-fA-F]{2}){1,4096}",
    )


@dataclass(frozen=True)
class GrantAnswer:
    status: str = attr(
        "pending until it is in a final block, final, or refused: the contract would not take it."
    )
    reference: str = attr("Hash of the transaction; empty before there is one.")
    detail: str = attr("What it waits for, or why it was refused.")


@table.add(
    "PUT",
    "/blockchain/credit/",
    tag="blockchain",
    login=True,
    json=GrantRequest,
    answers={200: GrantAnswer},
    problems=(BadInput, Unauthorized, PaymentRequired, NotFound, Conflict, Unavailable),
)
async def grant(call: Call) -> GrantAnswer:
    """Hand in a signed allocation, for a wallet that has no coins for gas

    The operator sends it and pays the gas; it takes at least `billing.grant_least` credits for that. Sent once,
    however often it is handed in: again for how it stands.
    """
    body: GrantRequest = call.body
    status = await chain_status(call)
    owner = checksum_address(call.owner)
    await _worth_it(call, body, owner, status["operator"])
    signed = hashlib.sha256(json.dumps(asdict(body), sort_keys=True).encode()).hexdigest()
    found = await call.node.plugins.first(
        "chain_send",
        action="allocate_by_signature",
        arguments={"owner": owner, **asdict(body)},
        key=f"grant:{owner.lower()}:{signed}",
    )
    if found is None:
        raise Unavailable(
            "The plugin that settles did not take the grant", hint="Try again, or send it by yourself."
        )
    made: dict[str, Any] = found.value
    if made["status"] == "final":
        await trio.to_thread.run_sync(call.node.ledger.changed, call.owner)
    return GrantAnswer(made["status"], made["reference"], made.get("detail", ""))


async def _worth_it(call: Call, body: GrantRequest, owner: str, operator: str) -> None:
    """BadInput, PaymentRequired: for what would only cost gas."""
    cap, least = int(body.cap), call.node.config.billing.grant_least
    if cap > _CAP_MOST or int(body.rate) > _CAP_MOST or int(body.id) >= 2**256:
        raise BadInput("A grant's cap and rate are below 2^96, and its number below 2^256")
    if cap < least:
        raise BadInput(
            f"This node pays the gas for grants of {least} credits and more, not of {cap}",
            hint="Grant more, or send the transaction by yourself.",
            slug="small-grant",
            least=least,
        )
    if body.expires <= max(body.start, int(time.time())):
        raise BadInput("The grant is over before it begins")
    account = await call.node.plugins.first("chain_account", owner=owner)
    if account is None:
        raise Unavailable("The chain cannot be asked what the wallet has", hint="Try again in a while.")
    there = any(
        str(one["id"]) == str(int(body.id)) and one["operator"] == operator
        for one in account.value["allocations"]
    )
    available = account.value["available"]
    if not there and available < cap:
        detail = f"The wallet has {available} credits that are not granted yet, and would grant {cap}"
        raise covering.refusal(detail, "credit", cap - available, "grant", call.node.config.api_url)
