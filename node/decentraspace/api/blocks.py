"""/moderation/blocks/: what this node's operator has decided to refuse."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import partial

import trio

from decentraspace.api.paging import PageQuery, next_page
from decentraspace.api.routing import Call, RouteTable
from decentraspace.api.schemas import attr, time
from decentraspace.content.denylist import GONE, STATUSES
from decentraspace.errors import BadInput, Forbidden, NotFound, QuotaExceeded, Unauthorized
from decentraspace.identity.ethereum import checksum_address
from decentraspace.moderation import targets
from decentraspace.moderation.decisions import REASON_MOST, Decision
from decentraspace.moderation.reports import TARGET_MOST
from decentraspace.moderation.targets import Target

table = RouteTable()

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
class MadeAnswer(BlockAnswer):
    changed: bool = attr("False when exactly this was decided already.")
    before: BlockAnswer | None = attr("The decision that this one replaces, if there was one.")


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
    answers={200: MadeAnswer},
    problems=(*_ADMIN, QuotaExceeded),
)
async def block(call: Call) -> MadeAnswer:
    """Block content, a site or a wallet

    Durable, in the public log, and obeyed by all gateway workers within a second: what is held of it is let
    go, and receipts for it are taken back. Deciding the same again changes nothing; another status, reason or
    secrecy replaces what was decided before.
    """
    body: BlockRequest = call.body
    if body.status not in STATUSES:
        raise BadInput("status must be 410 or 451")
    target = _target(body)
    if target is None:
        raise BadInput("Name one of cid, site and owner")
    facts = {"status": body.status, "reason": body.reason, "hidden": body.hidden, "by": call.owner}
    made = await call.node.hosting.moderation.block(target, **facts)
    changed = made.decision != made.before
    before = _block(made.before) if made.before and changed else None
    return MadeAnswer(**vars(_block(made.decision)), changed=changed, before=before)


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
    return BlocksAnswer([_block(one) for one in page], next_page(found, page, "id"), lists)


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
