"""What use costs: the same however it is cut up, never more than was granted, and all of it accounted for."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from decentraspace.ledger.charging import (
    CAP,
    CREDIT,
    EXPOSURE,
    Carry,
    Fund,
    Standing,
    Use,
    charge,
    lacking,
    paused_services,
    value,
)
from decentraspace.ledger.covering import cover
from decentraspace.ledger.prices import EGRESS, REQUESTS, SERVED, STORAGE, UNITS, PriceList

SITES = ("a" * 16, "b" * 16, "")
RICH = (Fund(1, 10**15),)

quantities = st.integers(0, 2**45)
prices = st.builds(
    PriceList,
    st.fixed_dictionaries({name: st.integers(0, 10**7) for name in (STORAGE, EGRESS, REQUESTS)}),
)
uses = st.lists(
    st.builds(
        Use,
        st.sampled_from(SITES),
        st.sampled_from([STORAGE, EGRESS, REQUESTS, "plugin"]),
        quantities,
        st.sampled_from([0, 0, 5_000]),
        st.builds(Carry, st.integers(0, 999), st.integers(0, 999)),
    ),
    max_size=12,
    unique_by=lambda use: (use.site, use.service),
)
standings = st.builds(
    Standing,
    st.dictionaries(st.sampled_from([STORAGE, EGRESS, REQUESTS]), quantities),
    st.lists(
        st.builds(Fund, st.integers(1, 9), st.integers(0, 10**7), st.integers(0, 10**6)),
        max_size=3,
        unique_by=lambda fund: fund.number,
    ).map(tuple),
    st.integers(0, 10**7),
    st.dictionaries(st.sampled_from(SITES[:2]), st.integers(0, 10**7)),
)


@given(
    parts=st.lists(quantities, min_size=1, max_size=20),
    price=st.integers(0, 10**9),
    per=st.sampled_from(list(UNITS.values())),
)
def test_it_does_not_matter_how_use_is_cut_up(parts: list[int], price: int, per: int) -> None:
    total, rest = 0, 0
    for part in parts:
        credits, rest = value(part, price, per, rest)
        total += credits
    assert (total, rest) == divmod(sum(parts) * price, per)


@given(
    parts=st.lists(quantities, min_size=1, max_size=10),
    allowance=st.integers(0, 2**46),
    prices=prices,
)
def test_many_hours_cost_what_one_would(parts: list[int], allowance: int, prices: PriceList) -> None:
    standing = Standing({EGRESS: allowance}, RICH)
    carry, leaves = Carry(), []
    for part in parts:
        charged = charge([Use("a" * 16, EGRESS, part, 0, carry)], standing, prices)
        leaves += charged.leaves
        carry, standing = charged.carries["a" * 16, EGRESS], charged.after
    [once] = charge([Use("a" * 16, EGRESS, sum(parts))], Standing({EGRESS: allowance}, RICH), prices).leaves
    assert sum(leaf.credits for leaf in leaves) == once.credits
    assert sum(leaf.free for leaf in leaves) == once.free
    assert sum(leaf.given for leaf in leaves) == once.given


@given(uses=uses, standing=standings, prices=prices)
def test_nothing_is_charged_that_was_not_granted(
    uses: list[Use], standing: Standing, prices: PriceList
) -> None:
    charged = charge(uses, standing, prices)
    leaves = charged.leaves
    for fund, after in zip(standing.funds, charged.after.funds, strict=True):
        under = [leaf for leaf in leaves if leaf.allocation == fund.number]
        assert sum(leaf.credits for leaf in under) == fund.room - after.room <= fund.room
        assert sum(leaf.streamed for leaf in under) == fund.stream - after.stream <= fund.stream
        assert all(leaf.service == STORAGE for leaf in under if leaf.streamed)
    assert sum(leaf.credits for leaf in leaves) <= standing.exposure
    for site, cap in standing.caps.items():
        assert sum(leaf.credits for leaf in leaves if leaf.site == site) <= cap
    for service, most in standing.allowance.items():
        assert sum(leaf.free for leaf in leaves if leaf.service == service) <= most
    assert all(leaf.credits == 0 or leaf.allocation is not None for leaf in leaves)


@given(uses=uses, standing=standings, prices=prices)
def test_every_credit_is_somebodys(uses: list[Use], standing: Standing, prices: PriceList) -> None:
    charged = charge(uses, standing, prices)
    assert [*dict.fromkeys(leaf[:2] for leaf in charged.leaves)] == [use[:2] for use in uses]
    for use in uses:
        leaves = [leaf for leaf in charged.leaves if leaf[:2] == use[:2]]
        quantity, free, given, credits, streamed, waived = map(
            sum, zip(*(leaf[2:8] for leaf in leaves), strict=True)
        )
        per, price = UNITS.get(use.service, 1), prices.of(use.service)
        assert credits + streamed + waived == use.fixed + (use.carry.paid + (quantity - free) * price) // per
        assert quantity == use.quantity
        assert given == (use.carry.free + free * price) // per
        assert all(amount >= 0 for leaf in leaves for amount in leaf[2:8])
        # A statement lists a use once.
        assert len({leaf.allocation for leaf in leaves}) == len(leaves)
        carry = charged.carries[use.site, use.service]
        assert 0 <= carry.paid < max(per, 1000)
        assert 0 <= carry.free < max(per, 1000)


@given(standing=standings, prices=prices, site=st.sampled_from(SITES[:2]))
def test_what_lacks_nothing_can_be_charged(standing: Standing, prices: PriceList, site: str) -> None:
    """Not paused: one more unit of it is free, or somebody has granted a credit for it."""
    for service in (*SERVED, STORAGE):
        if lacking(site, service, standing, prices) is None:
            quantity = math.ceil(UNITS[service] / prices.of(service)) if prices.of(service) else 1
            leaf, *_ = charge([Use(site, service, quantity)], standing, prices).leaves
            worth = quantity * prices.of(service) // UNITS[service]
            assert leaf.free or leaf.credits or leaf.streamed or not worth
        else:
            [leaf] = charge([Use(site, service, 1, 1)], standing, prices).leaves
            assert leaf.waived >= 1


@given(uses=uses, standing=standings, prices=prices)
def test_nothing_is_waived_while_somebody_would_pay(
    uses: list[Use], standing: Standing, prices: PriceList
) -> None:
    """Or a site would stay served, and its hour's use be lost, while an owner has granted more."""
    for use in uses:
        charged = charge([use], standing, prices)
        if any(leaf.waived for leaf in charged.leaves):
            assert charged.after.room(use.site) == 0
            assert use.service != STORAGE or not any(fund.stream for fund in charged.after.funds)


