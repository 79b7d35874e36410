"""What time alone does to a payment, by a clock of the test's own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from plugins.billing_paystack.tests.conftest import OWNER
from plugins.billing_paystack.tests.standin import SECRET, SOURCE, Paystack

from decentraspace.errors import TooMany
from decentraspace.public import NodeAPI
from decentraspace.testing import Clock
from decentraspace_billing_paystack.client import Paystack as Client
from decentraspace_billing_paystack.desk import Desk
from decentraspace_billing_paystack.payments import Payments
from decentraspace_billing_paystack.secret import SecretKey
from decentraspace_billing_paystack.settings import read

_DAY = 86_400


class World:
    """A desk, and the clock it believes."""

    def __init__(self, paystack: Paystack, folder: Path, **settings: Any) -> None:
        self.clock = Clock()
        table = {"key_file": "/k", "email": "a@b.example", "rate": [160_000, 1_000_000], **settings}
        node = NodeAPI("billing_paystack", table, folder, "12D3Koo", "devnet", lambda *_: None)
        key = SecretKey((SECRET,))
        self.payments = Payments(folder / "payments.json")
        self.client = Client(paystack.url, key, 10)
        self.desk = Desk(node, read(table), key, self.client, self.payments, clock=self.clock)

    async def pass_time(self, seconds: int) -> None:
        """All looks that fall due, each at its time."""
        end = self.clock.now + seconds
        while (due := self.payments.next_due()) is not None and due <= end:
            self.clock.now = max(self.clock.now, due)
            for payment in self.payments.due(self.clock.now):
                await self.desk.look(payment.reference)
        self.clock.now = end


@pytest.fixture
async def world(paystack: Paystack, tmp_path: Path) -> AsyncIterator[World]:
    made = World(paystack, tmp_path, most_open=1)
    yield made
    await made.client.aclose()
    made.payments.close()


async def test_what_is_not_paid_lapses_and_late_money_counts(world: World, paystack: Paystack) -> None:
    reference = (await world.desk.recharge(OWNER, 5_000_000, "k"))["reference"]
    with pytest.raises(TooMany):
        await world.desk.recharge(OWNER, 5_000_000, "other")
    await world.pass_time(8 * _DAY)
    [lapsed] = world.desk.events(0)["events"]
    assert (lapsed["status"], lapsed["detail"]) == ("refused", "It was not paid in time")
    assert len([path for _, path in paystack.asked if "/verify/" in path]) < 150
    assert world.payments.next_due() is None
    assert (await world.desk.recharge(OWNER, 5_000_000, "k"))["status"] == "refused"
    assert (await world.desk.recharge(OWNER, 5_000_000, "other"))["status"] == "pending"
    # The first page was still open somewhere.
    paystack.pay(reference)
    found = await world.desk.webhook(*paystack.charge_success(reference), SOURCE)
    assert (found["status"], found["credits"]) == ("done", 5_000_000)


async def test_a_payment_is_watched_until_it_can_no_longer_be_called_back(
    world: World, paystack: Paystack
) -> None:
    reference = (await world.desk.recharge(OWNER, 5_000_000, "k"))["reference"]
    paystack.pay(reference)
    await world.pass_time(3600)
    [done] = world.desk.events(0)["events"]
    assert done["held_until"] == done["time"] + 120 * _DAY
    await world.pass_time(100 * _DAY)
    dispute = paystack.dispute(reference)  # and its webhook is lost
    await world.pass_time(2 * _DAY)
    [contested] = world.desk.events(done["number"])["events"]
    assert contested["status"] == "disputed"
    await world.pass_time(60 * _DAY)  # the time is over, and it is still contested
    assert (await world.desk.look(reference)).state == "disputed"
    paystack.resolve(dispute["id"], "auto-accepted")
    await world.pass_time(_DAY)
    [gone] = world.desk.events(contested["number"])["events"]
    assert (gone["status"], gone["reversed"]) == ("reversed", 5_000_000)
    assert world.payments.next_due() is None


async def test_a_chargeback_after_the_time_still_counts(world: World, paystack: Paystack) -> None:
    reference = (await world.desk.recharge(OWNER, 5_000_000, "k"))["reference"]
    paystack.pay(reference)
    await world.pass_time(200 * _DAY)
    assert world.payments.next_due() is None
    dispute = paystack.dispute(reference)
    paystack.resolve(dispute["id"], "merchant-accepted")
    call = paystack.call("charge.dispute.resolve", dispute)
    assert (await world.desk.webhook(*call, SOURCE))["reversed"] == 5_000_000


async def test_documents_restored_from_a_copy_hide_nothing(
    world: World, paystack: Paystack, tmp_path: Path
) -> None:
    """The node was told more than the copy knows; what Paystack says is found again, and told again."""
    reference = (await world.desk.recharge(OWNER, 5_000_000, "k"))["reference"]
    path = tmp_path / "payments.json"
    copy = path.read_bytes()
    world.clock.advance(10)
    paystack.pay(reference)
    await world.desk.look(reference)
    told = world.desk.events(0)
    assert [e["status"] for e in told["events"]] == ["done"]
    assert world.desk.events(told["next"]) == {"next": told["next"], "events": []}

    world.payments.close()
    path.write_bytes(copy)
    world.clock.advance(10)
    again = World(paystack, tmp_path)
    again.clock.now = world.clock.now
    assert again.desk.events(told["next"]) == {"next": told["next"], "events": []}
    await again.desk.look(reference)
    [found] = again.desk.events(told["next"])["events"]
    assert (found["status"], found["reference"]) == ("done", reference)
    await again.client.aclose()
    again.payments.close()


async def test_documents_are_read_as_they_were_written(
    world: World, paystack: Paystack, tmp_path: Path
) -> None:
    reference = (await world.desk.recharge(OWNER, 5_000_000, "k"))["reference"]
    paystack.pay(reference)
    await world.pass_time(3600)
    before = world.payments.all()
    world.payments.close()
    again = Payments(tmp_path / "payments.json")
    assert again.all() == before
    assert again.since(0, 10) == world.payments.since(0, 10)
    again.close()
