"""/healthz, /readyz, /metrics, /openapi.json, /docs: for operators and readers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import trio

from decentraspace.api import openapi
from decentraspace.api.routing import Call, Reply, RouteTable
from decentraspace.api.schemas import attr
from decentraspace.errors import Unavailable

table = RouteTable()
_DOCS_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'"


@dataclass(frozen=True)
class ReadyAnswer:
    ready: bool = attr("Whether the node serves and takes deploys.")
    peer_id: str = attr("The node's libp2p peer id.")
    peers: int = attr("Peers connected.")
    version: str = attr("Version of the program.")
    leaving: bool = attr("Whether it is leaving the network, and takes no deploys therefore.", False)


@table.add("GET", "/healthz", tag="system", answers={200: "text/plain"})
async def health(call: Call) -> Reply:
    """The process answers"""
    return Reply(b"ok\n", 200, {"Content-Type": "text/plain; charset=utf-8"})


@table.add("GET", "/readyz", tag="system", answers={200: ReadyAnswer}, problems=(Unavailable,))
async def ready(call: Call) -> Reply:
    """Whether the node serves and takes deploys"""
    facts: dict[str, Any] = {"ready": True, **await call.node.ready()}
    if not facts["ready"]:
        raise Unavailable(
            "The gateway does not answer",
            hint="The node starts it again by itself; its log says more.",
            **facts,
        )
    return Reply(facts)


@table.add("GET", "/metrics", tag="system", answers={200: "text/plain"})
async def prometheus(call: Call) -> Reply:
    """Metrics in Prometheus' text format"""
    found = call.shared.metrics
    found.peers = (await call.node.ready()).get("peers", 0)
    found.storage = await call.node.plugins.call("storage_status")
    page = await trio.to_thread.run_sync(found.render)
    return Reply(page, 200, {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})


@table.add("GET", "/openapi.json", tag="system", answers={200: "application/json"})
async def description(call: Call) -> dict[str, Any]:
    """This API as OpenAPI 3.1"""
    return openapi.describe(call.shared.endpoints, call.node.config.api_url)


@table.add("GET", "/docs", tag="system", answers={200: "text/html"})
async def documentation(call: Call) -> Reply:
    """This API as a page to read"""
    headers = {"Content-Type": "text/html; charset=utf-8", "Content-Security-Policy": _DOCS_POLICY}
    return Reply(openapi.page(call.shared.endpoints).encode(), 200, headers)
