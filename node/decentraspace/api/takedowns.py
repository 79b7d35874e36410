"""/moderation/log/: the operator's decisions, signed and open to all."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from datetime import datetime

import trio

from decentraspace.api.paging import PageQuery, next_page
from decentraspace.api.routing import Call, RouteTable
from decentraspace.api.schemas import attr, time
from decentraspace.errors import BadInput, Unprocessable
from decentraspace.identity.keys import peer_id_of
from decentraspace.moderation.takedowns import Entry

table = RouteTable()


@dataclass(frozen=True)
class EntryAnswer:
    seq: int = attr("Number of the entry, from 1.")
    time: datetime = attr("When it was decided.")
    action: str = attr("`block` or `unblock`.")
    kind: str = attr("`cid`, `site` or `owner`.")
    target: str = attr("What; if `hidden`, its double hash as in denylists.")
    hidden: bool = attr("Whether the target is not named.")
    status: int = attr("410 or 451.")
    reason: str = attr("Why.")
    hash: str = attr("SHA-256 of the entry, in hexadecimal; the next entry names it.")
    entry: str = attr("The signed entry in canonical DAG-CBOR, in base64: what is to be verified.")


@dataclass(frozen=True)
class LogAnswer:
    peer_id: str = attr("The node that signs.")
    entries: list[EntryAnswer] = attr("Oldest first.")
    next: str | None = attr("`cursor` of the next page; null after the last.")


@table.add(
    "GET",
    "/moderation/log/",
    tag="moderation",
    query=PageQuery,
    answers={200: LogAnswer},
    problems=(BadInput, Unprocessable),
)
async def log(call: Call) -> LogAnswer:
    """The signed log of decisions

    Open to all and append-only: each entry names the hash of the one before and is signed by the node.
    `decentraspace block log --verify URL` verifies it; the how-to says how to do that oneself.
    """
    query: PageQuery = call.query
    decisions = call.node.hosting.moderation.decisions
    found = await trio.to_thread.run_sync(decisions.log, int(query.cursor or 0), query.limit + 1)
    page = found[: query.limit]
    key = call.node.key.public
    return LogAnswer(peer_id_of(key), [_entry(one) for one in page], next_page(found, page, "seq"))


def _entry(one: Entry) -> EntryAnswer:
    return EntryAnswer(
        one.seq,
        time(one.time),
        one.action,
        one.kind,
        one.target,
        one.hidden,
        one.status,
        one.reason,
        one.hash.hex(),
        base64.b64encode(one.raw).decode(),
    )
