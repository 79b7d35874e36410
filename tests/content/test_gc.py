"""Collection against a naive model, and beside threads and processes that use the store meanwhile."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from collections.abc import Iterable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from decentraspace.config import StorageConfig
from decentraspace.content import cid as cids
from decentraspace.content import dagpb, gc, pins
from decentraspace.content.blockstore import BlockStore
from decentraspace.content.gc import collect
from decentraspace.content.reader import BlockMissing
from decentraspace.errors import BadInput, Unprocessable
from tests.content.stores import Block, audit, identity, leaf, node, python, recount, table

# -- a store beside a model of it


def _pool() -> list[Block]:
    """Blocks that share children, link twice, inline others, name one block by two codecs, or are malformed."""
    leaves = [leaf(b"leaf %d" % n * 20 * n) for n in range(6)]
    both = node([leaves[0][0], leaves[1][0]])
    as_raw = (cids.make(cids.RAW, both[1]), both[1])
    twice = node([both[0], leaves[2][0], leaves[2][0]])
    inlined = identity(cids.DAG_PB, node([leaves[3][0], both[0]])[1])
    through = node([twice[0], both[0], inlined], b"through")
    two_names = node([as_raw[0], leaves[4][0]])
    damaged = (cids.make(cids.DAG_PB, b"\xff\xff not a node"), b"\xff\xff not a node")
    hopeless = node([leaves[5][0], damaged[0], twice[0]])
    return [*leaves, both, as_raw, twice, through, two_names, damaged, hopeless]


POOL = _pool()
DATA = dict(POOL)
ROOTS = [*DATA, identity(cids.DAG_PB, node([POOL[6][0], POOL[5][0]])[1])]


class Model:
    """What a store should hold, found out anew each time from the pins and the blocks."""

    def __init__(self) -> None:
        self.blocks: dict[bytes, bytes] = {}  # by multihash
        self.dates: dict[bytes, int] = {}  # of blocks that nothing references
        self.pins: set[tuple[bytes, str]] = set()
        self.holds: list[int] = []
        self.now = 1_000_000

    def walk(self, roots: Iterable[bytes]) -> tuple[set[bytes], bool]:
        """Multihashes that are reached, and whether all are here and well-formed."""
        reached: set[bytes] = set()
        whole = True
        seen = set(roots)
        todo = list(seen)
        while todo:
            cid = todo.pop()
            data = cids.identity_data(cid)
            if data is None:
                reached.add(cids.multihash(cid))
                data = self.blocks.get(cids.multihash(cid))
            try:
                links = [] if data is None else dagpb.links_of(cid, data)
            except BadInput:
                links, whole = [], False
            whole = whole and data is not None
            todo.extend(set(links) - seen)
            seen.update(links)
        return reached, whole

    def referenced(self) -> set[bytes]:
        return self.walk(root for root, _ in self.pins)[0]

    def date(self, keys: Iterable[bytes]) -> None:
        kept = self.referenced()
        for key in keys:
            if key in self.blocks and key not in kept:
                self.dates[key] = self.now

    def due(self, grace: int) -> list[bytes]:
        """What may go, oldest first; afterwards nothing is dated in the future."""
        for key, date in self.dates.items():
            self.dates[key] = min(date, self.now)
        horizon = min([self.now - grace * 1000, *self.holds])
        old = sorted((date, key) for key, date in self.dates.items() if date < horizon)
        return [key for _, key in old]

    def remove(self, keys: Iterable[bytes]) -> None:
        for key in keys:
            del self.blocks[key], self.dates[key]


some_blocks = st.lists(st.sampled_from(POOL), max_size=6)
a_root = st.sampled_from(ROOTS)
a_name = st.sampled_from(["a", "b"])
a_grace = st.sampled_from([-1, 0, 5])


class StoreMachine(RuleBasedStateMachine):
    """Every rule does the same to the store and to the model; the invariant compares everything."""

    store: BlockStore

    def __init__(self) -> None:
        super().__init__()
        memory = Path("/dev/shm")  # a real file system without a disk's waiting
        self.folder = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else None))
        self.model = Model()
        self.operations = pins._OPERATIONS
        self.holding: list[AbstractContextManager[None]] = []
        self.left_over: list[Any] = []
        self._open()

    def _open(self) -> None:
        self.store = BlockStore.open(self.folder / "s", quota=1 << 20)
        self.store.clock = lambda: self.model.now

    def teardown(self) -> None:
        self.release_all()
        for _ in collect(self.store, grace=-1):
            pass
        audit(self.store)
        assert set(table(self.store, "blocks")) == self.model.referenced(), "exactly what is reachable stays"
        self.store.close()
        shutil.rmtree(self.folder)
        pins._OPERATIONS = self.operations

    @initialize(operations=st.sampled_from([1, 2, 5000]))
    def choose(self, operations: int) -> None:
        """How many references are counted per transaction."""
        pins._OPERATIONS = operations

    @rule(blocks=some_blocks)
    def put(self, blocks: list[Block]) -> None:
        keys = {cids.multihash(cid): data for cid, data in blocks}
        assert self.store.put_many(blocks) == len(set(keys) - set(self.model.blocks))
        self.model.blocks |= keys
        self.model.date(keys)

    @rule()
    def put_everything(self) -> None:
        self.put(POOL)

    @rule(blocks=some_blocks)
    def touch(self, blocks: list[Block]) -> None:
        wanted = [cid for cid, _ in blocks]
        keys = [cids.multihash(cid) for cid in wanted]
        assert self.store.has_many(wanted, touch=True) == [key in self.model.blocks for key in keys]
        self.model.date(keys)

    @rule(root=a_root, name=a_name)
    def pin(self, root: bytes, name: str) -> None:
        reached, whole = self.model.walk([root])
        if (root, name) in self.model.pins or whole:
            self.store.pin(root, name)
            self.model.pins.add((root, name))
            for key in reached:
                self.model.dates.pop(key, None)
        else:
            with pytest.raises((BlockMissing, Unprocessable)):
                self.store.pin(root, name)
            self.model.date(reached)  # they had been referenced for a moment

    @rule(root=a_root, name=a_name)
    def unpin(self, root: bytes, name: str) -> None:
        self.store.unpin(root, name)
        if (root, name) in self.model.pins:
            self.model.pins.remove((root, name))
            self.model.date(self.model.walk([root])[0])

    @rule(grace=a_grace)
    def collect_all(self, grace: int) -> None:
        due = self.model.due(grace)
        assert sum(p.blocks for p in collect(self.store, grace=grace)) == len(due)
        self.model.remove(due)

    @precondition(lambda self: all(date <= self.model.now for date in self.model.dates.values()))
    @rule(grace=a_grace, batch=st.integers(1, 3))
    def collect_some(self, grace: int, batch: int) -> None:
        due = self.model.due(grace)[:batch]
        progress = next(collect(self.store, grace=grace, batch=batch), None)
        assert (progress.blocks if progress else 0) == len(due)
        self.model.remove(due)

    @rule()
    def hold(self) -> None:
        held = self.store.hold()
        held.__enter__()
        self.holding.append(held)
        self.model.holds.append(self.model.now)

    @precondition(lambda self: self.holding)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        which = data.draw(st.integers(0, len(self.holding) - 1))
        self.holding.pop(which).__exit__(None, None, None)
        del self.model.holds[which]

    def release_all(self) -> None:
        while self.holding:
            self.holding.pop().__exit__(None, None, None)
        self.model.holds.clear()

    @rule(milliseconds=st.integers(0, 6000))
    def time_passes(self, milliseconds: int) -> None:
        self.model.now += milliseconds

    @rule(milliseconds=st.integers(-3000, 3000))
    def restart(self, milliseconds: int) -> None:
        """The clock may be another afterwards, and nobody holds anything any more."""
        self.release_all()
        self.store.close()
        self.model.now += milliseconds
        self._open()

    @rule(root=a_root)
    def ask(self, root: bytes) -> None:
        reached, _ = self.model.walk([root])
        absent = [key for key in reached if key not in self.model.blocks]
        try:
            assert {cids.multihash(cid) for cid in self.store.missing(root)} == set(absent)
        except BadInput:
            assert cids.multihash(POOL[11][0]) in reached, "only the malformed block is refused"
        assert self.store.is_pinned(root) == any(root == pinned for pinned, _ in self.model.pins)

    @invariant()
    def agrees(self) -> None:
        audit(self.store)  # counts equal a recount from scratch
        assert table(self.store, "blocks") == self.model.blocks
        assert set(self.store.pins()) == self.model.pins
        dates = {key: int.from_bytes(stamp, "big") for key, stamp in table(self.store, "since").items()}
        assert dates == self.model.dates


StoreMachine.TestCase.settings = settings(
    max_examples=100, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
TestStore = StoreMachine.TestCase


# -- while others work


def test_collecting_without_grace_beside_imports_that_hold_takes_nothing_of_theirs(store: BlockStore) -> None:
    """What is put under a hold and pinned at its end must be whole, though garbage goes all the time."""
    end = threading.Event()
    removed = []
    failures: list[BaseException] = []

    def collecting() -> None:
        while not end.is_set():
            removed.extend(p.blocks for p in collect(store, grace=-1, batch=7))

    def importing(who: int) -> None:
        try:
            for turn in range(25):
                with store.hold():
                    leaves = [leaf(b"%d %d %d" % (who, turn % 5, n) * 50) for n in range(20)]
                    for block in leaves:
                        store.put_many([block])
                    root = node(cid for cid, _ in leaves)
                    store.put_many([root])
                    store.pin(root[0], f"{who}")
                store.unpin(root[0], f"{who}")  # the same blocks are garbage until they come again
        except BaseException as error:  # noqa: BLE001 - a thread's failure is the test's
            failures.append(error)

    collector = threading.Thread(target=collecting)
    importers = [threading.Thread(target=importing, args=(who,)) for who in range(2)]
    for thread in (collector, *importers):
        thread.start()
    for thread in importers:
        thread.join()
    end.set()
    collector.join()
    assert not failures
    assert sum(removed) > 0
    for _ in collect(store, grace=-1):
        pass
    audit(store)
    assert store.stats().blocks == 0


READER = """
import random, select, sys
from pathlib import Path
from decentraspace.content import cid as cids
from decentraspace.content.blockstore import BlockStore
pinned, others = (line.split() for line in (sys.stdin.readline(), sys.stdin.readline()))
pinned, others = [*map(cids.parse, pinned)], [*map(cids.parse, others)]
reads = gone = 0
with BlockStore.open(Path(sys.argv[1]), readonly=True) as store:
    print("ready", flush=True)
    while not select.select([sys.stdin], [], [], 0)[0] or reads < 2000:
        cid = random.choice(pinned)
        assert cids.digest_matches(cid, store.get_or_raise(cid)), "a pinned block is damaged"
        cid = random.choice(others)
        data = store.get(cid)
        gone += data is None
        assert data is None or cids.digest_matches(cid, data), "a block is damaged"
        assert store.missing(pinned[0]) == []
        reads += 1
