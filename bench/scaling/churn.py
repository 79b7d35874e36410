"""Nodes come and go; copies follow. A discrete simulation of a sample of sites, placed by the node's own code.

What a node sees: a node that joins or says goodbye is known at once, one that dies only `noticed_after`
its last announcement. The first R of a site's ranking that are there and willing shall hold it. Who is one
of them because nodes before it refuse waits `take_over_every` for each rank beyond R, as long as it takes to
see that the others' receipts do not come. Who leaves in good order stays until its sites are copied. Who is
no longer among the first R lets go when its successor has its copy. The node that took a deploy keeps that
site, too; when it is gone, the next deploy finds another.
"""

from __future__ import annotations

import heapq
import itertools
import math
import random
from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from bench.scaling.holders import node_keys, rankings, site_ids
from bench.scaling.plan import DAY, Plan, sizes

_DEPTH = 64  # live nodes of a ranking; the simulation fails loudly should it ever need more


@dataclass(frozen=True)
class World:
    """The same nodes and sites for several simulations: when nodes come, and each site's ranking."""

    plan: Plan
    days: float
    joins: tuple[float, ...]  # second at which each node is there; 0 for those at the beginning
    leaves: tuple[float, ...]
    dies: tuple[bool, ...]
    ranking: Sequence[array[int]]
    size: array[float]
    homes: tuple[int, ...]


