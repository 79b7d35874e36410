"""Sites that change hands on the chain: whose versions count, whatever comes first."""

from __future__ import annotations

import random
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from eth_account import Account
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from decentraspace.content import cid as cids
from decentraspace.identity.delegation import Delegation
from decentraspace.records import codec
from decentraspace.records.ownership import Ended, Epoch, Fact, Ownership, Place, Transfer, epochs, place
from decentraspace.records.schema import Revocation, SiteManifest, site_id
from decentraspace.records.signing import sign_site
from decentraspace.records.state import Revoked, SiteState, Version, resolve_site
from decentraspace.records.store import AddResult, Followed, RecordStore
from decentraspace.records.verdict import RecordRefused, verify
from tests.records.factory import RULES, address_of, make_manifest, make_revocation, make_session, take
from tests.records.worlds import NODES, open_store

T0 = 1_700_000_000
NOW = T0 + 5000
WALLETS = [Account.from_key(bytes([n]) * 32) for n in (21, 22, 23)]
A, B, C = (address_of(wallet) for wallet in WALLETS)
SITE = site_id(A, "site")
SOURCE = "1:0xregistry"
Session = tuple[Ed25519PrivateKey, Delegation]


def session(who: int, issued: int, scope: str = "*") -> Session:
    return make_session(WALLETS[who], scope=scope, issued_at=T0 + issued, expires_at=T0 + 86400)


SESSIONS = [[session(who, issued) for issued in (0, 150, 250, 350)] for who in range(3)]
"""Of each wallet, delegated before, between and after the transfers below, which are at 100, 200 and 300."""


def since(by: Session) -> int:
    return by[1].verify(RULES).issued_at


def version(by: Session, seq: int = 1, prev: bytes | None = None, **changes: Any) -> bytes:
    values = {"seq": seq, "prev": prev, "created": since(by), **changes}
    return sign_site(make_manifest(A, **values), *by, RULES)


def taken(record: bytes, at: int, node: int = 0) -> bytes:
    return take(record, NODES[node], T0 + at)


def given_to(owner: bytes, at: int, block: int, place: int = 0) -> Transfer:
    return Transfer(SITE, block, place, T0 + at, owner)


@contextmanager
def store(path: Path, **config: Any) -> Iterator[RecordStore]:
    opened = open_store(path / "records.sqlite", **config)
    try:
        yield opened
    finally:
        opened.close()


def tell(records: RecordStore, *facts: Fact) -> Followed:
    return records.apply_chain(facts, source=SOURCE, next_block=max((f.block for f in facts), default=0) + 1)


def put(records: RecordStore, record: bytes, at: int, node: int = 0) -> AddResult:
    return records.add(taken(record, at, node), now=NOW)


def refused(records: RecordStore) -> dict[bytes, str | None]:
    return {v.cid: v.refused for v in records.history(SITE)}


# -- the rules


def test_epochs_follow_the_chain_in_whatever_order_it_is_told() -> None:
    facts = [given_to(A, 50, 5), given_to(B, 100, 10), given_to(B, 120, 12), given_to(C, 120, 12, 1)]
    for _ in range(10):
        random.Random(1).shuffle(facts)
        assert epochs(A, facts) == (
            Epoch(A, 0, T0 + 100),
            Epoch(B, T0 + 100, T0 + 120),
            Epoch(C, T0 + 120, None),
        )


@pytest.mark.parametrize(
    ("wallet", "issued", "at", "expected"),
    [
        (A, 0, 99, Place(0, None)),
        (A, 0, 100, Place(0, "transferred")),
        (A, 150, 160, Place(2, None)),  # likewise
        (B, 250, 260, Place(0, "transferred")),
        (B, 0, 10, Place(1, None)),  # signed before it was bought: it counts once it is
        (B, 0, 199, Place(1, None)),
        (B, 0, 200, Place(0, "transferred")),
        (A, 0, 250, Place(0, "transferred")),  # delegated before the first sale: dead also after buying back
        (A, 100, 250, Place(2, None)),
        (A, 220, 250, Place(2, None)),
        (C, 0, 250, Place(0, "not-owner")),
    ],
)
def test_a_version_belongs_to_one_owner_s_time(wallet: bytes, issued: int, at: int, expected: Place) -> None:
    ownership = Ownership(epochs(A, [given_to(B, 100, 1), given_to(A, 200, 2)]))
    assert place(ownership, wallet, T0 + issued, T0 + at) == expected


