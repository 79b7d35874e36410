"""What the model assumes. Every figure that is not measured or read from the node's own code is here."""

from __future__ import annotations

import random
from array import array
from dataclasses import dataclass

from decentraspace.config import HostingConfig, NetworkConfig, RecordsConfig, StorageConfig

DAY = 86400.0
SITES_PER_NODE = 1000
TAKE_OVER_EVERY = 2 * HostingConfig.check_every  # seconds by which each further rank waits longer


@dataclass(frozen=True)
class Plan:
    """Sizes in bytes, times in seconds. Why these: docs/discussion/scale.md."""

    nodes: int = 1000
    sites: int = 1_000_000
    copies: int = HostingConfig.replicas  # R; the node that took the deploy holds one beside them
    seed: int = 1

    # A site: lognormal, with a Pareto tail beyond `tail_from`; cut at what nodes copy at most.
    median_bytes: float = 2_652_000.0
    sigma: float = 1.318
    tail_share: float = 0.07
    tail_from: float = 30_500_000.0
    tail_index: float = 1.1
    most_bytes: int = HostingConfig.max_site_bytes

    deploy_every: float = 30 * DAY  # of one site, on average
    changed_share: float = 0.1  # of a site's bytes, in one deploy
    kept_versions: int = HostingConfig.keep_versions
    age: float = 365 * DAY  # of the network: what has piled up by then

    node_life: float = 180 * DAY  # exponential
    death_share: float = 0.2  # of those that go: without a word. The others hand over first
    refusing: float = 0.02  # share of (node, site) pairs where the node will not hold the site
    noticed_after: float = float(HostingConfig.live_for)  # without an announcement
    take_over_every: float = TAKE_OVER_EVERY
    copy_rate: float = 50e6 / 8  # bytes a second into one node, for copying

    gossip_lost: float = 0.01  # of records, on the way to one node
    sync_bytes: float = 2048.0  # of a round between nodes that agree

    @property
    def leaving_rate(self) -> float:
        """Nodes that go, a second, in the whole network; as many join."""
        return self.nodes / self.node_life

    @property
    def deploy_rate(self) -> float:
        """Deploys a second, in the whole network."""
        return self.sites / self.deploy_every

    @property
    def mean_copies(self) -> float:
        """Of a site: those placed, and the one where it was deployed unless it was placed there."""
        placed = min(self.copies, self.nodes)
        return placed + 1 - placed / self.nodes

    @property
    def versions_ever(self) -> float:
        """Manifests of a site when the network has its age."""
        return 1 + self.age / self.deploy_every

    @property
    def versions_held(self) -> float:
        """Of a site by a holder, when the network has its age."""
        return min(self.kept_versions, self.versions_ever)

    @property
    def held_factor(self) -> float:
        """Bytes held of a site for each byte of its newest version: older ones share most blocks."""
        return 1 + self.changed_share * (self.versions_held - 1)


# The node's own, so that the model follows it. Of what is private there, a test says when it differs.
ANNOUNCE_EVERY: float = 600.0
PEERS_WANTED: int = 8
PEERS_MOST: int = NetworkConfig.max_peers
LOOK_EVERY: float = HostingConfig.check_every
SYNC_EVERY: float = NetworkConfig.sync_interval
DEGREE, DEGREE_LOW, DEGREE_HIGH = 6, 4, 12  # of gossip.RecordRouter
IDS_A_REQUEST: int = 200
SEEN_MOST: int = 20_000
QUOTA: int = StorageConfig.quota
SPONSOR_RECORDS: int = RecordsConfig.sponsor_records


def sizes(plan: Plan, count: int, seed: str = "sizes") -> array[float]:
    """Bytes of `count` sites."""
    source = random.Random(f"{plan.seed} {seed} {count}")
    result = array("d", bytes(8 * count))
    for i in range(count):
        if source.random() < plan.tail_share:
            size = plan.tail_from / (1.0 - source.random()) ** (1 / plan.tail_index)
        else:
            size = plan.median_bytes * source.lognormvariate(0.0, plan.sigma)
        result[i] = min(size, plan.most_bytes)
    return result
