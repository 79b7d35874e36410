"""Which root is announced when: on disk, in turn, again after a day, and later where it fails."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from decentraspace.content import cid as cids
from decentraspace.network.dht.announcing import Announcing
from decentraspace.network.dht.schedule import AGAIN, Schedule
from tests.network.exchanging import Node, node
from tests.network.peers import Factory, until

ROOTS = [cids.make(cids.RAW, bytes([n])) for n in range(10)]
NOW = 1_800_000_000.0


@pytest.fixture
def factory(tmp_path: Path) -> Any:
    made = Factory(tmp_path)
    yield made
    made.close()


@pytest.fixture
def schedule(tmp_path: Path) -> Any:
    made = Schedule(tmp_path / "dht.sqlite")
    yield made
    made.close()


def drain(schedule: Schedule, now: float) -> list[bytes]:
    done = []
    while (root := schedule.next(now)) is not None:
        schedule.told(root, now)
        done.append(root)
    return done


def test_each_is_announced_at_once_and_again_before_it_is_forgotten(schedule: Schedule) -> None:
    schedule.follow(set(ROOTS), NOW)
    assert schedule.waiting(NOW + 5) == (10, 10, 5.0)
    assert sorted(drain(schedule, NOW)) == sorted(ROOTS)
    assert schedule.waiting(NOW) == (10, 0, 0.0)
    assert drain(schedule, NOW + AGAIN - 3601) == []
    assert sorted(drain(schedule, NOW + AGAIN)) == sorted(ROOTS)
    assert drain(schedule, NOW + 2 * AGAIN - 3601) == []


def test_what_was_announced_is_known_after_a_restart(tmp_path: Path) -> None:
    first = Schedule(tmp_path / "dht.sqlite")
    first.follow(set(ROOTS), NOW)
    for root in ROOTS[:4]:
        first.told(root, NOW)
    first.close()
    again = Schedule(tmp_path / "dht.sqlite")
    again.follow(set(ROOTS), NOW + 60)
    assert again.waiting(NOW + 60) == (10, 6, 60.0)
    assert sorted(drain(again, NOW + 60)) == sorted(ROOTS[4:])
    again.close()


def test_what_is_no_longer_held_is_forgotten_and_what_is_new_is_due(schedule: Schedule) -> None:
    schedule.follow(set(ROOTS[:5]), NOW)
    drain(schedule, NOW)
    schedule.follow(set(ROOTS[3:7]), NOW + 1)
    assert schedule.waiting(NOW + 1) == (4, 2, 0.0)
    assert sorted(drain(schedule, NOW + 1)) == sorted(ROOTS[5:7])


def test_what_fails_waits_ever_longer_and_holds_no_other_up(schedule: Schedule) -> None:
    schedule.follow(set(ROOTS[:2]), NOW)
    first = schedule.next(NOW)
    assert first is not None
    schedule.failed(first, NOW)
    assert schedule.next(NOW) not in (None, first)
    drain(schedule, NOW)
    assert schedule.waiting(NOW) == (2, 1, 0.0)  # not announced, though not due this very second
    waits = []
    now = NOW
    for _ in range(10):
        wait = next(s for s in range(0, 4000, 10) if schedule.next(now + s) == first)
        waits.append(wait)
        now += wait
        schedule.failed(first, now)
    assert waits[:3] == [60, 120, 240]
    assert waits[-1] == 3600
    schedule.told(first, now)
    assert schedule.waiting(now).backlog == 0


def test_a_clock_that_was_ahead_keeps_nothing_back(schedule: Schedule) -> None:
    schedule.follow({ROOTS[0]}, NOW + 10 * AGAIN)
    schedule.told(ROOTS[0], NOW + 10 * AGAIN)
    assert schedule.next(NOW) is None
    schedule.follow({ROOTS[0]}, NOW)
    assert schedule.next(NOW) == ROOTS[0]


def announcing(ours: Node, schedule: Schedule, roots: set[bytes]) -> Announcing:
    dht = ours.peer.network.dht
    assert dht is not None
    return Announcing(dht, schedule, lambda: list(roots), lambda: set(roots), lambda root: True)


async def test_nothing_counts_as_failed_while_nobody_is_there_to_be_told(
    factory: Factory, tmp_path: Path, schedule: Schedule, nursery: Any
) -> None:
    async with node(factory, tmp_path / "blocks", dht="lan") as ours:
        made = announcing(ours, schedule, set(ROOTS))
        nursery.start_soon(made.run)
        await until(lambda: made.waiting().roots == 10)
        assert "no server of the DHT is known" in made.trouble()
        assert made.totals.failed == 0
        assert schedule.next(time.time()) is not None
        nursery.cancel_scope.cancel()


async def test_a_node_without_an_address_says_so(
    factory: Factory, tmp_path: Path, schedule: Schedule
) -> None:
    async with node(factory, tmp_path / "blocks", dht="wan") as ours:
        assert "no address" in announcing(ours, schedule, set(ROOTS)).trouble()