def test_what_the_chain_ends_stands_as_far_as_it_was_taken_before() -> None:
    ended = (Ended(A, SITE, 1, 0, T0 + 100, T0 + 90),)
    ownership = Ownership(epochs(A, []), ended)
    assert place(ownership, A, T0 + 89, T0 + 99) == Place(0, None)
    assert place(ownership, A, T0 + 89, T0 + 100) == Place(0, "ended-delegation")
    assert place(ownership, A, T0 + 90, T0 + 100) == Place(0, None)


# -- the store


def test_a_site_that_is_sold_shows_the_old_version_until_the_new_owner_publishes(tmp_path: Path) -> None:
    old, new, late = (SESSIONS[0][0], SESSIONS[1][0], SESSIONS[0][2])
    with store(tmp_path) as records:
        first = put(records, version(old), 50).record.cid
        followed = tell(records, given_to(B, 100, 1), Ended(A, SITE, 1, 1, T0 + 100, T0 + 100))
        assert followed.sites == (SITE,)
        head = records.head(SITE)
        assert head is not None
        assert (head.cid, head.owner, head.founder, head.wallet) == (first, B, A, A)
        assert [h.cid for h in records.sites(B)] == [first]
        assert records.sites(A) == []
        assert records.owner_of(SITE) == B
        after = put(records, version(old, 2, first), 101).record.cid
        again = put(records, version(late, 2, first), 300).record.cid
        assert refused(records) == {first: None, after: "transferred", again: "transferred"}
        # A delegation older than the seller's last: whose the site is goes first.
        bought = put(records, version(new, 2, first), 102).record.cid
        head = records.head(SITE)
        assert head is not None
        assert (head.cid, head.wallet) == (bought, B)


def test_the_seller_cannot_pull_down_what_the_buyer_built_on_its_versions(tmp_path: Path) -> None:
    old, new = SESSIONS[0][0], SESSIONS[1][0]
    with store(tmp_path) as records:
        first = put(records, version(old), 50).record.cid
        tell(records, given_to(B, 100, 1))
        bought = put(records, version(new, 2, first), 102).record.cid
        revocation = make_revocation(WALLETS[0], SESSIONS[0][2], old[0], created=T0 + 300)
        records.add(taken(revocation, 401), now=NOW)
        assert refused(records) == {first: "revoked-key", bought: None}
        head = records.head(SITE)
        assert head is not None
        assert head.cid == bought


def test_a_version_that_waits_for_the_chain_counts_when_that_has_spoken(tmp_path: Path) -> None:
    with store(tmp_path) as records:
        first = put(records, version(SESSIONS[0][0]), 50).record.cid
        bought = put(records, version(SESSIONS[1][0], 2, first), 102).record.cid
        assert refused(records) == {first: None, bought: "not-owner"}
        followed = tell(records, given_to(B, 100, 1))
        assert [head.cid for head in followed.heads] == [bought]
        assert tell(records, given_to(B, 100, 1)) == Followed()


def test_of_two_sponsors_the_earlier_counts_whatever_came_first(tmp_path: Path) -> None:
    record = version(SESSIONS[0][0])
    for number, order in enumerate([(50, 150), (150, 50)]):
        folder = tmp_path / str(number)
        folder.mkdir()
        with store(folder) as records:
            tell(records, given_to(B, 100, 1))
            results = [put(records, record, at, node) for node, at in enumerate(order)]
            assert records.head(SITE) is not None
            # What is passed on to others has the sponsor by which it counts.
            [envelope] = records.envelopes(records.ids())
            assert codec.decode_envelope(envelope).at == T0 + 50
            assert results[1].heads == (() if number == 0 else (records.head(SITE),))
            assert put(records, record, 150, 1).status == "known"


