"""Card payments: whatever a plugin reports, in whatever order and however often, one deposit and sound books."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from decentraspace.errors import Conflict
from decentraspace.ledger.rollup import address
from tests.ledger.world import World, owner_of

ANN = owner_of(1)
NAME = "cards/r1"
LATER = int(time.time()) + 10**8


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.sound()
    made.ledger.close()


def event(status: str, **fields: Any) -> dict[str, Any]:
    paid = {"owner": address(ANN), "credits": 5_000_000, "held_until": LATER, "reversed": 0}
    return {
        "status": status,
        "reference": "r1",
        "number": 1,
        **(paid if status != "pending" else {}),
        **fields,
    }


def report(world: World, status: str, **fields: Any) -> list[str]:
    return [told.what for told in world.ledger.take_payment("cards", event(status, **fields))]


def stands(world: World) -> tuple[str, int, str]:
    [(card, deposit)] = world.ledger.card_payments(ANN)
    assert deposit is not None
    return card.state, card.reversed, deposit.status


def test_a_payment_is_deposited_once_with_the_amount_it_was_first_asked_for_with(world: World) -> None:
    assert report(world, "pending") == []
    assert report(world, "done") == ["received"]
    assert report(world, "done") == []
    [due] = world.ledger.deposits_due()
    assert (due.reference, due.owner, due.credits, due.status) == (NAME, ANN, 5_000_000, "pending")
    assert report(world, "reversed", reversed=1_000_000) == ["reversed"]
    world.reopen()  # killed before anybody heard of it
    assert world.ledger.deposits_due() == [due]
    world.ledger.deposit_answered(NAME, {"status": "final", "reference": "0xab"})
    assert world.ledger.deposits_due() == []
    assert stands(world) == ("held", 1_000_000, "final")
    assert world.balance(f"chargeback:{address(ANN)}") == 1_000_000
    assert world.ledger.account(ANN).held == 4_000_000


def test_what_is_called_back_before_costs_nobody_anything(world: World) -> None:
    report(world, "done")
    assert report(world, "disputed") == ["disputed"]
    assert world.ledger.deposits_due() == []
    assert report(world, "reversed", reversed=2_000_000) == ["reversed", "kept"]
    [due] = world.ledger.deposits_due()
    assert due.credits == 3_000_000
    assert world.balance("float") == -3_000_000
    assert world.balance(f"chargeback:{address(ANN)}") == 0


def test_nothing_is_deposited_for_what_is_gone(world: World) -> None:
    report(world, "done")
    report(world, "reversed", reversed=5_000_000)
    assert world.ledger.deposits_due() == []
    assert stands(world) == ("reversed", 5_000_000, "void")
    assert world.balance("float") == 0


def test_a_dispute_holds_what_was_cleared_and_its_end_lets_go(world: World) -> None:
    past = world.now.wall
    report(world, "done", held_until=past)
    world.ledger.deposits_due()
    world.tick()
    assert stands(world)[0] == "cleared"
    for _ in range(2):
        assert report(world, "disputed", held_until=past) == ["disputed"]
        world.tick()
        assert (stands(world)[0], world.balance("bank")) == ("disputed", 0)
        assert report(world, "done", held_until=past) == ["kept"]
        world.tick()
        assert (stands(world)[0], world.balance("bank")) == ("cleared", 5_000_000)


def test_an_event_that_makes_no_sense_changes_nothing_and_keeps_none_waiting(world: World) -> None:
    with pytest.raises(Conflict):
        report(world, "done"), report(world, "done", credits=6_000_000)
    answer = {"next": 7, "events": [event("done", credits=1), event("done", reference="r2")]}
    assert [told.card.reference for told in world.ledger.take_payments("cards", answer)] == ["cards/r2"]
    assert world.ledger.payments_cursor("cards") == 7
    assert world.ledger.payments_cursor("others") == 0


def test_references_are_each_plugins_own(world: World) -> None:
    report(world, "done")
    world.ledger.take_payment("others", event("done", credits=3))
    assert sorted(one.credits for one in world.ledger.deposits_due()) == [3, 5_000_000]


@pytest.mark.parametrize("seed", range(10))
def test_whatever_comes_the_books_say_what_happened(world: World, seed: int) -> None:
    chance, back, deposited = random.Random(seed), 0, 0
    report(world, "done", held_until=world.now.wall + 100)
    for _ in range(60):
        turn = chance.randrange(6)
        if turn < 3:
            back = min(5_000_000, back + chance.choice([0, 0, 300_000]))
            status = chance.choice(["done", "disputed", "reversed"])
            report(world, status, reversed=back, held_until=world.now.wall + chance.randrange(50))
        elif turn == 3:
            for due in world.ledger.deposits_due():
                deposited = deposited or due.credits
                assert due.credits == deposited
        elif turn == 4:
            world.tick(chance.randrange(60))
        else:
            world.reopen()
        world.sound()
    report(world, "reversed", reversed=back, held_until=0)
    world.tick()
    [(card, _)] = world.ledger.card_payments(ANN)
    kept = world.balance("bank") + world.balance(f"card:{address(ANN)}")
    assert card.reversed == back
    assert kept == 5_000_000 - back
