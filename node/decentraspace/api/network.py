"""/network/: peers, gossip and exchanges of this node, for its operators."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import trio

from decentraspace.api.routing import Call, RouteTable
from decentraspace.api.schemas import attr
from decentraspace.errors import Forbidden, NotFound, Unauthorized, Unavailable
from decentraspace.network.report import NetworkReport, PeerReport, dht_report, report

table = RouteTable()


@dataclass(frozen=True)
class PeerAnswer:
    peer_id: str = attr("libp2p peer id.")
    kind: str = attr("`node` of this network, or `ipfs` for any other libp2p peer.")
    since: datetime = attr("When it connected.")
    addresses: list[str] = attr("Its IP addresses and ports.")
    exchanged: datetime | None = attr("When record sets were last exchanged with it.")
    exchanges: int = attr("Exchanges with it since it connected.")
    failures: int = attr("Exchanges in a row that failed.")
    more: bool = attr("Whether the last exchange was cut short, and the next goes on.")


@dataclass(frozen=True)
class DhtAnswer:
    servers: int = attr("Servers of the DHT that have answered this node.")
    roots: int = attr("Roots and IPNS names of sites held here, announced in turn.")
    backlog: int = attr("Those that are due and not announced yet.")
    oldest: int = attr("Seconds for which the first of them has been due.")
    caught_up: datetime | None = attr("When none was due last.")
    announced: int = attr("Announcements since the start.")
    failed: int = attr("Those that failed.")
    trouble: str = attr("Why nothing can be announced now; empty if it can.")


@dataclass(frozen=True)
class NetworkAnswer:
    network: str = attr("Name of the network.")
    peer_id: str = attr("This node.")
    addresses: list[str] = attr("Where others reach this node.")
    reachable: str = attr(
        "Whether others can connect to it, as peers said that tried: `yes`, `no`, `unknown`."
    )
    topic: str = attr("The gossip topic of records.")
    mesh: int = attr("Peers to which this node passes on others' records.")
    subscribed: int = attr("Connected peers that take the topic.")
    gossip_refused: int = attr("Records that came by gossip and were refused.")
    exchanges: int = attr("Set exchanges since the start.")
    exchanges_failed: int = attr("Those that failed.")
    records_received: int = attr("Records that came by exchange and were accepted.")
    records_sent: int = attr("Records given by exchange.")
    records_refused: int = attr("Records that came by exchange and were refused.")
    bytes_received: int = attr("Bytes received in exchanges.")
    bytes_sent: int = attr("Bytes sent in exchanges.")
    peers: list[PeerAnswer] = attr("Connected peers, the longest connected first.")
    dht: DhtAnswer | None = attr("The DHT of IPFS peers, if it is used (`network.dht`).")


@dataclass(frozen=True)
class SyncRequest:
    peer: str | None = attr("Peer id to exchange with; all peers if it lacks.", None, most=100)


@dataclass(frozen=True)
class SyncAnswer:
    asked: int = attr("Peers with which sets are exchanged now.")


def _report(call: Call) -> NetworkReport:
    if call.node.network is None:
        raise Unavailable("This node has no network")
    return report(call.node.network)


@table.add(
    "GET",
    "/network/status/",
    tag="network",
    login=True,
    admin=True,
    answers={200: NetworkAnswer},
    problems=(Unauthorized, Forbidden, Unavailable),
)
async def status(call: Call) -> NetworkAnswer:
    """Peers, gossip and exchanges (administrators)"""
    found = _report(call)
    return NetworkAnswer(
        network=call.node.rules.name,
        peer_id=call.node.key.peer_id,
        addresses=list(found.addresses),
        reachable=found.reachable,
        topic=found.topic,
        mesh=found.mesh,
        subscribed=found.subscribed,
        gossip_refused=found.refused,
        exchanges=found.exchanges,
        exchanges_failed=found.exchanges_failed,
        records_received=found.records_received,
        records_sent=found.records_sent,
        records_refused=found.records_refused,
        bytes_received=found.bytes_received,
        bytes_sent=found.bytes_sent,
        peers=[_peer(peer) for peer in found.peers],
        dht=await _dht(call),
    )


@table.add(
    "POST",
    "/network/sync/",
    tag="network",
    login=True,
    admin=True,
    json=SyncRequest,
    answers={200: SyncAnswer},
    problems=(Unauthorized, Forbidden, NotFound, Unavailable),
)
async def sync(call: Call) -> SyncAnswer:
    """Exchange record sets now (administrators)"""
    wanted: SyncRequest = call.body
    if call.node.network is None:
        raise Unavailable("This node has no network")
    asked = call.node.network.rounds.demand(wanted.peer)
    if wanted.peer is not None and not asked:
        raise NotFound(f"Peer {wanted.peer} is not connected", hint="GET /network/status/ lists peers.")
    return SyncAnswer(asked)


async def _dht(call: Call) -> DhtAnswer | None:
    if call.node.announcing is None:
        return None
    found = await trio.to_thread.run_sync(dht_report, call.node.announcing)
    return DhtAnswer(
        servers=found.servers,
        roots=found.roots,
        backlog=found.backlog,
        oldest=int(found.oldest),
        caught_up=_time(found.caught_up),
        announced=found.announced,
        failed=found.failed,
        trouble=found.trouble,
    )


def _time(seconds: float) -> datetime | None:
    return datetime.fromtimestamp(int(seconds), UTC) if seconds else None


def _peer(peer: PeerReport) -> PeerAnswer:
    return PeerAnswer(
        peer_id=peer.peer_id,
        kind=peer.kind,
        since=datetime.fromtimestamp(int(peer.since), UTC),
        addresses=list(peer.addresses),
        exchanged=_time(peer.exchanged),
        exchanges=peer.exchanges,
        failures=peer.failures,
        more=peer.more,
    )
