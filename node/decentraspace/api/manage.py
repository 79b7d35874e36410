"""/auth/manage/ and /hosting/expire/: what a node's administrators decide about wallets and sites."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

import trio

from decentraspace.api.billing import own_site
from decentraspace.api.routing import Call, RouteTable
from decentraspace.api.schemas import attr, time
from decentraspace.errors import BadInput, Forbidden, NotFound, Unauthorized
from decentraspace.identity.ethereum import checksum_address, parse_address

table = RouteTable()

_ADDRESS = "0x[0-9a-fA-F]{40}"
_SITE = "[a-z2-7]{16}"


@dataclass(frozen=True)
class UserAnswer:
    owner: str = attr("The wallet.")
    tier: str = attr("`free` or `paid`.")
    suspended: bool = attr("Whether it may do nothing at this node.")
    changed: datetime | None = attr("When an administrator changed that last.")
    by: str | None = attr("Which one.")


@dataclass(frozen=True)
class Policies:
    """From the configuration: change them there."""

    free_lifetime: int = attr("Seconds after its last deploy or renewal that a free site expires; 0: never.")
    grace: int = attr("Seconds that unpaid data is kept.")
    exposure: int = attr("Credits that an owner may owe before a settlement.")
    site_monthly_cap: int = attr("Credits that a site may cost in a month.")
    paid_least: int = attr("Credits of an allocation that make its owner paid.")


@dataclass(frozen=True)
class UsersAnswer:
    users: list[UserAnswer] = attr("Wallets that logged in here or were decided about, by address.")
    next: str | None = attr("`cursor` of the next page; null after the last.")
    policies: Policies = attr("This node's rules.")


@dataclass(frozen=True)
class UsersQuery:
    limit: int = attr("Wallets at most.", 100, least=1, most=1000)
    cursor: str = attr("From `next` of the page before.", "", pattern=f"({_ADDRESS})?")


@dataclass(frozen=True)
class UserChange:
    owner: str = attr("The wallet.", pattern=_ADDRESS)
    suspended: bool = attr("True to suspend, false to restore.")


@table.add(
    "GET",
    "/auth/manage/",
    tag="auth",
    login=True,
    admin=True,
    query=UsersQuery,
    answers={200: UsersAnswer},
    problems=(BadInput, Unauthorized, Forbidden),
)
async def users(call: Call) -> UsersAnswer:
    """List wallets, and this node's rules (administrators)"""
    after = parse_address(call.query.cursor) if call.query.cursor else b""
    limit = call.query.limit
    found = await trio.to_thread.run_sync(call.node.sessions.users, after, limit + 1)
    page = [
        UserAnswer(
            checksum_address(one.owner),
            one.tier,
            one.suspended,
            time(one.changed) if one.changed else None,
            checksum_address(one.changed_by) if one.changed_by else None,
        )
        for one in found[:limit]
    ]
    billing = call.node.config.billing
    rules = Policies(
        billing.free_lifetime, billing.grace, billing.exposure, billing.site_monthly_cap, billing.paid_least
    )
    return UsersAnswer(page, page[-1].owner if len(found) > limit else None, rules)


@table.add(
    "PATCH",
    "/auth/manage/",
    tag="auth",
    login=True,
    admin=True,
    json=UserChange,
    answers={200: UserAnswer},
    problems=(BadInput, Unauthorized, Forbidden),
)
async def suspend(call: Call) -> UserAnswer:
    """Suspend or restore a wallet (administrators)

    A suspended wallet can neither log in nor deploy at this node. Its sites stay: block them to take them down.
    """
    owner = parse_address(call.body.owner)
    if call.body.suspended and call.node.is_admin(owner):
        raise Forbidden("An administrator cannot be suspended", hint="Take it out of node.admins first.")
    await trio.to_thread.run_sync(call.node.sessions.suspend, owner, call.body.suspended, call.owner)
    one = (await trio.to_thread.run_sync(partial(call.node.sessions.users, owner, 1, itself=True)))[0]
    by = checksum_address(one.changed_by) if one.changed_by else None
    return UserAnswer(checksum_address(owner), one.tier, one.suspended, time(one.changed or 0), by)


# -- when sites end


@dataclass(frozen=True)
class SiteQuery:
    site: str = attr("The site's id.", pattern=_SITE)


@dataclass(frozen=True)
class RenewRequest:
    site: str = attr("The site's id.", pattern=_SITE)


@dataclass(frozen=True)
class ExpiryChange:
    site: str = attr("The site's id.", pattern=_SITE)
    expires: int | None = attr("Unix seconds; 0: never; null: by the node's rule.", least=0, most=2**40)


@dataclass(frozen=True)
class PauseAnswer:
    service: str = attr("egress, requests or storage.")
    reason: str = attr("credit, cap, exposure, owner or expired.")
    since: datetime = attr("Since when.")


@dataclass(frozen=True)
class ExpiryAnswer:
    site: str = attr("The site's id.")
    state: str = attr(
        "active, warned (it ends soon), paused, ending (kept until `removable`), or removed here."
    )
    expires: datetime | None = attr("When it ends; null: it does not.")
    removable: datetime | None = attr(
        "From when its data may be deleted here; null: nothing speaks for that."
    )
    pauses: list[PauseAnswer] = attr("What is paused, and why.")


@table.add(
    "GET",
    "/hosting/expire/",
    tag="hosting",
    login=True,
    query=SiteQuery,
    answers={200: ExpiryAnswer},
    problems=(BadInput, Unauthorized, Forbidden, NotFound),
)
async def expiry(call: Call) -> ExpiryAnswer:
    """When a site ends at this node, and what is paused of it"""
    owner = await own_site(call, call.query.site)
    return await _expiry(call, call.query.site, owner)


@table.add(
    "POST",
    "/hosting/expire/",
    tag="hosting",
    login=True,
    json=RenewRequest,
    answers={200: ExpiryAnswer},
    problems=(BadInput, Unauthorized, Forbidden, NotFound),
)
async def renew(call: Call) -> ExpiryAnswer:
    """Renew a site of the free tier: its time begins again"""
    owner = await own_site(call, call.body.site)
    await trio.to_thread.run_sync(call.node.ledger.renew, owner, call.body.site)
    return await _expiry(call, call.body.site, owner)


@table.add(
    "PATCH",
    "/hosting/expire/",
    tag="hosting",
    login=True,
    admin=True,
    json=ExpiryChange,
    answers={200: ExpiryAnswer},
    problems=(BadInput, Unauthorized, Forbidden, NotFound),
)
async def set_expiry(call: Call) -> ExpiryAnswer:
    """Decide when a site ends (administrators)"""
    body: ExpiryChange = call.body
    owner = await own_site(call, body.site)
    await trio.to_thread.run_sync(call.node.ledger.set_expiry, owner, body.site, body.expires)
    return await _expiry(call, body.site, owner)


async def _expiry(call: Call, site: str, owner: bytes) -> ExpiryAnswer:
    state = await trio.to_thread.run_sync(call.node.ledger.site_state, site, owner)

    def when(unix: int | None) -> Any:
        return time(unix) if unix else None

    return ExpiryAnswer(
        site,
        state.state,
        when(state.expires),
        when(state.removable),
        [PauseAnswer(one.service, one.reason, time(one.since)) for one in state.pauses],
    )
