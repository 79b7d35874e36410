"""Blocks in and out, limits, other processes, and stores that cannot be opened."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import lmdb
import pytest

from decentraspace.content import cid as cids
from decentraspace.content import environment
from decentraspace.content.blockstore import BlockStore
from decentraspace.content.gc import collect
from decentraspace.content.importer import add_directory, add_file
from decentraspace.content.reader import BlockMissing
from decentraspace.content.storefile import SCHEMA
from decentraspace.errors import BadInput, ConfigError, QuotaExceeded, TooLarge, Unavailable, Unprocessable
from tests.content.stores import Block, audit, identity, leaf, node, python, table
from tests.support import ROOT


def test_what_was_put_comes_back_after_reopening(tmp_path: Path) -> None:
    blocks = [leaf(os.urandom(size)) for size in (0, 1, 100, 2038, 2039, 4096, 262_144, cids.MAX_BLOCK)]
    with BlockStore.open(tmp_path / "s", quota=1 << 30) as store:
        assert store.put_many(blocks) == len(blocks)
        assert store.put_many(blocks) == 0
    with BlockStore.open(tmp_path / "s", quota=1 << 30) as store:
        for cid, data in blocks:
            assert store.get(cid) == data
        assert store.stats() == (len(blocks), sum(len(d) for _, d in blocks), 1 << 30, 0)
        audit(store)


def test_what_was_not_put_is_missing(store: BlockStore) -> None:
    absent = leaf(b"never stored")[0]
    assert store.get(absent) is None
    assert not store.has(absent)
    with pytest.raises(BlockMissing) as caught:
        store.get_or_raise(absent)
    assert caught.value.cid == absent


def test_the_codec_does_not_matter_for_the_bytes(store: BlockStore) -> None:
    block = node([])
    store.put_many([block])
    as_raw = cids.make(cids.RAW, block[1])
    assert store.get(as_raw) == block[1]
    assert store.put_many([(as_raw, block[1])]) == 0


@pytest.mark.parametrize("data", [b"", b"small"])
def test_inlined_data_is_there_without_being_stored(store: BlockStore, data: bytes) -> None:
    cid = identity(cids.RAW, data)
    assert store.put_many([(cid, data)]) == 0
    assert store.get(cid) == data
    assert store.has_many([cid], touch=True) == [True]
    assert store.missing(node([cid])[0]) == [node([cid])[0]]
    store.put_many([node([cid])])
    assert store.missing(node([cid])[0]) == []
    assert not store.referenced(cid)
    assert store.stats().blocks == 1


@pytest.mark.parametrize(
    "cid", [b"", b"\x00", b"\x01", b"\x01\x55\x12\x20short", b"\x02" * 36, b"\x01" * 300]
)
def test_malformed_cids_are_refused(store: BlockStore, cid: bytes) -> None:
    for call in (store.get, store.has, store.referenced, store.is_pinned, lambda c: store.pin(c, "x")):
        with pytest.raises(BadInput):
            call(cid)
    with pytest.raises(BadInput):
        store.put_many([(cid, b"data")])
    audit(store)


def test_verification_on_request(store: BlockStore) -> None:
    good, lie = leaf(b"good"), (leaf(b"bad")[0], b"worse")
    with pytest.raises(Unprocessable):
        store.put_many([good, lie], verify=True)
    assert not store.has(lie[0])
    assert store.put_many([good], verify=True) == 1


def test_a_block_too_large_is_refused(store: BlockStore) -> None:
    with pytest.raises(TooLarge):
        store.put_many([leaf(bytes(cids.MAX_BLOCK + 1))])
    audit(store)


def test_missing_names_the_frontier_up_to_its_limit(store: BlockStore) -> None:
    leaves = [leaf(b"%d" % n) for n in range(2500)]
    inner = node(c for c, _ in leaves)
    root = node([inner[0], leaf(b"other")[0]])
    assert store.missing(root[0]) == [root[0]]
    store.put_many([root])
    assert set(store.missing(root[0])) == {inner[0], leaf(b"other")[0]}
    store.put_many([inner, *leaves[:10]])
    assert len(store.missing(root[0], limit=7)) == 7
    assert len(store.missing(root[0], limit=10_000)) == 2491
    with pytest.raises(BlockMissing):
        store.dag_size(root[0])


def test_the_size_of_a_dag_counts_each_block_once(store: BlockStore) -> None:
    shared = leaf(b"shared" * 100)
    root = node([shared[0]] * 50)
    store.put_many([shared, root])
    assert store.dag_size(root[0]) == len(shared[1]) + len(root[1])


# -- quota


def test_the_quota_is_exact_and_what_is_over_it_leaves_no_trace(tmp_path: Path) -> None:
    with BlockStore.open(tmp_path / "s", quota=1000) as store:
        store.put_many([leaf(b"a" * 600)])
        with pytest.raises(QuotaExceeded):
            store.put_many([leaf(b"b" * 300), leaf(b"c" * 101)])
        assert not store.has(leaf(b"b" * 300)[0])
        store.put_many([leaf(b"b" * 300), leaf(b"c" * 100)])
        assert store.stats().bytes == 1000
        assert store.put_many([leaf(b"a" * 600)]) == 0, "what is there already needs no room"
        with pytest.raises(QuotaExceeded):
            store.put_many([leaf(b"d")])
        audit(store)
        assert sum(p.bytes for p in collect(store, grace=-1)) == 1000
        store.put_many([leaf(b"d")])


def test_a_quota_lowered_later_refuses_more_but_keeps_what_is_there(tmp_path: Path) -> None:
    block = leaf(bytes(5000))
    with BlockStore.open(tmp_path / "s", quota=10_000) as store:
        store.put_many([block])
    with BlockStore.open(tmp_path / "s", quota=100) as store:
        with pytest.raises(QuotaExceeded):
            store.put_many([leaf(b"x")])
        assert store.get(block[0]) == block[1]
        store.pin(block[0], "still possible")


def test_a_flood_of_tiny_blocks_is_refused_before_the_map_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their indexes need more room than they do; a full map could not even be emptied."""
    monkeypatch.setattr(environment, "_SPARE", 2 << 20)
    with BlockStore.open(tmp_path / "s", quota=1 << 20) as store:
        stored = 0
        with pytest.raises(QuotaExceeded, match="pieces that small"):
            while True:
                stored += store.put_many(leaf(n.to_bytes(4, "big")) for n in range(stored, stored + 500))
        assert stored * 4 < store.quota / 10
        audit(store)
        assert sum(p.blocks for p in collect(store, grace=-1)) == stored
        audit(store)


