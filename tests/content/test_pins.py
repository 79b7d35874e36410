"""Pins: whole or not at all, counted once however often they are made, and finished after an interruption."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from decentraspace.content import cid as cids
from decentraspace.content import pins
from decentraspace.content.blockstore import BlockStore
from decentraspace.content.gc import collect
from decentraspace.content.reader import BlockMissing
from decentraspace.errors import BadInput, QuotaExceeded, Unprocessable
from tests.content.stores import Block, audit, identity, leaf, node, table


def tree(width: int, mark: bytes = b"") -> list[Block]:
    """`width` squared leaves under `width` nodes under one root, which comes last."""
    leaves = [leaf(mark + b"%d" % n) for n in range(width * width)]
    inner = [node(cid for cid, _ in leaves[n * width : (n + 1) * width]) for n in range(width)]
    return [*leaves, *inner, node(cid for cid, _ in inner)]


def left_after_collecting(store: BlockStore) -> int:
    for _ in collect(store, grace=-1):
        pass
    audit(store)
    return store.stats().blocks


def test_a_pin_keeps_its_whole_dag_and_the_last_unpin_lets_it_go(store: BlockStore) -> None:
    blocks = tree(5)
    root = blocks[-1][0]
    store.put_many([*blocks, leaf(b"garbage")])
    store.pin(root, "a")
    store.pin(root, "b")
    store.pin(root, "a")
    assert sorted(store.pins()) == [(root, "a"), (root, "b")]
    assert left_after_collecting(store) == len(blocks)
    store.unpin(root, "a")
    assert store.is_pinned(root)
    assert left_after_collecting(store) == len(blocks)
    store.unpin(root, "b")
    store.unpin(root, "b")
    assert not store.is_pinned(root)
    assert not store.referenced(root)
    assert left_after_collecting(store) == 0


def test_dags_that_share_blocks_keep_what_either_needs(store: BlockStore) -> None:
    blocks = tree(4)
    shared = blocks[-2]
    other = node([shared[0], shared[0], leaf(b"own")[0]])
    store.put_many([*blocks, other, leaf(b"own")])
    store.pin(blocks[-1][0], "x")
    store.pin(other[0], "x")
    store.unpin(blocks[-1][0], "x")
    assert left_after_collecting(store) == 2 + 1 + 4
    assert store.missing(other[0]) == []


def test_a_pin_of_what_is_not_whole_leaves_no_trace(store: BlockStore) -> None:
    blocks = tree(4)
    root = blocks[-1][0]
    store.put_many(blocks[1:])
    for _ in range(2):
        with pytest.raises(BlockMissing) as caught:
            store.pin(root, "x")
        assert caught.value.cid == blocks[0][0]
        audit(store)
    assert not store.is_pinned(root)
    assert not store.referenced(root)
    store.put_many(blocks[:1])
    store.pin(root, "x")
    audit(store)


def test_a_malformed_block_cannot_be_pinned(store: BlockStore) -> None:
    damaged = (cids.make(cids.DAG_PB, b"\xff no node"), b"\xff no node")
    root = node([leaf(b"fine")[0], damaged[0]])
    store.put_many([leaf(b"fine"), damaged, root])
    with pytest.raises(Unprocessable):
        store.pin(root[0], "x")
    assert left_after_collecting(store) == 0


@pytest.mark.parametrize("operations", [1, 3, 100])
def test_counting_in_many_transactions_comes_to_the_same(
    store: BlockStore, monkeypatch: pytest.MonkeyPatch, operations: int
) -> None:
    monkeypatch.setattr(pins, "_OPERATIONS", operations)
    first, second = tree(6), tree(6, b"other")
    store.put_many([*first, *second])
    both = node([first[-1][0], second[-1][0], first[-2][0]])
    store.put_many([both])
    store.pin(both[0], "both")
    store.pin(first[-1][0], "first")
    audit(store)
    store.unpin(both[0], "both")
    assert left_after_collecting(store) == len(first)


def test_an_inlined_root_keeps_what_it_links_to(store: BlockStore) -> None:
    blocks = tree(3)
    root = identity(cids.DAG_PB, node([blocks[-1][0], blocks[-1][0]])[1])
    store.put_many(blocks)
    store.pin(root, "x")
    assert left_after_collecting(store) == len(blocks)
    assert store.is_pinned(root)
    store.unpin(root, "x")
    assert left_after_collecting(store) == 0


def test_one_block_under_two_codecs_stays_until_both_are_gone(store: BlockStore) -> None:
    child = leaf(b"child")
    block = node([child[0]])
    as_raw = cids.make(cids.RAW, block[1])
    store.put_many([child, block])
    store.pin(block[0], "x")
    store.pin(as_raw, "x")
    store.unpin(block[0], "x")
    assert left_after_collecting(store) == 1, "as a leaf it links to nothing"
    store.unpin(as_raw, "x")
    assert left_after_collecting(store) == 0


def test_names_of_any_characters_up_to_their_limit(store: BlockStore) -> None:
    root = leaf(b"root")
    store.put_many([root])
    for name in ("", "site:\0x", "ü" * 100):
        store.pin(root[0], name)
    assert sorted(name for _, name in store.pins()) == ["", "site:\0x", "ü" * 100]
    with pytest.raises(BadInput):
        store.pin(root[0], "ü" * 101)
    audit(store)


def test_a_pin_that_was_cut_short_is_undone_at_the_next_opening(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pins, "_OPERATIONS", 5)
    blocks = tree(6)
    with BlockStore.open(tmp_path / "s", quota=1 << 20) as store:
        store.put_many(blocks)
        _first_transaction_only(store, blocks[-1][0])
        assert list(store.pins()) == []
    with BlockStore.open(tmp_path / "s", quota=1 << 20) as store:
        audit(store)
        assert left_after_collecting(store) == 0


def _first_transaction_only(store: BlockStore, root: bytes) -> None:
    """What is on disk when a process dies after the first of a pin's transactions."""
    with store.write() as txn:
        assert pins._work(store, txn, [(1, b"", root)], [])
        txn.put(pins._key(root, "x"), pins._PENDING, db=store.db["pins"])
    assert table(store, "queue")