print(reads, gone, flush=True)
"""


def test_processes_that_read_meanwhile_see_whole_blocks_only(tmp_path: Path) -> None:
    path = tmp_path / "s"
    kept = [leaf(os.urandom(size)) for size in range(1, 40_000, 1500)]
    root = node(cid for cid, _ in kept)
    coming = [leaf(os.urandom(300 * n)) for n in range(100)]
    with BlockStore.open(path, quota=1 << 24) as store:
        store.put_many([*kept, root])
        store.pin(root[0], "kept")
        readers = [python(READER, path) for _ in range(2)]
        for reader in readers:
            for some in ([root, *kept], coming):
                print(*(cids.to_text(cid) for cid, _ in some), file=reader.stdin, flush=True)
        for reader in readers:
            assert reader.stdout
            assert reader.stdout.readline() == "ready\n"
        for turn in range(30):
            store.put_many(coming[turn % 7 :: 2])
            assert sum(p.blocks for p in collect(store, grace=-1, batch=10)) == len(coming[turn % 7 :: 2])
        for reader in readers:
            assert reader.stdin
            reader.stdin.close()
            assert reader.stdout
            reads, gone = map(int, reader.stdout.read().split())
            assert reader.wait(60) == 0
            assert reads >= 2000
            assert gone > 0
        audit(store)
    # Pages were used again although others were reading all the time.
    assert (path / "data.mdb").stat().st_size < 40 << 20


async def test_the_service_collects_by_itself_what_is_old_enough(store: BlockStore) -> None:
    store.put_many([leaf(b"%d" % n) for n in range(1200)])
    kept = node([leaf(b"1")[0], leaf(b"2")[0]])
    store.put_many([kept])
    store.pin(kept[0], "kept")
    config = StorageConfig(gc_interval=1, gc_grace=0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(gc.run_gc, store, config)
        with trio.fail_after(30):
            while store.stats().blocks > 3:
                await trio.sleep(0.02)
        nursery.cancel_scope.cancel()
    audit(store)
    assert len(recount(store)) == store.stats().blocks == 3


def test_a_referenced_block_that_is_listed_as_garbage_all_the_same_stays(store: BlockStore) -> None:
    block = leaf(b"kept")
    store.put_many([block])
    store.pin(block[0], "kept")
    key = cids.multihash(block[0])
    with store.write() as txn:  # as no operation of ours leaves it
        txn.put(bytes(8) + key, b"", db=store.db["loose"])
        txn.put(key, bytes(8), db=store.db["since"])
    assert sum(p.blocks for p in collect(store, grace=-1)) == 0
    assert store.get(block[0]) == block[1]
    audit(store)
