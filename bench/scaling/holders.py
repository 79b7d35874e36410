"""Who holds what: the real placement on a sample of sites, and its balance over all of them.

A full placement is `nodes` hashes for each site: a billion for 1,000 nodes and 1,000,000 sites. So the real
function places a sample, and a chi-squared test asks whether it favours any node. If not, holders are drawn
at random for all sites: for a hash that favours nobody, that has the same distribution.
"""

from __future__ import annotations

import base64
import hashlib
import math
import random
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

from bench.scaling.plan import Plan, sizes
from decentraspace import placement


def node_keys(plan: Plan, count: int) -> list[bytes]:
    """32 bytes each; the first ones are the same for any count."""
    return [hashlib.sha256(f"{plan.seed} node {i}".encode()).digest() for i in range(count)]


def site_ids(plan: Plan, count: int) -> list[str]:
    """Like real ones: 16 characters of base32."""
    digests = (hashlib.sha256(f"{plan.seed} site {i}".encode()).digest() for i in range(count))
    return [base64.b32encode(digest[:10]).decode().lower() for digest in digests]


def rankings(sites: Sequence[str], nodes: Sequence[bytes], depth: int) -> list[array[int]]:
    """For each site the numbers of the `depth` nodes that come first, best first."""
    number = {key: i for i, key in enumerate(nodes)}
    return [array("i", [number[key] for key in placement.ranked(site, nodes)[:depth]]) for site in sites]


@dataclass(frozen=True)
class Fairness:
    """A chi-squared test of copies per node against even shares. `p`: how often a hash that favours nobody
    looks as uneven as this or more."""

    sites: int
    chi_squared: float
    p: float


def fairness(placed: Sequence[Sequence[int]], nodes: int) -> Fairness:
    counts = [0] * nodes
    for holders in placed:
        for holder in holders:
            counts[holder] += 1
    each = len(placed[0])
    # A site's holders differ, so counts vary less than if each copy were thrown by itself.
    share = each / nodes
    expected = len(placed) * share
    spread = (1 - share) / (1 - 1 / nodes)
    chi = sum((count - expected) ** 2 for count in counts) / expected / spread
    freedom = nodes - 1
    # Wilson and Hilferty, "The distribution of chi-square" (1931): its cube root is nearly normal.
    z = ((chi / freedom) ** (1 / 3) - 1 + 2 / (9 * freedom)) / math.sqrt(2 / (9 * freedom))
    return Fairness(len(placed), chi, 1 - NormalDist().cdf(z))


@dataclass(frozen=True)
class Spread:
    """Over nodes. `values` ascend."""

    values: tuple[float, ...]

    @property
    def least(self) -> float:
        return self.values[0]

    @property
    def median(self) -> float:
        return self.at(0.5)

    @property
    def p99(self) -> float:
        return self.at(0.99)

    @property
    def most(self) -> float:
        return self.values[-1]

    @property
    def mean(self) -> float:
        return sum(self.values) / len(self.values)

    def at(self, share: float) -> float:
        return self.values[min(len(self.values) - 1, int(share * len(self.values)))]


@dataclass(frozen=True)
class Balance:
    """Per node: sites held and bytes of their newest versions. `total`: bytes of all sites, each once."""

    sites: Spread
    bytes: Spread
    total: float
    held: int


def balance(plan: Plan, *, skew: float = 0.0) -> Balance:
    """All sites of the plan on all its nodes. `skew`: exponent of a Zipf law of which node takes how many
    deploys; 0: all the same."""
    source = random.Random(f"{plan.seed} holders")
    below = source.random
    nodes, copies = plan.nodes, min(plan.copies, plan.nodes)
    count = [0] * nodes
    size_of = [0.0] * nodes
    sized = sizes(plan, plan.sites)
    weights = [(i + 1) ** -skew for i in range(nodes)]
    homes = source.choices(range(nodes), weights, k=plan.sites) if skew else None
    total = 0.0
    for i, size in enumerate(sized):
        holders = {int(below() * nodes) for _ in range(copies)}
        while len(holders) < copies:
            holders.add(int(below() * nodes))
        holders.add(homes[i] if homes else int(below() * nodes))
        total += size
        for holder in holders:
            count[holder] += 1
            size_of[holder] += size
    spread = Spread(tuple(sorted(map(float, count)))), Spread(tuple(sorted(size_of)))
    return Balance(*spread, total, sum(count))
