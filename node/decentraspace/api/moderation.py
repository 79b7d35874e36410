"""/moderation/: what this node's operator blocks, reports from anybody, and the signed log of decisions."""

from __future__ import annotations

import base64
import ipaddress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, Literal
from urllib.parse import parse_qsl

import trio
from quart import request

from decentraspace.api import moderation_page as pages
from decentraspace.api.routing import Call, Media, Reply, RouteTable
from decentraspace.api.schemas import attr, parse, time
from decentraspace.content.denylist import GONE, STATUSES
from decentraspace.errors import (
    BadInput,
    Forbidden,
    NotFound,
    QuotaExceeded,
    TooLarge,
    TooMany,
    Unauthorized,
    Unprocessable,
    UnsupportedMedia,
)
from decentraspace.identity.ethereum import checksum_address
from decentraspace.identity.keys import peer_id_of
from decentraspace.moderation import targets
from decentraspace.moderation.decisions import REASON_MOST, Decision
from decentraspace.moderation.reports import (
    CONTACT_MOST,
    DECISION_MOST,
    TARGET_MOST,
    TEXT_MOST,
    Report,
)
from decentraspace.moderation.takedowns import Entry
from decentraspace.moderation.targets import Target

table = RouteTable()

_FORM = "application/x-www-form-urlencoded"
_REPORT_MOST = 64 * 1024  # bytes of a report
_PAGE = 100
_ADMIN = (BadInput, Unauthorized, Forbidden)


@dataclass(frozen=True)
class BlockRequest:
    """Exactly one of `cid`, `site` and `owner`."""

    cid: str | None = attr("Block this content, wherever it is met.", None, most=TARGET_MOST)
    site: str | None = attr("Block this site: its id, host or URL.", None, most=TARGET_MOST)
    owner: str | None = attr("Block all sites of this wallet.", None, most=100)
    status: int = attr(
        "What visitors are answered: 410 (gone) or 451 (for legal reasons).", GONE, example=451
    )
    reason: str = attr("Shown to visitors, and in the public log.", "", most=REASON_MOST)
    hidden: bool = attr("Do not name the target in the log, but its double hash.", False)


@dataclass(frozen=True)
class BlockAnswer:
    id: int = attr("Number of the decision.")
    kind: str = attr("`cid`, `site` or `owner`.")
    target: str = attr("What is blocked; of content that is hidden its double hash.")
    hidden: bool = attr("Whether the log does not name it.")
    status: int = attr("410 or 451.")
    reason: str = attr("The reason given.")
    created: datetime = attr("When it was decided.")
    by: str = attr("The administrator's wallet.")


@dataclass(frozen=True)
class ListAnswer:
    path: str = attr("The file.")
    name: str = attr("What the list calls itself.")
    rules: int = attr("Rules in force.")
    faults: int = attr("Lines that are no rules.")
    samples: list[str] = attr("The first of these, in words.")
    loaded: datetime | None = attr("When it was read last.")
    error: str | None = attr("Why the file as it is now is not in force.", None)


@dataclass(frozen=True)
class BlocksAnswer:
    blocks: list[BlockAnswer] = attr("The operator's own decisions, oldest first.")
    next: str | None = attr("`cursor` of the next page; null after the last.")
    lists: list[ListAnswer] = attr("Denylists that are followed, from `moderation.denylists`.")


@dataclass(frozen=True)
class PageQuery:
    limit: int = attr("Entries at most.", _PAGE, least=1, most=1000)
    cursor: str = attr("From `next` of the page before.", "", pattern="[0-9]{0,18}")


@dataclass(frozen=True)
class UnblockQuery:
    id: int | None = attr("Number of the decision.", None, least=1)
    cid: str | None = attr("Content that is blocked.", None, most=TARGET_MOST)
    site: str | None = attr("A site that is blocked.", None, most=TARGET_MOST)
    owner: str | None = attr("A wallet that is blocked.", None, most=100)
    reason: str = attr("For the log.", "", most=REASON_MOST)


@table.add(
    "POST",
    "/moderation/blocks/",
    tag="moderation",
    login=True,
    admin=True,
    json=BlockRequest,
    answers={200: BlockAnswer},
    problems=(*_ADMIN, QuotaExceeded),
)
async def block(call: Call) -> BlockAnswer:
    """Block content, a site or a wallet

    Durable, in the public log, and obeyed by all gateway workers within a second: what is held of it is let
    go, and receipts for it are taken back. Deciding the same again changes nothing.
    """
    body: BlockRequest = call.body
    if body.status not in STATUSES:
        raise BadInput("status must be 410 or 451")
    target = _target(body)
    if target is None:
        raise BadInput("Name one of cid, site and owner")
    facts = {"status": body.status, "reason": body.reason, "hidden": body.hidden, "by": call.owner}
    return _block(await call.node.hosting.moderation.block(target, **facts))


