"""/healthz, /readyz, /metrics, /openapi.json, /docs: for operators and readers."""

from __future__ import annotations

import time
from typing import Any

import trio
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from quart import Response, current_app

from decentraspace.api import openapi
from decentraspace.api.routing import Table
from decentraspace.api.services import NodeServices, node

table = Table("system")


class Metrics:
    """Prometheus metrics of one app. `observe` is called for every request."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "decentraspace_api_requests", "API requests", ["endpoint", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "decentraspace_api_seconds", "Seconds an API request took", ["endpoint"], registry=self.registry
        )
        self._gauges: dict[str, Gauge] = {}

    def observe(self, endpoint: str, status: int, seconds: float) -> None:
        self.requests.labels(endpoint, status).inc()
        self.seconds.labels(endpoint).observe(seconds)

    def gauge(self, name: str, text: str, value: float) -> None:
        if name not in self._gauges:
            self._gauges[name] = Gauge(f"decentraspace_{name}", text, registry=self.registry)
        self._gauges[name].set(value)


@table.add("GET", "/healthz", "The process answers", gives="ok, as text")
async def health() -> Response:
    return Response("ok\n", content_type="text/plain")


@table.add("GET", "/readyz", "The node serves and takes deploys; 503 while it does not")
async def ready() -> Any:
    facts = await node().ready()
    return facts if facts.get("ready", True) else (facts, 503)


@table.add("GET", "/metrics", "Prometheus metrics", gives="Prometheus text format")
async def metrics() -> Response:
    found: Metrics = current_app.extensions["decentraspace.metrics"]
    await _measure(found, node())
    return Response(generate_latest(found.registry), content_type="text/plain; version=0.0.4; charset=utf-8")


async def _measure(found: Metrics, services: NodeServices) -> None:
    stats = await trio.to_thread.run_sync(services.blocks.stats)
    counts = await trio.to_thread.run_sync(services.records.counts)
    facts = await services.ready()
    found.gauge("blocks", "Blocks stored", stats.blocks)
    found.gauge("block_bytes", "Bytes of blocks stored", stats.bytes)
    found.gauge("block_quota_bytes", "Bytes of blocks this node keeps at most", stats.quota)
    found.gauge("pins", "Pinned DAGs", stats.pins)
    found.gauge("peers", "Connected libp2p peers", facts.get("peers", 0))
    for kind in ("site", "revocation", "node", "receipt"):
        found.gauge(f"records_{kind}", f"Records of kind {kind}", counts.get(kind, 0))
    found.gauge("time_seconds", "The node's clock", time.time())


@table.add("GET", "/openapi.json", "This API as OpenAPI 3.1")
async def description() -> dict[str, Any]:
    return openapi.describe(current_app.extensions["decentraspace.endpoints"], node().config.api_url)


@table.add("GET", "/docs", "This API as a page to read", gives="HTML")
async def documentation() -> Response:
    html = openapi.page(current_app.extensions["decentraspace.endpoints"])
    return Response(html, content_type="text/html; charset=utf-8")