@pytest.mark.parametrize("size", [1, 700, 1000, 1400, 2030, 2050, 4090])
def test_the_estimate_of_room_is_on_the_safe_side(tmp_path: Path, size: int) -> None:
    """Sizes that waste most of their pages."""
    with BlockStore.open(tmp_path / "s", quota=1 << 30) as store:
        blocks = [leaf(n.to_bytes(4, "big") + bytes(size)) for n in range(3000)]
        for start in range(0, len(blocks), 250):
            store.put_many(blocks[start : start + 250])
        count, stored, _, _ = store.stats()
    used = (tmp_path / "s" / "data.mdb").stat().st_size
    assert used <= stored * environment._PAGES_COST + count * environment._BLOCK_COST + (1 << 20)


def test_a_map_that_is_full_all_the_same_is_an_error_in_words_and_can_be_emptied(tmp_path: Path) -> None:
    blocks = [leaf(n.to_bytes(4, "big") * 10_000) for n in range(200)]
    with BlockStore.open(tmp_path / "s", quota=1 << 30) as store:
        store.env.set_mapsize(4 << 20)  # no other transaction is open
        with pytest.raises(QuotaExceeded, match="full"):
            for block in blocks:
                store.put_many([block])
        stored = store.stats().blocks
        assert 0 < stored < len(blocks)
        audit(store)
    with BlockStore.open(tmp_path / "s", quota=1 << 30) as store:
        assert sum(p.blocks for p in collect(store, grace=-1)) == stored
        store.put_many(blocks)
        audit(store)


