"""/domain/link/ and /domain/unlink/: which site a name shows; /domain/certificate/: which names may have one."""

from __future__ import annotations

import time as clock
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import trio

from decentraspace.api.auth import RECORD_MOST, decode_base64
from decentraspace.api.hosting import site_of
from decentraspace.api.routing import Call, RouteTable
from decentraspace.api.schemas import attr, time
from decentraspace.content import cid as cids
from decentraspace.errors import (
    BadInput,
    Conflict,
    Forbidden,
    NotFound,
    PaymentRequired,
    TooMany,
    Unauthorized,
    Unavailable,
)
from decentraspace.identity.ethereum import checksum_address
from decentraspace.names import links, published, spelling
from decentraspace.names.linking import Standing, State
from decentraspace.names.links import NotResolved
from decentraspace.records.schema import PRODUCTION
from decentraspace.records.verdict import RecordRefused

table = RouteTable()
_RATE, _BURST = 30.0, 100.0  # questions about certificates a second, and at once


@dataclass(frozen=True)
class LinkQuery:
    name: str | None = attr("The name; without it, one's own names are listed.", None, most=1000)
    site: str | None = attr(
        "The site it is to show: its id, host or label. Default: what is linked.", None, most=253
    )
    transaction: bool = attr(
        "Prepare the transaction, too, that has the name lead there for everybody.", False
    )
    limit: int = attr("Names to list at most.", 50, least=1, most=200)
    cursor: str = attr("From `next` of the page before.", "", most=253)


@dataclass(frozen=True)
class RecordAnswer:
    """To be entered where the name is kept."""

    type: str = attr("TXT, CNAME …, or in words what else is to be done.")
    host: str = attr("Where.")
    value: str = attr("What.")
    note: str = attr("What for.")


@dataclass(frozen=True)
class SeenAnswer:
    server: str = attr("Who was asked.")
    state: Literal["yes", "no", "silent"] = attr("Whether it has the proof.")
    detail: str = attr("What it has instead.")


@dataclass(frozen=True)
class NameTransaction:
    """To be signed by the name's owner and sent through any node of the chain."""

    chain_id: int = attr("Which chain.")
    to: str = attr("The contract.")
    data: str = attr("The call, as 0x and hex digits.")
    value: str = attr("Wei, in decimal.")
    detail: str = attr("What it does.")
    target: str = attr("Where the name leads afterwards.")


@dataclass(frozen=True)
class NameAnswer:
    name: str = attr("In its one spelling: lower case, other scripts as Punycode.")
    shown: str = attr("What it says in its own script.")
    state: State = attr(
        "linked: it shows the site; grace: it still does, without a proof; waiting: for its proof; stranger: it is "
        "somebody else's; unlinked; unknown: nobody can say just now."
    )
    text: str = attr("All of it, in words.")
    owner: str | None = attr("The wallet this is about.")
    site: str | None = attr("Site id.")
    host: str | None = attr("Host label of the site.")
    method: str | None = attr("How the proof was looked for: txt, ens-owner …")
    points: bool | None = attr("Whether the name leads visitors to this network; null: nobody looked.")
    checked: datetime | None = attr("When somebody last said whose it is.")
    expires: datetime | None = attr("When the name itself ends.")
    seen: list[SeenAnswer] = attr("What each server says.")
    records: list[RecordAnswer] = attr("What is still to be entered.")
    warnings: list[str] = attr("What to beware of.")
    number: int = attr("Number of the wallet's newest link of it; the next one has the next.")
    transaction: NameTransaction | None = attr("If it was asked for, and the name's system has such.", None)


@dataclass(frozen=True)
class NamesAnswer:
    names: list[NameAnswer] = attr("By alphabet; of one name that was asked for, that one.")
    next: str | None = attr("`cursor` of the next page; null after the last.")


@table.add(
    "GET",
    "/domain/link/",
    tag="domain",
    login="optional",
    query=LinkQuery,
    answers={200: NamesAnswer},
    problems=(BadInput, Unauthorized, NotFound),
)
async def link_state(call: Call) -> NamesAnswer:
    """How a name stands: what it shows, what is still missing, who sees it already

    With a login, for that wallet, looked up now; `site` says what it would take to link it. Without one, what the name
    shows here.
    """
    query: LinkQuery = call.query
    linking = call.node.linking
    if query.name is None:
        found = await linking.listed(call.owner, query.cursor, query.limit + 1)
        names = [_answer(one, call.owner) for one in found[: query.limit]]
        return NamesAnswer(names, names[-1].name if len(found) > query.limit else None)
    name = spelling.ascii_name(query.name)
    if call.session is None:
        return NamesAnswer([await _for_all(call, name)], None)
    host = await trio.to_thread.run_sync(_host, call, query.site) if query.site else ""
    standing = await linking.standing(call.owner, name, host)
    transaction = await _transaction(call, standing) if query.transaction else None
    return NamesAnswer([_answer(standing, call.owner, transaction)], None)


