from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from decentraspace.content import cid as cids
from decentraspace.errors import BadInput
from decentraspace.identity.keys import NodeKey
from decentraspace.records import codec
from decentraspace.records.schema import site_id
from decentraspace.records.store import FLAG_HEADERS, FLAG_REDIRECTS, RecordStore
from decentraspace.records.verdict import RecordRefused
from tests.records.factory import (
    address_of,
    make_announcement,
    make_receipt,
    make_revocation,
    make_session,
    make_site,
    make_wallet,
    take,
)
from tests.records.worlds import open_store

T0 = 1_700_006_400  # 00:00 UTC
DAY = 86400
NOW = T0 + 1000
WALLET = make_wallet()
OWNER = address_of(WALLET)
SITE = site_id(OWNER, "site")
SESSION = make_session(WALLET, issued_at=T0)
NODE, OTHER, FLOODER = NodeKey.generate(), NodeKey.generate(), NodeKey.generate()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RecordStore]:
    store = open_store(tmp_path / "records.sqlite")
    yield store
    store.close()


def root(name: str) -> bytes:
    return cids.make(cids.RAW, name.encode())


def site(name: str = "a", **changes: object) -> bytes:
    return make_site(WALLET, SESSION, root=root(name), **{"created": NOW, **changes})


def refusal(store: RecordStore, envelope: bytes, **options: object) -> str:
    with pytest.raises(RecordRefused) as caught:
        store.add(envelope, **{"now": NOW, **options})  # type: ignore[arg-type]
    return caught.value.problem_slug


# -- what a store says


def test_a_version_is_found_by_all_its_names(store: RecordStore) -> None:
    record = site(has_headers=True, size=7)
    result = store.add(take(record, NODE, NOW), now=NOW)
    head = store.head(SITE)
    assert head is not None
    assert (result.status, result.heads, result.removed) == ("accepted", (head,), ())
    assert (head.site_id, head.channel, head.label, head.owner) == (SITE, "production", "site", OWNER)
    assert (head.seq, head.root, head.cid, head.prev) == (1, root("a"), codec.record_cid(record), None)
    assert (head.created, head.size, head.flags, head.refused) == (NOW, 7, FLAG_HEADERS, None)
    assert FLAG_HEADERS != FLAG_REDIRECTS
    assert store.history(SITE) == store.sites(OWNER) == store.all_heads() == [head]
    assert store.record(head.cid) == record
    assert store.sponsor(head.cid) == NODE.public
    assert store.envelopes([bytes(36), head.cid, head.cid]) == [take(record, NODE, NOW)] * 2
    assert store.channels(SITE) == ["production"]
    assert store.counts() == {"site": 1}
    assert store.ids() == [head.cid]


def test_what_is_not_here_is_none(store: RecordStore) -> None:
    assert store.head(SITE) is None
    assert store.history(SITE) == store.sites(OWNER) == store.equivocations(SITE) == store.ids() == []
    assert store.record(root("x")) is None
    assert store.sponsor(root("x")) is None
    with pytest.raises(BadInput):
        store.record(b"no CID")


def test_a_record_is_taken_once_whoever_sponsors_it(store: RecordStore) -> None:
    record = site()
    assert store.add(take(record, NODE, NOW), now=NOW).status == "accepted"
    for envelope in (take(record, NODE, NOW), take(record, OTHER, NOW + 1)):
        again = store.add(envelope, now=NOW + 1)
        assert (again.status, again.heads, again.removed) == ("known", (), ())
    assert store.sponsor(codec.record_cid(record)) == NODE.public
    assert store.envelopes(store.ids()) == [take(record, NODE, NOW)]


def test_rollback_is_a_new_version_with_an_old_root(store: RecordStore) -> None:
    prev: bytes | None = None
    for seq, name in enumerate(["good", "bad", "good"], 1):
        record = site(name, seq=seq, prev=prev)
        [head] = store.add(take(record, NODE, NOW), now=NOW).heads
        assert (head.seq, head.root) == (seq, root(name))
        prev = head.cid
    assert [version.seq for version in store.history(SITE)] == [3, 2, 1]
    assert [version.seq for version in store.history(SITE, limit=2)] == [3, 2]
    assert all(version.refused is None for version in store.history(SITE))