def test_an_empty_block_is_counted(store: BlockStore) -> None:
    assert store.put_many([leaf(b"")]) == 1
    assert store.stats()[:2] == (1, 0)
    for _ in collect(store, grace=-1):
        pass
    assert store.stats()[:2] == (0, 0)


def test_many_threads_together_stay_within_the_quota(tmp_path: Path) -> None:
    acknowledged: list[Block] = []
    refused = []
    with BlockStore.open(tmp_path / "s", quota=100_000) as store:

        def put(who: int) -> None:
            for number in range(40):
                block = leaf(b"%d %d " % (who, number) * 200)
                try:
                    store.put_many([block])
                    acknowledged.append(block)
                except QuotaExceeded as error:
                    refused.append(error)

        threads = [threading.Thread(target=put, args=(who,)) for who in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert refused
        assert "keeps 100.0 kB" in refused[0].detail
        assert "storage.quota" in refused[0].hint
        assert store.stats().bytes <= 100_000
        assert all(store.get(cid) == data for cid, data in acknowledged)
        assert store.stats().blocks == len(acknowledged)
        audit(store)


FILLING = """
import os, resource, signal, sys
from pathlib import Path
from decentraspace.content import cid as cids
from decentraspace.content.blockstore import BlockStore
from decentraspace.content.gc import collect
from decentraspace.content.siteindex import SiteEntry, SiteIndex
from decentraspace.errors import QuotaExceeded
from tests.content.stores import Block, audit, leaf, node
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
with BlockStore.open(Path(sys.argv[1]), quota=1 << 30) as store:
    if len(sys.argv) > 2:
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
    stored = []
    try:
        while len(stored) < 1000:
            block = leaf(os.urandom(100_000))
            store.put_many([block])
            stored.append(block)
    except QuotaExceeded as error:
        print(error, error.hint, flush=True)
    audit(store)
    assert all(store.get(cid) == data for cid, data in stored)
    for cid, _ in stored[:5]:
        store.pin(cid, "kept")
    SiteIndex(store).put("host", SiteEntry("id", "label", bytes(20), stored[0][0], 1))
    assert sum(p.blocks for p in collect(store, grace=-1)) == len(stored) - 5
    for _ in range(20):  # room again, in the file that cannot grow
        store.put_many([leaf(os.urandom(100_000))])
    audit(store)
    print(len(stored), flush=True)
"""


def test_a_file_that_cannot_grow_is_said_in_words_and_loses_nothing(tmp_path: Path) -> None:
    """As with a disk quota: the write is cut short, which LMDB calls an input/output error."""
    process = python(FILLING, tmp_path / "s", 4 << 20)
    output = process.communicate(timeout=60)[0].splitlines()
    assert process.returncode == 0, output
    assert "cannot be written" in output[0]
    assert "disk full" in output[0]
    assert 10 < int(output[1]) < 42


def test_a_full_disk_is_said_in_words_and_loses_nothing(tmp_path: Path) -> None:
    """A real one: a file system of 8 MiB in a namespace of its own."""
    mounted = f'mount -t tmpfs -o size=8m none "{tmp_path}" && exec "$@"'
    inside = ["unshare", "-Urm", "sh", "-c", mounted, "sh"]
    if subprocess.run([*inside, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this system lets nobody mount in a namespace of their own")
    command = [*inside, sys.executable, "-c", FILLING, str(tmp_path / "s")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    output = done.stdout.splitlines()
    assert "cannot be written" in output[0]
    assert 30 < int(output[1]) < 84


def test_the_map_follows_the_quota_when_it_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A larger quota is there at once; a smaller one does not shut out what is stored already."""
    monkeypatch.setattr(environment, "_SPARE", 1 << 20)
    blocks = [leaf(n.to_bytes(4, "big") * 25_000) for n in range(100)]
    with BlockStore.open(tmp_path / "s", quota=1 << 20) as store, pytest.raises(QuotaExceeded):
        store.put_many(blocks)
    with BlockStore.open(tmp_path / "s", quota=16 << 20) as store:
        assert store.put_many(blocks) == len(blocks)
        store.pin(blocks[0][0], "kept")
    with BlockStore.open(tmp_path / "s", quota=1000) as store:
        audit(store)
        assert [store.get(cid) for cid, _ in blocks] == [data for _, data in blocks]
        store.pin(blocks[1][0], "kept")
        assert sum(p.blocks for p in collect(store, grace=-1)) == len(blocks) - 2
        audit(store)


# -- other openings of the same store


def test_one_opening_per_process(tmp_path: Path) -> None:
    with BlockStore.open(tmp_path / "s", quota=1000):
        with pytest.raises(ConfigError, match="open already"):
            BlockStore.open(tmp_path / "s", quota=1000)
        with pytest.raises(ConfigError, match="open already"):
            BlockStore.open(tmp_path / "x" / ".." / "s", readonly=True)
    with BlockStore.open(tmp_path / "s", readonly=True) as again:
        assert again.stats().blocks == 0
    again.close()  # twice does no harm


def test_closing_an_old_opening_again_leaves_a_newer_one_alone(tmp_path: Path) -> None:
    old = BlockStore.open(tmp_path / "s", quota=1000)
    old.close()
    with BlockStore.open(tmp_path / "s", quota=1000) as new:
        old.close()
        with pytest.raises(ConfigError, match="open already"):
            BlockStore.open(tmp_path / "s", quota=1000)
        assert new.put_many([leaf(b"x")]) == 1
    BlockStore.open(tmp_path / "s", quota=1000).close()


def test_one_of_many_threads_that_open_a_store_gets_it(tmp_path: Path) -> None:
    opened: list[BlockStore] = []
    refused: list[ConfigError] = []
    start = threading.Barrier(8)

    def attempt() -> None:
        start.wait()
        try:
            opened.append(BlockStore.open(tmp_path / "s", quota=1000))
        except ConfigError as error:
            refused.append(error)

    threads = [threading.Thread(target=attempt) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(opened), len(refused)) == (1, 7)
    opened[0].close()


READER = """
import sys
from pathlib import Path
from decentraspace.content.blockstore import BlockStore
from decentraspace.content.cid import parse
with BlockStore.open(Path(sys.argv[1]), readonly=True) as store:
    print("ready", flush=True)
    for line in sys.stdin:
        data = store.get(parse(line.strip()))
        print(-1 if data is None else len(data), store.referenced(parse(line.strip())), flush=True)
"""


def test_another_process_reads_at_once_what_was_put(tmp_path: Path) -> None:
    with BlockStore.open(tmp_path / "s", quota=1000) as store:
        store.put_many([leaf(b"first")])
    reader = python(READER, tmp_path / "s")
    assert reader.stdin
    assert reader.stdout

    def ask(cid: bytes) -> str:
        assert reader.stdin
        assert reader.stdout
        print(cids.to_text(cid), file=reader.stdin, flush=True)
        return reader.stdout.readline().strip()

    assert reader.stdout.readline() == "ready\n"
    # The writer comes back with a map, and soon a file, many times as large as the reader found.
    with BlockStore.open(tmp_path / "s", quota=1 << 30) as store:
        assert ask(leaf(b"first")[0]) == "5 False"
        assert ask(leaf(b"second")[0]) == "-1 False"
        store.put_many([leaf(b"second")])
        assert ask(leaf(b"second")[0]) == "6 False"
        store.pin(leaf(b"second")[0], "p")
        assert ask(leaf(b"second")[0]) == "6 True"
        store.put_many(leaf(n.to_bytes(4, "big") * 250_000) for n in range(64))
        assert ask(leaf((63).to_bytes(4, "big") * 250_000)[0]) == "1000000 False"
        for _ in collect(store, grace=-1):
            pass
        assert ask(leaf(b"first")[0]) == "-1 False"
    reader.stdin.close()
    assert reader.wait(10) == 0


STUCK = """
import sys, signal
from pathlib import Path
from decentraspace.content.blockstore import BlockStore
store = BlockStore.open(Path(sys.argv[1]), readonly=True)
txn = store.env.begin()
print("reading", flush=True)
sys.stdin.read()
"""


def test_a_killed_reader_does_not_make_the_file_grow_for_ever(tmp_path: Path) -> None:
    """Its transaction stays in LMDB's table of readers and keeps freed pages from being used again."""
    path = tmp_path / "s"
    with BlockStore.open(path, quota=1 << 30) as store:
        reader = python(STUCK, path)
        assert reader.stdout
        assert reader.stdout.readline() == "reading\n"
        reader.kill()
        reader.wait()
        # What run_gc does before each collection, and opening too.
        assert store.env.reader_check() == 1
        for turn in range(20):
            store.put_many(leaf(bytes([turn, n]) * 100_000) for n in range(10))
            for _ in collect(store, grace=-1):
                pass
        assert (path / "data.mdb").stat().st_size < 10 << 20


def test_a_reader_cannot_write(tmp_path: Path) -> None:
    BlockStore.open(tmp_path / "s", quota=1000).close()
    with BlockStore.open(tmp_path / "s", readonly=True) as store, pytest.raises(lmdb.ReadonlyError):
        store.put_many([leaf(b"x")])


def test_when_all_places_for_readers_are_taken_it_is_said(tmp_path: Path) -> None:
    with BlockStore.open(tmp_path / "s", quota=1000) as store:
        held = [store.env.begin() for _ in range(environment._READERS)]
        for call in (store.stats, lambda: store.get(leaf(b"x")[0]), lambda: store.has(leaf(b"x")[0])):
            with pytest.raises(Unavailable):
                call()
        held.clear()
        assert store.stats().blocks == 0


# -- what cannot be opened


def test_a_newer_store_is_refused_in_words(tmp_path: Path) -> None:
    with BlockStore.open(tmp_path / "s", quota=1000) as store, store.write() as txn:
        txn.put(b"schema", str(SCHEMA + 1).encode(), db=store.db["meta"])
    for readonly in (False, True):
        with pytest.raises(ConfigError, match=f"version {SCHEMA + 1}") as caught:
            BlockStore.open(tmp_path / "s", quota=1000, readonly=readonly)
        assert "newer version" in caught.value.hint


def test_what_is_no_store_is_refused_in_words_and_can_be_tried_again(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be opened"):
        BlockStore.open(tmp_path / "nothing", readonly=True)
    assert not (tmp_path / "nothing").exists(), "a reader must not make anything"
    path = tmp_path / "garbage"
    path.mkdir()
    (path / "data.mdb").write_bytes(os.urandom(16384))
    for readonly in (False, True):
        with pytest.raises(ConfigError, match="cannot be opened"):
            BlockStore.open(path, quota=1000, readonly=readonly)
    (path / "data.mdb").unlink()
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(ConfigError, match="cannot be opened"):
        BlockStore.open(tmp_path / "file", quota=1000)
    BlockStore.open(path, quota=1000).close()


def test_another_lmdb_database_is_no_store_for_a_reader(tmp_path: Path) -> None:
    lmdb.open(str(tmp_path / "other")).close()
    with pytest.raises(ConfigError, match="never finished"):
        BlockStore.open(tmp_path / "other", readonly=True)
    BlockStore.open(tmp_path / "other", quota=1000).close()


# -- together with the importer, and with threads


def test_importing_through_a_writer_stores_the_whole_dag(store: BlockStore, tmp_path: Path) -> None:
    content = os.urandom(20_000_000)
    (tmp_path / "file").write_bytes(content)
    writer = store.writer()
    with (tmp_path / "file").open("rb") as file:
        entry = add_directory({"file": add_file(file, writer.put)}, writer.put)
    writer.flush()
    assert store.missing(entry.cid) == []
    assert store.stats().blocks == writer.new == writer.blocks
    assert store.stats().bytes == store.dag_size(entry.cid) == entry.tsize
    audit(store)


def test_many_threads_put_the_same_blocks(store: BlockStore) -> None:
    blocks = [leaf(n.to_bytes(4, "big") * 300) for n in range(500)]
    new = []

    def put(shift: int) -> None:
        turned = blocks[shift:] + blocks[:shift]
        for start in range(0, len(turned), 20):
            new.append(store.put_many(turned[start : start + 20]))

    threads = [threading.Thread(target=put, args=(n * 60,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(new) == store.stats().blocks == len(blocks)
    assert all(map(store.has, (c for c, _ in blocks)))
    assert len(table(store, "loose")) == len(blocks)
    audit(store)