@table.add(
    "DELETE",
    "/moderation/blocks/",
    tag="moderation",
    login=True,
    admin=True,
    query=UnblockQuery,
    answers={200: BlockAnswer},
    problems=(*_ADMIN, NotFound),
)
async def unblock(call: Call) -> BlockAnswer:
    """Take back a decision

    By its number or its target; answers with what was decided before. What a denylist blocks stays blocked:
    write `!` and the rule into a later list.
    """
    query: UnblockQuery = call.query
    target = _target(query)
    if (query.id is None) == (target is None):
        raise BadInput("Name one of id, cid, site and owner")
    what: Target | int = target if target is not None else query.id or 0
    return _block(await call.node.hosting.moderation.unblock(what, reason=query.reason))


@table.add(
    "GET",
    "/moderation/blocks/",
    tag="moderation",
    login=True,
    admin=True,
    query=PageQuery,
    answers={200: BlocksAnswer},
    problems=_ADMIN,
)
async def blocks(call: Call) -> BlocksAnswer:
    """List what is blocked, and the denylists followed"""
    moderation, query = call.node.hosting.moderation, call.query
    find = partial(moderation.decisions.listed, int(query.cursor or 0), query.limit + 1)
    found = await trio.to_thread.run_sync(find)
    page = found[: query.limit]
    lists = [
        ListAnswer(
            one.path,
            one.state.name if one.state else "",
            one.state.rules if one.state else 0,
            one.state.faults if one.state else 0,
            one.state.samples if one.state else [],
            time(one.state.loaded) if one.state else None,
            one.error or None,
        )
        for one in moderation.lists.loaded
    ]
    return BlocksAnswer([_block(one) for one in page], _next(found, page, "id"), lists)


def _target(named: BlockRequest | UnblockQuery) -> Target | None:
    given = {kind: text for kind in targets.KINDS if (text := getattr(named, kind)) is not None}
    if len(given) > 1:
        raise BadInput("Name one of cid, site and owner")
    return next((targets.parse(kind, text) for kind, text in given.items()), None)


def _block(one: Decision) -> BlockAnswer:
    return BlockAnswer(
        one.id,
        one.kind,
        one.target,
        one.hidden,
        one.status,
        one.reason,
        time(one.created),
        checksum_address(one.by),
    )


def _next(found: list[Any], page: list[Any], name: str) -> str | None:
    return str(getattr(page[-1], name)) if len(found) > len(page) else None


# -- reports

Category = Literal[
    "copyright", "malware", "phishing", "child-abuse", "illegal", "privacy", "spam", "objection", "other"
]


@dataclass(frozen=True)
class ReportRequest:
    """Exactly one of `url` and `cid`."""

    category: Category = attr("What it is about; `objection`: to a decision of this operator.")
    text: str = attr("What is wrong with it.", "", most=TEXT_MOST)
    url: str | None = attr("Where it is.", None, most=TARGET_MOST)
    cid: str | None = attr("What it is.", None, most=TARGET_MOST)
    contact: str = attr("How the operator can answer, if you want that.", "", most=CONTACT_MOST)


@dataclass(frozen=True)
class ReceivedAnswer:
    """The report is on disk. The operator decides."""

    id: int = attr("Its number; the same report again has the same.")


@table.add(
    "POST",
    "/moderation/reports/",
    tag="moderation",
    json=ReportRequest,
    json_most=_REPORT_MOST,
    streams={_FORM: Media("The same members, as a web form sends them.", {"type": "object"})},
    answers={200: ReceivedAnswer},
    problems=(BadInput, TooLarge, UnsupportedMedia, TooMany, QuotaExceeded),
)
async def report(call: Call) -> ReceivedAnswer | Reply:
    """Report content to the operator

    No login is needed. Five an hour are taken from one address. `/moderation/` is a form for it.
    """
    form = call.body is None
    body: ReportRequest = call.body if not form else await _from_form(call)
    if (body.url is None) == (body.cid is None):
        raise BadInput("Name one of url and cid")
    reports = call.node.hosting.moderation.reports
    target = body.url if body.url is not None else body.cid or ""
    add = partial(reports.add, target, body.category, body.text, body.contact, _sender())
    made = await trio.to_thread.run_sync(add)
    return _page(pages.thanks(made.id)) if form else ReceivedAnswer(made.id)