def test_channels_are_chains_of_their_own(store: RecordStore) -> None:
    store.add(take(site("a"), NODE, NOW), now=NOW)
    store.add(take(site("b", channel="preview"), NODE, NOW), now=NOW)
    assert store.channels(SITE) == ["preview", "production"]
    heads = [store.head(SITE), store.head(SITE, "preview")]
    assert [head.root for head in heads if head] == [root("a"), root("b")]
    assert store.equivocations(SITE) == []


def test_sites_come_in_pages(store: RecordStore) -> None:
    labels = [f"s{n}" for n in range(7)]
    for label in labels:
        store.add(take(site(label=label), NODE, NOW), now=NOW)
    other = make_wallet()
    store.add(take(make_site(other, make_session(other, issued_at=T0), created=NOW), NODE, NOW), now=NOW)
    pages, after = [], ""
    while page := store.sites(OWNER, after=after, limit=3):
        pages.append(len(page))
        after = page[-1].site_id
    assert pages == [3, 3, 1]
    assert {head.label for head in store.sites(OWNER)} == set(labels)
    assert [head.site_id for head in store.all_heads()] == sorted(head.site_id for head in store.all_heads())
    assert len(store.all_heads()) == 8


def test_a_fork_of_one_key_is_kept_as_evidence(store: RecordStore) -> None:
    envelopes = [take(site(name), NODE, NOW) for name in "abc"]
    for envelope in envelopes:
        store.add(envelope, now=NOW)
    low, *others = sorted(store.ids())
    assert store.equivocations(SITE) == [(low, other) for other in others]
    head = store.head(SITE)
    assert head is not None
    assert head.cid == low
    for pair in store.equivocations(SITE):  # whoever doubts can check both signatures
        assert all(store.record(cid) for cid in pair)


def test_a_revoked_site_has_no_head_until_its_owner_publishes_again(store: RecordStore) -> None:
    store.add(take(site(), NODE, NOW), now=NOW)
    newer = make_session(WALLET, issued_at=T0 + 10)
    result = store.add(take(make_revocation(WALLET, newer, SESSION[0], created=NOW), NODE, NOW), now=NOW)
    assert (result.heads, result.removed) == ((), ((SITE, "production"),))
    assert store.head(SITE) is None
    assert store.channels(SITE) == store.all_heads() == []
    assert [version.refused for version in store.history(SITE)] == ["revoked-key"]
    again = store.add(take(make_site(WALLET, newer, created=NOW), NODE, NOW), now=NOW)
    assert store.head(SITE) in again.heads


def test_the_newest_statement_of_a_node_counts(store: RecordStore) -> None:
    for seq, status in ((2, "accepted"), (1, "stale"), (3, "accepted"), (2, "stale"), (3, "known")):
        record = make_announcement(NODE, seq=seq, created=NOW + seq)
        assert store.add(take(record, NODE, NOW), now=NOW).status == status
        assert len(store.nodes(NOW)) == 1
    [statement] = store.nodes(NOW)
    assert (statement.body.seq, statement.peer_id) == (3, NODE.peer_id)
    assert store.counts() == {"node": 1}
    assert store.nodes(NOW + 3 + DAY) == [statement]
    assert store.nodes(NOW + 4 + DAY) == []


def test_a_node_has_one_receipt_for_each_channel(store: RecordStore) -> None:
    for node in (NODE, OTHER):
        for channel in ("production", "pr-1"):
            receipt = make_receipt(node, root=root("a"), channel=channel, created=NOW)
            store.add(take(receipt, node, NOW), now=NOW)
    assert {receipt.key for receipt in store.receipts(root("a"))} == {NODE.public, OTHER.public}
    assert len(store.receipts(root("a"))) == 2
    newer = make_receipt(NODE, root=root("b"), size=9, seq=2, created=NOW)
    assert store.add(take(newer, NODE, NOW), now=NOW).status == "accepted"
    older = make_receipt(NODE, root=root("c"), seq=1, created=NOW)
    assert store.add(take(older, NODE, NOW), now=NOW).status == "stale"
    assert store.counts() == {"receipt": 4}
    assert {receipt.body.size for receipt in store.receipts(root("b"))} == {9}
    assert store.receipts(root("c")) == []


