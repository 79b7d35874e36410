"""/routing/v1/ipns/: signed records of names (IPNS) are taken and given, so that Kubo and others publish here.

Source: https://specs.ipfs.tech/routing/http-routing-v1/.
"""

from __future__ import annotations

import time

import trio

from decentraspace.api.routing import Call, Media, Reply, RouteTable
from decentraspace.api.services import NodeServices
from decentraspace.content import cid as cids
from decentraspace.content import ipns
from decentraspace.errors import BadInput, Forbidden, NotFound, QuotaExceeded, Unprocessable, UnsupportedMedia
from decentraspace.names import published

table = RouteTable()
RECORD = "application/vnd.ipfs.ipns-record"
_NAME = {"name": "The name of a key: a CID, or a peer id."}


@table.add(
    "GET",
    "/routing/v1/ipns/{name}",
    tag="routing",
    params=_NAME,
    answers={200: RECORD},
    problems=(BadInput, NotFound),
)
async def get_record(call: Call) -> Reply:
    """What the name of a key stands for, signed by the key

    A site's name has the record that the site's newest version carries, whatever else was sent here.
    """
    name = ipns.parse_name(call.params["name"])
    record = await trio.to_thread.run_sync(_of_site, call.node, name)
    if record is None:
        record = await trio.to_thread.run_sync(ipns.NameStore(call.node.blocks).get, name)
    if record is None:
        raise NotFound("This node has no valid record of that name")
    seconds = max(0, min(record.ttl, int(record.until - time.time())))
    return Reply(
        record.encoded, headers={"Content-Type": RECORD, "Cache-Control": f"public, max-age={seconds}"}
    )


@table.add(
    "PUT",
    "/routing/v1/ipns/{name}",
    tag="routing",
    params=_NAME,
    streams={RECORD: Media("The record, of at most 10 KiB.")},
    answers={200: None},
    problems=(BadInput, Forbidden, UnsupportedMedia, Unprocessable, QuotaExceeded),
)
async def put_record(call: Call) -> Reply:
    """Have a record of a name kept

    Its signature is the permission. Kept is what leads to content that this node serves; an older record than
    the one that is here changes nothing.
    """
    if call.media != RECORD:
        raise UnsupportedMedia(f"A record is sent as {RECORD}")
    name = ipns.parse_name(call.params["name"])
    encoded = await call.stream.read(ipns.MAX_RECORD)
    await trio.to_thread.run_sync(_keep, call.node, name, encoded)
    return Reply(b"", headers={"Content-Type": "text/plain"})


def _of_site(node: NodeServices, name: bytes) -> ipns.Record | None:
    """Of a site that is served."""
    found = published.by_name(node.records, name)
    if found is None or not found.valid:
        return None
    head = node.records.head(found.site_id)
    if head is None or node.hosting.moderation.refusal(head.site_id, head.owner, head.root) is not None:
        return None
    return ipns.verify(name, found.record)


def _keep(node: NodeServices, name: bytes, encoded: bytes) -> None:
    record = ipns.verify(name, encoded)
    if not node.config.gateway.open_relay and not _serves(node, record.value):
        raise Forbidden("This node keeps names of what it serves, and no others")
    ipns.NameStore(node.blocks).put(name, encoded)


def _serves(node: NodeServices, path: str) -> bool:
    """Whether a content path leads to what the gateway would show."""
    parts = path.split("/", 3)
    if len(parts) < 3 or parts[:2] != ["", "ipfs"]:
        return False
    try:
        root = cids.parse(parts[2])
    except BadInput:
        return False
    return node.blocks.referenced(root) or node.records.is_named(root)
