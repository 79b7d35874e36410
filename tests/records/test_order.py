"""Whatever the order in which records come, how often, and how often the node restarts: one state."""

from __future__ import annotations

import itertools
import random
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from decentraspace.records.store import AddResult
from decentraspace.records.verdict import RecordRefused
from tests.records import worlds


def fed(envelopes: list[bytes], draw: random.Random, folder: Path) -> None:
    """One store, fed in some order, some of it twice, one by one and in batches, closed in between."""
    order = envelopes + draw.sample(envelopes, len(envelopes) // 3)
    draw.shuffle(order)
    path = folder / "records.sqlite"
    store = worlds.open_store(path)
    heads: dict[tuple[str, str], bytes] = {}
    try:
        while order:
            batch = [order.pop() for _ in range(min(len(order), draw.choice((1, 1, 2, 7))))]
            if len(batch) == 1:
                results: list[AddResult | RecordRefused] = [store.add(batch[0], now=worlds.NOW)]
            else:
                results = store.add_many(batch, now=worlds.NOW)
            for result in results:
                assert isinstance(result, AddResult)
                # What `add` tells the node of changes must add up to what the store says.
                for head in result.heads:
                    heads[(head.site_id, head.channel)] = head.cid
                for where in result.removed:
                    del heads[where]
            if draw.random() < 0.1:
                store.close()
                store = worlds.open_store(path)
        worlds.check(store, envelopes)
        assert heads == {(head.site_id, head.channel): head.cid for head in store.all_heads()}
    finally:
        store.close()


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(worlds.STEPS, st.randoms(use_true_random=False))
def test_any_order_ends_in_the_state_that_the_rules_give(steps: list[list[int]], draw: random.Random) -> None:
    envelopes = worlds.build(steps)
    for _ in range(2):
        with tempfile.TemporaryDirectory() as folder:
            fed(envelopes, draw, Path(folder))


def test_the_worlds_drawn_are_rich() -> None:
    """Else the tests below would say little."""
    found = [worlds.expected(worlds.build(worlds.drawn(seed, 150))) for seed in range(6)]
    states = [state for heads in found for state in heads.states.values()]
    reasons = {reason for state in states for reason in state.refused.values()}
    assert reasons == {"revoked-key", "wrong-sequence", "older-delegation", "refused-parent"}
    assert all(len(heads.statements) > 3 for heads in found)
    assert any(state.equivocations for state in states)
    assert {state.head is None for state in states} == {True, False}
    assert max(len(state.valid) for state in states) > 10


@pytest.mark.parametrize("seed", range(6))
def test_any_order_of_many_records(seed: int, tmp_path: Path) -> None:
    envelopes = worlds.build(worlds.drawn(seed, 150))
    for order in range(2):
        folder = tmp_path / str(order)
        folder.mkdir()
        fed(envelopes, random.Random(seed * 10 + order), folder)


def test_revocations_that_overrule_each_other_over_and_over(tmp_path: Path) -> None:
    """One wallet, few versions, many revocations by all keys of each other, in every order."""
    for seed in range(40):
        draw = random.Random(seed)
        steps = worlds.drawn(seed, 24)
        for number, step in enumerate(steps):
            step[0], step[1] = (0 if number < 10 else 12), 0
        folder = tmp_path / str(seed)
        folder.mkdir()
        fed(worlds.build(steps), draw, folder)


def test_a_line_of_revocations_each_of_the_signer_before(tmp_path: Path) -> None:
    """Key 1 revokes 0, 2 revokes 1, 3 revokes 2: each turns the fate of key 0's version over."""
    steps = [[0, 0, 0, 0, 0, 1, 0, 0], *([12, 0, n, n, 0, 0, 0, n - 1] for n in (1, 2, 3))]
    envelopes = worlds.build(steps)
    for number, order in enumerate(itertools.permutations(envelopes)):
        store = worlds.open_store(tmp_path / str(number))
        for count, envelope in enumerate(order, 1):
            store.add(envelope, now=worlds.NOW)
            worlds.check(store, list(order[:count]))
        assert store.all_heads() == []
        store.close()


@pytest.mark.parametrize("seed", range(3))
def test_the_state_is_right_after_every_single_record(seed: int, tmp_path: Path) -> None:
    envelopes = worlds.build(worlds.drawn(100 + seed, 40))
    random.Random(seed).shuffle(envelopes)
    store = worlds.open_store(tmp_path / "records.sqlite")
    for count, envelope in enumerate(envelopes, 1):
        store.add(envelope, now=worlds.NOW)
        worlds.check(store, envelopes[:count])
    store.close()


def test_a_long_chain_that_comes_backwards(tmp_path: Path) -> None:
    chain = worlds.build([[0, 0, 0, 0, 0, 1, 1, 1] for _ in range(300)])
    revoked = worlds.build([[12, 0, 1, 1, 0, 0, 0, 0]])
    store = worlds.open_store(tmp_path / "records.sqlite")
    for envelope in reversed(chain):
        store.add(envelope, now=worlds.NOW)
    worlds.check(store, chain)
    assert store.all_heads()[0].seq == 300
    [result] = store.add_many(revoked, now=worlds.NOW)
    assert isinstance(result, AddResult)
    assert len(result.removed) == 1
    assert store.all_heads() == []
    worlds.check(store, chain + revoked)
    store.close()


def test_two_stores_fed_by_add_and_by_add_many_are_alike(tmp_path: Path) -> None:
    envelopes = worlds.build(worlds.drawn(7, 60))
    mixed = [item for e in envelopes for item in (e, b"rubbish", e[:-1], b"")]
    one, many = worlds.open_store(tmp_path / "one"), worlds.open_store(tmp_path / "many")
    answers: list[str] = []
    for envelope in mixed:
        try:
            answers.append(one.add(envelope, now=worlds.NOW).status)
        except RecordRefused as error:
            answers.append(error.problem_slug)
    results = many.add_many(mixed, now=worlds.NOW)
    assert [r.status if isinstance(r, AddResult) else r.problem_slug for r in results] == answers
    for store in (one, many):
        worlds.check(store, envelopes)
        store.close()
