"""The gateway's index: read back as written, switched at once for other processes, strict about labels."""

from __future__ import annotations

import threading
from pathlib import Path

import libipld
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from decentraspace.content import cid as cids
from decentraspace.content.blockstore import BlockStore
from decentraspace.content.siteindex import FLAG_BLOCKED, FLAG_PAUSED, SiteEntry, SiteIndex, decode
from decentraspace.errors import BadInput
from tests.content.stores import audit, leaf, python

ENTRY = SiteEntry("b" * 26, "my-site", bytes(range(20)), leaf(b"root")[0], 7)


def test_what_was_put_is_there_after_reopening_until_it_is_deleted(tmp_path: Path) -> None:
    with BlockStore.open(tmp_path / "s", quota=1000) as store:
        index = SiteIndex(store)
        index.put("my-site--b", ENTRY)
        index.put("other--b", ENTRY._replace(flags=FLAG_PAUSED | FLAG_BLOCKED))
    with BlockStore.open(tmp_path / "s", quota=1000) as store:
        index = SiteIndex(store)
        assert index.get("my-site--b") == ENTRY
        assert dict(index.all()) == {"my-site--b": ENTRY, "other--b": ENTRY._replace(flags=3)}
        index.delete("my-site--b")
        index.delete("my-site--b")
        assert index.get("my-site--b") is None
        assert [label for label, _ in index.all()] == ["other--b"]
        audit(store)


@settings(max_examples=50)
@given(
    st.builds(
        SiteEntry,
        site_id=st.text(max_size=30),
        label=st.text(max_size=63),
        owner=st.binary(min_size=20, max_size=20),
        root=st.binary(min_size=36, max_size=36),
        seq=st.integers(0, 2**63 - 1),
        flags=st.integers(0, 3),
    )
)
def test_any_entry_comes_back_and_equal_bytes_mean_equal_entries(
    tmp_path_factory: pytest.TempPathFactory, entry: SiteEntry
) -> None:
    with BlockStore.open(tmp_path_factory.mktemp("index") / "s", quota=1000) as store:
        index = SiteIndex(store)
        index.put("host", entry)
        raw = index.get_raw("host")
        assert raw is not None
        assert decode(raw) == entry == index.get("host")
        index.put("host", entry)
        assert index.get_raw("host") == raw


@pytest.mark.parametrize("label", ["", "x" * 64, "x" * 600, "bücher", "\udcff"])
def test_what_cannot_be_a_host_is_not_found_and_not_taken(store: BlockStore, label: str) -> None:
    index = SiteIndex(store)
    assert index.get(label) is None
    index.delete(label)
    with pytest.raises(BadInput):
        index.put(label, ENTRY)
    assert list(index.all()) == []


def test_content_is_paused_where_all_that_show_it_are(store: BlockStore) -> None:
    index, root = SiteIndex(store), ENTRY.root
    paused = ENTRY._replace(flags=FLAG_PAUSED)
    assert index.paused(root) is None
    index.put("one", paused)
    index.put("two", ENTRY)
    assert index.paused(root) is None
    index.put("two", paused)
    assert index.paused(root) in ("one", "two")
    index.delete("one")
    assert index.paused(root) == "two"
    index.put("two", paused._replace(root=cids.make(cids.RAW, b"other")))
    assert index.paused(root) is None
    assert [label for label, _ in index.all()] == ["two"]
    index.delete("two")
    assert index.paused(cids.make(cids.RAW, b"other")) is None


def test_entries_of_an_earlier_version_are_completed(store: BlockStore) -> None:
    index = SiteIndex(store)
    with store.write() as txn:
        txn.put(
            b"old", libipld.encode_dag_cbor(list(ENTRY._replace(flags=FLAG_PAUSED))), db=store.db["hosts"]
        )
    assert index.paused(ENTRY.root) is None
    index.complete()
    assert index.paused(ENTRY.root) == "old"


def test_the_longest_label_fits(store: BlockStore) -> None:
    SiteIndex(store).put("x" * 63, ENTRY)
    assert SiteIndex(store).get("x" * 63) == ENTRY


VISITOR = """
import select, sys
from pathlib import Path
from decentraspace.content import cid as cids
from decentraspace.content.blockstore import BlockStore
from decentraspace.content.siteindex import SiteIndex
seen = []
with BlockStore.open(Path(sys.argv[1]), readonly=True) as store:
    index = SiteIndex(store)
    print("ready", flush=True)
    while not seen or seen[-1] < int(sys.argv[2]):
        entry = index.get("host")
        assert entry.root[-8:] == entry.seq.to_bytes(8, "big"), "a mixture of two versions"
        seen.append(entry.seq)
assert seen == sorted(seen), "an older version after a newer one"
print(len(seen), len(set(seen)))
"""


def test_another_process_sees_the_old_version_or_the_new_and_never_goes_back(tmp_path: Path) -> None:
    def version(seq: int) -> SiteEntry:
        return ENTRY._replace(seq=seq, root=bytes(28) + seq.to_bytes(8, "big"))

    with BlockStore.open(tmp_path / "s", quota=1 << 20) as store:
        index = SiteIndex(store)
        index.put("host", version(1))
        visitor = python(VISITOR, tmp_path / "s", 200)
        assert visitor.stdout
        assert visitor.stdout.readline() == "ready\n"
        for seq in range(2, 201):
            index.put("host", version(seq))
        reads, versions = map(int, visitor.communicate(timeout=60)[0].split())
        assert visitor.returncode == 0
        assert reads >= versions > 1


def test_many_threads_point_at_once(store: BlockStore) -> None:
    index = SiteIndex(store)

    def point(who: int) -> None:
        for seq in range(30):
            index.put(f"host{who}", ENTRY._replace(seq=seq))

    threads = [threading.Thread(target=point, args=(who,)) for who in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {label: entry.seq for label, entry in index.all()} == {f"host{who}": 29 for who in range(4)}
