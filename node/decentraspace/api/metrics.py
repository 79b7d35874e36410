"""Prometheus metrics of one API; what the stores hold is read when the page is asked for."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from decentraspace import __version__
from decentraspace.api.network_metrics import of_network
from decentraspace.api.services import NodeServices
from decentraspace.names.service import NameService
from decentraspace.plugins.manager import HookResult

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


class Metrics:
    """`observe` is called for every request; `render` blocks."""

    def __init__(self, node: NodeServices) -> None:
        self.registry = CollectorRegistry()
        self.peers = 0
        self.storage: Sequence[HookResult] = ()  # what storage plugins say of the places they copy to
        self._requests = Counter(
            "decentraspace_api_requests",
            "Requests answered.",
            ["endpoint", "method", "status"],
            registry=self.registry,
        )
        self._seconds = Histogram(
            "decentraspace_api_seconds",
            "Seconds a request took.",
            ["endpoint"],
            registry=self.registry,
            buckets=_SECONDS,
        )
        self._received = Counter(
            "decentraspace_api_received_bytes",
            "Bytes of request bodies.",
            ["endpoint"],
            registry=self.registry,
        )
        self.registry.register(_Stores(node, self))

    def observe(self, endpoint: str, method: str, status: int, seconds: float, received: int) -> None:
        # `endpoint` is a rule, never a path somebody made up, so the number of series is bounded.
        method = method if method in {"GET", "HEAD", "POST", "PATCH", "DELETE", "OPTIONS", "PUT"} else "other"
        self._requests.labels(endpoint, method, status).inc()
        self._seconds.labels(endpoint).observe(seconds)
        if received:
            self._received.labels(endpoint).inc(received)

    def render(self) -> bytes:
        return generate_latest(self.registry)


class _Stores(Collector):
    def __init__(self, node: NodeServices, metrics: Metrics) -> None:
        self._node, self._metrics = node, metrics
        self._began = time.time()

    def collect(self) -> Iterator[Metric]:
        stats = self._node.blocks.stats()
        for name, text, value in (
            ("blocks", "Blocks stored.", stats.blocks),
            ("block_bytes", "Bytes of blocks stored.", stats.bytes),
            ("block_quota_bytes", "Bytes of blocks this node keeps at most.", stats.quota),
            ("pins", "DAGs kept.", stats.pins),
            ("peers", "libp2p peers connected.", self._metrics.peers),
            ("start_time_seconds", "When the API started, in Unix seconds.", self._began),
        ):
            yield GaugeMetricFamily(f"decentraspace_{name}", text, value=value)
        records = GaugeMetricFamily("decentraspace_records", "Records stored.", labels=["kind"])
        for kind, count in self._node.records.counts().items():
            records.add_metric([kind], count)
        yield records
        yield from _places(self._metrics.storage)
        behind = GaugeMetricFamily(
            "decentraspace_mirror_backlog",
            "Roots of sites that a storage plugin has yet to be told of: to pin, or no longer to.",
            labels=["plugin"],
        )
        for plugin, count in self._node.mirroring.backlog().items():
            behind.add_metric([plugin], count)
        yield behind
        yield from _names(self._node.names)
        yield from of_network(self._node)
        info = GaugeMetricFamily("decentraspace_info", "This node.", labels=["version", "network", "peer_id"])
        info.add_metric([__version__, self._node.rules.name, self._node.key.peer_id], 1)
        yield info

    def describe(self) -> Iterator[Metric]:
        return iter(())


def _names(names: NameService) -> Iterator[Metric]:
    counts = names.cache.counts
    for name, text, value in (
        ("asked", "Questions for what a name that is no key stands for.", counts.asked),
        ("looked_up", "Look-ups of such names.", counts.looked_up),
        ("failed", "Look-ups of such names that failed.", counts.failed),
        ("stale", "Answers given although they were over.", counts.stale),
    ):
        yield CounterMetricFamily(f"decentraspace_names_{name}", text, value=value)
    yield GaugeMetricFamily("decentraspace_names_kept", "Names whose answers are kept.", len(names.cache))


def _places(found: Sequence[HookResult]) -> Iterator[Metric]:
    """By plugin, from the hook `storage_status`."""
    for name, text in (
        ("reachable", "Whether the place a plugin copies to answers."),
        ("pinned", "DAGs copied there."),
        ("queued", "DAGs to be copied there."),
        ("failed", "DAGs that could not be copied there."),
    ):
        family = GaugeMetricFamily(f"decentraspace_storage_{name}", text, labels=["plugin", "service"])
        for result in found:
            if name in result.value:
                family.add_metric([result.plugin, result.value["service"]], int(result.value[name]))
        if family.samples:
            yield family