def test_a_pin_that_an_error_cut_short_is_undone_before_the_next(
    store: BlockStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk, say: here the map, which this test makes too small and then larger again."""
    monkeypatch.setattr(pins, "_OPERATIONS", 10)
    blocks = tree(80)
    store.put_many(blocks)
    before = store.env.info()["map_size"]
    store.env.set_mapsize((store.env.info()["last_pgno"] + 120) * 4096)  # no other transaction is open
    with pytest.raises(QuotaExceeded):
        store.pin(blocks[-1][0], "x")
    assert table(store, "queue"), "it was not cut short in the midst of counting"
    assert store.unsettled
    store.env.set_mapsize(before)
    store.pin(blocks[0][0], "leaf")
    audit(store)
    assert list(store.pins()) == [(blocks[0][0], "leaf")]
    store.pin(blocks[-1][0], "x")
    audit(store)


def test_many_threads_pin_and_unpin_at_once(store: BlockStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pins, "_OPERATIONS", 4)
    blocks = tree(4)
    roots = [cid for cid, _ in blocks if cids.codec(cid) == cids.DAG_PB]
    store.put_many(blocks)
    failures: list[BaseException] = []

    def work(who: int) -> None:
        try:
            for turn in range(12):
                store.pin(roots[(who + turn) % len(roots)], f"{who}")
                store.unpin(roots[(who + turn) % len(roots)], f"{who}")
            store.pin(roots[who], "stays")
        except BaseException as error:  # noqa: BLE001 - a thread's failure is the test's
            failures.append(error)

    threads = [threading.Thread(target=work, args=(who,)) for who in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert sorted(store.pins()) == sorted((root, "stays") for root in roots[:3])
    assert left_after_collecting(store) == 3 * (4 + 1)
