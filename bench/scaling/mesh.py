"""The overlay as the node's code builds it: who is connected, whose gossip goes where, how far it is."""

from __future__ import annotations

import random
from dataclasses import dataclass
from statistics import fmean

from bench.scaling.plan import DEGREE, DEGREE_HIGH, DEGREE_LOW, PEERS_MOST, PEERS_WANTED

_HEARTBEATS = 20
_LAZY_LEAST, _LAZY_SHARE = 6, 0.25  # of py-libp2p: peers outside the mesh that are told what is new


@dataclass(frozen=True)
class Mesh:
    """`peers`, `degree`: of a node, on average; `lazy`: peers told of ids; `hops`: from a node to the farthest;
    `reached`: share of nodes that the mesh connects with the first."""

    peers: float
    degree: float
    lazy: float
    hops: int
    reached: float

    @property
    def sends(self) -> float:
        """Times a record of another node is sent on; that many times it arrives, too."""
        return self.degree - 1


def build(nodes: int, seed: int) -> Mesh:
    """Nodes come one after the other, each finds peers and grafts; then heartbeats mend the mesh."""
    source = random.Random(f"{seed} mesh {nodes}")
    peers: list[set[int]] = [set() for _ in range(nodes)]
    mesh: list[set[int]] = [set() for _ in range(nodes)]
    for node in range(1, nodes):
        while len(peers[node]) < min(PEERS_WANTED, node):
            other = source.randrange(node)
            if len(peers[other]) < PEERS_MOST:
                peers[node].add(other)
                peers[other].add(node)
        for other in _some(source, peers[node], DEGREE):
            mesh[node].add(other)
            mesh[other].add(node)
    for _ in range(_HEARTBEATS):
        for node in range(nodes):
            _heartbeat(source, node, peers, mesh)
    connected = fmean(map(len, peers))
    degree = fmean(map(len, mesh))
    lazy = fmean(
        min(len(p) - len(m), max(_LAZY_LEAST, int((len(p) - len(m)) * _LAZY_SHARE)))
        for p, m in zip(peers, mesh, strict=True)
    )
    hops, reached = _distance(mesh, 0)
    return Mesh(connected, degree, lazy, hops, reached / nodes)


def _heartbeat(source: random.Random, node: int, peers: list[set[int]], mesh: list[set[int]]) -> None:
    own = mesh[node]
    if len(own) < DEGREE_LOW:
        for other in _some(source, peers[node] - own, DEGREE - len(own)):
            own.add(other)
            mesh[other].add(node)
    elif len(own) > DEGREE_HIGH:
        for other in _some(source, own, len(own) - DEGREE):
            own.discard(other)
            mesh[other].discard(node)


def _some(source: random.Random, among: set[int], count: int) -> list[int]:
    return source.sample(sorted(among), min(count, len(among)))


def _distance(mesh: list[set[int]], start: int) -> tuple[int, int]:
    """(hops to the farthest, nodes reached)"""
    seen, edge, hops = {start}, {start}, 0
    while True:
        edge = {other for node in edge for other in mesh[node]} - seen
        if not edge:
            return hops, len(seen)
        seen |= edge
        hops += 1