def test_a_delegation_for_all_sites_ends_for_all_by_one_word_on_the_chain(tmp_path: Path) -> None:
    key = SESSIONS[0][0][0].public_key().public_bytes_raw()
    with store(tmp_path) as records:
        assert not records.is_revoked(A, key, T0)
        tell(records, Ended(A, "", 1, 0, T0 + 100, T0 + 100))
        assert records.is_revoked(A, key, T0)
        assert records.is_revoked(A, key, T0, SITE)
        assert not records.is_revoked(A, key, T0 + 150)
        assert not records.is_revoked(B, key, T0)
        assert records.is_ended(A, SITE, T0, NOW)
        assert put(records, version(SESSIONS[0][0]), 99).heads
        late = put(records, version(SESSIONS[0][0], root=cids.make(cids.RAW, b"late")), 100).record.cid
        assert refused(records)[late] == "ended-delegation"


def test_versions_that_wait_are_bounded_for_each_sponsor(tmp_path: Path) -> None:
    with store(tmp_path, sponsor_pending=2) as records:
        roots = [cids.make(cids.RAW, bytes([n])) for n in range(4)]
        for root in roots[:2]:
            put(records, version(SESSIONS[1][0], root=root), 50)
        with pytest.raises(RecordRefused) as caught:
            put(records, version(SESSIONS[1][0], root=roots[2]), 50)
        assert caught.value.problem_slug == "sponsor-quota"
        put(records, version(SESSIONS[1][0], root=roots[2]), 50, node=1)  # another answers for its own
        tell(records, given_to(B, 100, 1))
        put(records, version(SESSIONS[1][0], root=roots[3]), 50)  # they wait no longer


def test_facts_of_another_registry_replace_what_is_known(tmp_path: Path) -> None:
    with store(tmp_path) as records:
        first = put(records, version(SESSIONS[0][0]), 50).record.cid
        bought = put(records, version(SESSIONS[1][0], 2, first), 102).record.cid
        tell(records, given_to(B, 100, 7))
        assert records.chain_cursor(SOURCE) == 8
        assert records.chain_cursor("another") == 0
        followed = records.apply_chain([], source="another", next_block=3)
        assert (followed.sites, [head.cid for head in followed.heads]) == ((SITE,), [first])
        assert refused(records) == {first: None, bought: "not-owner"}
        assert [h.cid for h in records.sites(A)] == [first]
        assert records.chain_cursor("another") == 3


# -- any order


STEPS = st.lists(st.lists(st.integers(0, 63), min_size=7, max_size=7), min_size=1, max_size=20)
FACTS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3), st.integers(1, 3)), max_size=5)


