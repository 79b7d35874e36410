"""/hosting/: deploys and the state of sites."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any

import trio
from quart import request

from decentraspace.api.auth import from_base64
from decentraspace.api.routing import Table, read_json
from decentraspace.api.services import identify, node, owner, when
from decentraspace.errors import BadInput, Unauthorized
from decentraspace.hosting import describe_head
from decentraspace.records.codec import decode_record, record_cid
from decentraspace.content import cid as cids

table = Table("hosting")
_PAGE = 100


@dataclass(frozen=True)
class DeployRequest:
    """`record`: the signed site manifest, base64. Its blocks were uploaded before."""

    record: str


@table.add(
    "POST",
    "/hosting/deploy/",
    "Publish a signed version of a site. 409 missing-blocks names what must be uploaded first",
    access="owner",
    body=DeployRequest,
    status=201,
)
async def deploy() -> dict[str, Any]:
    session = await owner()
    asked: DeployRequest = await read_json(DeployRequest)
    deployed = await node().hosting.deploy(session.owner, from_base64(asked.record, "record"))
    receipt: Any = decode_record(deployed.receipt).body
    return {
        **describe_head(deployed.head),
        "urls": deployed.urls,
        "receipt": {
            "peer_id": node().key.peer_id,
            "root": cids.to_text(receipt.root),
            "bytes": receipt.size,
            "created": when(receipt.created),
            "cid": cids.to_text(record_cid(deployed.receipt)),
            "record": base64.b64encode(deployed.receipt).decode(),
        },
        "holders": deployed.holders,
    }


@table.add(
    "GET",
    "/hosting/status/",
    "A site's versions and who holds a full copy; without ?site= one's own sites",
    query={
        "site": "site id, or host label LABEL--SITEID",
        "channel": "production, or a preview's name",
        "cursor": "`next` of the page before",
    },
)
async def status() -> dict[str, Any]:
    site = request.args.get("site", "")
    if site:
        site_id = site.partition(".")[0].rpartition("--")[2]
        if len(site) > 300 or len(site_id) != 16:
            raise BadInput(f"{site[:80]!r} is neither a site id nor a host label")
        return await node().hosting.status(site_id, request.args.get("channel", "production"))
    session = await identify()
    if session is None:
        raise Unauthorized("Name a site with ?site=, or log in to list yours")
    cursor = request.args.get("cursor", "")
    heads = await trio.to_thread.run_sync(
        lambda: node().records.sites(owner=session.owner, after=cursor, limit=_PAGE)
    )
    return {
        "sites": [{**describe_head(h), "urls": node().hosting.urls(h)} for h in heads],
        "next": heads[-1].site_id if len(heads) == _PAGE else None,
    }