def world(plan: Plan, sites: int, days: float) -> World:
    """Nodes for `days`, and `sites` of all the plan's sites."""
    source = random.Random(f"{plan.seed} churn {plan.nodes}")
    joins = [0.0] * plan.nodes
    now = source.expovariate(plan.leaving_rate)
    while now < days * DAY:
        joins.append(now)
        now += source.expovariate(plan.leaving_rate)
    leaves = tuple(start + source.expovariate(1 / plan.node_life) for start in joins)
    dies = tuple(source.random() < plan.death_share for _ in joins)
    keys = node_keys(plan, len(joins))
    depth = min(len(keys), _DEPTH * len(keys) // plan.nodes)
    ranking = rankings(site_ids(plan, sites), keys, depth)
    homes = tuple(source.randrange(plan.nodes) for _ in range(sites))
    return World(plan, days, tuple(joins), leaves, dies, ranking, sizes(plan, sites, "sample"), homes)


@dataclass
class History:
    """What happened. Of the sample: scale by plan.sites / sites for the whole."""

    sites: int
    days: float
    lost: int = 0
    moved: int = 0  # copies made because nodes came or went
    moved_bytes: float = 0.0
    repaired: int = 0  # of these, after deaths
    let_go: int = 0
    deaths: int = 0
    goodbyes: int = 0
    joined: int = 0
    repair_seconds: list[float] = field(default_factory=list)  # from a death to the copy that replaces it
    seconds_with: Counter[int] = field(default_factory=Counter)  # live copies -> seconds, over all sites
    at_risk: list[tuple[float, int]] = field(default_factory=list)  # (time, sites below R), at each change

    @property
    def risk_share(self) -> float:
        """Share of sites with fewer than R live copies, averaged over time."""
        total = sum(self.seconds_with.values())
        return self._below / total if total else 0.0

    _below: float = 0.0


class Simulation:
    """`holders[site]`: nodes that are alive and have a whole copy."""

    def __init__(self, world: World, plan: Plan | None = None) -> None:
        """`plan`: other delays and shares than those of the world's own plan; nodes and sites stay."""
        self.world, self.plan = world, plan or world.plan
        self._source = random.Random(f"{self.plan.seed} events")
        self._events: list[tuple[float, int, str, int, int, float]] = []
        self._order = itertools.count()
        self.alive: set[int] = set()
        self.seen: set[int] = set()  # whom the others take for being there
        self.copies = min(self.plan.copies, self.plan.nodes)
        count = len(world.ranking)
        self.holders: list[set[int]] = [set() for _ in range(count)]
        self.home: list[int | None] = list(world.homes)
        self._coming: list[set[int]] = [set() for _ in range(count)]  # who is about to copy it
        self._held_by: dict[int, set[int]] = {}
        self._place: dict[int, list[int]] = {}  # node -> sites in whose ranking it appears
        for site, ranking in enumerate(world.ranking):
            for node in ranking:
                self._place.setdefault(node, []).append(site)
        self._since = [0.0] * count  # of the present number of copies
        self._risky = count  # nobody holds anything yet
        self._leaving: dict[int, set[int]] = {}  # node -> sites it waits for
        self._mean_size = sum(world.size) / count * self.plan.held_factor
        self.now = 0.0
        self.history = History(count, world.days)

    # -- questions

    def refuses(self, site: int, node: int) -> bool:
        """Always the same for a pair, as a policy would be."""
        return (site * 2654435761 + node * 40503 + self.plan.seed) % 10_007 < self.plan.refusing * 10_007

    def wanted(self, site: int) -> list[tuple[int, int]]:
        """(node, rank among those seen) of the nodes that shall hold a site, best first."""
        found: list[tuple[int, int]] = []
        rank = 0
        for node in self.world.ranking[site]:
            if node in self.seen:
                if not self.refuses(site, node):
                    found.append((node, rank))
                    if len(found) == self.copies:
                        break
                rank += 1
        else:
            if len(self.world.ranking[site]) < len(self.world.joins) and len(found) < self.copies:
                raise RuntimeError("the rankings are too short for so much coming and going")
        return found

    def node_bytes(self) -> Counter[int]:
        """Bytes that each node holds, of the sample."""
        held: Counter[int] = Counter()
        for site, holders in enumerate(self.holders):
            for node in holders:
                held[node] += self.world.size[site]  # type: ignore[assignment]
        return held

    # -- running

    def run(self, until: float | None = None) -> History:
        """To the end of the world's days, or `until` (seconds) with no more coming and going after the days."""
        end = until if until is not None else self.world.days * DAY
        self._begin()
        while self._events and self._events[0][0] <= end:
            self.now, _, what, node, site, since = heapq.heappop(self._events)
            getattr(self, "_on_" + what)(node, site, since)
        self.now = end
        for site in range(len(self.holders)):
            self._account(site)
        return self.history

    def _begin(self) -> None:
        for node, (joins, leaves) in enumerate(zip(self.world.joins, self.world.leaves, strict=True)):
            if joins == 0.0:
                self.alive.add(node)
                self.seen.add(node)
            else:
                self._at(joins, "join", node)
            if leaves <= self.world.days * DAY:
                self._at(leaves, "death" if self.world.dies[node] else "goodbye", node)
        # As many sites wait for another home as do in the long run.
        stays = self.plan.node_life / (self.plan.node_life + self.plan.deploy_every)
        for site in range(len(self.holders)):
            for node, _ in self.wanted(site):
                self._hold(site, node)
            home = self.home[site]
            if home is not None and self._source.random() < stays:
                self._hold(site, home)
            else:
                self.home[site] = None
                self._at(self._source.expovariate(1 / self.plan.deploy_every), "deploy", -1, site)

    def _at(self, when: float, what: str, node: int, site: int = -1, since: float = -1.0) -> None:
        heapq.heappush(self._events, (when, next(self._order), what, node, site, since))

    # -- nodes

    def _on_join(self, node: int, _site: int, _since: float) -> None:
        self.history.joined += 1
        self.alive.add(node)
        self.seen.add(node)
        share = self._share_of_one() * max(1, self.plan.nodes - 1)
        for site in self._place.get(node, ()):
            self._fill(site, spread=share)

    def _on_death(self, node: int, _site: int, _since: float) -> None:
        self.history.deaths += 1
        self.alive.discard(node)
        for site in sorted(self._held_by.pop(node, ())):
            self._lose(site, node)
        # The last announcement was made up to one period before.
        self._at(self.now + self.plan.noticed_after, "noticed", node, since=self.now)

    def _on_noticed(self, node: int, _site: int, since: float) -> None:
        self.seen.discard(node)
        for site in self._place.get(node, ()):
            self._fill(site, spread=self._share_of_one(), death=since)

    def _on_goodbye(self, node: int, _site: int, _since: float) -> None:
        if node not in self.alive:
            return
        self.history.goodbyes += 1
        self.seen.discard(node)
        waits = set()
        for site in self._place.get(node, ()):
            if node in self.holders[site] or node in self._coming[site]:
                waits |= {site} if self._fill(site, spread=self._share_of_one()) else set()
        self._leaving[node] = waits
        self._go(node)

    def _go(self, node: int) -> None:
        """A node that says goodbye is off when its sites are copied."""
        if self._leaving[node]:
            return
        del self._leaving[node]
        self.alive.discard(node)
        for site in sorted(self._held_by.pop(node, ())):
            self._lose(site, node)

    def _share_of_one(self) -> float:
        """Seconds in which every other node copies its part of what one node held."""
        held = self.plan.sites * self.copies / self.plan.nodes
        return held / max(1, self.plan.nodes - 1) * self._mean_size / self.plan.copy_rate

    # -- copies

    def _fill(self, site: int, *, spread: float, death: float = -1.0) -> bool:
        """Have whoever shall hold the site begin to copy it; whether any copy is under way.

        `spread`: seconds that the copying node needs for all it has to copy: this site's turn comes anywhere
        within.
        """
        coming = self._coming[site]
        for node, rank in self.wanted(site):
            if node in self.holders[site] or node in coming:
                continue
            wait = max(0, rank - self.copies + 1) * self.plan.take_over_every
            own = self.world.size[site] * self.plan.held_factor / self.plan.copy_rate
            coming.add(node)
            self._at(self.now + wait + self._source.random() * spread + own, "copied", node, site, death)
        if not coming:
            self._trim(site)  # a death can make a displaced holder's successor known without any copying
        return bool(coming)

    def _on_copied(self, node: int, site: int, death: float) -> None:
        self._coming[site].discard(node)
        if node in self.alive and node in self.seen and self.holders[site]:
            self._hold(site, node)
            self.history.moved += 1
            self.history.moved_bytes += self.world.size[site] * self.plan.held_factor
            if death >= 0.0:
                self.history.repaired += 1
                self.history.repair_seconds.append(self.now - death)
            self._trim(site)
        # Else it is gone: who is next begins when that is noticed.
        for leaver in [n for n, sites in self._leaving.items() if site in sites]:
            if not self._coming[site]:
                self._leaving[leaver].discard(site)
                self._go(leaver)

    def _trim(self, site: int) -> None:
        """Who is displaced lets go once all that shall hold the site do."""
        wanted = {node for node, _ in self.wanted(site)}
        if wanted <= self.holders[site]:
            for node in self.holders[site] - wanted - {self.home[site]}:
                if node not in self._leaving:
                    self._held_by[node].discard(site)
                    self._lose(site, node)
                    self.history.let_go += 1

    def _hold(self, site: int, node: int) -> None:
        if node not in self.holders[site]:
            self._account(site)
            self._risky -= len(self.holders[site]) < self.copies
            self.holders[site].add(node)
            self._risky += len(self.holders[site]) < self.copies
            self._note()
            self._held_by.setdefault(node, set()).add(site)

    def _lose(self, site: int, node: int) -> None:
        self._account(site)
        self._risky -= len(self.holders[site]) < self.copies
        self.holders[site].discard(node)
        self._risky += len(self.holders[site]) < self.copies
        self._note()
        if self.home[site] == node:
            self.home[site] = None
            self._at(self.now + self._source.expovariate(1 / self.plan.deploy_every), "deploy", -1, site)
        if not self.holders[site]:
            self.history.lost += 1

    def _on_deploy(self, _node: int, site: int, _since: float) -> None:
        """The owner's node is gone: the next deploy goes to another."""
        if self.holders[site]:
            home = self._source.choice(sorted(self.seen & self.alive - set(self._leaving)))
            self.home[site] = home
            self._hold(site, home)

    def _account(self, site: int) -> None:
        """Book the time since a site's number of copies last changed."""
        held, passed = len(self.holders[site]), self.now - self._since[site]
        self.history.seconds_with[held] += passed  # type: ignore[assignment]
        if held < self.copies:
            self.history._below += passed
        self._since[site] = self.now

    def _note(self) -> None:
        if self.now > 0.0:
            noted = self.history.at_risk
            if noted and noted[-1][0] == self.now:
                noted[-1] = (self.now, self._risky)
            else:
                noted.append((self.now, self._risky))


def loss_rate(plan: Plan, copies: int, repair: float) -> float:
    """Losses of one site a second, when `copies` nodes hold it and a copy is replaced `repair` seconds after
    its node's death: one dies, and all others do before that.

    Nodes die independently of each other; for what happens if not, see `lost_at_once`.
    """
    rate = plan.death_share / plan.node_life
    return copies * rate * (-math.expm1(-rate * repair)) ** (copies - 1)


def lost_at_once(nodes: int, failed: int, copies: int) -> float:
    """Probability that all of a site's copies are on `failed` nodes that fail together."""
    result = 1.0
    for i in range(copies):
        result *= max(0, failed - i) / (nodes - i)
    return result
