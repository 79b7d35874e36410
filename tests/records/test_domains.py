"""Links of names: which one counts, whatever comes first; and what bounds their number."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from decentraspace.config import RecordsConfig
from decentraspace.errors import BadInput
from decentraspace.records import codec, domains
from decentraspace.records.domains import Link, link_of
from decentraspace.records.ownership import Ended, Fact, Ownership, Transfer, epochs
from decentraspace.records.schema import DomainLink, Revocation, check_name, site_id
from decentraspace.records.signing import sign_domain
from decentraspace.records.state import Revoked
from decentraspace.records.store import AddResult, RecordStore
from decentraspace.records.verdict import RecordRefused, verify
from tests.records.factory import RULES, address_of, make_revocation, make_session, take
from tests.records.worlds import KEYS, NODES, NOW, SESSIONS, T0, WALLETS, open_store

A, B = (address_of(wallet) for wallet in WALLETS)
NAMES = ("shop.example", "xn--bcher-kva.example")
LABELS = ("one", "two")
SITES = [site_id(owner, label) for owner in (A, B) for label in LABELS]


def link(
    who: int = 0,
    key: int = 0,
    moment: int = 0,
    *,
    site: tuple[bytes, str] | None = (A, "one"),
    **changes: Any,
) -> bytes:
    """A record of wallet `who`, by session key `key` under its delegation of `moment`."""
    values: dict[str, Any] = {"name": NAMES[0], "seq": 1, "created": T0 + 100, **changes}
    founder, label = site or (None, None)
    body = DomainLink(owner=(A, B)[who], founder=founder, label=label, **values)
    return sign_domain(body, *SESSIONS[who][key][moment], RULES)


def put(store: RecordStore, record: bytes, node: int = 0) -> AddResult:
    return store.add(take(record, NODES[node], NOW), now=NOW)


def shown(store: RecordStore, name: str, wallet: bytes) -> str | None:
    """The site that the wallet has the name show."""
    found = store.linked(name, wallet)
    return found.site if found else None


@pytest.fixture
def store(tmp_path: Path) -> Any:
    opened = open_store(tmp_path / "records.sqlite")
    yield opened
    opened.close()


# -- what a name is


@pytest.mark.parametrize(
    "name", ["shop.example", "a", "xn--bcher-kva.example", "1.a", "a-b.c", "x" * 63 + ".eth"]
)
def test_names(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize(
    "name",
    ["", ".", "a.", ".a", "A.example", "bücher.example", "a..b", "-a.b", "a-.b", "_dnslink.a", "10.0.0.1", "a.7",
     "a b.c", "a/b", "a\n", "x" * 64 + ".eth", ".".join(["a" * 60] * 4), "[::1]", None, b"a.example"],
)  # fmt: skip
def test_no_names(name: Any) -> None:
    with pytest.raises(BadInput) as caught:
        check_name(name)
    assert caught.value.problem_slug == "bad-name"


# -- whose it is to say


def test_a_link_is_signed_for_the_wallet_by_a_key_of_all_its_sites() -> None:
    body = DomainLink(A, NAMES[0], 1, T0 + 100, A, "one")
    for session, slug in [
        (SESSIONS[1][0][0], "wrong-owner"),
        (make_session(WALLETS[0], issued_at=T0, scope=site_id(A, "one")), "out-of-scope"),
        (make_session(WALLETS[0], issued_at=T0 + 200), "expired-delegation"),
    ]:
        with pytest.raises(RecordRefused) as caught:
            verify(sign_domain(body, *session, RULES), RULES)
        assert caught.value.problem_slug == slug
    assert verify(link(), RULES).body == body


def test_a_link_and_its_end(store: RecordStore) -> None:
    put(store, link())
    assert shown(store, NAMES[0], A) == SITES[0]
    assert shown(store, NAMES[1], A) is shown(store, NAMES[0], B) is None
    put(store, link(site=None, seq=2))
    assert store.linked(NAMES[0], A) is None
    assert store.link_number(NAMES[0], A) == 2
    assert store.link(NAMES[0], A) is not None, "it counts, and shows nothing"
    put(store, link(site=(A, "two"), seq=3))
    assert shown(store, NAMES[0], A) == SITES[1]
    assert store.names_of(A) == [NAMES[0]]


def test_a_proof_travels_with_the_link_and_with_no_end_of_one(store: RecordStore) -> None:
    put(store, link(proof="c2lnbmVk"))
    found = store.linked(NAMES[0], A)
    assert found is not None
    assert found.proof == "c2lnbmVk"
    put(store, link(seq=2))
    newer = store.linked(NAMES[0], A)
    assert newer is not None
    assert newer.proof is None
    with pytest.raises(BadInput, match="goes with a site"):
        put(store, link(seq=3, site=None, proof="c2lnbmVk"))


def test_several_wallets_claim_a_name_and_none_shuts_out_another(store: RecordStore) -> None:
    put(store, link(1, site=(B, "one"), seq=2**53 - 1))
    put(store, link())
    assert store.claimants(NAMES[0]) == [B, A]
    for wallet, site in ((A, SITES[0]), (B, SITES[2])):
        assert shown(store, NAMES[0], wallet) == site


def test_a_newer_login_outranks_every_number(store: RecordStore) -> None:
    put(store, link(moment=0, seq=2**53 - 1))
    put(store, link(key=1, moment=1, site=(A, "two"), seq=1))
    assert shown(store, NAMES[0], A) == SITES[1]


def test_what_a_stolen_key_linked_ends_with_it_and_what_was_before_comes_back(store: RecordStore) -> None:
    put(store, link(key=0, moment=0))
    put(store, link(key=1, moment=1, site=(A, "two"), seq=9))
    put(store, link(key=1, moment=1, name=NAMES[1]))
    revocation = make_revocation(WALLETS[0], SESSIONS[0][2][2], KEYS[1], created=T0 + 100)
    put(store, revocation)
    assert shown(store, NAMES[0], A) == SITES[0]
    assert store.linked(NAMES[1], A) is None


def test_a_revocation_for_one_site_leaves_links_of_the_others(store: RecordStore) -> None:
    put(store, link(key=1, moment=1))
    put(store, link(key=1, moment=1, name=NAMES[1], site=(A, "two")))
    put(
        store,
        make_revocation(WALLETS[0], SESSIONS[0][2][2], KEYS[1], site=SITES[0], after=2**40, created=T0 + 100),
    )
    assert store.linked(NAMES[0], A) is None
    assert store.linked(NAMES[1], A) is not None


def chain(store: RecordStore, *facts: Fact) -> None:
    store.apply_chain(facts, source="1:0xregistry", next_block=max(fact.block for fact in facts) + 1)


def test_links_to_a_site_that_was_given_away_end_and_do_not_come_back_with_it(store: RecordStore) -> None:
    put(store, link(moment=0))
    assert store.linked(NAMES[0], A) is not None
    chain(store, Transfer(SITES[0], 5, 0, T0 + 2, B))
    assert store.linked(NAMES[0], A) is None
    put(store, link(1, moment=3, name=NAMES[1]))  # the new owner's own name, for the site they bought
    assert shown(store, NAMES[1], B) == SITES[0]
    chain(store, Transfer(SITES[0], 6, 0, T0 + 3, A))
    assert shown(store, NAMES[0], A) is shown(store, NAMES[1], B) is None
    put(store, link(moment=3, seq=1))  # delegated anew
    assert store.linked(NAMES[0], A) is not None


@pytest.mark.parametrize("site", ["", SITES[0]])
def test_what_the_chain_has_ended(store: RecordStore, site: str) -> None:
    put(store, link(moment=0))
    put(store, link(moment=0, name=NAMES[1], site=(A, "two")))
    chain(store, Ended(A, site, 5, 0, T0 + 900, T0 + 2))
    assert store.linked(NAMES[0], A) is None
    assert (store.linked(NAMES[1], A) is None) == (site == "")


# -- bounds


def test_only_so_many_links_of_a_name_are_kept_whatever_comes_first(tmp_path: Path) -> None:
    records = [link(seq=seq) for seq in range(1, 2 * domains.KEPT)]
    right = sorted(codec.record_cid(record) for record in records[-domains.KEPT :])
    for seed in range(3):
        store = open_store(tmp_path / f"{seed}.sqlite")
        store.tree()
        for record in random.Random(seed).sample(records, len(records)):
            put(store, record)
        assert store.ids() == right
        assert sorted(store.tree()) == sorted(cid[-32:] for cid in right)
        assert put(store, records[0]).status == "stale"
        store.close()


def test_quotas(tmp_path: Path) -> None:
    store = open_store(tmp_path / "records.sqlite", owner_names=1, sponsor_claims=1)
    put(store, link())
    put(store, link(seq=2))  # of a name that is linked already
    with pytest.raises(RecordRefused) as caught:
        put(store, link(name=NAMES[1]))
    assert (caught.value.problem_slug, caught.value.faulty) == ("name-quota", False)
    with pytest.raises(RecordRefused) as caught:
        put(store, link(1, site=(B, "one")))
    assert caught.value.problem_slug == "sponsor-quota"
    put(store, link(1, site=(B, "one")), node=1)
    own = take(link(1, name=NAMES[1], site=(B, "one")), NODES[0], NOW)
    assert store.add(own, now=NOW, local=True).status == "accepted"  # the node's own limits apply before
    assert RecordsConfig().owner_names > 1
    store.close()


# -- in any order

STEPS = st.lists(st.lists(st.integers(0, 63), min_size=6, max_size=6), min_size=1, max_size=30)
FACTS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2), st.integers(0, 5)), max_size=5)


def build(steps: list[list[int]]) -> list[bytes]:
    records = []
    for kind, who, key, moment, site, odd in steps:
        session = SESSIONS[who % 2][key % 4][moment % 4]
        if kind % 4 == 0:
            owner = WALLETS[who % 2]
            where = (None, *SITES)[site % 5]
            after = odd % 4 if where else 0
            records.append(
                make_revocation(owner, session, KEYS[odd % 4], site=where, after=after, created=T0 + 100)
            )
        else:
            to = None if site % 5 == 0 else ((A, B)[site % 5 > 2], LABELS[site % 2])
            records.append(
                link(who % 2, key % 4, moment % 4, site=to, seq=1 + odd % 5, name=NAMES[kind % 8 == 1])
            )
    return records


def facts_of(drawn: list[tuple[int, int, int]]) -> list[Fact]:
    facts: list[Fact] = []
    for number, (site, who, at) in enumerate(drawn, 1):
        if who == 2:
            facts.append(Ended((A, B)[at % 2], ("", *SITES)[site], number, 0, T0 + number, T0 + at))
        else:
            facts.append(Transfer(SITES[site], number, 0, T0 + number - 1, (A, B)[who]))
    return facts


def expected(
    records: list[bytes], facts: list[Fact]
) -> tuple[dict[tuple[str, bytes], Link | None], list[bytes]]:
    """By the rule, from records and facts alone: links in force, and the records to be kept."""
    links: dict[tuple[str, bytes], list[Link]] = {}
    revocations: dict[bytes, list[Revoked]] = {A: [], B: []}
    keep = set()
    for record in records:
        found = verify(record, RULES)
        if isinstance(found.body, DomainLink):
            one = link_of(found.cid, found.key, found.issued_at, found.body)
            links.setdefault((one.name, one.wallet), []).append(one)
        elif isinstance(found.body, Revocation):
            keep.add(found.cid)
            body = found.body
            revocations[body.owner].append(
                Revoked(body.key, found.key, found.issued_at, body.site, body.after)
            )
    ended = [fact for fact in facts if isinstance(fact, Ended)]
    right = {}
    for (name, wallet), known in links.items():
        ownership = {
            site: Ownership(
                epochs(founder, [f for f in facts if isinstance(f, Transfer) and f.site == site]),
                tuple(e for e in ended if e.site in ("", site)),
            )
            for site, founder in zip(SITES, (A, A, B, B), strict=True)
        }
        right[name, wallet] = domains.resolve(known, revocations[wallet], ownership)
        keep |= {one.cid for one in domains.kept(known)}
    return right, sorted(keep)


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(STEPS, FACTS, st.randoms(use_true_random=False))
def test_any_order_ends_in_what_the_rule_gives(
    steps: list[list[int]], drawn: list[tuple[int, int, int]], draw: random.Random
) -> None:
    records, facts = build(steps), facts_of(drawn)
    right, keep = expected(records, facts)
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(Path(folder) / "records.sqlite")
        try:
            todo: list[bytes | list[Fact]] = [*records, *draw.sample(records, len(records) // 3)]
            draw.shuffle(todo)
            if facts:
                todo.insert(draw.randrange(len(todo) + 1), facts)
            for one in todo:
                if isinstance(one, bytes):
                    put(store, one, draw.randrange(3))
                else:
                    chain(store, *one)
            assert {where: store.linked(*where) for where in right} == right
            assert store.ids() == keep
            for name, wallet in right:
                assert wallet in store.claimants(name)
        finally:
            store.close()


def test_the_worlds_drawn_are_rich() -> None:
    """Else the test above would say little."""
    draw = random.Random(5)
    found: list[Link | None] = []
    over = 0
    for _ in range(100):
        records = build([[draw.randrange(64) for _ in range(6)] for _ in range(30)])
        right, keep = expected(records, facts_of([(draw.randrange(4), draw.randrange(3), draw.randrange(6))]))
        found += right.values()
        over += len(keep) < len({codec.record_cid(record) for record in records})
    assert {link is None for link in found} == {True, False}
    assert {link.site for link in found if link} == set(SITES)
    assert over > 5
