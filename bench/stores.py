"""The block store (LMDB) beside SQLite, one file per block, and files fanned out as Kubo's flatfs does.

All four keep the same blocks under the same keys, and every put and every removal is on disk when its time
is taken: SQLite with a write-ahead log and synchronous=FULL; files are written under another name, synced,
renamed, and their folders synced. Puts come in batches of 16 MiB, as an upload's do, and one by one. Ours
does more meanwhile: it dates each block, keeps the totals and the quota, and removes by garbage collection.
Reads come from the system's cache, in random order. The peer of each ratio is the fastest of the three at
that.
"""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from bench.nodes import median, workspace
from decentraspace.content import cid as cids
from decentraspace.content.blockstore import BlockStore
from decentraspace.content.gc import collect

_BATCH = 16 * 1024 * 1024  # bytes
_REMOVED = 500  # blocks per transaction
_ONE_BY_ONE = 100  # blocks
_LOOKS = 4000  # reads and look-ups, at least: in passes over all blocks
_SHAPES = ((4096, 2000), (256 * 1024, 120))  # bytes of a block, blocks
_QUOTA = 1 << 30

Block = tuple[bytes, bytes]  # CID, data


class Store(Protocol):
    """`put` and `delete` return when all is on disk."""

    def put(self, blocks: Sequence[Block]) -> None: ...
    def get(self, cid: bytes) -> bytes | None: ...
    def has(self, cid: bytes) -> bool: ...
    def delete(self, blocks: Sequence[Block]) -> None: ...
    def close(self) -> None: ...


class Ours:
    def __init__(self, folder: Path) -> None:
        self._store = BlockStore.open(folder, quota=_QUOTA)
        self.get, self.has, self.close = self._store.get, self._store.has, self._store.close

    def put(self, blocks: Sequence[Block]) -> None:
        self._store.put_many(blocks)

    def delete(self, blocks: Sequence[Block]) -> None:
        if sum(p.blocks for p in collect(self._store, grace=-1, batch=_REMOVED)) != len(blocks):
            raise RuntimeError("the collection left garbage")


class SQLite:
    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self._db = sqlite3.connect(folder / "blocks", isolation_level=None)
        for setting in ("journal_mode=WAL", "synchronous=FULL", f"mmap_size={_QUOTA}", "cache_size=-65536"):
            self._db.execute(f"PRAGMA {setting}")
        self._db.execute("CREATE TABLE IF NOT EXISTS blocks (key BLOB PRIMARY KEY, data BLOB NOT NULL)")
        self.close = self._db.close

    def put(self, blocks: Sequence[Block]) -> None:
        rows = [(cids.multihash(cid), data) for cid, data in blocks]
        self._db.execute("BEGIN IMMEDIATE")
        self._db.executemany("INSERT OR IGNORE INTO blocks VALUES (?, ?)", rows)
        self._db.execute("COMMIT")

    def get(self, cid: bytes) -> bytes | None:
        query = "SELECT data FROM blocks WHERE key = ?"
        row = self._db.execute(query, (cids.multihash(cid),)).fetchone()
        return row[0] if row else None

    def has(self, cid: bytes) -> bool:
        query = "SELECT 1 FROM blocks WHERE key = ?"
        return self._db.execute(query, (cids.multihash(cid),)).fetchone() is not None

    def delete(self, blocks: Sequence[Block]) -> None:
        for start in range(0, len(blocks), _REMOVED):
            keys = [(cids.multihash(cid),) for cid, _ in blocks[start : start + _REMOVED]]
            self._db.execute("BEGIN IMMEDIATE")
            self._db.executemany("DELETE FROM blocks WHERE key = ?", keys)
            self._db.execute("COMMIT")


