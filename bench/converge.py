"""From "a record is published" at one node to "all of 25 have accepted it"; and a partition that heals.

Each node is a process of its own with its record store and the whole network stack: gossip and set exchange,
without gateway, API and content. Each is told of three others, so that records go from node to node; nobody
is announced, so that it stays so. Records are published at random nodes, so many a second. All on loopback.

For the partition the nodes are in network namespaces of their own, and the tunnels of the laboratory carry
their packets: then nothing passes between two halves while both publish, and when it is healed, all records
have to be everywhere within one round of set exchange.
"""

from __future__ import annotations

import base64
import os
import random
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from tests.network.lab.tunnels import Namespace, NoNamespaces, Switch, Weather

from bench.machine import load
from bench.nodes import workspace
from bench.recordset import Peer, envelopes, processor_seconds
from decentraspace.identity.keys import NodeKey
from decentraspace.records import codec

_NODES, _TOLD = 25, 3  # each is told of so many others
_GOAL = 1.0  # seconds
_RATE = 2.0  # records a second
_INTERVAL = 60.0  # seconds between exchanges: what nodes have by default
_DEADLINE = 180.0
_CUT_FOR = 10.0  # seconds


def run(quick: bool = False) -> list[dict[str, Any]]:
    nodes, records, interval = (10, 20, 15.0) if quick else (_NODES, 200, _INTERVAL)
    results = []
    with workspace() as folder:
        with ExitStack() as stack:
            results.append(_converging(_network(stack, folder / "calm", nodes, _INTERVAL), records))
        with suppress(NoNamespaces), ExitStack() as stack:
            results.append(_healing(stack, folder / "cut", nodes, 20 if quick else 100, interval))
    return results


def _converging(peers: Sequence[Peer], records: int) -> dict[str, Any]:
    before = load()
    used = processor_seconds(*peers)
    began = _published(peers, records, random.Random(1))
    times = _accepted(peers, began)
    used = processor_seconds(*peers) - used
    last = [max(times[cid]) - at for cid, at in began.items()]
    each = [when - began[cid] for cid, found in times.items() for when in found]
    deliveries = len(each)
    return {
        "name": f"a record published to accepted by all of {len(peers)} nodes, 99 of 100",
        "ratio": round(_percentile(last, 99) / _GOAL, 3),
        "goal": "<= 1",
        "peer": "the goal of 1 s",
        "version": "",
        "command": "python -m bench.recordset STORE ADDRESS ADDRESS ADDRESS, for each node",
        "records": records,
        "records_per_s": _RATE,
        "p50_s": round(_percentile(last, 50), 3),
        "p99_s": round(_percentile(last, 99), 3),
        "slowest_s": round(max(last), 3),
        "each_node_p50_s": round(_percentile(each, 50), 3),
        "each_node_p99_s": round(_percentile(each, 99), 3),
        "processor_ms_per_delivery": round(1000 * used / deliveries, 2),
        "cores": os.cpu_count(),
        "loads": [before, load()],
    }