def test_what_one_grant_cannot_pay_the_next_ones_do() -> None:
    funds = (Fund(1, 100), Fund(2, 300), Fund(3, 200))
    asked = PriceList({REQUESTS: 1_000_000})
    charged = charge([Use("a" * 16, REQUESTS, 550)], Standing(funds=funds), asked)
    assert [(leaf.allocation, leaf.quantity, leaf.credits) for leaf in charged.leaves] == [
        (2, 300, 300), (3, 200, 200), (1, 50, 50),
    ]  # fmt: skip
    assert [fund.room for fund in charged.after.funds] == [50, 0, 0]
    # One that has enough pays by itself.
    [leaf] = charge([Use("a" * 16, REQUESTS, 150)], Standing(funds=funds), asked).leaves
    assert (leaf.allocation, leaf.credits) == (2, 150)
    more, *others = charge([Use("a" * 16, REQUESTS, 700)], Standing(funds=funds), asked).leaves
    assert (more.waived, [leaf.waived for leaf in others]) == (100, [0, 0])


def test_why_a_site_is_paused() -> None:
    prices = PriceList({EGRESS: 1, REQUESTS: 1, STORAGE: 1})
    site = "a" * 16
    assert set(paused_services(site, Standing(), prices).values()) == {CREDIT}
    assert paused_services(site, Standing({EGRESS: 1, REQUESTS: 1, STORAGE: 1}), prices) == {}
    assert paused_services(site, Standing({EGRESS: 1}), prices) == {REQUESTS: CREDIT, STORAGE: CREDIT}
    assert paused_services(site, Standing(funds=RICH), prices) == {}
    assert set(paused_services(site, Standing(funds=RICH, caps={site: 0}), prices).values()) == {CAP}
    assert set(paused_services(site, Standing(funds=RICH, exposure=0), prices).values()) == {EXPOSURE}
    assert paused_services(site, Standing(), PriceList({})) == {}
    only_stream = Standing(funds=(Fund(1, 0, 5),))
    assert set(paused_services(site, only_stream, prices)) == {EGRESS, REQUESTS}


def test_a_use_worth_less_than_a_credit_is_covered_only_where_somebody_would_pay_one() -> None:
    listed = PriceList({EGRESS: 1})
    use = Use("a" * 16, EGRESS, 1)
    poor, rich, given = Standing(), Standing(funds=RICH), Standing(allowance={EGRESS: 1})
    assert (cover([use], poor, listed).missing, cover([use], poor, listed).reason) == (1, CREDIT)
    assert cover([use], rich, listed).ok
    assert cover([use], given, listed).ok
    assert not cover([use, use], given, listed).ok
    assert cover([use], poor, PriceList()).ok
