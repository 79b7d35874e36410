"""/hosting/: deploying versions of sites, and how they are."""

from __future__ import annotations

import base64
import re
import time as clock
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import trio

from decentraspace.api.auth import RECORD_MOST, decode_base64
from decentraspace.api.routing import Call, RouteTable
from decentraspace.api.schemas import attr, time
from decentraspace.content import cid as cids
from decentraspace.content import ipns
from decentraspace.errors import BadInput, Conflict, Forbidden, NotFound, PaymentRequired, Unauthorized
from decentraspace.identity import didkey
from decentraspace.identity.ethereum import checksum_address
from decentraspace.identity.keys import peer_id_of
from decentraspace.names import published
from decentraspace.records import codec
from decentraspace.records.schema import PRODUCTION, SiteManifest, check_channel, check_label, site_id
from decentraspace.records.store import FLAG_HEADERS, FLAG_REDIRECTS, SiteHead
from decentraspace.records.verdict import RecordRefused

table = RouteTable()
_SITE = re.compile(r"[a-z2-7]{16}")
_CURSOR = re.compile(r"[0-9]{1,16}(\.[a-z2-7]{1,150})?")
_PAGE = 100
_SHOWN = ("site", "label", "host", "owner", "founder", "channel", "seq", "root", "manifest")


@dataclass(frozen=True)
class DeployRequest:
    record: str = attr("The signed site manifest: a record block in base64.", most=RECORD_MOST)


@dataclass(frozen=True)
class ReceiptAnswer:
    """The node's signed statement that it holds every block of the version, verified and on disk."""

    record: str = attr("The signed record block, in base64; anybody can verify it.")
    cid: str = attr("The record's CID.")
    peer_id: str = attr("The node that signed.")
    root: str = attr("Root CID of the content.")
    bytes: int = attr("Bytes of all its blocks.")
    created: datetime = attr("When the node held all of it.")


@dataclass(frozen=True)
class IpnsName:
    """The site's name in IPFS, which its owner's client has signed a record of."""

    name: str = attr("Base36, for `/ipns/NAME` at any IPFS gateway.")
    until: datetime = attr("When its newest record ends; a deploy renews it.")
    current: bool = attr("Whether that record shows the newest version: false if that was deployed without.")


@dataclass(frozen=True)
class DeployAnswer:
    site: str = attr("Site id.", example="bkqx3fmw5zr2a4sd")
    host: str = attr("First label of the channel's host name.", example="blog--bkqx3fmw5zr2a4sd")
    channel: str = attr("`production`, or the preview's name.")
    seq: int = attr("Number of the version.")
    root: str = attr("Root CID of the content.")
    manifest: str = attr("CID of the signed manifest; the next version names it as `prev`.")
    urls: dict[str, str] = attr(
        "`site`, or of a preview `preview`: its host; `version`: this very content, for ever; `path`: by CID."
    )
    receipt: ReceiptAnswer = attr("The deploy receipt.")
    holders: list[str] = attr("Peer ids of nodes that have signed a receipt for a full copy.")
    warnings: list[str] = attr(
        "What has no effect of the site's `_redirects` and `_headers`, and why: a sentence each."
    )
    ipns: IpnsName | None = attr("The site's IPNS name; null where no version has one, and for previews.")


@table.add(
    "POST",
    "/hosting/deploy/",
    tag="hosting",
    login=True,
    narrow=True,
    json=DeployRequest,
    answers={200: DeployAnswer},
    problems=(BadInput, Unauthorized, Forbidden, PaymentRequired, Conflict, RecordRefused),
    replay=True,
)
async def deploy(call: Call) -> DeployAnswer:
    """Deploy a version of a site

    Upload its blocks first. Answered when everything is verified and on disk: with 409 `missing-blocks`
    (see `missing`) when blocks are not here, 409 `stale-sequence` when another version came before.
    Repeating a deploy that was taken answers the same again.
    """
    record = decode_base64(call.body.record, "record")
    _check_scope(call, record)
    done = await call.node.hosting.deploy(call.owner, record)
    head = done.head
    return DeployAnswer(
        head.site_id,
        head.host_label,
        head.channel,
        head.seq,
        cids.to_text(head.root),
        cids.to_text(head.cid),
        done.urls,
        _receipt(done.receipt),
        done.holders,
        done.warnings,
        await trio.to_thread.run_sync(_ipns, call, head.site_id, head.channel, head.root),
    )


