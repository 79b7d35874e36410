"""/routing/v1/: delegated routing, so that Kubo, Helia and other IPFS clients find who has a site.

What is told comes from signed records alone: receipts say who holds a root, announcements where that node is.
Source: https://specs.ipfs.tech/routing/http-routing-v1/.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import urlsplit

import trio

from decentraspace.api.routing import Call, Reply, RouteTable, encode
from decentraspace.api.services import NodeServices
from decentraspace.content import cid as cids
from decentraspace.errors import BadInput
from decentraspace.identity.keys import public_of

table = RouteTable()
_MOST = 100  # providers told, as the specification has it
_FOUND_FOR, _NOT_FOUND_FOR = 300, 15  # seconds an answer may be kept
_ND_JSON = "application/x-ndjson"
_BITSWAP, _HTTP = "transport-bitswap", "transport-ipfs-gateway-http"
_CID = {"cid": "The content, in any base."}
_PEER = {"peer": "A libp2p peer id, as base58 or as a CID."}


@table.add(
    "GET",
    "/routing/v1/providers/{cid}",
    tag="routing",
    params=_CID,
    answers={200: "application/json"},
    problems=(BadInput,),
)
async def providers(call: Call) -> Reply:
    """Which nodes have the content with a CID

    Nodes whose receipts say that they hold it, and this one if it serves the block. `filter-addrs` and
    `filter-protocols` are honoured; with `Accept: application/x-ndjson` the answer has one provider a line.
    """
    cid = cids.parse(call.params["cid"])
    found = await trio.to_thread.run_sync(_providers, call.node, cid)
    return _answer(call, "Providers", found)


@table.add(
    "GET",
    "/routing/v1/peers/{peer}",
    tag="routing",
    params=_PEER,
    answers={200: "application/json"},
    problems=(BadInput,),
)
async def peers(call: Call) -> Reply:
    """Where a node of this network is"""
    key = public_of(call.params["peer"]) or _key_of_cid(call.params["peer"])
    if key is None:
        raise BadInput("This is no peer id of an Ed25519 key")
    found = await trio.to_thread.run_sync(_peers, call.node, {key})
    return _answer(call, "Peers", found)


def _key_of_cid(text: str) -> bytes | None:
    """The key of a peer id in CID form (libp2p-key with an identity hash)."""
    try:
        inlined = cids.identity_data(cids.parse(text))
    except BadInput:
        return None
    return (
        inlined[4:]
        if inlined is not None and inlined[:4] == b"\x08\x01\x12\x20" and len(inlined) == 36
        else None
    )


def _providers(node: NodeServices, cid: bytes) -> list[dict[str, Any]]:
    keys = {receipt.key for receipt in node.records.receipts(cid)} | set(node.records.sponsors_of(cid))
    if node.blocks.referenced(cid):
        keys.add(node.key.public)
    return _peers(node, keys)


def _peers(node: NodeServices, keys: set[bytes]) -> list[dict[str, Any]]:
    """Records of the schema `peer`; nodes that do not say where they are are left out."""
    found: list[dict[str, Any]] = []
    for said in node.records.nodes(int(time.time())):
        if said.key in keys and len(found) < _MOST:
            addresses = [a.rpartition("/p2p/")[0] or a for a in said.body.addrs]
            protocols = [_BITSWAP] if addresses else []
            gateway = _multiaddr(said.body.gateway)
            if gateway:
                addresses.append(gateway)
                protocols.append(_HTTP)
            if addresses:
                found.append(
                    {"Schema": "peer", "ID": said.peer_id, "Addrs": addresses, "Protocols": protocols}
                )
    return found


def _multiaddr(url: str) -> str:
    """A gateway's URL as a multiaddr, "" for one that has no such form."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if not host or parts.path.strip("/"):
        return ""
    kind = "ip6" if ":" in host else "ip4" if host.replace(".", "").isdigit() else "dns"
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return f"/{kind}/{host}/tcp/{port}/{parts.scheme}"


def _answer(call: Call, name: str, found: list[dict[str, Any]]) -> Reply:
    found = list(_filtered(call, found))
    lines = _ND_JSON in call.headers.get("Accept", "")
    seconds = _FOUND_FOR if found else _NOT_FOUND_FOR
    headers = {
        "Content-Type": _ND_JSON if lines else "application/json",
        "Cache-Control": f"public, max-age={seconds}, stale-while-revalidate=172800",
        "Vary": "Accept",
    }
    body = b"".join(encode(one) + b"\n" for one in found) if lines else encode({name: found})
    return Reply(body, 200, headers)


def _filtered(call: Call, found: Iterable[dict[str, Any]]) -> Iterable[dict[str, Any]]:
    """IPIP-484: filters are lists of names; `unknown` stands for what has none, "!" says what must not be."""
    addrs, protocols = (_names(call, f"filter-{what}") for what in ("addrs", "protocols"))
    for one in found:
        if protocols and not set(one["Protocols"] or ["unknown"]) & protocols:
            continue
        kept = [a for a in one["Addrs"] if _passes(a, addrs)]
        if kept or not addrs:
            yield {**one, "Addrs": kept}


def _names(call: Call, name: str) -> set[str]:
    return {part.strip() for part in call.raw_query.get(name, "")[:500].split(",") if part.strip()}


def _passes(address: str, names: set[str]) -> bool:
    parts: Sequence[str] = address.split("/")
    if any(f"!{part}" in names for part in parts):
        return False
    wanted = {n for n in names if not n.startswith("!")} - {"unknown"}
    return not wanted or any(part in wanted for part in parts)
