"""/moderation/ and /moderation/reports/: what people report to this node's operator."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Literal
from urllib.parse import parse_qsl

import trio
from quart import request

from decentraspace.api import moderation_page as pages
from decentraspace.api.paging import PageQuery, next_page
from decentraspace.api.routing import Call, Media, Reply, RouteTable
from decentraspace.api.schemas import attr, parse, time
from decentraspace.errors import (
    BadInput,
    Forbidden,
    NotFound,
    QuotaExceeded,
    TooLarge,
    TooMany,
    Unauthorized,
    UnsupportedMedia,
)
from decentraspace.moderation.reports import (
    CONTACT_MOST,
    DECISION_MOST,
    TARGET_MOST,
    TEXT_MOST,
    Report,
)

table = RouteTable()

_FORM = "application/x-www-form-urlencoded"
_REPORT_MOST = 64 * 1024  # bytes of a report
_ADMIN = (BadInput, Unauthorized, Forbidden)

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
class ReportsQuery(PageQuery):
    closed: bool = attr("1: closed ones instead of open ones.", False)


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
    return ReportsAnswer([_report(one) for one in page], next_page(found, page, "id"))


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


# -- the page


@table.add("GET", "/moderation/", tag="moderation", answers={200: "text/html"})
async def page(call: Call) -> Reply:
    """A form to report content or to object, and how to reach the operator"""
    return _page(pages.form(call.node.config.node.name, call.node.config.node.contact))


def _page(body: bytes) -> Reply:
    return Reply(
        body, 200, {"Content-Type": "text/html; charset=utf-8", "Content-Security-Policy": pages.POLICY}
    )