def _check_scope(call: Call, record: bytes) -> None:
    """A session for one site brings that site's records only, whoever signed them."""
    if call.session is None or call.session.unlimited:
        return
    body = codec.decode_record(record).body
    if not isinstance(body, SiteManifest) or body.site_id != call.session.scope:
        call.need_unlimited()


def _receipt(record: bytes) -> ReceiptAnswer:
    decoded = codec.decode_record(record)
    body: Any = decoded.body
    return ReceiptAnswer(
        base64.b64encode(record).decode(),
        cids.to_text(codec.record_cid(record)),
        peer_id_of(decoded.key),
        cids.to_text(body.root),
        body.size,
        time(body.created),
    )


@dataclass(frozen=True)
class StatusQuery:
    site: str | None = attr(
        "Site id, host (`LABEL--ID…`, `PREVIEW--LABEL--ID…`), or with a login the label of a site of one's own. "
        "Without: one's own sites.",
        None,
        most=253,
    )
    channel: str = attr("`production`, or a preview's name.", PRODUCTION, most=32)
    limit: int = attr("Versions or sites to list at most.", _PAGE, least=1, most=1000)
    cursor: str = attr(
        "From `next` of the page before. Of versions a number will do, too: those below it follow.",
        "",
        most=200,
    )
    seq: int | None = attr("With `site`: only the versions of this number.", None, least=1, most=2**53 - 1)


@dataclass(frozen=True)
class Version:
    seq: int = attr("Number of the version.")
    root: str = attr("Root CID.")
    manifest: str = attr("CID of the signed manifest.")
    size: int = attr("Bytes of its files.")
    created: datetime = attr("When it was signed, as its signer says.")
    has_headers: bool = attr("Whether the manifest says that there is a `_headers` file.")
    has_redirects: bool = attr("Whether the manifest says that there is a `_redirects` file.")
    key: str = attr("The session key that signed it.", example="did:key:z6Mk…")
    refused: str | None = attr("Why it does not count, if it does not.", None)


@dataclass(frozen=True)
class Holder:
    peer_id: str = attr("A node that has signed that it holds a full copy.")
    bytes: int = attr("Bytes of all blocks.")
    created: datetime = attr("When it held them.")
    receipt: str = attr("CID of its receipt.")
    checked: datetime | None = attr(
        "When it last passed a spot check of this node's: gave a random block of it from its own disk.", None
    )


@dataclass(frozen=True)
class Copies:
    asked: int | None = attr("Nodes that should hold it, as its record says; null where it says nothing.")
    wanted: int = attr("The same, up to what this node heeds, or what it takes for those that say nothing.")
    present: int = attr(
        "Live nodes that hold a full copy, as far as this node knows; who took the deploy, too."
    )


@dataclass(frozen=True)
class Usage:
    requests: int = attr("Requests answered.")
    bytes: int = attr("Bytes of their bodies.")


@dataclass(frozen=True)
class BlockedHere:
    status: int = attr("What visitors of this node are answered: 410 (gone) or 451 (for legal reasons).")
    by: str = attr("`operator`, or the name of the denylist that the operator follows; may be empty.")
    reason: str = attr("Why, in a sentence.")


@dataclass(frozen=True)
class SiteBrief:
    site: str = attr("Site id.")
    label: str = attr("Its label.")
    host: str = attr("First label of its host name.")
    owner: str = attr("The wallet that owns it.")
    founder: str = attr(
        "The wallet that made it, of which its id is made, and which its manifests name as `owner`."
    )
    channel: str = attr("`production`, or the preview's name.")
    seq: int = attr("Number of the current version.")
    root: str = attr("Root CID of the current version.")
    manifest: str = attr("CID of the current version's manifest.")
    size: int = attr("Bytes of its files.")
    created: datetime = attr("When the current version was signed.")
    urls: dict[str, str] = attr("Where it is served by this node.")
    ipns: IpnsName | None = attr("The site's IPNS name; null where no version has one, and for previews.")
    blocked: BlockedHere | None = attr("If this node refuses it: why. Other nodes decide for themselves.")


