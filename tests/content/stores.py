"""What tests of the block store share: small DAGs, and an audit that counts everything from scratch."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest

from decentraspace.content import cid as cids
from decentraspace.content import dagpb
from decentraspace.content.blockstore import BlockStore
from decentraspace.content.dagpb import Link
from tests.support import ROOT, require_real

Block = tuple[bytes, bytes]  # CID, data


def leaf(data: bytes) -> Block:
    return cids.make(cids.RAW, data), data


def node(children: Iterable[bytes], data: bytes = b"") -> Block:
    """A DAG-PB block that links to `children`, in that order and as often as they occur."""
    block = dagpb.encode([Link(child, "", 0) for child in children], data)
    return cids.make(cids.DAG_PB, block), block


def identity(codec: int, data: bytes) -> bytes:
    """A CID that carries its data."""
    return b"\x01" + cids.varint(codec) + b"\x00" + cids.varint(len(data)) + data


def python(code: str, *args: object) -> subprocess.Popen[str]:
    """Another process of this project."""
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, args)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def traced(folder: Path, code: str, *args: object) -> str:
    """What another process of this project asks of the system to write, sync and rename, one call per line."""
    require_real("strace", shutil.which("strace"))
    output = folder / "trace"
    calls = "trace=write,pwrite64,writev,pwritev,fsync,fdatasync,openat,?rename,?renameat,?renameat2"
    command = ["strace", "-f", "-e", calls, "-o", output, sys.executable, "-c", code, *map(str, args)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode and "PTRACE" in done.stderr:
        pytest.skip("this system lets nobody trace")
    assert done.returncode == 0, done.stderr
    return output.read_text()


def table(store: BlockStore, name: str) -> dict[bytes, bytes]:
    with store.read() as txn:
        return dict(txn.cursor(db=store.db[name]))


def recount(store: BlockStore) -> Counter[bytes]:
    """References by (multihash · codec · 0xff for uploads), from the pins and the blocks alone."""
    counts: Counter[bytes] = Counter()
    todo = [(root, b"\xff" if name.startswith("upload:") else b"") for root, name in store.pins()]
    while todo:
        cid, kind = todo.pop()
        inlined = cids.identity_data(cid)
        if inlined is not None:
            todo.extend((link, kind) for link in dagpb.links_of(cid, inlined))
            continue
        ref = cids.multihash(cid) + cids.varint(cids.codec(cid)) + kind
        counts[ref] += 1
        if counts[ref] == 1:
            todo.extend((link, kind) for link in dagpb.links_of(cid, store.get_or_raise(cid)))
    return counts


def audit(store: BlockStore, *, digests: bool = True) -> None:
    """Every invariant of a store at rest. AssertionError says which one does not hold."""
    blocks, refs = table(store, "blocks"), table(store, "refs")
    loose, since = table(store, "loose"), table(store, "since")
    assert not table(store, "queue"), "counting was left unfinished"
    assert set(table(store, "pins").values()) <= {b"done"}, "a pin that nobody was told of"
    counted = {ref: int.from_bytes(value[:8], "big") for ref, value in refs.items()}
    assert counted == dict(recount(store)), "reference counts differ from a recount"
    assert all(value[8:] == b"\1" for value in refs.values()), "a referenced block's links were not counted"
    assert loose == {stamp + key: b"" for key, stamp in since.items()}, "loose and since differ"
    referenced = {_multihash_of(ref) for ref in refs}
    assert referenced <= set(blocks), "a referenced block is not there"
    assert set(since) == set(blocks) - referenced, "loose is not the set of unreferenced blocks"
    stats = store.stats()
    assert (stats.blocks, stats.bytes) == (len(blocks), sum(map(len, blocks.values()))), "totals are wrong"
    assert stats.pins == len(list(store.pins()))
    if digests:
        for key, data in blocks.items():
            assert key == b"\x12\x20" + hashlib.sha256(data).digest(), "a block is damaged"


def _multihash_of(ref: bytes) -> bytes:
    return ref[: 2 + ref[1]]