def test_a_receipt_can_be_taken_back(store: RecordStore) -> None:
    store.add(take(make_receipt(NODE, root=root("a"), created=NOW), NODE, NOW), now=NOW)
    back = make_receipt(NODE, root=root("a"), held=False, created=NOW)
    assert store.add(take(back, NODE, NOW), now=NOW).status == "accepted"
    assert store.receipts(root("a")) == []
    said = store.receipt_of(NODE.public, site_id(bytes(20), "site"), "production")
    assert said is not None
    assert not said.body.held
    again = make_receipt(NODE, root=root("a"), created=NOW + 1)
    store.add(take(again, NODE, NOW + 1), now=NOW + 1)
    assert [receipt.key for receipt in store.receipts(root("a"))] == [NODE.public]


def test_who_took_a_root_in(store: RecordStore) -> None:
    """The newest first; not those of versions that do not count."""
    assert store.sponsors_of(root("a")) == []
    for number, node in enumerate((NODE, OTHER, FLOODER)):
        store.add(take(site(label=f"s{number}", created=NOW + number), node, NOW), now=NOW)
    assert store.sponsors_of(root("a")) == [FLOODER.public, OTHER.public, NODE.public]
    assert store.sponsors_of(root("a"), limit=1) == [FLOODER.public]
    newer = make_session(WALLET, issued_at=T0 + 10)
    store.add(take(make_revocation(WALLET, newer, SESSION[0], created=NOW), NODE, NOW), now=NOW)
    assert store.sponsors_of(root("a")) == []


