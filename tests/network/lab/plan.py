"""What goes wrong, and when: a pure function of a seed."""

from __future__ import annotations

import random
from dataclasses import dataclass

from tests.network.lab.tunnels import CALM, Weather

_QUIET = 1.0  # seconds at the beginning, so that the first deploys find a network
_EVERY = 1.6  # seconds between faults, on average


@dataclass(frozen=True)
class Fault:
    """`kind`: partition (`nodes` against the rest), one-way (what `nodes` send is lost), weather (on all links
    of `nodes`), kill, pause. It begins `at` and ends after `lasts` seconds."""

    at: float
    kind: str
    nodes: tuple[int, ...]
    lasts: float
    weather: Weather = CALM
    skew: float = 0.0  # of a node that was killed, once it runs again


@dataclass(frozen=True)
class Plan:
    """`lost`: the node that is killed at some time and never comes back, or comes back without its blocks if
    `disk_only`; None if there is none. It takes no deploys: until others have copied, what is acknowledged is
    safe as long as the node that did so keeps its disk.
    `leaves`: the node that leaves in good order once everything has healed.
    `skews`: seconds that clocks are off at the beginning."""

    nodes: int
    seconds: float
    faults: tuple[Fault, ...]
    skews: tuple[float, ...]
    bootstrap: tuple[tuple[int, ...], ...]
    lost: int | None
    lost_at: float
    disk_only: bool
    leaves: int | None


def make(seed: int, nodes: int, seconds: float, *, network: bool, replicas: int) -> Plan:
    """`network`: whether links can be cut; without, nodes are only killed, paused and set wrong."""
    rng = random.Random(f"plan {seed}")
    kinds = ["kill", "kill", "pause"] + ["partition", "partition", "one-way", "weather", "weather"] * network
    faults = []
    now = _QUIET
    while (now := now + rng.expovariate(1 / _EVERY)) < seconds:
        kind = rng.choice(kinds)
        several = kind in ("partition", "weather")
        chosen = rng.sample(range(nodes), rng.randint(1, nodes // 2) if several else 1)
        weather = Weather(rng.uniform(0.01, 0.2), rng.choice([0.0, 0.02, 0.1, 0.25]))
        faults.append(
            Fault(
                now,
                kind,
                tuple(sorted(chosen)),
                rng.uniform(1.0, 7.0),
                weather,
                rng.choice([0.0, _skew(rng)]),
            )
        )
    lost = rng.choice([None, rng.randrange(nodes), rng.randrange(nodes)]) if nodes > replicas + 1 else None
    return Plan(
        nodes,
        seconds,
        tuple(faults),
        tuple(rng.choice([0.0, _skew(rng)]) for _ in range(nodes)),
        # Everybody knows somebody who began earlier, so that all can find all.
        tuple(tuple(rng.sample(range(n), min(n, rng.randint(1, 2)))) for n in range(nodes)),
        lost,
        rng.uniform(0.3, 0.9) * seconds,
        rng.random() < 0.5,
        rng.choice([None, rng.randrange(nodes)]),
    )


def _skew(rng: random.Random) -> float:
    """Small beside hosting.live_for, as minutes are beside its half hour."""
    return rng.uniform(-3.0, 3.0)
