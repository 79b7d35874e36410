"""Damage on the disk is found, taken out, and mended by bringing the block again."""

from __future__ import annotations

import io
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from decentraspace.config import load
from decentraspace.content import cid as cids
from decentraspace.content import gc
from decentraspace.content import scrub as scrubbing
from decentraspace.content.blockstore import BlockStore
from decentraspace.content.importer import TreeBuilder
from decentraspace.content.recount import is_due, recount
from decentraspace.content.scrub import scrub
from tests.content.stores import audit


@pytest.fixture
def store(tmp_path: Path) -> Iterator[BlockStore]:
    with BlockStore.open(tmp_path / "blocks", quota=1 << 26) as opened:
        yield opened


def folder(store: BlockStore) -> tuple[bytes, list[tuple[bytes, bytes]]]:
    """A pinned folder of 20 files; (root, its blocks)."""
    blocks: list[tuple[bytes, bytes]] = []
    builder = TreeBuilder(lambda cid, data: blocks.append((cid, data)))
    for number in range(20):
        builder.put_file(f"file{number}", io.BytesIO(b"%d" % number * 20_000))
    root = builder.finish().cid
    store.put_many(blocks)
    store.pin(root, "site:x")
    return root, blocks


def damage(store: BlockStore, cid: bytes) -> None:
    with store.write() as txn:
        data = bytearray(txn.get(cids.multihash(cid), db=store.db["blocks"]))
        data[len(data) // 2] ^= 1
        txn.put(cids.multihash(cid), bytes(data), db=store.db["blocks"])


def all_of(store: BlockStore, most: int) -> list[bytes]:
    found, start, rounds = [], b"", 0
    while True:
        done = scrub(store, start, most)
        found += done.damaged
        start, rounds = done.next, rounds + 1
        if not start:
            assert rounds > 1 or most > store.stats().bytes
            return found


def test_sound_blocks_are_left_alone(store: BlockStore) -> None:
    root, _ = folder(store)
    assert all_of(store, 50_000) == []
    assert store.missing(root) == []
    audit(store)


@pytest.mark.parametrize("which", [0, 7, -1])
def test_a_damaged_block_is_missing_until_it_is_brought_again(store: BlockStore, which: int) -> None:
    root, blocks = folder(store)
    cid, data = blocks[which]
    damage(store, cid)
    assert all_of(store, 50_000) == [cid]
    assert store.missing(root) == [cid]
    store.put_many([(cid, data)])
    assert store.missing(root) == []
    list(gc.collect(store, grace=-1))
    assert store.get(cid) == data
    audit(store)
    store.unpin(root, "site:x")
    list(gc.collect(store, grace=-1))
    assert store.stats().blocks == 0


def test_damaged_garbage_just_goes(store: BlockStore) -> None:
    data = b"nobody's" * 100
    cid = cids.make(cids.RAW, data)
    store.put_many([(cid, data)])
    damage(store, cid)
    assert all_of(store, 1 << 30) == []
    assert store.stats().blocks == 0
    audit(store)


@pytest.mark.parametrize("scrubbed", [False, True])
@pytest.mark.parametrize("at_once", [1000, 7])
def test_what_a_lost_block_linked_to_is_garbage_once_counted_anew(
    store: BlockStore, scrubbed: bool, at_once: int
) -> None:
    """The folder's own block is damaged, and the folder let go before anybody brings it again."""
    root, blocks = folder(store)
    shared = cids.make(cids.RAW, b"5" * 20_000)
    store.pin(shared, "site:other")
    store.pin(root, "upload:x")
    assert recount(store, at_once) == 0
    assert not is_due(store)
    damage(store, root)
    if scrubbed:
        assert all_of(store, 50_000) == [root]
    store.unpin(root, "site:x")
    assert is_due(store)
    if scrubbed:
        assert recount(store) is None  # the upload's count on the children hangs on the lost block
        store.put_many([(root, dict(blocks)[root])])
        assert recount(store, at_once) == len(blocks) - 1
    store.unpin(root, "upload:x")
    if not scrubbed:
        assert recount(store, at_once) == 2 * (len(blocks) - 1)
    assert not is_due(store)
    list(gc.collect(store, grace=-1))
    assert store.stats().blocks == 1
    assert store.get(shared) is not None
    audit(store)


async def test_scrubbing_counts_anew_where_it_is_due(
    store: BlockStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scrubbing, "_TICK", 0.001)
    root, _ = folder(store)
    damage(store, root)
    store.unpin(root, "site:x")
    list(gc.collect(store, grace=-1))
    assert store.stats().blocks > 1

    async def bring(cid: bytes, root: bytes) -> bool:
        return False

    config = load(environ={}, overrides={}).storage
    async with trio.open_nursery() as nursery:
        nursery.start_soon(scrubbing.run_scrub, store, bring, config)
        with trio.fail_after(60):
            while is_due(store):
                await trio.sleep(0.01)
        nursery.cancel_scope.cancel()
    list(gc.collect(store, grace=-1))
    assert store.stats().blocks == 0
    audit(store)


async def test_a_store_with_damaged_pages_is_gone_through_to_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """LMDB cannot read such a page; the scrubbing steps over it, and the node lives."""
    monkeypatch.setattr(scrubbing, "_TICK", 0.001)
    with BlockStore.open(tmp_path / "blocks", quota=1 << 26) as store:
        blocks = [(cids.make(cids.RAW, data), data) for data in (b"%d" % n * 900 for n in range(3000))]
        store.put_many(blocks)
    file = tmp_path / "blocks" / "data.mdb"
    content = bytearray(file.read_bytes())
    rng = random.Random(5)
    for _ in range(6):
        page = rng.randrange(20, len(content) // 4096 - 20) * 4096
        content[page : page + 16] = rng.randbytes(16)
    file.write_bytes(content)
    rounds = 0

    async def bring(cid: bytes, root: bytes) -> bool:
        return False

    def counted(store: BlockStore, start: bytes, most: int) -> scrubbing.Scrubbed:
        nonlocal rounds
        rounds += start == b""
        return scrub(store, start, most)

    monkeypatch.setattr(scrubbing, "scrub", counted)
    config = load(environ={}, overrides={}).storage
    with BlockStore.open(tmp_path / "blocks", quota=1 << 26) as store:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(scrubbing.run_scrub, store, bring, config)
            with trio.fail_after(60):
                while rounds < 3:
                    await trio.sleep(0.01)
            nursery.cancel_scope.cancel()