def _host(call: Call, site: str) -> str:
    """Host label of a site, however people write it. Blocking."""
    found, _ = site_of(call, site, PRODUCTION)
    head = call.node.records.head(found)
    if head is None:
        raise NotFound(f"No site {site} is known here", hint="Deploy it first: `decentraspace deploy`.")
    return head.host_label


async def _for_all(call: Call, name: str) -> NameAnswer:
    shown = await call.node.names.of_links.shown(name)
    warning = spelling.warning(name)
    if shown is None:
        standing = Standing(
            name, "unlinked", f"No link of {name} is shown here.", warnings=[warning] if warning else []
        )
        return _answer(standing, None)
    standing = Standing(
        name, "linked", f"{name} shows {shown.host}.", shown.host, shown.link, shown.found,
        warnings=[warning] if warning else [],
    )  # fmt: skip
    return _answer(standing, shown.link.wallet)


def _answer(one: Standing, owner: bytes | None, transaction: NameTransaction | None = None) -> NameAnswer:
    proof = one.found.proof if one.found is not None else None
    return NameAnswer(
        one.name,
        spelling.shown(one.name),
        one.state,
        one.text,
        checksum_address(owner) if owner is not None else None,
        one.link.site if one.link is not None else None,
        one.host or None,
        proof.method if proof else None,
        proof.points if proof else None,
        time(one.found.checked) if one.found is not None else None,
        time(proof.expires) if proof and proof.expires else None,
        [SeenAnswer(s.server, _yes(s.state), s.detail) for s in proof.seen] if proof else [],
        [RecordAnswer(r["type"], r["host"], r["value"], r.get("note", "")) for r in one.records],
        one.warnings,
        one.number,
        transaction,
    )


def _yes(state: str) -> Literal["yes", "no", "silent"]:
    return "yes" if state == "yes" else "no" if state == "no" else "silent"


async def _transaction(call: Call, one: Standing) -> NameTransaction | None:
    """The site's own IPNS name where it has one, which needs no other transaction after a deploy."""
    plugin = call.node.names.of_links.plugin_of(one.name)
    head = await trio.to_thread.run_sync(call.node.records.at_host, one.host) if one.host else None
    if plugin is None or head is None:
        return None
    named = await trio.to_thread.run_sync(published.of_site, call.node.records, head.site_id)
    target = f"/ipns/{named.text}" if named is not None else f"/ipfs/{cids.to_text(head.root)}"
    made = await call.node.plugins.one(
        plugin, "name_transaction", name=one.name, owner=checksum_address(call.owner), target=target
    )
    if made is None:
        return None
    return NameTransaction(
        made["chain_id"], made["to"], made["data"], str(made["value"]), made["detail"], target
    )


@dataclass(frozen=True)
class LinkRequest:
    record: str = attr("The signed link of the name: a record block in base64.", most=RECORD_MOST)


@table.add(
    "POST",
    "/domain/link/",
    tag="domain",
    login=True,
    json=LinkRequest,
    answers={200: NameAnswer},
    problems=(BadInput, Unauthorized, PaymentRequired, Forbidden, NotFound, Conflict, RecordRefused),
    replay=True,
)
async def link(call: Call) -> NameAnswer:
    """Link a name to a site of one's own, at every node

    A name without a proof yet is linked and waits: `records` says what to enter, and it shows the site by itself as
    soon as the proof is there. 403 `name-not-yours` when the name provably is another wallet's.
    """
    record = decode_base64(call.body.record, "record")
    return _answer(await call.node.linking.link(call.owner, record), call.owner)


@table.add(
    "POST",
    "/domain/unlink/",
    tag="domain",
    login=True,
    json=LinkRequest,
    answers={200: NameAnswer},
    problems=(BadInput, Unauthorized, Forbidden, Conflict, RecordRefused),
    replay=True,
)
async def unlink(call: Call) -> NameAnswer:
    """Take a name off the site it shows, at every node

    Nobody else can take it over by that: whoever links it needs a proof of their own.
    """
    record = decode_base64(call.body.record, "record")
    return _answer(await call.node.linking.unlink(call.owner, record), call.owner)


