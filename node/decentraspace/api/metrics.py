"""Prometheus metrics of one API; what the stores hold is read when the page is asked for."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from decentraspace import __version__
from decentraspace.api.services import NodeServices
from decentraspace.names.service import NameService
from decentraspace.network.bitswap.service import Bitswap
from decentraspace.network.dht.announcing import Announcing
from decentraspace.network.host import Network
from decentraspace.network.report import dht_report
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
        yield from _names(self._node.names)
        if self._node.bitswap is not None:
            yield from _bitswap(self._node.bitswap)
        if self._node.network is not None:
            yield from _exchanges(self._node.network)
        if self._node.announcing is not None:
            yield from _dht(self._node.announcing)
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


def _exchanges(network: Network) -> Iterator[Metric]:
    totals = network.rounds.totals
    for name, text, value in (
        ("gossip_refused", "Records refused that came by gossip.", network.refused),
        ("exchanges", "Exchanges of record sets.", totals.exchanges),
        ("exchanges_failed", "Exchanges of record sets that failed.", totals.failed),
        ("exchange_records_received", "Records accepted that came by exchange.", totals.received),
        ("exchange_records_sent", "Records given by exchange.", totals.sent),
        ("exchange_records_refused", "Records refused that came by exchange.", totals.refused),
        ("exchange_received_bytes", "Bytes received in exchanges.", totals.bytes_in),
        ("exchange_sent_bytes", "Bytes sent in exchanges.", totals.bytes_out),
    ):
        yield CounterMetricFamily(f"decentraspace_{name}", text, value=value)


def _dht(announcing: Announcing) -> Iterator[Metric]:
    found, counts = dht_report(announcing), announcing.dht.counts
    for name, text, value in (
        ("servers", "Servers of the DHT that have answered.", found.servers),
        ("roots", "Roots of sites held here, which are announced in turn.", found.roots),
        ("backlog", "Roots that are due to be announced.", found.backlog),
        ("oldest_due_seconds", "Seconds for which the first of them has been due.", found.oldest),
        ("caught_up_time_seconds", "When no root was due last, in Unix seconds.", found.caught_up),
        ("confirmed", "Servers that confirmed the last announcement.", announcing.totals.servers),
    ):
        yield GaugeMetricFamily(f"decentraspace_dht_{name}", text, value=value)
    for name, text, value in (
        ("announced", "Roots announced.", found.announced),
        ("announcements_failed", "Announcements that failed.", found.failed),
        ("searches", "Searches in the DHT.", counts.searches),
        ("questions", "Servers asked in searches.", counts.asked),
        ("questions_failed", "Servers that did not answer as they should.", counts.failed),
        ("sought", "Sites that nobody of this network gave, searched for in the DHT.", counts.sought),
        ("found", "Such sites for which a holder was reached.", counts.found),
    ):
        yield CounterMetricFamily(f"decentraspace_dht_{name}", text, value=value)


def _bitswap(bitswap: Bitswap) -> Iterator[Metric]:
    for name, text, value in (
        ("served_blocks", "Blocks given to IPFS peers.", bitswap.served.blocks),
        ("served_bytes", "Bytes of blocks given to IPFS peers.", bitswap.served.bytes),
        ("refused_wants", "Wants of IPFS peers beyond what a queue holds.", bitswap.served.refused),
        ("fetched_blocks", "Blocks taken from IPFS peers.", bitswap.fetched_blocks),
        ("fetched_bytes", "Bytes of blocks taken from IPFS peers.", bitswap.fetched_bytes),
        ("unasked_bytes", "Bytes of blocks that IPFS peers sent unasked.", bitswap.unasked_bytes),
    ):
        yield CounterMetricFamily(f"decentraspace_bitswap_{name}", text, value=value)
    yield GaugeMetricFamily(
        "decentraspace_bitswap_waiting", "Wants of IPFS peers not met yet.", value=bitswap.waiting()
    )


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
