"""References are counted anew while they change: nobody waits, and in the end every count is right."""

from __future__ import annotations

import base64
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from decentraspace.content import cid as cids
from decentraspace.content.blockstore import BlockStore
from decentraspace.content.recount import in_steps, is_due, recount
from tests.api.small_node import Person, SmallNode
from tests.content.stores import Block, audit, identity, leaf, node, table


@pytest.fixture
def store(tmp_path: Path) -> Iterator[BlockStore]:
    with BlockStore.open(tmp_path / "blocks", quota=1 << 26) as opened:
        yield opened


def forest(rng: random.Random) -> list[Block]:
    """Three layers of blocks that share children, link twice, and link through inlined blocks."""
    leaves = [leaf(b"leaf %d" % n) for n in range(20)]
    middle = [node([rng.choice(leaves)[0] for _ in range(4)], b"%d" % n) for n in range(15)]
    inlined = [
        identity(cids.DAG_PB, node([rng.choice(middle)[0], rng.choice(leaves)[0]])[1]) for _ in range(5)
    ]
    below = [*(cid for cid, _ in middle), *inlined]
    return [
        *leaves,
        *middle,
        *(node([rng.choice(below) for _ in range(3)], b"top %d" % n) for n in range(15)),
    ]


def miscount(store: BlockStore, rng: random.Random) -> int:
    """As if blocks had been let go unread: some counts are too high; a few too low. How many."""
    wrong = 0
    with store.write() as txn:
        for ref, value in list(txn.cursor(db=store.db["refs"])):
            by = rng.choice([0, 0, 0, 3, -1])
            count = int.from_bytes(value[:8], "big") + by
            if by and count:
                txn.put(ref, count.to_bytes(8, "big") + value[8:], db=store.db["refs"])
                wrong += 1
    return wrong


@pytest.mark.parametrize("seed", range(8))
def test_what_is_pinned_and_let_go_meanwhile_is_counted_too(store: BlockStore, seed: int) -> None:
    rng = random.Random(seed)
    blocks = forest(rng)
    store.put_many(blocks)
    roots = [cid for cid, _ in blocks]
    pinned = {(rng.choice(roots), f"{rng.choice(['site', 'upload'])}:{n}") for n in range(30)}
    for root, name in pinned:
        store.pin(root, name)
    audit(store)
    assert miscount(store, rng) > 5
    steps, changes = in_steps(store, at_once=rng.choice([10, 1000]), stretch=rng.choice([1, 5])), 0
    while True:
        try:
            next(steps)
        except StopIteration as done:
            put_right = done.value
            break
        if pinned and rng.random() < 0.5:
            root, name = rng.choice(sorted(pinned))
            pinned.remove((root, name))
            store.unpin(root, name)
        else:
            changes += 1
            root, name = rng.choice(roots), f"{rng.choice(['site', 'upload'])}:new {changes}"
            pinned.add((root, name))
            store.pin(root, name)
    assert changes > 5
    assert put_right
    assert not is_due(store)
    audit(store)
    assert recount(store) == 0


def test_it_gives_up_when_a_change_failed_halfway_and_is_done_later(store: BlockStore) -> None:
    child = leaf(b"child")
    parent = node([child[0]])
    store.put_many([child, parent])
    store.pin(parent[0], "site:x")
    steps = in_steps(store, stretch=1)
    next(steps)

    def fails(cid: bytes, txn: object) -> None:
        raise OSError("the disk")

    store.guard = fails
    with pytest.raises(OSError, match="the disk"):
        store.pin(parent[0], "site:y")
    store.guard = None
    with pytest.raises(StopIteration) as done:
        next(steps)
    assert done.value.value is None
    assert is_due(store)
    assert recount(store) == 0
    assert not is_due(store)
    audit(store)


async def test_a_deploy_does_not_wait_for_it(tmp_path: Path) -> None:
    small = SmallNode(tmp_path)
    store = small.blocks
    leaves = [[leaf(b"%d" % n) for n in range(start, start + 1000)] for start in range(0, 60_000, 1000)]
    folders = [node(cid for cid, _ in some) for some in leaves]
    root = node(cid for cid, _ in folders)
    await trio.to_thread.run_sync(
        store.put_many, [block for some in [*leaves, folders, [root]] for block in some]
    )
    await trio.to_thread.run_sync(store.pin, root[0], "upload:large")
    person, page = Person(small), leaf(b"<h1>hello</h1>")
    ended = trio.Event()

    async def count() -> None:
        assert await trio.to_thread.run_sync(recount, store) == 0
        ended.set()

    try:
        with trio.fail_after(120):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(count)
                while store.recounting is None:
                    assert not ended.is_set()
                    await trio.sleep(0)
                await trio.to_thread.run_sync(store.put_many, [page])
                record = base64.b64decode(person.site(page[0])["record"])
                done = await small.hosting.deploy(person.address, record)
                assert not ended.is_set(), "the deploy waited until all was counted"
        assert done.head.root == page[0]
        assert len(table(store, "refs")) == 60_000 + 60 + 1 + 1
        await trio.to_thread.run_sync(audit, store)
    finally:
        small.close()