async def _from_form(call: Call) -> ReportRequest:
    if call.media != _FORM:
        raise UnsupportedMedia(f"Send application/json or {_FORM}")
    raw = await call.stream.read(_REPORT_MOST)
    try:
        fields = parse_qsl(raw.decode(), strict_parsing=True, max_num_fields=20)
    except ValueError as error:
        raise BadInput(f"The form cannot be read: {error}") from error
    values = {name: text for name, text in fields if text}
    if len(values) < len([1 for _, text in fields if text]):
        raise BadInput("A field of the form is given twice")
    where = values.pop("where", "").strip()
    if where:
        values["url" if "://" in where else "cid"] = where
    return parse(ReportRequest, values)


def _sender() -> str:
    """The client's address. A proxy on this machine says whose it passes on, in the last place of the header:
    what stands before was written by the client."""
    peer = request.remote_addr or ""
    try:
        local = ipaddress.ip_address(peer).is_loopback
    except ValueError:
        local = peer == ""
    forwarded = request.headers.get("X-Forwarded-For", "").rpartition(",")[2].strip()
    return forwarded if local and forwarded else peer


@dataclass(frozen=True)
class ReportAnswer:
    id: int = attr("Number of the report.")
    created: datetime = attr("When it came first.")
    last: datetime = attr("When the same came last.")
    times: int = attr("How often the same came.")
    target: str = attr("A URL or CID, as reported: look before you follow it.")
    category: str = attr("What it is about.")
    text: str = attr("What is said to be wrong.")
    contact: str = attr("How to answer; may be empty.")
    closed: datetime | None = attr("When it was closed; null while it is open.")
    decision: str | None = attr("What was decided.")


@dataclass(frozen=True)
class ReportsQuery:
    closed: bool = attr("1: closed ones instead of open ones.", False)
    limit: int = attr("Reports at most.", _PAGE, least=1, most=1000)
    cursor: str = attr("From `next` of the page before.", "", pattern="[0-9]{0,18}")


@dataclass(frozen=True)
class ReportsAnswer:
    reports: list[ReportAnswer] = attr("Oldest first.")
    next: str | None = attr("`cursor` of the next page; null after the last.")


@table.add(
    "GET",
    "/moderation/reports/",
    tag="moderation",
    login=True,
    admin=True,
    query=ReportsQuery,
    answers={200: ReportsAnswer},
    problems=_ADMIN,
)
async def reports(call: Call) -> ReportsAnswer:
    """List reports"""
    query: ReportsQuery = call.query
    find = partial(
        call.node.hosting.moderation.reports.listed,
        closed=query.closed,
        after=int(query.cursor or 0),
        limit=query.limit + 1,
    )
    found = await trio.to_thread.run_sync(find)
    page = found[: query.limit]
    return ReportsAnswer([_report(one) for one in page], _next(found, page, "id"))


@dataclass(frozen=True)
class CloseRequest:
    id: int = attr("Number of the report.", least=1)
    decision: str = attr("What was decided.", most=DECISION_MOST)


@table.add(
    "PATCH",
    "/moderation/reports/",
    tag="moderation",
    login=True,
    admin=True,
    json=CloseRequest,
    answers={200: ReportAnswer},
    problems=(*_ADMIN, NotFound),
)
async def close(call: Call) -> ReportAnswer:
    """Close a report with a decision

    To block what it names is a step of its own.
    """
    inbox = call.node.hosting.moderation.reports
    return _report(await trio.to_thread.run_sync(inbox.close, call.body.id, call.body.decision))


def _report(one: Report) -> ReportAnswer:
    return ReportAnswer(
        one.id,
        time(one.created),
        time(one.last),
        one.times,
        one.target,
        one.category,
        one.text,
        one.contact,
        time(one.closed) if one.closed is not None else None,
        one.decision,
    )


# -- the log


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
    return LogAnswer(peer_id_of(key), [_entry(one) for one in page], _next(found, page, "seq"))


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


# -- the page


@table.add("GET", "/moderation/", tag="moderation", answers={200: "text/html"})
async def page(call: Call) -> Reply:
    """A form to report content or to object, and how to reach the operator"""
    return _page(pages.form(call.node.config.node.name, call.node.config.node.contact))


def _page(body: bytes) -> Reply:
    return Reply(
        body, 200, {"Content-Type": "text/html; charset=utf-8", "Content-Security-Policy": pages.POLICY}
    )
