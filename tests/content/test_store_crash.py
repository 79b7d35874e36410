"""`kill -9` at random instants while blocks are put, pinned, unpinned, collected and pointed to.

A kill keeps what the system has in its caches; that what was acknowledged was synced too is seen by
tracing the system calls of a put.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from pathlib import Path

import lmdb
import pytest

from decentraspace.content import cid as cids
from decentraspace.content.blockstore import BlockStore
from decentraspace.content.gc import collect
from decentraspace.content.siteindex import SiteIndex
from tests.content.stores import audit, python, recount, table, traced
from tests.content.victims import DAGS, QUOTA, Victims, dag

LIVES = 130
BLOCKS = {number: dag(number) for number in range(DAGS)}
ROOTS = {blocks[-1][0]: number for number, blocks in BLOCKS.items()}

# A gateway's worker lives on while the node is killed and started again: so does LMDB's file of locks.
WORKER = """
import random, select, sys
from pathlib import Path
from decentraspace.content import cid as cids
from decentraspace.content.blockstore import BlockStore
from tests.content.victims import DAGS, dag
wanted = [cid for number in range(DAGS) for cid, _ in dag(number)]
found = 0
with BlockStore.open(Path(sys.argv[1]), readonly=True) as store:
    print("ready", flush=True)
    while not select.select([sys.stdin], [], [], 0.001)[0]:
        cid = random.choice(wanted)
        data = store.get(cid)
        assert data is None or cids.digest_matches(cid, data)
        found += data is not None
print(found)
"""


class Expected:
    """What may be there after a kill: what was acknowledged, and what had only been begun, or not."""

    def __init__(self) -> None:
        self.pins: dict[tuple[int, str], set[bool]] = {}
        self.points: dict[int, set[int]] = {}
        self.put: set[int] = set()
        self.seen: Counter[str] = Counter()

    def learn(self, message: str) -> None:
        match message.split():
            case ["try", ("pin" | "unpin") as verb, number, name]:
                self.pins.setdefault((int(number), name), {False}).add(verb == "pin")
            case [("pin" | "unpin") as verb, number, name]:
                self.pins[int(number), name] = {verb == "pin"}
            case ["try", "point", who, seq]:
                self.points.setdefault(int(who), {0}).add(int(seq))
            case ["point", who, seq]:
                self.points[int(who)] = {int(seq)}
            case ["put", number]:
                self.put.add(int(number))
            case ["collected", blocks]:
                self.seen["blocks collected"] += int(blocks)
            case ["refused"]:
                pass
            case _:
                raise AssertionError(f"unexpected: {message!r}")
        self.seen[message.split()[0]] += 1

    def check(self, store: BlockStore) -> None:
        audit(store)  # counts equal a recount; no pin that lacks a block; nothing half done
        here = {(ROOTS[root], name) for root, name in store.pins()}
        assert here <= set(self.pins)
        for pin, allowed in self.pins.items():
            assert (pin in here) in allowed, f"{pin} was acknowledged otherwise"
            self.pins[pin] = {pin in here}
        index = SiteIndex(store)
        for who, sequences in self.points.items():
            entry = index.get(f"site-{who}")
            seq = entry.seq if entry else 0
            assert seq in sequences, f"site {who} is at {seq}"
            assert entry is None or entry.root in ROOTS
            self.points[who] = {seq}
        for number in self.put:  # acknowledged in the last life, in which its grace period has not ended
            assert all(store.get(cid) == data for cid, data in BLOCKS[number]), f"DAG {number} was put"


def _interrupted(path: Path) -> bool:
    """Whether counting was cut off: what the next opening has to mend."""
    with lmdb.open(str(path), max_dbs=10, readonly=True) as env, env.begin() as txn:
        queue = env.open_db(b"queue", txn=txn, create=False)
        return bool(txn.stat(queue)["entries"])


@pytest.mark.slow
def test_nothing_acknowledged_is_lost_and_everything_adds_up_after_each_kill(tmp_path: Path) -> None:
    path = tmp_path / "s"
    source = random.Random()
    expected = Expected()
    BlockStore.open(path, quota=QUOTA).close()
    worker = python(WORKER, path)
    assert worker.stdout
    assert worker.stdout.readline() == "ready\n"
    with Victims("store", path) as victims:
        for life in range(1, LIVES + 1):
            expected.put.clear()
            messages = source.choice([0, 0, 1, source.randrange(40)])
            for message in victims.life(str(life), messages, source.random() * 0.02):
                expected.learn(message)
            expected.seen["interrupted"] += _interrupted(path)
            if source.random() < 0.7:  # else the next life does the mending, and may be killed at that
                with BlockStore.open(path, quota=QUOTA) as store:
                    expected.check(store)
    with BlockStore.open(path, quota=QUOTA) as store:
        expected.put.clear()
        expected.check(store)
        for _ in collect(store, grace=-1):
            pass
        audit(store)
        reachable = {ref[: 2 + ref[1]] for ref in recount(store)}
        assert set(table(store, "blocks")) == reachable
    found = int(worker.communicate("", timeout=30)[0])
    assert worker.returncode == 0
    assert found > 0
    for what in ("pin", "unpin", "put", "point", "refused", "blocks collected", "interrupted"):
        assert expected.seen[what] > 0, f"never seen: {what}, of {expected.seen}"


PUT = """
import sys
from pathlib import Path
from decentraspace.content.blockstore import BlockStore
from decentraspace.content.siteindex import SiteEntry, SiteIndex
from tests.content.stores import leaf
from tests.content.victims import say
with BlockStore.open(Path(sys.argv[1]), quota=1 << 20) as store:
    block = leaf(b"to be synced" * 1000)
    for what, call in (
        ("put", lambda: store.put_many([block])),
        ("pin", lambda: store.pin(block[0], "x")),
        ("point", lambda: SiteIndex(store).put("site", SiteEntry("id", "l", bytes(20), block[0], 1))),
        ("unpin", lambda: store.unpin(block[0], "x")),
    ):
        say("begin " + what)
        call()
        say("end " + what)
"""


def test_what_is_acknowledged_was_synced(tmp_path: Path) -> None:
    """Pages first, then a sync, then the page that makes them count, which is written through."""
    text = traced(tmp_path, PUT, tmp_path / "s")
    through = {m[1] for m in re.finditer(r'data\.mdb", \S*O_D?SYNC.* = (\d+)', text)}
    for what in ("put", "pin", "point", "unpin"):
        during = text.partition(f"begin {what}")[2].partition(f"end {what}")[0].splitlines()[1:]
        names = [m[1] for line in during if (m := re.match(r"\d+ +(\w+\((?!1,)\d+)", line))]
        syncs = [n for n, name in enumerate(names) if name.startswith(("fdatasync(", "fsync("))]
        assert syncs, f"{what}: {names}"
        after = names[syncs[-1] + 1 :]
        before = names[: syncs[-1]]
        assert any(name.startswith(("pwrite", "write")) for name in before), f"{what}: {names}"
        assert not after or all(name.partition("(")[2] in through for name in after), f"{what}: {names}"


def test_blocks_of_the_dags_used_here_overlap() -> None:
    """Else the test above would say nothing about counting."""
    keys = Counter(cids.multihash(cid) for blocks in BLOCKS.values() for cid, _ in blocks)
    assert max(keys.values()) == DAGS
    assert len(keys) < sum(map(len, BLOCKS.values()))