@dataclass(frozen=True)
class SiteAnswer(SiteBrief):
    held_here: bool = attr("Whether this node holds a full copy.")
    uptime: int | None = attr(
        "Seconds for which this node has held the current version's content, as its receipt says; null when "
        "it does not. How often visitors were answered it does not say."
    )
    copies: Copies = attr("How many nodes should hold it, and do.")
    holders: list[Holder] = attr("Nodes known to hold a full copy.")
    channels: list[str] = attr("Channels of the site.")
    usage: Usage = attr("What this node's gateway has served of the site, all channels, since its set-up.")
    history: list[Version] = attr("Versions, newest first.")
    next: str | None = attr("`cursor` of the next page of versions; null after the last.")


@dataclass(frozen=True)
class SitesAnswer:
    """One's own sites, one entry per site and channel."""

    sites: list[SiteBrief] = attr("Sorted by site id.")
    next: str | None = attr("`cursor` of the next page; null after the last.")


@table.add(
    "GET",
    "/hosting/status/",
    tag="hosting",
    login="optional",
    narrow=True,
    query=StatusQuery,
    answers={200: SiteAnswer | SitesAnswer},
    problems=(BadInput, Unauthorized, NotFound),
)
async def status(call: Call) -> SiteAnswer | SitesAnswer:
    """Status of a site, or a list of one's own

    With `site`: its current version, history, and which nodes hold a full copy; no login is needed.
    Without: the sites of the wallet that is logged in.
    """
    query: StatusQuery = call.query
    if query.site is None:
        return await trio.to_thread.run_sync(_own, call, query)
    site, channel = await trio.to_thread.run_sync(site_of, call, query.site, check_channel(query.channel))
    query = replace(query, site=site, channel=channel)
    found = await call.node.hosting.status(site, channel)
    return await trio.to_thread.run_sync(_answer, call, query, found)


def _answer(call: Call, query: StatusQuery, found: dict[str, Any]) -> SiteAnswer:
    site, node = found["site"], call.node
    versions = node.records.history(
        site, query.channel, query.limit + 1, seq=query.seq, below=_below(query.cursor)
    )
    holders = [
        Holder(
            h["peer_id"],
            h["bytes"],
            datetime.fromisoformat(h["created"]),
            h["receipt"],
            datetime.fromisoformat(h["checked"]) if h["checked"] else None,
        )
        for h in found["holders"]
    ]
    return SiteAnswer(
        **{k: found[k] for k in _SHOWN},
        size=found["size"],
        created=datetime.fromisoformat(found["created"]),
        urls=found["urls"],
        ipns=_ipns(call, site, found["channel"], cids.parse(found["root"])),
        blocked=_blocked(call, node.records.head(site, query.channel)),
        held_here=found["held_here"],
        uptime=_uptime(call, found, holders),
        copies=Copies(**found["copies"]),
        holders=holders,
        channels=found["channels"],
        usage=Usage(*node.usage.totals(site)),
        history=[_version(v) for v in versions[: query.limit]],
        next=_next(versions, query.limit),
    )


def _blocked(call: Call, head: SiteHead | None) -> BlockedHere | None:
    why = call.node.hosting.moderation.refused(head) if head is not None else None
    return BlockedHere(why.status, str(why.members.get("by", "")), why.detail) if why is not None else None


def _ipns(call: Call, site: str, channel: str, root: bytes) -> IpnsName | None:
    """Of a site whose newest version has `root`. Blocking."""
    found = published.of_site(call.node.records, site) if channel == PRODUCTION else None
    if found is None:
        return None
    shown = ipns.verify(found.name, found.record, 0).value
    return IpnsName(found.text, time(found.until), shown == "/ipfs/" + cids.to_text(root))