def _healing(stack: ExitStack, folder: Path, nodes: int, records: int, interval: float) -> dict[str, Any]:
    """NoNamespaces."""
    namespaces = []
    for number in range(nodes):
        namespaces.append(Namespace(number))
        stack.callback(namespaces[-1].close)
    switch = Switch(namespaces, 1)
    stack.callback(switch.close)
    peers = _network(stack, folder, nodes, interval, namespaces)
    halves = [range(nodes // 2), range(nodes // 2, nodes)]
    for one in halves[0]:
        for other in halves[1]:
            switch.set(one, other, Weather(cut=True))
            switch.set(other, one, Weather(cut=True))
    cut = time.monotonic()
    began: dict[str, float] = {}
    for half in halves:
        began |= _published([peers[number] for number in half], records // 2, random.Random(2), rate=10.0)
    apart = min(len(peer.ask("times")) for peer in peers)
    time.sleep(max(0.0, cut + _CUT_FOR - time.monotonic()))
    missing = sum(len(began) - peer.ask()["records"] for peer in peers)
    if missing <= 0:
        raise RuntimeError("nothing was cut")
    switch.calm()
    healed = time.monotonic()
    times = _accepted(peers, began)
    last = max(max(found) for found in times.values())
    return {
        "name": f"a partition of {nodes} nodes heals: seconds until all have all records, of a round's",
        "ratio": round((last - healed) / interval, 3),
        "goal": "<= 1",
        "peer": f"one round of set exchange, {interval:g} s",
        "version": "",
        "command": "python -m bench.recordset STORE ADDRESS ADDRESS ADDRESS, for each node, in namespaces",
        "records": len(began),
        "lost": 0,  # else it would have ended without a result
        "missing_when_healed": missing,
        "fewest_at_a_node_before": apart,
        "cut_s": round(healed - cut, 1),
        "all_everywhere_s": round(last - healed, 2),
    }


def _network(
    stack: ExitStack, folder: Path, nodes: int, interval: float, inside: Sequence[Namespace] = ()
) -> list[Peer]:
    """Started, and connected so that all are reached from each."""
    folder.mkdir()
    chance = random.Random(nodes)
    keys = [NodeKey.generate() for _ in range(nodes)]
    # Addresses of loopback's of their own: a port that was free could be another node's connection by now.
    hosts = [n.address for n in inside] or [f"127.{os.getpid() % 250 + 1}.1.{n + 1}" for n in range(nodes)]
    places = [f"/ip4/{host}/tcp/4001" for host in hosts]
    peers = []
    for number, (key, place) in enumerate(zip(keys, places, strict=True)):
        # The one before, so that no part is apart; the others anywhere.
        told = {(number - 1) % nodes, *chance.sample([n for n in range(nodes) if n != number], _TOLD - 1)}
        addresses = [f"{places[n]}/p2p/{keys[n].peer_id}" for n in sorted(told)]
        where = inside[number].entered() if inside else None
        peer = Peer(
            folder / f"{number}.sqlite", *addresses, key=key, listen=place, interval=interval, inside=where
        )
        stack.callback(peer.__exit__)
        peers.append(peer)
    for peer in peers:
        peer.__enter__()
    _until(lambda: all(peer.ask()["mesh"] >= min(_TOLD, nodes - 1) for peer in peers), "the mesh")
    return peers


def _published(
    peers: Sequence[Peer], records: int, chance: random.Random, rate: float = _RATE
) -> dict[str, float]:
    """CID -> when its publishing began."""
    began = {}
    due = time.monotonic()
    for envelope in list(envelopes(records)):
        time.sleep(max(0.0, due - time.monotonic()))
        due += 1 / rate
        answer = chance.choice(peers).ask("publish " + base64.b64encode(envelope).decode())
        began[codec.record_cid(codec.decode_envelope(envelope).record).hex()] = answer["began"]
    return began


def _accepted(peers: Sequence[Peer], began: dict[str, float]) -> dict[str, list[float]]:
    """CID -> when each of the other nodes accepted it, once all have."""

    def all_have() -> bool:
        return all(peer.ask()["records"] >= len(began) for peer in peers)

    _until(all_have, "all records everywhere")
    found: dict[str, list[float]] = {cid: [] for cid in began}
    for peer in peers:
        for cid, at in peer.ask("times").items():
            found[cid].append(at)
    if any(len(times) != len(peers) - 1 for times in found.values()):
        raise RuntimeError("a record was accepted twice, or lost")
    return found


def _until(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + _DEADLINE
    while not condition():
        if time.monotonic() > end:
            raise RuntimeError(f"in {_DEADLINE:.0f} s there was not: {what}")
        time.sleep(0.2)


def _percentile(values: Sequence[float], percent: int) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]
