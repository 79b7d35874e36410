"""Batches: offered until they are answered, billed once, paid once, in whatever order the news comes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from decentraspace.ledger import allocations
from decentraspace.ledger.merkle import Tree
from decentraspace.ledger.rollup import address
from decentraspace.ledger.settlement import LATER, Batch
from tests.ledger.world import GIB, OPERATOR, World, owner_of, site_of

ANN, BOB = owner_of(1), owner_of(2)
HERS, HIS = site_of(1), site_of(2)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    made = World(tmp_path)
    monkeypatch.setattr(time, "time", lambda: float(made.now.wall))
    made.allocations = [  # type: ignore[attr-defined]
        made.vault.allocate(ANN, 4_000_000),
        made.vault.allocate(BOB, 4_000_000),
    ]
    made.follow()
    made.use(HERS, ANN, size=GIB)
    made.use(HIS, BOB, size=2 * GIB)
    made.hour()
    yield made
    made.sound()
    made.ledger.close()


def offered(world: World) -> Batch:
    batch = world.ledger.next_batch(world.now.wall)
    assert batch is not None
    return batch


def books(world: World, owner: bytes, allocation: str) -> tuple[int, int, int]:
    """(owed, billed, paid)."""
    return (
        world.balance(f"owner:{address(owner)}"),
        world.balance(f"receivable:{allocation}"),
        world.balance(f"settled:{allocation}"),
    )


def first(world: World) -> str:
    return str(world.allocations[0])  # type: ignore[attr-defined]


def test_a_batch_has_the_root_of_its_charges(world: World) -> None:
    batch = offered(world)
    assert batch.root == Tree([charge.leaf for charge in batch.charges]).root
    assert {c.owner: c.cumulative for c in batch.charges} == {ANN: 1_000_000, BOB: 2_000_000}
    assert [c.offer()["id"] for c in batch.charges] == [0, 0]


def test_the_same_is_offered_until_it_is_answered(world: World) -> None:
    batch = offered(world)
    world.use(HERS, ANN, size=GIB)
    world.hour()
    world.reopen()
    again = offered(world)
    assert (again.root, again.charges) == (batch.root, batch.charges)
    assert books(world, ANN, first(world)) == (2_000_000, 0, 0)
    world.ledger.answered(batch.root, world.answers(batch, "pending"), world.now.wall)
    assert books(world, ANN, first(world)) == (1_000_000, 1_000_000, 0)
    world.reopen()
    assert offered(world).root == batch.root
    transaction = world.vault.settle(batch)
    world.ledger.answered(batch.root, world.answers(batch, "final", transaction), world.now.wall)
    assert books(world, ANN, first(world)) == (1_000_000, 0, 1_000_000)
    follow_up = offered(world)
    assert {c.owner: (c.previous, c.cumulative) for c in follow_up.charges} == {ANN: (1_000_000, 2_000_000)}
    world.follow()
    assert books(world, ANN, first(world)) == (1_000_000, 0, 1_000_000)


@pytest.mark.parametrize("answer_first", [True, False])
def test_events_and_answers_come_in_any_order(world: World, answer_first: bool) -> None:
    batch = offered(world)
    transaction = world.vault.settle(batch)
    answers = world.answers(batch, "final", transaction)
    if answer_first:
        world.ledger.answered(batch.root, answers, world.now.wall)
        world.follow()
    else:
        world.follow()
        world.ledger.answered(batch.root, answers, world.now.wall)
    assert books(world, ANN, first(world)) == (0, 0, 1_000_000)
    assert world.ledger.next_batch(world.now.wall) is None
    [line] = world.ledger.statements(ANN)
    assert (line["status"], line["transaction"], line["credits"]) == ("final", transaction, 1_000_000)


def test_later_leaves_no_trace_and_is_asked_again_later(world: World) -> None:
    batch = offered(world)
    world.ledger.answered(batch.root, world.answers(batch, "later"), world.now.wall)
    assert world.ledger.next_batch(world.now.wall) is None
    assert world.ledger.statements(ANN) == []
    again = world.ledger.next_batch(world.now.wall + LATER)
    assert again is not None
    assert again.root == batch.root


def test_what_was_refused_is_owed_again(world: World) -> None:
    batch = offered(world)
    world.ledger.answered(batch.root, world.answers(batch, "pending"), world.now.wall)
    refused = world.answers(batch, "refused", "0x01")
    world.ledger.answered(batch.root, refused, world.now.wall)
    world.ledger.answered(batch.root, refused, world.now.wall)
    assert books(world, ANN, first(world)) == (1_000_000, 0, 0)
    assert world.ledger.next_batch(world.now.wall) is None
    again = world.ledger.next_batch(world.now.wall + 3600)
    assert again is not None
    assert again.root == batch.root
    world.ledger.answered(again.root, world.answers(again, "pending"), world.now.wall)
    assert books(world, ANN, first(world)) == (0, 1_000_000, 0)


def test_one_bad_charge_does_not_hold_up_the_others(world: World) -> None:
    world.vault.grants[first(world)]["cap"] = 5  # as if it had been taken elsewhere
    batch = offered(world)
    world.ledger.answered(batch.root, world.answers(batch, "pending"), world.now.wall)
    world.vault.settle(batch)
    world.follow()
    assert books(world, ANN, first(world)) == (1_000_000, 0, 0)
    assert books(world, BOB, world.allocations[1]) == (0, 0, 2_000_000)  # type: ignore[attr-defined]
    assert world.ledger.statements(ANN)[0]["status"] == "refused"
    assert world.ledger.statements(ANN)[0]["detail"] == "over the cap"


def test_one_total_has_one_usage_root(world: World) -> None:
    """An operator that signed two for one total would contradict itself."""
    batch = offered(world)
    roots = {(c.allocation, c.cumulative): c.usage_root for c in batch.charges}
    world.ledger.answered(batch.root, world.answers(batch, "refused"), world.now.wall)
    world.use(HERS, ANN, size=1)  # worth less than a credit
    world.use(HIS, BOB, size=GIB)
    world.hour()
    again = world.ledger.next_batch(world.now.wall + 3600)
    assert again is not None
    assert again.root != batch.root
    for charge in again.charges:
        known = roots.get((charge.allocation, charge.cumulative))
        assert known in (None, charge.usage_root)
    assert any((c.allocation, c.cumulative) in roots for c in again.charges)


def test_what_an_ended_allocation_owed_is_lost(world: World) -> None:
    batch = offered(world)
    world.ledger.answered(batch.root, world.answers(batch, "pending"), world.now.wall)
    world.use(HERS, ANN, size=GIB)
    world.hour()
    world.vault.release(first(world))
    world.follow()
    assert books(world, ANN, first(world)) == (0, 0, 0)
    assert world.balance(f"lost:{first(world)}") == 2_000_000
    assert not world.ledger.can(ANN, "names", credits=1).ok


def test_books_that_were_restored_know_what_they_do_not_know(world: World) -> None:
    """The chain has paid more than these books have charged: what comes is charged on top of that."""
    world.vault.emit(
        "settled",
        owner=address(ANN),
        operator=OPERATOR,
        allocation=first(world),
        credits=1_500_000,
        cumulative=1_500_000,
    )
    world.vault.paid[first(world)] = 1_500_000
    world.follow()
    assert world.balance(f"unexplained:{first(world)}") == -500_000
    assert books(world, ANN, first(world)) == (0, 0, 1_500_000)
    world.use(HERS, ANN, size=GIB)
    world.hour()
    batch = offered(world)
    charge = next(c for c in batch.charges if c.owner == ANN)
    assert charge.cumulative == 2_500_000
    world.vault.settle(batch)
    world.follow()
    assert books(world, ANN, first(world)) == (0, 0, 2_500_000)


def test_nothing_is_settled_before_it_is_due(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path, settle_least=5_000_000, settle_every=86400)
    monkeypatch.setattr(time, "time", lambda: float(world.now.wall))
    world.vault.allocate(ANN, 40_000_000, days=30)
    world.follow()
    world.use(HERS, ANN, size=GIB)
    world.hour()
    assert world.ledger.next_batch(world.now.wall) is None
    assert world.ledger.next_batch(world.now.wall + 86400) is not None  # old enough
    world.ledger.close()


def test_a_stream_that_comes_near_the_rest_of_the_cap_has_charges_settled_at_once(tmp_path: Path) -> None:
    """However slow settling is otherwise: anybody may settle a stream, and then the cap has nothing left for them."""
    world = World(tmp_path, settle_least=10**9, settle_every=30 * 86400)
    day = 86400
    # 10 a second: in ten days 8,640,000 of the cap of 10,000,000.
    world.vault.allocate(ANN, 10_000_000, rate=10, days=300)
    world.follow()
    world.use(HERS, ANN, size=2 * GIB)
    world.hour()
    assert world.ledger.next_batch(world.now.wall) is None
    asked = None
    for _ in range(12):
        world.tick(day)
        if (asked := world.ledger.next_batch(world.now.wall)) is not None:
            break
    assert asked is not None
    paid = world.balance(f"owner:{address(ANN)}")
    assert asked.charges[0].cumulative == paid == 2_000_000
    # It still fits beside what the stream can come to in the next day.
    granted = allocations.by_id(world.ledger._db, asked.charges[0].allocation)
    assert granted is not None
    assert granted.charged + granted.streamed(world.now.wall + day) <= granted.cap
    world.ledger.close()


def test_what_is_due_is_offered_at_once_when_asked_to(tmp_path: Path) -> None:
    world = World(tmp_path, settle_least=10**9)
    world.vault.allocate(ANN, 4_000_000)
    world.follow()
    world.use(HERS, ANN, size=GIB)
    world.tick()
    assert world.ledger.next_batch(world.now.wall, hurry=True) is None  # the hour is not over
    assert world.ledger.close_open_hour(world.now.wall) == 1
    world.use(HERS, ANN, size=GIB)
    assert world.ledger.close_open_hour(world.now.wall) == 0  # once in an hour
    assert world.ledger.next_batch(world.now.wall) is None
    batch = world.ledger.next_batch(world.now.wall, hurry=True)
    assert batch is not None
    assert [charge.cumulative for charge in batch.charges] == [1_000_000]
    world.vault.settle(batch)
    world.ledger.answered(batch.root, world.answers(batch, "pending"), world.now.wall)
    world.follow()
    world.hour()
    world.hour()
    again = world.ledger.next_batch(world.now.wall, hurry=True)
    assert again is not None
    assert [charge.cumulative for charge in again.charges] == [2_000_000]
    world.sound()
    world.ledger.close()