def _below(cursor: str) -> tuple[int, bytes] | None:
    """What `RecordStore.history` is asked for."""
    if not cursor:
        return None
    parts = _CURSOR.fullmatch(cursor)
    if parts is None:
        raise BadInput("cursor is not from `next` of a page before, nor a version's number")
    number, _, last = cursor.partition(".")
    return (int(number), cids.parse(last)) if last else (int(number) - 1, b"")


def _next(versions: list[SiteHead], limit: int) -> str | None:
    """`versions`: those of the page, and one more if there is one."""
    if len(versions) <= limit:
        return None
    last, following = versions[limit - 1], versions[limit]
    if following.seq < last.seq:
        return str(last.seq)
    return f"{last.seq}.{cids.to_text(last.cid)}"  # a number may have been used twice


def _uptime(call: Call, found: dict[str, Any], holders: list[Holder]) -> int | None:
    key, records = call.node.key, call.node.records
    own = next((holder for holder in holders if holder.peer_id == key.peer_id), None)
    if own is None or not found["held_here"]:
        return None
    since = int(own.created.timestamp())
    # The receipt of what was deployed here is signed again when other holders turn up. The record itself
    # was stored when all of the content was here, and only then.
    manifest = cids.parse(found["manifest"])
    stored = records.seen(manifest) if records.sponsor(manifest) == key.public else None
    return max(int(clock.time()) - min(since, stored or since), 0)


def _version(head: SiteHead) -> Version:
    return Version(
        head.seq,
        cids.to_text(head.root),
        cids.to_text(head.cid),
        head.size,
        time(head.created),
        bool(head.flags & FLAG_HEADERS),
        bool(head.flags & FLAG_REDIRECTS),
        didkey.encode(head.key),
        head.refused,
    )


def site_of(call: Call, text: str, channel: str) -> tuple[str, str]:
    """Site id and channel of what people write: the id, a host, a URL's host, a label of their own. The host of
    a preview says the channel, too. Blocking."""
    first = text.lower().removeprefix("http://").removeprefix("https://").partition(".")[0]
    _, marker, last = first.rpartition("--")
    if marker and _SITE.fullmatch(last):
        head = call.node.records.at_host(first) if channel == PRODUCTION else None
        return last, head.channel if head is not None else channel
    if _SITE.fullmatch(first):
        # It may be a label, too. An id that is known here goes first: the host names any site without doubt.
        own = site_id(call.owner, first) if call.session else first
        records = call.node.records
        return (own if not records.channels(first) and records.channels(own) else first), channel
    check_label(first)
    if call.session is None:
        raise Unauthorized(
            f"{first!r} is a label, which is only unique among one wallet's sites",
            hint="Name the site by its id or host, or log in.",
        )
    own = site_id(call.owner, first)
    records = call.node.records
    if not records.channels(own):
        # It may have been given to this wallet by who founded it.
        given = {h.site_id for h in records.sites(call.owner) if h.label == first}
        if len(given) == 1:
            return given.pop(), channel
    return own, channel


def _own(call: Call, query: StatusQuery) -> SitesAnswer:
    """Pages end between sites: all channels of a site are on one page."""
    session = call.session
    if session is not None and not session.unlimited:
        one = [call.node.records.head(session.scope, c) for c in call.node.records.channels(session.scope)]
        return SitesAnswer([_brief(call, head) for head in one if head and head.owner == call.owner], None)
    heads = call.node.records.sites(call.owner, after=query.cursor, limit=query.limit + 1)
    more = len(heads) > query.limit
    if more:
        last = heads[-1].site_id
        whole = [h for h in heads if h.site_id != last]
        if not whole:
            raise BadInput("limit is smaller than the number of channels of one site")
        heads = whole
    return SitesAnswer([_brief(call, head) for head in heads], heads[-1].site_id if more else None)


def _brief(call: Call, head: SiteHead) -> SiteBrief:
    return SiteBrief(
        head.site_id,
        head.label,
        head.host_label,
        checksum_address(head.owner),
        checksum_address(head.founder),
        head.channel,
        head.seq,
        cids.to_text(head.root),
        cids.to_text(head.cid),
        head.size,
        time(head.created),
        call.node.hosting.urls(head),
        _ipns(call, head.site_id, head.channel, head.root),
        _blocked(call, head),
    )
