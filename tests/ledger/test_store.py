"""The ledger as its owners see it: counted once, charged within what was granted, paused and resumed."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from decentraspace.cli.doctor import examine
from decentraspace.errors import BadInput, Conflict, PaymentRequired
from decentraspace.ledger.clock import HOUR
from decentraspace.ledger.meters import Held
from decentraspace.ledger.prices import EGRESS, REQUESTS, STORAGE
from decentraspace.ledger.rollup import address
from decentraspace.ledger.store import Ledger
from tests.ledger.world import CHAIN, GIB, OPERATOR, START, VAULT, World, owner_of, site_of

ANN, BOB = owner_of(1), owner_of(2)
HERS, HIS = site_of(1), site_of(2)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    made = World(tmp_path)
    monkeypatch.setattr(time, "time", lambda: float(made.now.wall))
    yield made
    made.ledger.close()


def income(world: World, service: str) -> int:
    return -world.balance(f"income:{service}")


def test_use_is_charged_to_the_allocation(world: World) -> None:
    world.vault.allocate(ANN, 10_000_000)
    world.follow()
    world.use(HERS, ANN, requests=500, size=3 * GIB)
    world.hour()
    rows = {row.service: row for row in world.ledger.history(ANN)}
    assert rows[EGRESS].credits == 3_000_000
    assert rows[REQUESTS].credits == 500
    assert world.balance(f"owner:{address(ANN)}") == 3_000_500 == income(world, EGRESS) + 500
    world.sound()


def test_counts_that_come_again_count_once(world: World) -> None:
    world.vault.allocate(ANN, 10_000_000)
    world.follow()
    world.use(HERS, ANN, size=GIB)
    world.send()
    world.reopen()
    world.send()
    world.hour()
    world.send()
    world.use(HERS, ANN, size=GIB)
    world.hour()
    assert [row.quantity for row in world.ledger.history(ANN)] == [GIB, GIB]


def test_what_comes_late_is_counted_in_an_hour_that_is_open(world: World) -> None:
    world.vault.allocate(ANN, 10_000_000)
    world.follow()
    world.use(HERS, ANN, size=GIB)
    first = world.now.wall // HOUR
    world.hour()
    world.totals[HERS, first][1] += GIB
    world.send()
    world.hour()
    assert [(row.hour, row.quantity) for row in world.ledger.history(ANN)] == [(first, GIB), (first + 1, GIB)]


def test_the_allowance_comes_first_and_then_the_site_pauses(world: World) -> None:
    world.use(HERS, ANN, size=GIB - 1)
    world.tick()
    assert not world.ledger.is_unserved(HERS)
    world.use(HERS, ANN, size=1)
    world.tick()
    assert world.ledger.is_unserved(HERS)
    news = world.ledger.news()
    assert [(c.service, c.reason) for c in news.changes] == [(EGRESS, "credit")]
    assert [owner for owner, _ in news.depleted] == [ANN]
    world.hour()
    assert world.ledger.is_unserved(HERS)
    [row] = world.ledger.history(ANN)
    assert (row.free, row.credits, row.waived) == (GIB, 0, 0)
    assert world.balance(f"free:{address(ANN)}") == 1_000_000
    world.sound()


def test_it_resumes_after_a_recharge_at_once(world: World) -> None:
    world.use(HERS, ANN, size=2 * GIB)
    world.tick()
    assert world.ledger.is_unserved(HERS)
    world.reopen()
    assert world.ledger.is_unserved(HERS)
    world.vault.allocate(ANN, 5_000_000)
    world.follow()
    assert not world.ledger.is_unserved(HERS)
    assert [c.reason for c in world.ledger.news().changes] == [""]
    # What was used before there was an allocation is charged to it only as far as the hour is open.
    world.hour()
    world.sound()


def test_owners_that_could_not_be_looked_at_are_looked_at_again(world: World) -> None:
    """The disk takes nothing for a while, just when sites are to be paused."""
    with closing(sqlite3.connect(world.folder / "ledger.sqlite")) as other:
        other.execute("CREATE TRIGGER full BEFORE INSERT ON pauses BEGIN SELECT RAISE(FAIL, 'full'); END")
    world.tick()
    for site, owner in ((HERS, ANN), (HIS, BOB)):
        world.use(site, owner, requests=2000)
    with pytest.raises(sqlite3.Error, match="full"):
        world.tick()
    with closing(sqlite3.connect(world.folder / "ledger.sqlite")) as other:
        other.execute("DROP TRIGGER full")
    world.tick()
    assert world.ledger.is_unserved(HERS)
    assert world.ledger.is_unserved(HIS)
    assert {change.site for change in world.ledger.news().changes} == {HERS, HIS}


def test_a_new_month_has_its_own_allowance(world: World) -> None:
    world.use(HERS, ANN, size=GIB)
    world.tick()
    assert world.ledger.is_unserved(HERS)
    world.hour()
    for _ in range(40):
        world.tick(86400)
        world.tick(60)
    assert not world.ledger.is_unserved(HERS)


def test_a_cap_stops_a_site_and_no_other(world: World) -> None:
    world.vault.allocate(ANN, 100_000_000)
    world.follow()
    world.ledger.set_cap(ANN, HERS, 2_000_000)
    world.use(HERS, ANN, size=3 * GIB)
    world.use(HIS, ANN, size=GIB)
    world.tick()
    assert world.ledger.is_unserved(HERS)
    assert not world.ledger.is_unserved(HIS)
    assert world.ledger.news().depleted == []
    world.hour()
    assert world.ledger.cap(HERS) == (2_000_000, 2_000_000)
    by_site = {row.site: row for row in world.ledger.history(ANN)}
    assert (by_site[HERS].credits, by_site[HERS].waived) == (2_000_000, 1_000_000)
    assert by_site[HIS].credits == 1_000_000
    world.ledger.set_cap(ANN, HERS, 4_000_000)
    world.tick()
    assert not world.ledger.is_unserved(HERS)
    with pytest.raises(BadInput):
        world.ledger.set_cap(ANN, HERS, 10**18)


def test_exposure_bounds_what_is_owed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path, exposure=1_500_000, site_monthly_cap=10**9)
    monkeypatch.setattr(time, "time", lambda: float(world.now.wall))
    world.vault.allocate(ANN, 100_000_000)
    world.follow()
    world.use(HERS, ANN, size=GIB)
    world.hour()
    world.use(HERS, ANN, size=GIB)
    world.tick()
    assert world.ledger.is_unserved(HERS)
    assert world.ledger.site_state(HERS, ANN).pauses[0].reason == "exposure"
    world.hour()
    batch = world.ledger.next_batch(world.now.wall)
    assert batch is not None
    assert batch.charges[0].cumulative == 1_500_000
    world.vault.settle(batch)
    world.follow()
    assert not world.ledger.is_unserved(HERS)
    world.sound()
    world.ledger.close()


def test_storage_is_counted_through_restarts(world: World) -> None:
    world.vault.allocate(ANN, 10_000_000, days=3)
    world.follow()
    world.tick(0, {HERS: Held(ANN, 10 * GIB)})
    world.tick(600)
    world.reopen()
    world.tick(600)
    world.tick(600, {HERS: Held(ANN, 20 * GIB)})
    world.tick(600, {})
    world.hour()
    world.hour()
    rows = [row for row in world.ledger.history(ANN) if row.service == STORAGE]
    assert [row.quantity for row in rows] == [(10 * GIB * 1800 + 20 * GIB * 600) // 3600]
    assert rows[0].credits == 10 * 1000 * 1800 // 3600 + 20 * 1000 * 600 // 3600


def test_a_stream_pays_for_storage_and_for_nothing_else(world: World) -> None:
    allocation = world.vault.allocate(ANN, 10_000_000, rate=1)
    world.follow()
    world.tick(0, {HERS: Held(ANN, 10 * GIB)})
    world.use(HERS, ANN, size=GIB)
    world.hour()
    rows = {row.service: row for row in world.ledger.history(ANN)}
    # The stream had run since the start until the hour was closed.
    assert (rows[STORAGE].credits, rows[STORAGE].streamed) == (
        rows[STORAGE].quantity * 1000 // GIB - 3631,
        3631,
    )
    assert rows[EGRESS].streamed == 0
    assert world.balance(f"stream:{allocation}") == 3631
    world.vault.emit(
        "stream_settled",
        owner=address(ANN),
        operator=OPERATOR,
        allocation=allocation,
        credits=5000,
        cumulative=5000,
    )
    world.follow()
    assert world.balance(f"stream:{allocation}") == 3631 - 5000
    assert world.balance(f"settled:{allocation}") == 5000
    world.sound()


def test_unpaid_storage_has_a_grace_period(world: World) -> None:
    world.tick(0, {HERS: Held(ANN, 10 * GIB)})
    since = world.now.wall
    world.hour()
    state = world.ledger.site_state(HERS, ANN)
    assert state.state == "ending"
    assert state.removable == since + world.config.billing.grace
    assert not world.ledger.is_unserved(HERS)
    world.vault.allocate(ANN, 10_000_000)
    world.follow()
    assert world.ledger.site_state(HERS, ANN).removable is None


def test_402_says_what_is_missing(world: World) -> None:
    with pytest.raises(PaymentRequired) as caught:
        world.ledger.deduct("buy:1", ANN, "names", 1, credits=5_000_000)
    assert (
        caught.value.members.items() >= {"missing": 5_000_000, "reason": "credit", "service": "names"}.items()
    )
    world.vault.allocate(ANN, 6_000_000)
    world.follow()
    assert world.ledger.can(ANN, "names", 1, credits=5_000_000).ok
    first = world.ledger.deduct("buy:1", ANN, "names", 1, credits=5_000_000)
    assert world.ledger.deduct("buy:1", ANN, "names", 1, credits=5_000_000) == first
    with pytest.raises(Conflict):
        world.ledger.deduct("buy:1", ANN, "names", 1, credits=4_000_000)
    # The first has taken its part, though its hour is not over.
    assert world.ledger.can(ANN, "names", 1, credits=5_000_000).missing == 4_000_000
    world.hour()
    [row] = world.ledger.history(ANN)
    assert (row.service, row.quantity, row.credits) == ("names", 1, 5_000_000)
    world.sound()


def test_builds_are_priced_by_the_list(world: World) -> None:
    world.vault.allocate(ANN, 6_000_000)
    world.follow()
    assert world.ledger.deduct("build:1", ANN, "builds", 90, site=HERS).credits == 7500
    assert world.ledger.deduct("build:2", ANN, "builds", 29, site=HERS).credits == 2416
    assert world.ledger.deduct("build:3", ANN, "builds", 1, site=HERS).credits == 84
    world.hour()
    assert [row.credits for row in world.ledger.history(ANN)] == [10_000]
    for wrong in (EGRESS, STORAGE):
        with pytest.raises(BadInput):
            world.ledger.deduct("x", ANN, wrong, 1)


def test_an_account_adds_up(world: World) -> None:
    world.vault.emit("recharged", owner=address(ANN), credits=9_000_000)
    world.vault.allocate(ANN, 6_000_000)
    world.follow()
    world.use(HERS, ANN, size=GIB)
    account = world.ledger.account(ANN)
    assert (account.tier, account.balance, account.accrued) == ("paid", 9_000_000, 1_000_000)
    assert (account.unsettled, account.room) == (0, 5_000_000)
    world.hour()
    account = world.ledger.account(ANN)
    assert (account.accrued, account.unsettled, account.room) == (0, 1_000_000, 5_000_000)
    assert world.ledger.account(BOB).tier == "free"
    assert world.ledger.account(BOB).allowance[EGRESS] == GIB


def test_free_sites_end_after_warnings_and_live_on_when_renewed(world: World) -> None:
    lifetime, day = world.config.billing.free_lifetime, 86400
    taken = {HERS: (ANN, START)}

    def at(seconds: int) -> list[int]:
        world.now = type(world.now)(START + seconds, seconds, "boot")
        world.ledger.look_at_terms(taken, START + seconds)
        return [seconds for _, _, seconds in world.ledger.news().warnings]

    assert at(day) == []
    assert at(lifetime - 29 * day) == [30 * day]
    assert at(lifetime - 28 * day) == []
    assert at(lifetime - 6 * day) == [7 * day]
    assert at(lifetime - day // 2) == [day]
    assert world.ledger.site_state(HERS, ANN).state == "warned"
    assert at(lifetime) == []
    state = world.ledger.site_state(HERS, ANN)
    assert (state.state, state.removable) == ("ending", START + lifetime + world.config.billing.grace)
    assert world.ledger.is_unserved(HERS)
    world.ledger.renew(ANN, HERS)
    assert at(lifetime + day) == []
    assert world.ledger.site_state(HERS, ANN).state == "active"
    assert not world.ledger.is_unserved(HERS)
    world.ledger.set_expiry(ANN, HERS, START + day)
    at(lifetime + 2 * day)
    assert world.ledger.is_unserved(HERS)
    world.ledger.set_expiry(ANN, HERS, 0)
    at(lifetime + 3 * day)
    assert not world.ledger.is_unserved(HERS)


def test_an_owner_may_pause_a_site(world: World) -> None:
    world.ledger.pause(ANN, HERS)
    assert world.ledger.is_unserved(HERS)
    world.vault.allocate(ANN, 6_000_000)
    world.follow()
    assert world.ledger.is_unserved(HERS)
    world.ledger.resume(ANN, HERS)
    assert not world.ledger.is_unserved(HERS)


def test_card_money_is_held_back(world: World) -> None:
    until = world.now.wall + 3600
    assert world.ledger.card_received("r1", ANN, 5_000_000, until)
    assert not world.ledger.card_received("r1", ANN, 5_000_000, until)
    with pytest.raises(Conflict):
        world.ledger.card_received("r1", ANN, 6_000_000, until)
    assert world.ledger.card_received("r2", ANN, 1_000_000, until + 86400)
    assert world.ledger.account(ANN).held == 6_000_000
    world.tick(3600)
    assert world.ledger.account(ANN).held == 1_000_000
    assert world.balance("bank") == 5_000_000
    assert world.ledger.card_reversed("r2")
    assert not world.ledger.card_reversed("r2")
    assert world.ledger.card_reversed("r1")
    assert world.balance(f"chargeback:{address(ANN)}") == 6_000_000
    assert world.balance("float") == -6_000_000
    assert world.balance("bank") == 0
    world.sound()


def test_events_count_once(world: World) -> None:
    world.vault.emit("recharged", owner=address(ANN), credits=5)
    world.vault.allocate(ANN, 3)
    everything = world.vault.answer(0)
    for _ in range(3):
        world.ledger.take_events(everything)
        world.reopen()
    assert world.ledger.account(ANN).balance == 5
    assert len(world.ledger.account(ANN).allocations) == 1
    with pytest.raises(Conflict):
        world.ledger.take_events({**everything, "chain": CHAIN + 1})


def test_sites_that_change_hands_are_paid_for_by_their_new_owner(world: World) -> None:
    world.vault.emit("site_transferred", site=HERS, owner=address(BOB), label="hers")
    world.follow()
    assert world.ledger.site_owner(HERS) == BOB


def test_a_site_that_was_sold_is_not_paused_for_what_its_owner_before_lacks(world: World) -> None:
    world.tick(10, {HERS: Held(ANN, GIB)})
    world.use(HERS, ANN, size=3 * GIB)
    world.tick()
    assert world.ledger.is_unserved(HERS)
    world.vault.emit("site_transferred", site=HERS, owner=address(BOB), label="")
    world.follow()
    # The free allowance of its new owner, who has granted nothing yet.
    assert not world.ledger.is_unserved(HERS)
    world.use(HERS, BOB, size=3 * GIB)
    world.tick(10, {HERS: Held(BOB, GIB)})
    assert world.ledger.is_unserved(HERS)
    assert {p.service for p in world.ledger.site_state(HERS, BOB).pauses} == {EGRESS, STORAGE}
    world.vault.allocate(BOB, 50_000_000)
    world.follow()
    assert not world.ledger.is_unserved(HERS)
    world.hour()
    assert world.ledger.site_state(HERS, BOB).pauses == ()


def test_what_is_charged_later_is_not_covered_by_what_ends_before(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "time", lambda: float(world.now.wall))
    world.vault.allocate(ANN, 2_000_000, days=1, number=1)
    world.follow()
    assert world.ledger.can(ANN, "names", credits=2_000_000).ok
    cover = world.ledger.can(ANN, "names", credits=2_000_000, lasting=2 * 86400)
    assert (cover.missing, cover.reason) == (2_000_000, "credit")
    # What is set aside is not taken to be paid by a grant that may be over by then, either.
    world.vault.allocate(ANN, 2_000_000, days=9, number=2)
    world.follow()
    assert world.ledger.can(ANN, "names", credits=2_000_000, lasting=2 * 86400).ok
    world.ledger.set_aside = lambda owner: 2_000_000
    assert world.ledger.can(ANN, "names", credits=2_000_000).ok
    assert not world.ledger.can(ANN, "names", credits=1, lasting=2 * 86400).ok


def test_books_of_another_vault_are_left_alone(world: World) -> None:
    with pytest.raises(Conflict):
        world.ledger.bind(CHAIN, "0x" + "ee" * 20, OPERATOR)
    world.ledger.bind(CHAIN, VAULT.upper().replace("0X", "0x"), OPERATOR)


def test_without_a_plugin_everything_is_counted_and_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path)
    monkeypatch.setattr(time, "time", lambda: float(world.now.wall))
    world.ledger.close()
    world.ledger = Ledger(tmp_path / "ledger.sqlite", world.config)
    world.tick(0, {HERS: Held(ANN, 10 * GIB)})
    world.use(HERS, ANN, requests=10**9, size=10**15)
    world.hour()
    assert not world.ledger.billing
    assert not world.ledger.is_unserved(HERS)
    assert world.ledger.can(ANN, "names", credits=10**9).ok
    assert {row.service: row.quantity for row in world.ledger.history(ANN)}[EGRESS] == 10**15
    assert all(row.credits == row.waived == 0 for row in world.ledger.history(ANN))
    assert world.ledger.balances() == {}
    world.ledger.close()


@pytest.mark.parametrize("column", ["entries.at", "postings.amount", "leaves.credits", "events.block"])
def test_what_is_written_stays(world: World, column: str) -> None:
    world.vault.allocate(ANN, 10_000_000)
    world.follow()
    world.use(HERS, ANN, size=GIB)
    world.hour()
    world.ledger.close()
    db = sqlite3.connect(world.folder / "ledger.sqlite")
    table, _, name = column.partition(".")
    for statement in (f"DELETE FROM {table}", f"UPDATE {table} SET {name} = 1"):
        with pytest.raises(sqlite3.IntegrityError, match="only added to"):
            db.execute(statement)
    db.close()
    world.opened()


def test_books_that_do_not_balance_stop_charging_and_are_named(world: World, capsys: Any) -> None:
    world.vault.allocate(ANN, 10_000_000)
    world.follow()
    world.use(HERS, ANN, size=GIB)
    world.hour()
    world.ledger.close()
    db = sqlite3.connect(world.folder / "ledger.sqlite")
    db.execute("UPDATE accounts SET balance = balance + 1 WHERE account = 'income:egress'")
    db.commit()
    db.close()
    world.opened()
    assert len(world.ledger.check()) == 2
    assert not world.ledger.sound
    assert not world.ledger.billing
    assert world.ledger.next_batch(world.now.wall) is None
    said = {finding.check: finding for finding in examine(None, str(world.folder))}["books"]
    assert said.state == "wrong"
    assert "do not balance" in said.detail
