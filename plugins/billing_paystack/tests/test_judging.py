"""How a payment stands must not depend on when, or how often, one looks."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from decentraspace_billing_paystack.answers import STATUSES, WAITING, Dispute, Refund, Transaction
from decentraspace_billing_paystack.judging import judge, next_look
from decentraspace_billing_paystack.payments import Payment

_OWNER = "0x" + "ab" * 20
_PAYMENT = Payment("ds-1", "k", _OWNER, 5_000_000, 800_000, "NGN", 1_000)
_HOLD = 120 * 86_400


def _found(status: str = "success") -> Transaction:
    return Transaction(7, "live", status, "ds-1", 800_000, 800_000, "NGN", "card", _OWNER)


def _judged(
    payment: Payment,
    found: Transaction,
    refunds: list[Refund] | None = None,
    disputes: list[Dispute] | None = None,
    now: int = 2_000,
) -> Payment:
    return judge(payment, found, refunds or [], disputes or [], domain="live", hold=_HOLD, now=now)


_refund = st.builds(
    Refund,
    st.sampled_from(["pending", "processing", "processed", "failed", "needs-attention", "something new"]),
    st.integers(0, 900_000),
    st.just("NGN"),
    st.sampled_from([None, 1, 2]),
)
_dispute = st.builds(
    Dispute,
    st.integers(1, 3),
    st.sampled_from(
        ["awaiting-merchant-feedback", "awaiting-bank-feedback", "pending", "resolved", "archived"]
    ),
    st.sampled_from(["", "declined", "merchant-accepted", "auto-accepted", "something new"]),
    st.none() | st.integers(0, 900_000),
)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(sorted(STATUSES)), st.lists(_refund, max_size=3), st.lists(_dispute, max_size=3)
        ),
        min_size=1,
        max_size=6,
    )
)
def test_whatever_is_said_money_is_conserved(steps: list[tuple[str, list[Refund], list[Dispute]]]) -> None:
    payment, now = _PAYMENT, 2_000
    for status, refunds, disputes in steps:
        now += 10
        before, payment = payment, _judged(payment, _found(status), refunds, disputes, now)
        assert 0 <= payment.reversed <= payment.given <= payment.credits
        assert payment.reversed >= before.reversed
        if before.given:  # what was credited never changes, nor does the time it is held
            assert (payment.given, payment.held_until) == (before.given, before.held_until)
            assert payment.state in ("done", "disputed", "reversed")
        elif payment.given:
            assert payment.state == "done"
            assert status in ("success", "reversed")
            assert payment.held_until == now + _HOLD
        else:
            assert payment.state in ("pending", "refused", "disputed")
        if status not in ("success", "reversed"):
            assert payment.given == before.given
        again = _judged(payment, _found(status), refunds, disputes, now + 5)
        assert again == payment


def test_refunds_in_any_order_come_to_the_same() -> None:
    done = _judged(_PAYMENT, _found())
    parts = [Refund("processed", amount, "NGN", None) for amount in (1, 99_999, 300_000)]
    ends = set()
    for order in itertools.permutations(parts):
        payment = done
        for number in range(1, 4):
            payment = _judged(payment, _found(), list(order[:number]))
        ends.add((payment.state, payment.reversed))
    assert ends == {("reversed", 2_500_000)}


def test_a_dispute_that_was_lost_and_its_refund_count_once() -> None:
    done = _judged(_PAYMENT, _found())
    lost = Dispute(3, "resolved", "merchant-accepted", 400_000)
    for refunds in ([], [Refund("processed", 400_000, "NGN", 3)]):
        assert _judged(done, _found(), refunds, [lost]).reversed == 2_500_000


def test_reversed_without_a_reason_is_all_of_it() -> None:
    done = _judged(_PAYMENT, _found())
    assert _judged(done, _found("reversed")).reversed == 5_000_000
    never = _judged(_PAYMENT, _found("reversed"))
    assert (never.state, never.given) == ("refused", 0)
    part = _judged(done, _found("reversed"), [Refund("processed", 80_000, "NGN", None)])
    assert part.reversed == 500_000


@pytest.mark.parametrize("status", sorted(WAITING | {"failed"}))
def test_paid_and_then_not_paid_is_contested(status: str) -> None:
    done = _judged(_PAYMENT, _found())
    after = _judged(done, _found(status))
    assert (after.state, after.given) == ("disputed", 5_000_000)


def test_looks_become_rare_and_end() -> None:
    def after(payment: Payment, now: int) -> int:
        return next_look(payment, poll=30, recheck=86_400, expire=7 * 86_400, now=now)

    now, looks = 1_000, 0
    while due := after(_PAYMENT, now):
        assert due > now
        now, looks = due, looks + 1
    assert now == 1_000 + 7 * 86_400
    assert looks < 150
    done = _judged(_PAYMENT, _found(), now=1_000)
    now, looks = 1_000, 0
    while due := after(done, now):
        assert due > now
        now, looks = due, looks + 1
    assert (now, looks) == (done.held_until, 120)
    contested = replace(done, state="disputed")
    assert after(contested, done.held_until + 1) > 0
