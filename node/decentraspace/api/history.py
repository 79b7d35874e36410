"""/billing/history/: what a wallet used, hour by hour, and the statements of what was settled."""

from __future__ import annotations

import csv
import io
import time as clocks
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

import trio

from decentraspace.api.billing import whose
from decentraspace.api.paging import next_page
from decentraspace.api.routing import Call, Reply, RouteTable
from decentraspace.api.schemas import attr, time
from decentraspace.errors import BadInput, Forbidden, NotFound, Unauthorized
from decentraspace.identity.ethereum import checksum_address, parse_address

table = RouteTable()

_HASH = "0x[0-9a-f]{64}"
_CSV = "text/csv"
_HOUR = 3600


@dataclass(frozen=True)
class HistoryQuery:
    owner: str | None = attr("Administrators: the wallet to look at; default: one's own.", None, most=42)
    since: int = attr("Unix seconds; uses from that hour on.", 0, least=0, most=2**40)
    until: int = attr("Unix seconds; uses before that hour.", 2**40, least=0, most=2**40)
    limit: int = attr("Uses at most.", 100, least=1, most=1000)
    cursor: str = attr("From `next` of the page before.", "", pattern="[0-9]{0,18}")
    format: str = attr("`json`, or `csv` for uses alone.", "json", pattern="json|csv")
    root: str = attr("With `allocation`: this one statement, with its proofs.", "", pattern=f"({_HASH})?")
    allocation: str = attr("See `root`.", "", pattern=f"({_HASH})?")


@dataclass(frozen=True)
class UseAnswer:
    number: int = attr("Counts up.")
    hour: datetime = attr("When the hour began.")
    site: str = attr("The site's id; empty for what belongs to none.")
    service: str = attr("storage (byte-hours), egress (bytes), requests, names, builds, …")
    quantity: int = attr("In the service's units.")
    free: int = attr("Of it, within the allowance.")
    credits: int = attr("Charged by meter.")
    streamed: int = attr("Paid by the allocation's stream.")
    waived: int = attr("Not charged, as nobody would have paid.")


@dataclass(frozen=True)
class StatementAnswer:
    root: str = attr("Merkle root of the batch it was settled with.")
    allocation: str = attr("Under which.")
    made: datetime = attr("When.")
    credits: int = attr("Charged by it.")
    cumulative: int = attr("Charged under the allocation until then.")
    status: str = attr("offered, pending, final or refused.")
    transaction: str = attr("Hash of the transaction; empty before there is one.")
    detail: str = attr("Why it was refused.")


@dataclass(frozen=True)
class HistoryAnswer:
    uses: list[UseAnswer] = attr("Uses, oldest first.")
    next: str | None = attr("`cursor` of the next page; null after the last.")
    statements: list[StatementAnswer] = attr("The newest statements, newest first; at most 100.")
    statement: dict[str, Any] | None = attr(
        "The one asked for, as `decentraspace verify-statement` checks it.", None
    )


@table.add(
    "GET",
    "/billing/history/",
    tag="billing",
    login=True,
    query=HistoryQuery,
    answers={200: HistoryAnswer},
    problems=(BadInput, Unauthorized, Forbidden, NotFound),
)
async def history(call: Call) -> HistoryAnswer | Reply:
    """What was used and charged, hour by hour, and the statements with their proofs

    A statement names every use that a charge on chain was for, with the Merkle proofs that lead to the root in
    the contract's event: nobody has to trust this node for it.
    """
    query: HistoryQuery = call.query
    owner = whose(call, query.owner)
    if bool(query.root) != bool(query.allocation):
        raise BadInput("A statement is named by root and allocation")
    if query.root:
        return HistoryAnswer([], None, [], await trio.to_thread.run_sync(_statement, call, owner, query))
    find = partial(
        call.node.ledger.history,
        owner,
        since=query.since // _HOUR,
        until=query.until // _HOUR,
        after=int(query.cursor or 0),
        limit=query.limit + 1,
    )
    found = await trio.to_thread.run_sync(find)
    page = found[: query.limit]
    uses = [UseAnswer(r.number, time(r.hour * _HOUR), *r[2:]) for r in page]
    onward = next_page(found, page, "number")
    if query.format == "csv":
        link = {"X-Next-Cursor": onward} if onward else {}
        name = f"decentraspace-{checksum_address(owner)[2:10]}-{int(clocks.time())}.csv"
        disposition = {"Content-Disposition": f'attachment; filename="{name}"'}
        return Reply(_csv(uses), headers={"Content-Type": f"{_CSV}; charset=utf-8", **disposition, **link})
    listed = await trio.to_thread.run_sync(call.node.ledger.statements, owner)
    statements = [StatementAnswer(**{**one, "made": time(one["made"])}) for one in listed]
    return HistoryAnswer(uses, onward, statements)


def _statement(call: Call, owner: bytes, query: HistoryQuery) -> dict[str, Any]:
    root, allocation = (bytes.fromhex(text[2:]) for text in (query.root, query.allocation))
    found = call.node.ledger.statement(root, allocation)
    if parse_address(found["owner"]) != owner:
        raise NotFound("There is no such statement here")
    return found


def _csv(uses: list[UseAnswer]) -> bytes:
    """Numbers and ids only: nothing that a spreadsheet would take for a formula."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    names = [name for name in UseAnswer.__dataclass_fields__ if name != "number"]
    writer.writerow(names)
    for use in uses:
        hour = use.hour.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        writer.writerow([hour if name == "hour" else getattr(use, name) for name in names])
    return text.getvalue().encode()
