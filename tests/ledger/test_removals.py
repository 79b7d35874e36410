"""Data that nobody pays for goes after the grace period, with warnings before, and not for a wrong clock."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from decentraspace.ledger.meters import Held
from decentraspace.ledger.removals import Removals
from tests.ledger.world import CHAIN, GIB, START, World, owner_of, site_of

ANN, HERS = owner_of(1), site_of(1)
DAY = 86400


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    made = World(tmp_path, grace=10 * DAY)
    monkeypatch.setattr(time, "time", lambda: float(made.now.wall))
    made.tick(10, {HERS: Held(ANN, GIB)})  # nothing is free here, and nobody has granted anything
    made.tick(10)
    yield made
    made.sound()
    made.ledger.close()


def look(world: World) -> Removals:
    return world.ledger.look_at_removals(world.now.wall)


def pass_days(world: World, days: int, *, heard: bool = True) -> list[Removals]:
    """An hour at a time, as more does not count at once; what was news. `heard`: of the chain, too."""
    found = []
    for _ in range(days * 24):
        world.tick(3600)
        if heard:
            world.follow()
        if (one := look(world)) != Removals():
            found.append(one)
    return found


def test_owners_are_warned_and_then_it_goes_once(world: World) -> None:
    state = world.ledger.site_state(HERS, ANN)
    assert state.state == "ending"
    assert [(owner, site) for owner, site, _ in look(world).soon] == [(ANN, HERS)]
    assert look(world) == Removals()
    news = pass_days(world, 11)
    assert [round(left / DAY) for one in news for _, _, left in one.soon] == [7, 1]
    assert [one.gone for one in news if one.gone] == [[(ANN, HERS)]]
    assert world.ledger.is_removed(HERS)
    # It is not held any more, and stays so: days later, and after a restart.
    world.tick(10, {})
    assert pass_days(world, 11) == []
    world.reopen()
    world.tick(10)
    assert look(world) == Removals()
    assert world.ledger.is_removed(HERS)
    assert world.ledger.site_state(HERS, ANN).state == "removed"


def test_it_is_taken_up_again_when_somebody_pays(world: World) -> None:
    look(world)
    pass_days(world, 11)
    world.tick(10, {})
    world.vault.allocate(ANN, 10_000_000, days=100)
    world.follow()
    assert look(world) == Removals(back=[HERS])
    assert not world.ledger.is_removed(HERS)
    assert look(world) == Removals()


def test_paying_in_time_ends_it_and_it_begins_anew(world: World) -> None:
    look(world)
    pass_days(world, 9)
    world.vault.allocate(ANN, 30 * 730_000 // 730, days=36)  # for a day or so
    world.follow()
    assert look(world) == Removals()
    assert world.ledger.site_state(HERS, ANN).removable is None
    news = pass_days(world, 8)
    assert not any(one.gone for one in news)
    assert not world.ledger.is_removed(HERS)


def test_a_clock_of_another_year_removes_nothing(world: World) -> None:
    look(world)
    world.now = replace(world.now, wall=world.now.wall + 3650 * DAY, boot="another")
    world.tick(10)
    found = look(world)
    assert found.gone == []
    assert not world.ledger.is_removed(HERS)


def test_what_the_chain_may_have_been_paid_meanwhile_stays(world: World) -> None:
    world.follow()
    look(world)
    world.vault.allocate(ANN, 10_000_000, days=100)  # and nobody hears of it
    news = pass_days(world, 12, heard=False)
    assert [one for one in news if one.gone] == []
    # A node that has only heard of what was before the end does not know either.
    behind = {"chain": CHAIN, "next_block": 0, "events": [], "final_block": 1, "final_time": START}
    world.ledger.take_events(behind)
    assert look(world).gone == []
    world.follow()
    assert world.ledger.site_state(HERS, ANN).state == "active"
    assert pass_days(world, 2) == []


def granted(world: World) -> None:
    world.vault.allocate(ANN, 500_000_000, days=400)
    world.follow()
    assert look(world) == Removals()


def test_visitors_who_use_up_the_cap_of_a_month_do_not_have_the_data_removed(world: World) -> None:
    granted(world)
    first = int(datetime(2027, 3, 1, 0, 10, tzinfo=UTC).timestamp())
    world.now = replace(world.now, wall=first)
    world.tick(0)
    world.ledger.set_cap(ANN, HERS, 2_000_000)
    world.use(HERS, ANN, size=6 * GIB)
    world.tick()
    assert {p.reason for p in world.ledger.site_state(HERS, ANN).pauses} == {"cap"}
    assert [one for one in pass_days(world, 31) if one.gone] == []
    assert world.ledger.site_state(HERS, ANN).state == "active"
    # Whoever wants to pay nothing has it kept no longer for that.
    world.ledger.set_cap(ANN, HERS, 0)
    assert [one.gone for one in pass_days(world, 33) if one.gone] == [[(ANN, HERS)]]


def test_an_operator_that_does_not_settle_removes_nothing_for_it(tmp_path: Path) -> None:
    world = World(tmp_path, grace=10 * DAY, exposure=1_000_000)
    world.tick(10, {HERS: Held(ANN, GIB)})
    granted(world)
    world.use(HERS, ANN, size=3 * GIB)
    world.hour()
    assert {p.reason for p in world.ledger.site_state(HERS, ANN).pauses} == {"exposure"}
    assert pass_days(world, 12) == []
    assert world.ledger.site_state(HERS, ANN).state == "paused"
    world.ledger.close()


def test_a_free_site_that_ended_goes_too_and_lives_on_when_renewed(tmp_path: Path) -> None:
    world = World(tmp_path, grace=2 * DAY, free_lifetime=2 * DAY, storage_price=0)
    made = {HERS: (ANN, START)}
    for _ in range(3 * 24):
        world.tick(3600)
    world.ledger.look_at_terms(made, world.now.wall)
    assert look(world).soon
    assert [one.gone for one in pass_days(world, 3) if one.gone] == [[(ANN, HERS)]]
    # It is held no more, so that it is not among the sites of the node.
    world.ledger.look_at_terms({}, world.now.wall)
    assert world.ledger.is_removed(HERS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "time", lambda: float(world.now.wall))
        world.ledger.renew(ANN, HERS)
    world.ledger.look_at_terms({}, world.now.wall)
    assert look(world) == Removals(back=[HERS])
    assert not world.ledger.is_removed(HERS)
    world.ledger.close()


def test_nothing_goes_where_nothing_is_charged(world: World) -> None:
    look(world)
    world.ledger._operator = None
    assert pass_days(world, 11) == []
    assert not world.ledger.is_removed(HERS)
    world.ledger.bind(31337, "0x" + "fa" * 20, "0x" + "0b" * 20)
