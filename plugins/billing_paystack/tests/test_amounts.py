"""Amounts against exact fractions."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from decentraspace_billing_paystack.amounts import called_back, fixed_in_credits, price

_credits = st.integers(1, 2**63 - 1)
_rate = st.tuples(st.integers(1, 2**53), st.integers(1, 2**53))
_bps = st.integers(0, 5_000)
_fixed = st.integers(0, 2**53)


@given(_credits, _rate, _bps, _fixed)
def test_the_payer_pays_less_than_a_subunit_too_much_and_never_too_little(
    credits: int, rate: tuple[int, int], bps: int, fixed: int
) -> None:
    exact = Fraction(credits) * Fraction(*rate) * (1 + Fraction(bps, 10_000)) + fixed
    assert exact <= price(credits, rate, bps, fixed) < exact + 1


@given(_credits, st.integers(1, 2**40), _rate, _bps, _fixed)
def test_more_credits_never_cost_less(
    credits: int, more: int, rate: tuple[int, int], bps: int, fixed: int
) -> None:
    assert price(credits, rate, bps, fixed) <= price(credits + more, rate, bps, fixed)


@given(_credits, st.integers(1, 2**53), st.lists(st.integers(0, 2**53), max_size=5))
def test_what_was_called_back_is_never_more_than_was_credited(
    credits: int, amount: int, parts: list[int]
) -> None:
    gone = 0
    for number in range(len(parts) + 1):
        back = sum(parts[:number])
        now = called_back(credits, amount, back)
        assert gone <= now <= credits
        exact = min(Fraction(credits), Fraction(credits) * back / amount)
        assert exact <= now < exact + 1
        assert now == credits or back < amount
        gone = now


@given(_fixed, _rate)
def test_the_fixed_fee_in_credits_covers_it(fixed: int, rate: tuple[int, int]) -> None:
    exact = Fraction(fixed) * rate[1] / rate[0]
    assert exact <= fixed_in_credits(fixed, rate) < exact + 1