def build(steps: list[list[int]]) -> list[bytes]:
    """Envelopes of versions and revocations by three wallets; some twice, by sponsors at different times."""
    envelopes: list[bytes] = []
    chain: list[tuple[bytes, int]] = []
    for number, (kind, who, moment, parent, at, again, odd) in enumerate(steps):
        by = SESSIONS[who % 3][moment % 4]
        if kind % 8 == 7:
            key = SESSIONS[who % 3][odd % 4][0]
            record = make_revocation(WALLETS[who % 3], by, key, created=since(by), site=SITE)
        else:
            prev, seq = None, 1
            if parent % 4 and chain:
                prev, above = chain[-1 - min(parent // 16, len(chain) - 1)]
                seq = above + 1
            record = version(by, seq, prev, root=cids.make(cids.RAW, str(number).encode()))
            chain.append((codec.record_cid(record), seq))
        # Sponsors take what is of a delegation that has run out no more, and nothing much before it was made.
        envelopes.append(taken(record, 300 + at * 4, number % 3))
        if again % 3 == 0:
            envelopes.append(taken(record, 300 + odd * 4, (number + 1) % 3))
    return envelopes


def told(drawn: list[tuple[int, int, int]]) -> list[Fact]:
    """Facts at times at which records are taken; an owner's end where it gives away, as the contract has it."""
    facts: list[Fact] = []
    owner, at = A, 300
    for number, (kind, to, step) in enumerate(drawn, 1):
        at += step * 30
        if kind < 4:
            facts.append(Ended(owner, SITE, number, 0, T0 + at, T0 + at))
            owner = (A, B, C, A)[to]
            facts.append(Transfer(SITE, number, 1, T0 + at, owner))
        else:
            site = SITE if kind == 4 else ""
            facts.append(Ended((A, B, C, A)[to], site, number, 0, T0 + at, T0 + (100 * step)))
    return facts


def expected(envelopes: list[bytes], facts: list[Fact]) -> tuple[SiteState, Ownership]:
    """From records and facts alone."""
    versions: dict[bytes, Version] = {}
    revocations: dict[bytes, list[Revoked]] = defaultdict(list)
    for envelope in envelopes:
        decoded = codec.decode_envelope(envelope)
        record = verify(decoded.record, RULES)
        body = record.body
        if isinstance(body, SiteManifest):
            made = Version(
                record.cid, body.seq, body.prev, record.key, record.issued_at, record.owner, decoded.at
            )
            old = versions.get(record.cid)
            versions[record.cid] = min(made, old, key=lambda v: v.taken) if old else made
        else:
            assert isinstance(body, Revocation)
            revocations[body.owner].append(
                Revoked(body.key, record.key, record.issued_at, body.site, body.after)
            )
    ownership = Ownership(
        epochs(A, [f for f in facts if isinstance(f, Transfer)]),
        tuple(f for f in facts if isinstance(f, Ended)),
    )
    return resolve_site(list(versions.values()), revocations, SITE, ownership), ownership


def fed(envelopes: list[bytes], facts: list[Fact], draw: random.Random, folder: Path) -> None:
    """One store, told of records and facts in any order, some of both twice, and closed in between."""
    order: list[bytes | Fact] = [*envelopes, *facts, *draw.sample(envelopes, len(envelopes) // 3), *facts[:2]]
    draw.shuffle(order)
    path = folder / "records.sqlite"
    records = open_store(path)
    heads: dict[tuple[str, str], bytes] = {}
    try:
        for one in order:
            if isinstance(one, bytes):
                changed: AddResult | Followed = records.add(one, now=NOW)
            else:
                changed = records.apply_chain([one], source=SOURCE, next_block=1)
            for head in changed.heads:
                heads[(head.site_id, head.channel)] = head.cid
            for where in changed.removed:
                del heads[where]
            if draw.random() < 0.1:
                records.close()
                records = open_store(path)
        state, ownership = expected(envelopes, facts)
        assert {c: why for c, why in refused(records).items() if why} == state.refused
        assert {c for c, why in refused(records).items() if why is None} == state.valid
        head_now = records.head(SITE)
        assert (head_now.cid if head_now else None) == state.head
        assert heads == ({(SITE, "production"): state.head} if state.head else {})
        for wallet in (A, B, C):
            listed = [h.cid for h in records.sites(wallet)]
            assert listed == ([state.head] if state.head and ownership.owner == wallet else [])
    finally:
        records.close()


@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow])
@given(STEPS, FACTS, st.randoms(use_true_random=False))
def test_any_order_of_records_and_facts_ends_in_the_state_that_the_rules_give(
    steps: list[list[int]], drawn: list[tuple[int, int, int]], draw: random.Random
) -> None:
    envelopes, facts = build(steps), told(drawn)
    for _ in range(2):
        with tempfile.TemporaryDirectory() as folder:
            fed(envelopes, facts, draw, Path(folder))


def test_the_worlds_drawn_are_rich() -> None:
    """Else the test above would say little."""
    reasons: set[str] = set()
    winners: set[bytes] = set()
    for seed in range(40):
        draw = random.Random(seed)
        steps = [[draw.randrange(64) for _ in range(7)] for _ in range(16)]
        drawn = [(draw.randrange(6), draw.randrange(4), draw.randrange(1, 4)) for _ in range(4)]
        envelopes = build(steps)
        state, _ = expected(envelopes, told(drawn))
        reasons |= set(state.refused.values())
        by = {codec.record_cid(codec.decode_envelope(e).record): e for e in envelopes}
        if state.head:
            winners.add(verify(codec.decode_envelope(by[state.head]).record, RULES).owner)
    assert reasons >= {"not-owner", "transferred", "ended-delegation", "revoked-key", "refused-parent"}
    assert winners == {A, B, C}
