"""/blockchain/credit/: the contracts' state, and transactions for a wallet to sign."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from decentraspace.api.billing import whose
from decentraspace.api.routing import Call, RouteTable
from decentraspace.api.schemas import attr, time
from decentraspace.errors import BadInput, Forbidden, NotFound, Unauthorized, Unavailable
from decentraspace.identity.ethereum import checksum_address

table = RouteTable()

ACTIONS = (
    "approve", "deposit", "deposit_permit", "deposit_native", "allocate", "raise_allocation", "end_allocation",
    "request_withdrawal", "cancel_withdrawal", "withdraw",
)  # fmt: skip


@dataclass(frozen=True)
class ChainQuery:
    owner: str | None = attr("Administrators: the wallet to look at; default: one's own.", None, most=42)


@dataclass(frozen=True)
class AllocationAnswer:
    """Amounts in credits."""

    allocation: str = attr("Its id on chain.")
    operator: str = attr("Who may take it.")
    id: str = attr("The owner's number for it, in decimal.")
    cap: int = attr("What the operator may take in all.")
    rate: int = attr("Credits a second.")
    start: datetime = attr("From when.")
    expires: datetime = attr("Until when.")
    stream_settled: int = attr("Taken by the second.")
    metered_settled: int = attr("Taken by meter.")


@dataclass(frozen=True)
class CreditAnswer:
    chain: int = attr("Chain id.")
    vault: str = attr("Address of CreditVault.")
    operator: str = attr("Whom an allocation for this node is granted to.")
    token: str | None = attr("The coin whose base units are credits.")
    operators: str | None = attr("Address of OperatorRegistry.")
    sites: str | None = attr("Address of SiteRegistry.")
    explorer: str | None = attr("Where transactions can be looked at.")
    final_block: int | None = attr("The newest final block; null where the chain cannot be asked now.")
    final_time: datetime | None = attr("Its time.")
    detail: str = attr("What is wrong with the chain's endpoints, if anything.")
    balance: int | None = attr("The wallet's credits; null where the chain cannot be asked now.")
    reserved: int | None = attr("Of them, promised to operators or being withdrawn.")
    available: int | None = attr("Of them, neither.")
    withdrawing: int | None = attr("Requested for withdrawal.")
    withdraw_after: datetime | None = attr("From when that may be withdrawn.")
    allocations: list[AllocationAnswer] = attr("Open allocations to all operators.")


@table.add(
    "GET",
    "/blockchain/credit/",
    tag="blockchain",
    login=True,
    query=ChainQuery,
    answers={200: CreditAnswer},
    problems=(Unauthorized, Forbidden, NotFound),
)
async def credit(call: Call) -> CreditAnswer:
    """The contracts this node settles with, and what a wallet has there"""
    owner = checksum_address(whose(call, call.query.owner))
    status = await chain_status(call)
    found = await call.node.plugins.first("chain_account", owner=owner) if status.get("reachable") else None
    account: dict[str, Any] = found.value if found is not None else {}
    final, after = status.get("final_time"), account.get("withdraw_after")
    return CreditAnswer(
        chain=status["chain"],
        vault=status["vault"],
        operator=status["operator"],
        token=status.get("token"),
        operators=status.get("operators"),
        sites=status.get("sites"),
        explorer=status.get("explorer"),
        final_block=status.get("final_block"),
        final_time=time(final) if final is not None else None,
        detail=status.get("detail", ""),
        balance=account.get("balance"),
        reserved=account.get("reserved"),
        available=account.get("available"),
        withdrawing=account.get("withdrawing"),
        withdraw_after=time(after) if after else None,
        allocations=[_allocation(one) for one in account.get("allocations", [])],
    )


async def chain_status(call: Call) -> dict[str, Any]:
    """What the plugin that settles says. NotFound where there is none."""
    found = await call.node.plugins.first("chain_status")
    if found is None:
        raise NotFound("This node charges nothing: no plugin settles on a chain", slug="no-chain")
    value: dict[str, Any] = found.value
    return value


def _allocation(one: dict[str, Any]) -> AllocationAnswer:
    return AllocationAnswer(
        **{**one, "id": str(one["id"]), "start": time(one["start"]), "expires": time(one["expires"])}
    )


@dataclass(frozen=True)
class TransactionRequest:
    action: str = attr(f"One of {', '.join(ACTIONS)}.", pattern="|".join(ACTIONS), example="allocate")
    arguments: dict[str, Any] = attr("What the action takes; large numbers as decimal text.")


@dataclass(frozen=True)
class TransactionAnswer:
    """To be signed by the wallet and sent through any node of the chain."""

    chain_id: int = attr("Which chain.")
    to: str = attr("The contract.")
    data: str = attr("The call, as 0x and hex digits; 0x where a signature comes first (see `detail`).")
    value: str = attr("Wei, in decimal.")
    typed_data: str | None = attr("What to sign instead (EIP-712), as JSON text.")
    detail: str = attr("What to do with it.")


@table.add(
    "POST",
    "/blockchain/credit/",
    tag="blockchain",
    login=True,
    json=TransactionRequest,
    answers={200: TransactionAnswer},
    problems=(BadInput, Unauthorized, NotFound, Unavailable),
)
async def prepare(call: Call) -> TransactionAnswer:
    """Prepare a transaction: deposit, allocation, withdrawal

    Nothing is sent: only the wallet can sign it. approve {amount}; deposit {amount}; deposit_permit {amount,
    deadline} and then with {v, r, s}; deposit_native {min_credits, value}; allocate {operator, id, cap, rate,
    start, expires}; raise_allocation {operator, id, cap, expires}; end_allocation {operator, id};
    request_withdrawal {amount}; cancel_withdrawal {}; withdraw {to}.
    """
    return await transaction(call, call.body.action, call.body.arguments)


async def transaction(call: Call, action: str, arguments: dict[str, Any]) -> TransactionAnswer:
    """As `chain_transaction` prepares it for the wallet that is logged in. NotFound."""
    await chain_status(call)
    found = await call.node.plugins.first(
        "chain_transaction", action=action, owner=checksum_address(call.owner), arguments=arguments
    )
    if found is None:
        raise Unavailable("The plugin that settles did not prepare the transaction")
    made: dict[str, Any] = found.value
    return TransactionAnswer(
        made["chain_id"],
        made["to"],
        made["data"],
        str(made["value"]),
        made.get("typed_data"),
        made.get("detail") or "Sign it with the wallet and send it.",
    )
