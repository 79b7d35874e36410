"""A payment from the first click to the last day on which it can be called back."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from plugins.billing_paystack.tests.conftest import OWNER, Managed
from plugins.billing_paystack.tests.standin import Paystack

from decentraspace.errors import BadInput, Conflict, TooMany, Unavailable
from decentraspace.testing import until


async def test_a_payment_is_begun_paid_and_credited_once(managed: Managed, paystack: Paystack) -> None:
    node = await managed(callback_url="https://node.example/paid/")
    begun = await node.recharge(5_000_000)
    reference = begun["reference"]
    assert begun["status"] == "pending"
    assert begun["url"].startswith("https://checkout.paystack.com/")
    [asked] = paystack.initialized
    assert asked["amount"] == "800000"  # 8,000 NGN in kobo for 5 USD
    assert asked["email"] == f"cards+{OWNER.lower()}@node.example"
    assert (asked["currency"], asked["reference"]) == ("NGN", reference)
    assert asked["callback_url"] == "https://node.example/paid/"
    assert json.loads(asked["metadata"])["owner"] == OWNER
    assert asked["channels"] == ["card"]

    paystack.pay(reference)
    before = int(time.time())
    call = paystack.charge_success(reference)
    first = await node.called(call)
    assert (first["status"], first["owner"], first["credits"]) == ("done", OWNER, 5_000_000)
    assert before + 120 * 86_400 <= first["held_until"] <= int(time.time()) + 120 * 86_400
    assert "reversible until 20" in first["detail"]
    asked_so_far = len(paystack.asked)
    for _ in range(5):  # Paystack repeats what it thinks was not taken
        assert await node.called(call) == first
    assert len(paystack.asked) == asked_so_far
    told = await node.events()
    assert [e["status"] for e in told["events"]] == ["done"]
    assert await node.events(told["next"]) == {"next": told["next"], "events": []}


async def test_the_same_key_begins_one_payment(managed: Managed, paystack: Paystack) -> None:
    node = await managed()
    first = await node.recharge(key="same")
    assert await node.recharge(key="same") == first
    node = await managed()  # started again: it looks how the payment stands, sooner or later than it is asked
    again = await node.recharge(key="same")
    assert again == {**first, "detail": again["detail"]}
    assert len(paystack.initialized) == 1
    with pytest.raises(Conflict):
        await node.recharge(6_000_000, key="same")
    other = await node.recharge(key="same", owner="0x" + "12" * 20)
    assert other["reference"] != first["reference"]


async def test_a_lost_webhook_loses_nothing(managed: Managed, paystack: Paystack) -> None:
    node = await managed(poll=1)
    reference = (await node.recharge())["reference"]
    paystack.pay(reference)

    async def credited() -> Any:
        found = await node.standing(reference)
        return found if found["status"] == "done" else None

    assert (await until(credited))["credits"] == 5_000_000


async def test_a_node_that_was_down_learns_of_it(managed: Managed, paystack: Paystack) -> None:
    node = await managed(poll=1)
    reference = (await node.recharge())["reference"]
    await node.manager.close()
    paystack.pay(reference)
    node = await managed(poll=1)

    async def credited() -> bool:
        return bool((await node.standing(reference))["status"] == "done")

    assert await until(credited)


@pytest.mark.parametrize("status", ["abandoned", "ongoing", "pending", "processing", "queued"])
async def test_what_is_not_paid_is_not_credited(managed: Managed, paystack: Paystack, status: str) -> None:
    node = await managed()
    reference = (await node.recharge())["reference"]
    paystack.pay(reference, status)
    # The webhook says it was paid; the API says it was not.
    found = await node.called(paystack.charge_success(reference))
    assert found["status"] == "pending"
    assert "held_until" not in found


async def test_a_failed_payment_may_still_succeed(managed: Managed, paystack: Paystack) -> None:
    node = await managed()
    reference = (await node.recharge())["reference"]
    paystack.pay(reference, "failed")
    assert (await node.called(paystack.charge_success(reference)))["status"] == "refused"
    paystack.pay(reference, "success")
    later = paystack.call("charge.success", {"reference": reference, "id": 2})
    assert (await node.called(later))["status"] == "done"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"amount": 799_999}, "799999 instead of 800000"),
        ({"amount": 8_000}, "8000 instead"),
        ({"amount": 800_001, "requested_amount": 800_001}, "800001 instead"),
        ({"currency": "GHS"}, "in GHS"),
        ({"domain": "live"}, "in live mode"),
        ({"metadata": {"owner": "0x" + "66" * 20}}, "another wallet"),
        ({"metadata": json.dumps({"owner": "0x" + "66" * 20})}, "another wallet"),
        ({"id": 77, "amount": 1, "requested_amount": 800_000}, "1 instead"),
    ],
)
async def test_another_payment_than_was_asked_for_is_not_credited(
    managed: Managed, paystack: Paystack, changes: dict[str, Any], words: str
) -> None:
    node = await managed()
    reference = (await node.recharge())["reference"]
    call = paystack.charge_success(reference)  # as it should be
    paystack.pay(reference, **changes)
    found = await node.called(call)
    assert found["status"] == "refused"
    assert words in found["detail"]


async def test_fees_that_paystack_puts_on_the_payer_change_nothing(
    managed: Managed, paystack: Paystack
) -> None:
    node = await managed()
    reference = (await node.recharge())["reference"]
    paystack.pay(reference, amount=823_000, requested_amount=800_000)
    assert (await node.called(paystack.charge_success(reference)))["credits"] == 5_000_000
    paystack.refund(reference, 823_000)
    found = await node.called(paystack.refund_event(paystack.refunds[0], reference))
    assert (found["status"], found["reversed"]) == ("reversed", 5_000_000)


async def test_refunds(managed: Managed, paystack: Paystack) -> None:
    node = await managed()
    reference = (await node.recharge())["reference"]
    paystack.pay(reference)
    done = await node.called(paystack.charge_success(reference))
    steps = []
    for status in ("pending", "processing", "processed"):
        refund = paystack.refund(reference, 200_000, status)
        found = await node.called(paystack.refund_event(refund, reference))
        steps.append((found["status"], found["reversed"], found["credits"]))
    assert steps == [
        ("disputed", 0, 5_000_000),
        ("disputed", 0, 5_000_000),
        ("reversed", 1_250_000, 5_000_000),
    ]
    # The charge is told of again, and late: nothing comes back.
    again = await node.called(paystack.charge_success(reference))
    assert (again["status"], again["reversed"]) == ("reversed", 1_250_000)
    rest = paystack.refund(reference, 600_000)
    found = await node.called(paystack.refund_event(rest, reference))
    assert (found["status"], found["reversed"]) == ("reversed", 5_000_000)
    assert paystack.transactions[reference]["status"] == "reversed"
    assert found["held_until"] == done["held_until"]


async def test_a_refund_that_failed_leaves_the_money(managed: Managed, paystack: Paystack) -> None:
    node = await managed()
    reference = (await node.recharge())["reference"]
    paystack.pay(reference)
    done = await node.called(paystack.charge_success(reference))
    for status, then in (("pending", "disputed"), ("needs-attention", "disputed"), ("failed", "done")):
        refund = paystack.refund(reference, 800_000, status)
        assert (await node.called(paystack.refund_event(refund, reference)))["status"] == then
    assert {**await node.standing(reference), "number": 0, "time": 0} == {**done, "number": 0, "time": 0}


@pytest.mark.parametrize(
    ("resolution", "status", "gone"),
    [
        ("merchant-accepted", "reversed", 5_000_000),
        ("auto-accepted", "reversed", 5_000_000),
        ("declined", "done", 0),
    ],
)
async def test_chargebacks(
    managed: Managed, paystack: Paystack, resolution: str, status: str, gone: int
) -> None:
    node = await managed()
    reference = (await node.recharge())["reference"]
    paystack.pay(reference)
    await node.called(paystack.charge_success(reference))
    dispute = paystack.dispute(reference)
    opened = await node.called(paystack.call("charge.dispute.create", dispute))
    assert (opened["status"], opened["reversed"]) == ("disputed", 0)
    reminded = await node.called(paystack.call("charge.dispute.remind", dispute))
    assert reminded["status"] == "disputed"
    dispute = paystack.resolve(dispute["id"], resolution)
    ended = await node.called(paystack.call("charge.dispute.resolve", dispute))
    assert (ended["status"], ended["reversed"], ended["credits"]) == (status, gone, 5_000_000)


async def test_a_chargeback_comes_before_the_charge(managed: Managed, paystack: Paystack) -> None:
    """Out of order: whatever comes first, what is credited is what is left."""
    node = await managed()
    reference = (await node.recharge())["reference"]
    paystack.pay(reference)
    charge = paystack.charge_success(reference)
    dispute = paystack.dispute(reference, 200_000)
    opened = await node.called(paystack.call("charge.dispute.create", dispute))
    assert opened["status"] == "disputed"
    assert "held_until" not in opened  # nothing was credited, and nothing is to be
    dispute = paystack.resolve(dispute["id"], "merchant-accepted")
    ended = await node.called(paystack.call("charge.dispute.resolve", dispute))
    assert (ended["status"], ended["credits"], ended["reversed"]) == ("done", 3_750_000, 0)
    late = await node.called(charge)
    assert (late["status"], late["credits"]) == ("done", 3_750_000)


async def test_a_success_after_the_whole_was_refunded(managed: Managed, paystack: Paystack) -> None:
    node = await managed()
    reference = (await node.recharge())["reference"]
    paystack.pay(reference)
    charge = paystack.charge_success(reference)
    refund = paystack.refund(reference)
    first = await node.called(paystack.refund_event(refund, reference))
    assert first["status"] == "refused"
    assert (await node.called(charge))["status"] == "refused"


async def test_a_lost_chargeback_webhook(managed: Managed, paystack: Paystack) -> None:
    node = await managed(recheck=1)
    reference = (await node.recharge())["reference"]
    paystack.pay(reference)
    await node.called(paystack.charge_success(reference))
    number = paystack.dispute(reference)["id"]

    async def stands(status: str) -> Any:
        found = await node.standing(reference)
        return found if found["status"] == status else None

    assert await until(lambda: stands("disputed"))
    paystack.resolve(number, "auto-accepted")
    assert (await until(lambda: stands("reversed")))["reversed"] == 5_000_000


async def test_limits(managed: Managed, paystack: Paystack) -> None:
    node = await managed(
        least=2_000_000, most=10_000_000, most_open=2, most_daily=25_000_000, most_held=12_000_000
    )
    for credits in (1_999_999, 10_000_001):
        with pytest.raises(BadInput):
            await node.recharge(credits, key=f"k{credits}")
    one = await node.recharge(10_000_000, key="a")
    await node.recharge(10_000_000, key="b")
    with pytest.raises(TooMany, match="begun"):
        await node.recharge(2_000_000, key="c")
    await node.recharge(2_000_000, key="c", owner="0x" + "12" * 20)
    paystack.pay(one["reference"])
    await node.called(paystack.charge_success(one["reference"]))
    with pytest.raises(TooMany, match="24 hours"):
        await node.recharge(6_000_000, key="d")
    with pytest.raises(Unavailable, match="for now"):
        await node.recharge(3_000_000, key="d")
    assert len(paystack.initialized) == 3


async def test_methods_say_what_they_are(managed: Managed) -> None:
    node = await managed(fee_fixed=10_000, fee_bps=150)
    [found] = await node.manager.call("payment_methods")
    [method] = found.value
    assert method["id"] == "paystack"
    assert "reversible for 120 days" in method["title"]
    assert (method["currency"], method["fee_credits"]) == ("NGN", 62_500)


async def test_without_a_key_the_plugin_does_nothing(managed: Managed) -> None:
    node = await managed(key_file="")
    assert await node.manager.call("payment_methods") == []
    assert await node.manager.call("payment_events", after=0) == []
    asked: dict[str, Any] = {"owner": OWNER, "credits": 5_000_000, "key": "k"}
    assert await node.manager.call("payment_recharge", method="paystack", **asked) == []


async def test_other_methods_are_others(managed: Managed) -> None:
    node = await managed()
    asked: dict[str, Any] = {"owner": OWNER, "credits": 5_000_000, "key": "k"}
    assert await node.manager.call("payment_recharge", method="voucher", **asked) == []
    called: dict[str, Any] = {"headers": {}, "body": b"", "source": ""}
    assert await node.manager.call("payment_webhook", method="voucher", **called) == []
