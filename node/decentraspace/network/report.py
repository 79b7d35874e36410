"""How this node's part of the network stands, for operators: peers, gossip, exchanges."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from decentraspace.network.dht.announcing import Announcing
    from decentraspace.network.host import Network


@dataclass(frozen=True)
class PeerReport:
    """A connected peer. `kind`: node (of this network), or ipfs (any other libp2p peer). Times in Unix seconds,
    0 for never; `exchanges` done with it, and `failures` in a row since; `more`: the last one was cut short."""

    peer_id: str
    kind: str
    since: float
    addresses: tuple[str, ...]
    exchanged: float
    exchanges: int
    failures: int
    more: bool


@dataclass(frozen=True)
class DhtReport:
    """`roots` that are announced in turn, the `backlog` of those that are due, `oldest`: seconds for which the
    first has been; `caught_up`: when none was last, Unix seconds, 0 for never; what was `announced`, and
    `failed`, since the start; `servers` known; `trouble`: why nothing can be announced now."""

    servers: int
    roots: int
    backlog: int
    oldest: float
    caught_up: float
    announced: int
    failed: int
    trouble: str


@dataclass(frozen=True)
class NetworkReport:
    """`reachable`: whether others could connect (yes, no, unknown), as peers said that tried; `mesh`: peers to
    which others' records are passed on; `subscribed`: peers that take the topic; `refused`: records refused that
    came by gossip; the rest counts set exchanges, their records and bytes, since the start."""

    topic: str
    addresses: tuple[str, ...]
    reachable: str
    mesh: int
    subscribed: int
    refused: int
    exchanges: int
    exchanges_failed: int
    records_received: int
    records_sent: int
    records_refused: int
    bytes_received: int
    bytes_sent: int
    peers: tuple[PeerReport, ...]


def dht_report(announcing: Announcing) -> DhtReport:
    """Blocking. Unavailable, QuotaExceeded where the disk fails."""
    waiting, totals = announcing.waiting(), announcing.totals
    return DhtReport(
        announcing.dht.servers,
        *waiting,
        totals.caught_up,
        totals.announced,
        totals.failed,
        announcing.trouble(),
    )


def report(network: Network) -> NetworkReport:
    """Taken in the event loop's thread."""
    totals = network.rounds.totals
    mesh, subscribed = network.gossip_peers()
    peers = []
    for info in sorted(network.peers(), key=lambda p: p.since):
        of = network.rounds.peers.get(info.peer_id)
        peers.append(
            PeerReport(
                info.peer_id,
                "ipfs" if network.is_guest(info.peer_id) else "node",
                info.since,
                info.addresses,
                of.last if of else 0.0,
                of.done if of else 0,
                of.failures if of else 0,
                of.more if of else False,
            )
        )
    return NetworkReport(
        network.topic,
        tuple(network.addresses()),
        network.reachability.verdict,
        mesh,
        subscribed,
        network.refused,
        totals.exchanges,
        totals.failed,
        totals.received,
        totals.sent,
        totals.refused,
        totals.bytes_in,
        totals.bytes_out,
        tuple(peers),
    )
