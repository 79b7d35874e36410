"""/blockchain/ownership/: whose a site is, and transactions that give it to another wallet."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import trio

from decentraspace.admission import not_site_owner
from decentraspace.api.hosting import site_of
from decentraspace.api.routing import Call, RouteTable
from decentraspace.api.schemas import attr, time
from decentraspace.errors import BadInput, Conflict, Forbidden, NotFound, Unauthorized, Unavailable
from decentraspace.identity.ethereum import checksum_address, parse_address
from decentraspace.records.ownership import Transfer
from decentraspace.records.schema import PRODUCTION

table = RouteTable()


@dataclass(frozen=True)
class OwnerQuery:
    site: str = attr(
        "Site id, host (`LABEL--ID…`), or with a login the label of a site of one's own.", most=253
    )


@dataclass(frozen=True)
class Owned:
    owner: str = attr("The wallet.")
    since: datetime = attr("Time of the block from which on.")
    block: int = attr("Its number.")


@dataclass(frozen=True)
class OwnerAnswer:
    site: str = attr("Site id.")
    label: str | None = attr("Its label; null where no version is known here.")
    owner: str | None = attr("Who may publish it at this node; null where nothing is known of the site.")
    founder: str | None = attr("Who made it, as its versions say.")
    publisher: str | None = attr("The wallet under which the version that is shown was published.")
    registered: bool = attr(
        "Whether it came to the registry contract, as far as this node has followed the chain."
    )
    chain: Owned | None = attr(
        "Whose it is as the chain says; null where it says nothing: then it is the founder's."
    )
    history: list[Owned] = attr("All owners that the chain names, oldest first.")
    follows_chain: bool = attr("Whether this node follows a chain at all.")


@table.add(
    "GET",
    "/blockchain/ownership/",
    tag="blockchain",
    login="optional",
    narrow=True,
    query=OwnerQuery,
    answers={200: OwnerAnswer},
    problems=(BadInput, Unauthorized, NotFound),
)
async def ownership(call: Call) -> OwnerAnswer:
    """Whose a site is, by its records and by the chain

    A site is its founder's until the registry contract says otherwise, in a final block.
    """
    site, _ = await trio.to_thread.run_sync(site_of, call, call.query.site, PRODUCTION)
    return await trio.to_thread.run_sync(_owner, call, site)


def _owner(call: Call, site: str) -> OwnerAnswer:
    records = call.node.records
    versions = [
        v for channel in (PRODUCTION, *records.channels(site)) for v in records.history(site, channel, 1)
    ]
    transfers = records.transfers(site)
    if not versions and not transfers:
        raise NotFound(f"No site {site} is known here")
    head = records.head(site)
    owner = records.owner_of(site)
    return OwnerAnswer(
        site,
        versions[0].label if versions else None,
        checksum_address(owner) if owner else None,
        checksum_address(versions[0].founder) if versions else None,
        checksum_address(head.wallet) if head else None,
        bool(transfers),
        _owned(transfers[-1]) if transfers else None,
        [_owned(one) for one in transfers],
        bool(call.node.plugins.having("chain_events")),
    )


def _owned(transfer: Transfer) -> Owned:
    return Owned(checksum_address(transfer.owner), time(transfer.time), transfer.block)


@dataclass(frozen=True)
class TransferRequest:
    site: str = attr("The site: its id, host or label.", most=253)
    to: str = attr("The wallet that is to own it.", pattern="0x[0-9a-fA-F]{40}")


@dataclass(frozen=True)
class Step:
    """A transaction for the owner's wallet to sign and send, each after the one before is in a block."""

    action: str = attr("`approve_fee`, `register_site` or `transfer_site`.")
    chain_id: int = attr("Which chain.")
    to: str = attr("The contract.")
    data: str = attr("The call, as 0x and hex digits.")
    value: str = attr("Wei, in decimal.")
    detail: str = attr("What it does.")


@dataclass(frozen=True)
class TransferAnswer:
    site: str = attr("Site id.")
    owner: str = attr("Who signs: the owner of now.")
    to: str = attr("The owner to be.")
    fee: int = attr("What the registry takes of the owner's credits in the vault, in credits.")
    transactions: list[Step] = attr("In this order.")


_WORDS = {
    "approve_fee": "Lets the registry take the fee from your credits.",
    "register_site": "Enters the site in the registry, as yours. Once is enough.",
    "transfer_site": "Gives the site away. All that you delegated for it ends when this is final.",
}


@table.add(
    "POST",
    "/blockchain/ownership/",
    tag="blockchain",
    login=True,
    json=TransferRequest,
    answers={200: TransferAnswer},
    problems=(BadInput, Unauthorized, Forbidden, NotFound, Conflict, Unavailable),
)
async def transfer(call: Call) -> TransferAnswer:
    """Prepare the transactions that give a site to another wallet

    Nothing is sent: only the owner's wallet can sign them. When the last is final the new owner can deploy at every
    node, and what the old one delegated for the site has ended. The fee is paid
    in credits that the owner has in the vault.
    """
    site, _ = await trio.to_thread.run_sync(site_of, call, call.body.site, PRODUCTION)
    found = await trio.to_thread.run_sync(_owner, call, site)
    owner, to = call.owner, parse_address(call.body.to)
    if found.owner is not None and parse_address(found.owner) != owner:
        raise not_site_owner(site, parse_address(found.owner))
    if to in (owner, bytes(20)):
        raise BadInput("A site is given to another wallet than its owner's")
    last = await _prepare(call, "transfer_site", site=site, to=checksum_address(to))
    fee = int(last.get("fee", 0))
    made: list[tuple[str, dict[str, Any]]] = []
    if fee:
        made.append(("approve_fee", await _prepare(call, "approve_fee")))
    if not found.registered:
        if found.label is None:
            raise NotFound(f"No version of {site} is known here, and with it its label")
        made.append(("register_site", await _prepare(call, "register_site", label=found.label)))
    made.append(("transfer_site", last))
    steps = [
        Step(action, one["chain_id"], one["to"], one["data"], str(one["value"]), _WORDS[action])
        for action, one in made
    ]
    return TransferAnswer(site, checksum_address(owner), checksum_address(to), fee, steps)


async def _prepare(call: Call, action: str, **arguments: Any) -> dict[str, Any]:
    hooks = call.node.plugins
    if not hooks.having("chain_transaction"):
        raise NotFound(
            "This node follows no chain, and a site changes hands there",
            hint="Ask a node whose operator has set up a plugin such as billing_polygon.",
            slug="no-chain",
        )
    found = await hooks.first(
        "chain_transaction", action=action, owner=checksum_address(call.owner), arguments=arguments
    )
    if found is None:
        raise Unavailable(f"No plugin prepared {action}: is one set up for a chain?")
    value: dict[str, Any] = found.value
    return value