@dataclass(frozen=True)
class EnterRequest:
    name: str = attr("The name.", most=1000)
    site: str = attr("The site it is to show: its id, host or label.", most=253)
    credentials: dict[str, str] = attr(
        "Of who keeps the name, such as a TSIG key or a token; used and forgotten."
    )


@dataclass(frozen=True)
class EnterAnswer:
    name: str = attr("The name.")
    status: Literal["done", "refused"] = attr("Whether they were entered.")
    detail: str = attr("What was entered, or why not.")
    records: list[RecordAnswer] = attr("Which.")


@table.add(
    "PATCH",
    "/domain/link/",
    tag="domain",
    login=True,
    json=EnterRequest,
    answers={200: EnterAnswer},
    problems=(BadInput, Unauthorized, NotFound, Unavailable),
)
async def enter(call: Call) -> EnterAnswer:
    """Have a name's records entered for you, with a key of yours

    The key goes to who keeps the name and nowhere else; the node does not keep it.
    """
    body: EnterRequest = call.body
    name = spelling.ascii_name(body.name)
    call.node.linking.check_foreign(name)
    if len(body.credentials) > 20 or any(len(k) > 100 or len(v) > 4000 for k, v in body.credentials.items()):
        raise BadInput("credentials has too many members, or too long ones")
    host = await trio.to_thread.run_sync(_host, call, body.site)
    plugin = call.node.names.of_links.plugin_of(name)
    records = await call.node.linking.instructions(name, call.owner, host)
    done: Mapping[str, Any] | None = None
    if plugin is not None:
        done = await call.node.plugins.one(
            plugin,
            "name_update",
            name=name,
            records=[{k: v for k, v in one.items() if k != "note"} for one in records],
            credentials=body.credentials,
        )
    if done is None:
        raise NotFound(
            f"No plugin of this node enters records of {name}",
            hint="Enter them yourself.",
            slug="no-name-update",
        )
    return EnterAnswer(
        name,
        done["status"],
        done["detail"],
        [RecordAnswer(r["type"], r["host"], r["value"], r.get("note", "")) for r in records],
    )


# -- HTTPS


@dataclass(frozen=True)
class CertificateQuery:
    domain: str = attr("The host name that a certificate is wanted for.", most=1000)


@dataclass(frozen=True)
class CertificateAnswer:
    domain: str = attr("The host name, which may have a certificate.")


class Questions:
    """Of one node, about certificates: so many at once, and so many a second."""

    def __init__(self, now: Callable[[], float] = clock.monotonic) -> None:
        self._now, self._left, self._at = now, _BURST, now()

    def take(self) -> None:
        """TooMany."""
        now = self._now()
        self._left = min(_BURST, self._left + (now - self._at) * _RATE)
        self._at = now
        if self._left < 1:
            raise TooMany("Too many questions about certificates at once", hint="Try again in a few seconds.")
        self._left -= 1


@table.add(
    "GET",
    "/domain/certificate/",
    tag="domain",
    query=CertificateQuery,
    answers={200: CertificateAnswer},
    problems=(BadInput, NotFound, TooMany),
)
async def certificate(call: Call) -> CertificateAnswer:
    """Whether a certificate may be had for a host name

    For a server in front that gets certificates on demand, such as Caddy (`on_demand_tls`, `ask`): yes for the
    gateway's own hosts, for linked names whose proof this node finds, and for the hosts that those of other systems
    have below the gateway's domain; 404 `no-certificate` for all others.
    """
    call.shared.certificates.take()
    name = spelling.ascii_name(call.query.domain)
    if not await _served(call, name):
        raise NotFound(f"{name} shows no site here", hint="Link it first.", slug="no-certificate")
    return CertificateAnswer(name)


async def _served(call: Call, name: str) -> bool:
    linking, domain = call.node.linking, call.node.config.gateway.domain
    if linking.is_own(name):
        return True
    if name.endswith("." + domain):
        label = name.removesuffix("." + domain)
        if await trio.to_thread.run_sync(call.node.records.at_host, label) is not None:
            return True
        # `name.eth.GATEWAY`: where `name.eth` may.
        plain = call.node.config.gateway.plain_hosts
        name = links.below(label, call.node.names.of_links.resolvers, plain) or ""
    try:
        return bool(name) and await call.node.names.of_links.shown(name) is not None
    except NotResolved:
        return False