def test_threads_that_bring_the_same_records_end_alike(store: RecordStore) -> None:
    envelopes = [take(site(label=f"s{n}"), NODE, NOW) for n in range(20)]
    accepted: list[str] = []

    def bring(start: int) -> None:
        for envelope in envelopes[start:] + envelopes[:start]:
            accepted.append(store.add(envelope, now=NOW).status)

    threads = [threading.Thread(target=bring, args=(start,)) for start in (0, 5, 10, 15)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(accepted) == ["accepted"] * 20 + ["known"] * 60
    assert len(store.all_heads()) == 20


# -- sponsors and their quotas


def test_a_flooding_sponsor_is_cut_off_and_others_are_not(tmp_path: Path) -> None:
    store = open_store(tmp_path / "records.sqlite", sponsor_records=5)
    slugs = []
    for number in range(8):  # each by a wallet of its own: it costs nothing
        wallet = make_wallet()
        record = make_site(wallet, make_session(wallet, issued_at=T0), created=NOW)
        try:
            slugs.append(store.add(take(record, FLOODER, NOW), now=NOW + number).status)
        except RecordRefused as error:
            slugs.append(error.problem_slug)
            assert not error.faulty  # noqa: PT017 - who passes it on cannot know this node's quotas
    assert slugs == ["accepted"] * 5 + ["sponsor-quota"] * 3
    assert store.add(take(site(), NODE, NOW), now=NOW).status == "accepted"
    assert store.add(take(site(label="x"), FLOODER, NOW), now=NOW, local=True).status == "accepted"
    assert refusal(store, take(site(label="y"), FLOODER, NOW)) == "sponsor-quota"
    # Another sponsor may answer for it, and on another day so may this one.
    assert store.add(take(site(label="y"), NODE, NOW), now=NOW).status == "accepted"
    late = make_session(WALLET, issued_at=T0 + DAY)
    record = make_site(WALLET, late, label="z", created=T0 + DAY)
    assert store.add(take(record, FLOODER, T0 + DAY), now=T0 + DAY).status == "accepted"
    store.close()


def test_the_quota_outlives_a_restart(tmp_path: Path) -> None:
    for label, expected in (("a", "accepted"), ("b", "accepted"), ("c", "sponsor-quota")):
        store = open_store(tmp_path / "records.sqlite", sponsor_records=2)
        envelope = take(site(label=label), FLOODER, NOW)
        if expected == "accepted":
            assert store.add(envelope, now=NOW).status == expected
        else:
            assert refusal(store, envelope) == expected
        store.close()


def test_bytes_are_counted_too(tmp_path: Path) -> None:
    size = len(take(site(), FLOODER, NOW))
    store = open_store(tmp_path / "records.sqlite", sponsor_bytes=2 * size + 10)
    for label in ("s1", "s2"):
        store.add(take(make_site(WALLET, SESSION, label=label, created=NOW), FLOODER, NOW), now=NOW)
    assert refusal(store, take(site(label="s3"), FLOODER, NOW)) == "sponsor-quota"
    store.close()


def test_a_sponsor_of_rubbish_is_listened_to_less(tmp_path: Path) -> None:
    store = open_store(tmp_path / "records.sqlite", sponsor_records=25)
    for number in range(2):
        assert refusal(store, take(b"rubbish %d" % number, FLOODER, NOW)) == "malformed-record"
    slugs = []
    for number in range(6):
        try:
            slugs.append(store.add(take(site(label=f"s{number}"), FLOODER, NOW), now=NOW).status)
        except RecordRefused as error:
            slugs.append(error.problem_slug)
    assert slugs == ["accepted"] * 5 + ["sponsor-quota"]
    store.close()


def test_nobody_is_charged_for_what_another_forged_in_its_name(tmp_path: Path) -> None:
    store = open_store(tmp_path / "records.sqlite", sponsor_records=2)
    good = codec.decode_envelope(take(site(), NODE, NOW))
    forged = take(b"rubbish", FLOODER, NOW).replace(FLOODER.public, NODE.public)
    for _ in range(5):
        assert refusal(store, forged) == "bad-signature"
        assert refusal(store, good.raw[:-1]) == "malformed-record"
    assert store.add(good.raw, now=NOW).status == "accepted"
    store.close()


@pytest.mark.parametrize("what", ["newer version", "future", "long expired"])
def test_nobody_is_charged_for_what_depends_on_who_looks_when(tmp_path: Path, what: str) -> None:
    store = open_store(tmp_path / "records.sqlite", sponsor_records=2)
    envelope, now, slug = {
        "newer version": (take(b"\xa2\x61v\x02\x64kind\x61x", NODE, NOW), NOW, "unknown-version"),
        "future": (take(site(), NODE, NOW), NOW - 500, "future-record"),
        "long expired": (take(site(), NODE, NOW), T0 + 9 * DAY, "expired-delegation"),
    }[what]
    for _ in range(5):
        assert refusal(store, envelope, now=now) == slug
    session = make_session(WALLET, issued_at=now)
    fresh = make_site(WALLET, session, label="x", created=now)
    assert store.add(take(fresh, NODE, now), now=now).status == "accepted"
    store.close()


def test_nobody_is_charged_for_what_others_repeat(tmp_path: Path) -> None:
    """A node's old announcements are signed for ever: whoever kept them could use its quota up."""
    store = open_store(tmp_path / "records.sqlite", sponsor_records=3)
    old = take(make_announcement(NODE, seq=1, created=NOW), NODE, NOW)
    new = take(make_announcement(NODE, seq=2, created=NOW), NODE, NOW)
    statuses = [store.add(envelope, now=NOW).status for envelope in (old, new, *[old, new] * 5)]
    assert statuses == ["accepted", "accepted", *["stale", "known"] * 5]
    assert store.add(take(site(), NODE, NOW), now=NOW).status == "accepted"
    store.close()


def test_what_a_joining_node_fetches_is_counted_on_the_days_it_was_taken(tmp_path: Path) -> None:
    store = open_store(tmp_path / "records.sqlite", sponsor_records=2)
    today = T0 + 30 * DAY
    for day in range(4):
        session = make_session(WALLET, issued_at=T0 + day * DAY)
        for label in ("a", "b"):
            record = make_site(WALLET, session, label=f"{label}{day}", created=T0 + day * DAY)
            envelope = take(record, NODE, T0 + day * DAY)
            assert refusal(store, envelope, now=today) == "expired-delegation"
            assert store.add(envelope, now=today, joining=True).status == "accepted"
        record = make_site(WALLET, session, label=f"c{day}", created=T0 + day * DAY)
        late = take(record, NODE, T0 + day * DAY)
        assert refusal(store, late, now=today, joining=True) == "sponsor-quota"
        # Rubbish, of its own or of others, does not make a node forget.
        refusal(store, take(b"rubbish", FLOODER, NOW), now=today, joining=True)
        assert refusal(store, late, now=today, joining=True) == "sponsor-quota"
    store.close()


def test_work_made_for_others_is_charged(tmp_path: Path) -> None:
    """One revocation may turn over hundreds of versions: that is not the price of one record."""
    store = open_store(tmp_path / "records.sqlite", sponsor_records=110)
    prev = None
    for seq in range(1, 101):
        record = site(str(seq), seq=seq, prev=prev)
        prev = codec.record_cid(record)
        store.add(take(record, NODE, NOW), now=NOW, local=True)
    left = []
    for moment in range(1, 60):
        signer = make_session(WALLET, issued_at=T0 + moment)
        revocation = make_revocation(WALLET, signer, SESSION[0], created=NOW)
        try:
            store.add(take(revocation, FLOODER, NOW), now=NOW)
        except RecordRefused as error:
            left.append(error.problem_slug)
            break
        overrule = make_revocation(
            WALLET, make_session(WALLET, issued_at=T0 + 100 + moment), signer[0], created=NOW
        )
        try:
            store.add(take(overrule, FLOODER, NOW), now=NOW)
        except RecordRefused as error:
            left.append(error.problem_slug)
            break
    assert left == ["sponsor-quota"]
    assert store.counts()["revocation"] < 50
    store.close()


def test_work_found_while_joining_is_charged_to_the_day_of_its_record(tmp_path: Path) -> None:
    store = open_store(tmp_path / "records.sqlite", sponsor_records=4)
    today = T0 + 30 * DAY
    for n in range(60):
        store.add(take(site(str(n)), OTHER, NOW), now=NOW, local=True)
    newer = make_session(WALLET, issued_at=T0 + 1)
    revocation = make_revocation(WALLET, newer, SESSION[0], created=NOW)
    assert store.add(take(revocation, NODE, NOW), now=today, joining=True).status == "accepted"
    assert refusal(store, take(site(label="x"), NODE, NOW), now=today, joining=True) == "sponsor-quota"
    for label in ("a", "b", "c", "d"):
        session = make_session(WALLET, issued_at=today)
        record = make_site(WALLET, session, label=label, created=today)
        assert store.add(take(record, NODE, today), now=today).status == "accepted"
    store.close()


def test_a_refused_record_leaves_nothing_behind(store: RecordStore) -> None:
    for envelope in (b"", b"rubbish", take(b"rubbish", NODE, NOW), take(site(), NODE, NOW)[:-1]):
        refusal(store, envelope)
    refusal(store, take(site(), NODE, NOW), now=T0 + 9 * DAY)
    assert store.ids() == store.all_heads() == []
    assert store.counts() == {}


def test_announced_nodes_are_those_on_disk_however_they_came(store: RecordStore) -> None:
    def told() -> dict[bytes, str]:
        return {node.key: node.body.name for node in store.nodes(NOW)}

    assert told() == {}
    for number, (node, name) in enumerate([(NODE, "a"), (OTHER, "b"), (NODE, "c"), (NODE, "older")]):
        seq = NOW + (number if name != "older" else -1)
        record = make_announcement(node, name=name, seq=seq, created=NOW)
        store.add(take(record, node, NOW), now=NOW)
    assert told() == {NODE.public: "c", OTHER.public: "b"}
    batch = [
        take(make_announcement(OTHER, name=name, seq=NOW + 10 + n, created=NOW), OTHER, NOW)
        for n, name in enumerate("xy")
    ]
    store.add_many(batch, now=NOW)
    assert told() == {NODE.public: "c", OTHER.public: "y"}
    store._nodes = None  # as after a restart
    assert told() == {NODE.public: "c", OTHER.public: "y"}


def test_more_memory_while_many_records_come_and_no_longer(store: RecordStore) -> None:
    """What is kept in memory is bounded again when the last who brings many is done, however it ends."""

    def cache() -> int:
        return -int(store._db.execute("PRAGMA cache_size").fetchone()[0])

    usual = cache()
    with pytest.raises(KeyError), store.many():
        with store.many():
            assert cache() > usual
            store.add(take(site(), NODE, NOW), now=NOW)
        assert cache() > usual
        raise KeyError
    assert cache() <= usual
    assert store.head(SITE) is not None
