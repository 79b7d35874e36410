"""PUT /blockchain/credit/: a grant that its owner signed and this node's operator brings to the chain, for the gas."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from typing import Any

import trio

from decentraspace.api.blockchain import chain_status
from decentraspace.api.routing import Call, RouteTable
from decentraspace.api.schemas import attr
from decentraspace.errors import BadInput, Conflict, NotFound, PaymentRequired, Unauthorized, Unavailable
from decentraspace.identity.ethereum import checksum_address, keccak256, parse_address, recover
from decentraspace.ledger import covering

table = RouteTable()

_NUMBER = "[0-9]{1,29}"
_CAP_MOST = 2**96 - 1
_REMEMBERED = 10_000  # owners whose last grant is remembered
_DOMAIN = keccak256(b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)")
_ALLOCATION = keccak256(
    b"Allocation(address owner,address operator,uint256 id,uint96 cap,uint96 rate,uint40 start,uint40 expires)"
)


@dataclass(frozen=True)
class GrantRequest:
    """What `allocate` of POST /blockchain/credit/ gave to sign as `typed_data`, and the signature."""

    id: str = attr("The owner's number for it, in decimal.", pattern="[0-9]{1,78}")
    cap: str = attr("Credits that the operator may take in all, in decimal.", pattern=_NUMBER)
    rate: str = attr("Of them, credits a second for storage, in decimal.", pattern=_NUMBER)
    start: int = attr("From when, in Unix seconds.", least=0, most=2**40 - 1)
    expires: int = attr("Until when, in Unix seconds.", least=0, most=2**40 - 1)
    signature: str = attr("Of the wallet's key (EIP-712), 0x and hex digits.", pattern="0x[0-9a-fA-F]{130}")


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
    however often it is handed in: again for how it stands. The next one is taken when that is final or refused.
    """
    body: GrantRequest = call.body
    status = await chain_status(call)
    terms = _terms(body)
    signature = _signature(call.owner, body, terms, status)
    arguments = {"owner": checksum_address(call.owner), **terms, "signature": "0x" + signature.hex()}
    # However the numbers and the signature are spelled, it is one grant.
    signed = hashlib.sha256(repr(sorted(arguments.items())).encode()).hexdigest()
    key = f"grant:{arguments['owner'].lower()}:{signed}"
    handed = call.node.billing.handed_in
    last = handed.get(call.owner)
    if last is None or last[0] != key:
        if await _worth_it(call, body, status["operator"]):
            return GrantAnswer("final", "", "It was there already.")
        if last is not None and (await _send(call, *last))["status"] == "pending":
            raise _one_at_a_time()
        if handed.get(call.owner) is not last:
            raise _one_at_a_time()  # another came meanwhile
        handed[call.owner] = key, arguments
        if len(handed) > _REMEMBERED:
            del handed[next(iter(handed))]
    made = await _send(call, key, arguments)
    if made["status"] == "final":
        await trio.to_thread.run_sync(call.node.ledger.changed, call.owner)
    return GrantAnswer(made["status"], made["reference"], made.get("detail", ""))


async def _send(call: Call, key: str, arguments: dict[str, str]) -> dict[str, Any]:
    """How it stands, sent now or before."""
    found = await call.node.plugins.first(
        "chain_send", action="allocate_by_signature", arguments=arguments, key=key
    )
    if found is None:
        raise Unavailable(
            "The plugin that settles did not take the grant", hint="Try again, or send it by yourself."
        )
    made: dict[str, Any] = found.value
    return made


def _one_at_a_time() -> Conflict:
    return Conflict(
        "Another grant that the wallet handed in is still on its way",
        hint="Hand this one in when that is final; or send the transaction by yourself.",
    )


def _terms(body: GrantRequest) -> dict[str, str]:
    """The numbers, each in its one spelling. BadInput."""
    if int(body.cap) > _CAP_MOST or int(body.rate) > _CAP_MOST or int(body.id) >= 2**256:
        raise BadInput("A grant's cap and rate are below 2^96, and its number below 2^256")
    return {name: str(int(getattr(body, name))) for name in ("id", "cap", "rate", "start", "expires")}


def _signature(owner: bytes, body: GrantRequest, terms: dict[str, str], status: dict[str, Any]) -> bytes:
    """In the form that the contract takes. BadInput unless the owner's key made it for these terms (EIP-712)."""
    given = bytes.fromhex(body.signature[2:])
    signature = given[:64] + bytes((given[64] + 27,)) if given[64] < 27 else given
    domain = (_DOMAIN, keccak256(b"DecentraSpace CreditVault"), keccak256(b"1"))
    where = (status["chain"].to_bytes(32, "big"), _word(parse_address(status["vault"])))
    message = (_ALLOCATION, _word(owner), _word(parse_address(status["operator"])))
    numbers = (int(number).to_bytes(32, "big") for number in terms.values())
    digest = keccak256(
        b"\x19\x01" + keccak256(b"".join((*domain, *where))) + keccak256(b"".join((*message, *numbers)))
    )
    if recover(digest, signature) != owner:
        raise BadInput(
            f"The signature is not one of {checksum_address(owner)} for this grant to this node's operator",
            hint="Sign the `typed_data` that POST /blockchain/credit/ gives for it.",
        )
    return signature


def _word(address: bytes) -> bytes:
    return address.rjust(32, b"\x00")


async def _worth_it(call: Call, body: GrantRequest, operator: str) -> bool:
    """Whether it is there already. BadInput, PaymentRequired: for what would only cost gas."""
    cap, least = int(body.cap), call.node.config.billing.grant_least
    if cap < least:
        raise BadInput(
            f"This node pays the gas for grants of {least} credits and more, not of {cap}",
            hint="Grant more, or send the transaction by yourself.",
            slug="small-grant",
            least=least,
        )
    if body.expires <= max(body.start, int(time.time())):
        raise BadInput("The grant is over before it begins")
    account = await call.node.plugins.first("chain_account", owner=checksum_address(call.owner))
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
    return there