class Files:
    """One folder for all."""

    def __init__(self, folder: Path) -> None:
        self._folder = str(folder)
        os.makedirs(folder, exist_ok=True)

    def _in(self, name: str) -> str:
        return self._folder

    def _path(self, cid: bytes) -> str:
        name = cids.multihash(cid).hex()
        return f"{self._in(name)}/{name}"

    def put(self, blocks: Sequence[Block]) -> None:
        paths = [self._path(cid) for cid, _ in blocks]
        folders = {path.rpartition("/")[0] for path in paths}
        made = [folder for folder in folders if not os.path.isdir(folder)]
        for folder in made:
            os.mkdir(folder)
        # All are written before the first is synced: the disk then gets many at once.
        opened = []
        for path, (_, data) in zip(paths, blocks, strict=True):
            opened.append(os.open(f"{path}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600))
            os.write(opened[-1], data)
            if len(opened) == 500:
                _sync(opened)
        _sync(opened)
        for path in paths:
            os.rename(f"{path}.new", path)
        self._sync_folders([*folders, self._folder] if made else folders)

    def get(self, cid: bytes) -> bytes | None:
        try:
            file = os.open(self._path(cid), os.O_RDONLY)
        except FileNotFoundError:
            return None
        try:
            return os.read(file, cids.MAX_BLOCK)
        finally:
            os.close(file)

    def has(self, cid: bytes) -> bool:
        return os.path.exists(self._path(cid))

    def delete(self, blocks: Sequence[Block]) -> None:
        paths = [self._path(cid) for cid, _ in blocks]
        for path in paths:
            os.unlink(path)
        self._sync_folders({path.rpartition("/")[0] for path in paths})

    def close(self) -> None:
        pass

    @staticmethod
    def _sync_folders(folders: Iterable[str]) -> None:
        for folder in folders:
            _sync([os.open(folder, os.O_RDONLY)])


class FannedOut(Files):
    """256 folders at most, named by two of the last characters: what Kubo calls next-to-last."""

    def _in(self, name: str) -> str:
        return f"{self._folder}/{name[-3:-1]}"


def _sync(descriptors: list[int]) -> None:
    while descriptors:
        descriptor = descriptors.pop()
        os.fsync(descriptor)
        os.close(descriptor)


_STORES: dict[str, Callable[[Path], Store]] = {
    "ours": Ours,
    "sqlite": SQLite,
    "files": Files,
    "fanned_out": FannedOut,
}
_PEERS = {
    "sqlite": ("SQLite", f"{sqlite3.sqlite_version}, WAL, synchronous=FULL"),
    "files": ("one file per block", ""),
    "fanned_out": ("one file per block, fanned out", "as flatfs"),
}
# What LMDB was not chosen for, and costs: it syncs twice per transaction, and files need no opening.
_COSTS = ("put_one_us", "reopen_us")


def run(quick: bool = False) -> list[dict[str, Any]]:
    results: list[dict[str, Any]] = []
    with workspace() as folder:
        for size, number in _SHAPES:
            results += _compare(folder, size, number // 4 if quick else number, 1 if quick else 3)
    return results


def _compare(folder: Path, size: int, number: int, rounds: int) -> list[dict[str, Any]]:
    blocks = _blocks(size, number + _ONE_BY_ONE)
    taken: dict[str, list[dict[str, float]]] = {who: [] for who in _STORES}
    for turn in range(rounds):
        order = list(_STORES)
        for who in order[turn % len(order) :] + order[: turn % len(order)]:
            taken[who].append(_measure(_STORES[who], folder / who, blocks, size))
            shutil.rmtree(folder / who)
    figures = {
        who: {what: median([one[what] for one in each]) for what in each[0]} for who, each in taken.items()
    }
    kib = size // 1024
    names = {
        "put_us": f"blocks of {kib} KiB put in batches, durable",
        "put_one_us": f"blocks of {kib} KiB put one by one, durable",
        "get_us": f"blocks of {kib} KiB read at random",
        "has_us": f"blocks of {kib} KiB looked up, half of them there",
        "delete_us": f"blocks of {kib} KiB removed, durable",
        "reopen_us": f"a store of {number} blocks of {kib} KiB opened, one block read",
    }
    return [_result(name, what, figures, rounds, len(blocks)) for what, name in names.items()]


def _result(
    name: str, what: str, figures: dict[str, dict[str, float]], rounds: int, blocks: int
) -> dict[str, Any]:
    fastest = min(_PEERS, key=lambda who: figures[who][what])
    peer, version = _PEERS[fastest]
    result = {
        "name": name,
        "ratio": round(figures["ours"][what] / figures[fastest][what], 3),
        "goal": "" if what in _COSTS else "<= 1",
        "peer": peer,
        "version": version,
        "command": "python -m bench stores",
        "rounds": rounds,
        "blocks": blocks,
        **{f"{who}_{what}": figures[who][what] for who in _STORES},
    }
    if what == "put_us":
        result |= {f"{who}_disk_mb": figures[who]["disk_mb"] for who in _STORES}
    if what == "delete_us":
        result |= {f"{who}_disk_afterwards_mb": figures[who]["disk_afterwards_mb"] for who in _STORES}
    return result


def _blocks(size: int, number: int) -> list[Block]:
    source = random.Random(size)
    return [(cids.make(cids.RAW, data), data) for data in (source.randbytes(size) for _ in range(number))]


def _measure(kind: Callable[[Path], Store], folder: Path, blocks: list[Block], size: int) -> dict[str, float]:
    """Microseconds per block, and megabytes on disk."""
    one_by_one, rest = blocks[:_ONE_BY_ONE], blocks[_ONE_BY_ONE:]
    figures: dict[str, float] = {}
    order = random.Random(len(blocks)).sample(blocks, len(blocks))
    absent = [cids.make(cids.RAW, hashlib.sha256(cid).digest()) for cid, _ in blocks]
    passes = -(-_LOOKS // len(order))

    def clock(what: str, number: int, work: Callable[[], None]) -> None:
        began = time.perf_counter()
        work()
        figures[what] = (time.perf_counter() - began) / number * 1e6

    def put_one_by_one() -> None:
        for block in one_by_one:
            store.put([block])

    def put() -> None:
        for batch in _batches(rest, _BATCH // size):
            store.put(batch)

    def get() -> None:
        for _ in range(passes):
            for cid, _data in order:
                store.get(cid)

    def has() -> None:
        for _ in range(passes):
            for (cid, _data), other in zip(order, absent, strict=True):
                store.has(cid)
                store.has(other)

    def reopen() -> None:
        nonlocal store
        store = kind(folder)
        store.get(order[0][0])

    def delete() -> None:
        store.delete(blocks)

    os.sync()  # what earlier rounds wrote
    store = kind(folder)
    clock("put_one_us", len(one_by_one), put_one_by_one)
    clock("put_us", len(rest), put)
    figures["disk_mb"] = _on_disk(folder)
    store.close()
    clock("reopen_us", 1, reopen)
    _check(store, order, absent)  # and into the cache
    clock("get_us", passes * len(order), get)
    clock("has_us", 2 * passes * len(order), has)
    clock("delete_us", len(blocks), delete)
    figures["disk_afterwards_mb"] = _on_disk(folder)
    store.close()
    return figures


def _check(store: Store, blocks: list[Block], absent: list[bytes]) -> None:
    """What a store that is quick must give all the same."""
    if any(store.get(cid) != data or not store.has(cid) for cid, data in blocks):
        raise RuntimeError(f"{type(store).__name__} lost a block")
    if any(store.get(cid) is not None or store.has(cid) for cid in absent):
        raise RuntimeError(f"{type(store).__name__} makes blocks up")


def _batches(blocks: list[Block], number: int) -> Iterator[list[Block]]:
    for start in range(0, len(blocks), number):
        yield blocks[start : start + number]


def _on_disk(folder: Path) -> float:
    """Megabytes that the file system has set aside."""
    return sum(path.lstat().st_blocks for path in [folder, *folder.rglob("*")]) * 512 / 1e6
