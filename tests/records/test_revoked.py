"""What the store says of session keys that were taken back, and that it never says it too late."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from decentraspace.identity.keys import NodeKey
from decentraspace.records.schema import site_id
from decentraspace.records.store import RecordStore
from tests.records.factory import RULES, address_of, make_revocation, make_session, make_wallet, take

NOW = int(time.time())


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RecordStore]:
    opened = RecordStore(tmp_path / "records.sqlite", RULES)
    yield opened
    opened.close()


@pytest.fixture
def node(tmp_path: Path) -> NodeKey:
    return NodeKey.load_or_create(tmp_path / "node.key", None)


def test_a_key_is_revoked_from_the_moment_its_revocation_is_stored(store: RecordStore, node: NodeKey) -> None:
    wallet = make_wallet()
    owner = address_of(wallet)
    old, newer = (make_session(wallet, issued_at=NOW - age) for age in (100, 50))
    key = old[0].public_key().public_bytes_raw()
    assert not store.is_revoked(owner, key, NOW - 100)
    store.add(take(make_revocation(wallet, newer, old[0]), node), now=int(time.time()))
    assert store.is_revoked(owner, key, NOW - 100)
    assert store.is_revoked(owner, key, NOW - 100, site_id(owner, "blog"))
    assert not store.is_revoked(owner, key, NOW - 40), "the wallet may delegate to the key anew"
    assert not store.is_revoked(bytes(20), key, NOW - 100), "another wallet did not say so"


def test_a_revocation_for_one_site_leaves_the_others(store: RecordStore, node: NodeKey) -> None:
    wallet = make_wallet()
    owner = address_of(wallet)
    blog, shop = site_id(owner, "blog"), site_id(owner, "shop")
    old, newer = (make_session(wallet, issued_at=NOW - age) for age in (100, 50))
    key = old[0].public_key().public_bytes_raw()
    store.add(take(make_revocation(wallet, newer, old[0], site=blog, after=3), node), now=int(time.time()))
    revoked = {scope: store.is_revoked(owner, key, NOW - 100, scope) for scope in ("*", blog, shop)}
    assert revoked == {"*": False, blog: True, shop: False}


def test_a_revocation_by_a_revoked_key_does_not_stand(store: RecordStore, node: NodeKey) -> None:
    wallet = make_wallet()
    owner = address_of(wallet)
    good, thief, newest = (make_session(wallet, issued_at=NOW - age) for age in (100, 50, 10))
    key = good[0].public_key().public_bytes_raw()
    store.add(take(make_revocation(wallet, thief, good[0]), node), now=int(time.time()))
    assert store.is_revoked(owner, key, NOW - 100)
    store.add(take(make_revocation(wallet, newest, thief[0]), node), now=int(time.time()))
    assert not store.is_revoked(owner, key, NOW - 100)
    assert store.is_revoked(owner, thief[0].public_key().public_bytes_raw(), NOW - 50)
