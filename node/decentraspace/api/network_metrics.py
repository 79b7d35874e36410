"""Prometheus metrics of peers, gossip, exchanges, Bitswap and the DHT, read in a thread while they go on."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from decentraspace.api.services import NodeServices
from decentraspace.network.bitswap.service import Bitswap
from decentraspace.network.dht.announcing import Announcing
from decentraspace.network.host import Network
from decentraspace.network.report import dht_report


def of_network(node: NodeServices) -> Iterator[Metric]:
    """Of the parts that this node has."""
    if node.bitswap is not None:
        yield from _bitswap(node.bitswap)
    if node.network is not None:
        yield from _peers(node.network)
        yield from _exchanges(node.network)
    if node.announcing is not None:
        yield from _dht(node.announcing)


def _peers(network: Network) -> Iterator[Metric]:
    inbound, outbound = network.connection_counts()
    family = GaugeMetricFamily("decentraspace_connections", "libp2p connections.", labels=["direction"])
    family.add_metric(["inbound"], inbound)
    family.add_metric(["outbound"], outbound)
    yield family
    family = GaugeMetricFamily(
        "decentraspace_reachable",
        "Peers asked last that could connect to this node, and that could not.",
        labels=["answer"],
    )
    for answer, count in zip(("yes", "no"), network.reachability.answers(), strict=True):
        family.add_metric([answer], count)
    yield family
    mesh, subscribed = network.gossip_peers()
    for name, text, value in (
        ("connections_most", "libp2p connections kept at most.", network.max_peers),
        ("ipfs_peers", "Connected peers that are no nodes of this network.", network.guest_count()),
        ("gossip_mesh", "Peers to which others' records are passed on.", mesh),
        ("gossip_subscribed", "Connected peers that take the topic.", subscribed),
        (
            "records_unhandled",
            "Accepted records not handed on yet; peers wait beyond 1000.",
            network.unhandled(),
        ),
    ):
        yield GaugeMetricFamily(f"decentraspace_{name}", text, value=value)
    for name, text, value in (
        ("connections_refused", "Connections refused: there were too many.", network.turned_away.connections),
        ("streams_refused", "Streams refused: their peer had too many.", network.turned_away.streams),
        ("peer_faults", "What peers sent that honest ones seldom do.", network.faults),
        ("peers_cut_off", "Connections ended because a peer broke the rules.", network.cut_off),
        ("gossip_dropped", "Messages of peers that sent more than they may.", network.gossip_dropped()),
    ):
        yield CounterMetricFamily(f"decentraspace_{name}", text, value=value)


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
    rounds = list(network.rounds.peers.values())
    for name, text, value in (
        ("exchanges_under_way", "Exchanges under way.", network.rounds.under_way()),
        ("exchange_peers", "Peers that sets are exchanged with.", len(rounds)),
        (
            "exchange_peers_failing",
            "Peers with which the last exchange failed.",
            sum(r.failures > 0 for r in rounds),
        ),
        (
            "exchange_peers_more",
            "Peers with which the last exchange was cut short.",
            sum(r.more for r in rounds),
        ),
    ):
        yield GaugeMetricFamily(f"decentraspace_{name}", text, value=value)


def _dht(announcing: Announcing) -> Iterator[Metric]:
    found, counts = dht_report(announcing), announcing.dht.counts
    for name, text, value in (
        ("servers", "Servers of the DHT that have answered.", found.servers),
        ("roots", "Roots and IPNS names of sites held here, announced in turn.", found.roots),
        ("backlog", "Roots and names that are due to be announced.", found.backlog),
        ("oldest_due_seconds", "Seconds for which the first of them has been due.", found.oldest),
        ("caught_up_time_seconds", "When none was due last, in Unix seconds.", found.caught_up),
        ("confirmed", "Servers that confirmed the last announcement.", announcing.totals.servers),
    ):
        yield GaugeMetricFamily(f"decentraspace_dht_{name}", text, value=value)
    for name, text, value in (
        ("announced", "Roots and names announced.", found.announced),
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
