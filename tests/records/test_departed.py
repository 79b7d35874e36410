"""Statements of nodes that are gone for good are forgotten, and not taken again; nobody pays for them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from decentraspace.content import cid as cids
from decentraspace.identity.keys import NodeKey
from decentraspace.records.store import FORGET_AFTER, RecordStore
from tests.records.factory import RULES, make_announcement, make_receipt, take

NOW = int(time.time())
LONG_AGO = NOW - FORGET_AFTER - 100
ROOT = cids.make(cids.RAW, b"root")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RecordStore]:
    opened = RecordStore(tmp_path / "records.sqlite", RULES)
    yield opened
    opened.close()


def said(node: NodeKey, announced: int, signed: int) -> list[bytes]:
    """Envelopes: a node's announcement and its receipt, of those times."""
    announcement = make_announcement(node, created=announced, seq=announced)
    return [
        take(announcement, node, announced),
        take(make_receipt(node, root=ROOT, created=signed), node, signed),
    ]


def tell(store: RecordStore, node: NodeKey, announced: int, signed: int) -> None:
    """As it was then."""
    for envelope, at in zip(said(node, announced, signed), (announced, signed), strict=True):
        assert store.add(envelope, now=at).status == "accepted"


def test_only_what_nodes_stated_that_are_gone_for_long_is_forgotten(store: RecordStore) -> None:
    gone, silent, there = (NodeKey.generate() for _ in range(3))
    tell(store, gone, LONG_AGO, LONG_AGO)
    tell(store, silent, NOW - FORGET_AFTER + 1000, LONG_AGO)  # it may come back
    tell(store, there, NOW - 10, LONG_AGO)  # an old receipt that still holds
    store.tree()
    assert store.forget_departed(NOW) == 2
    assert store.forget_departed(NOW) == 0
    assert set(store.holders(ROOT)) == {silent.public, there.public}
    assert store.announcement_of(gone.public) is None
    assert store.tree().count == len(store.ids()) == 4
    assert store.counts() == {"node": 2, "receipt": 2}


def test_what_was_forgotten_is_not_taken_again_and_nobody_is_charged(store: RecordStore) -> None:
    node = NodeKey.generate()
    tell(store, node, LONG_AGO, LONG_AGO)
    assert store.forget_departed(NOW) == 2
    for joining in (False, True):
        for envelope in said(node, LONG_AGO, LONG_AGO):
            assert store.add(envelope, now=NOW, joining=joining).status == "stale"
    assert store.ids() == []


def test_a_node_that_comes_back_is_heard_with_its_old_receipts(store: RecordStore) -> None:
    node = NodeKey.generate()
    tell(store, node, LONG_AGO, LONG_AGO)
    store.forget_departed(NOW)
    announcement, receipt = said(node, NOW, LONG_AGO)
    assert store.add(receipt, now=NOW).status == "stale", "it has not said that it is back"
    assert [r.status for r in store.add_many([announcement, receipt], now=NOW)] == ["accepted"] * 2  # type: ignore[union-attr]
    assert store.holders(ROOT) == [node.public]
