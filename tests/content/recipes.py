"""Inputs that are the same everywhere: trees of files described in a few words, made on disk or in memory."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, TypeAlias

from decentraspace.content.importer import Entry, Sink, add_directory, add_file, add_symlink

_PIECE = 1024 * 1024


class File(NamedTuple):
    """`size` bytes that depend on `seed` alone: SHAKE-128 of `seed/number` for each MiB."""

    size: int
    seed: str = ""

    def open(self) -> io.BufferedReader:
        return io.BufferedReader(_Bytes(self), _PIECE)

    def read(self) -> bytes:
        return self.open().read()


class _Bytes(io.RawIOBase):
    def __init__(self, file: File) -> None:
        self._file, self._done, self._piece = file, 0, b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        if self._done == self._file.size:
            return 0
        number, offset = divmod(self._done, _PIECE)
        if offset == 0:
            length = min(_PIECE, self._file.size - self._done)
            self._piece = hashlib.shake_128(f"{self._file.seed}/{number}".encode()).digest(length)
        part = self._piece[offset : offset + len(buffer)]
        buffer[: len(part)] = part
        self._done += len(part)
        return len(part)


class Link(NamedTuple):
    target: str


Tree: TypeAlias = "Mapping[str, Tree | File | Link] | File | Link"


def _flat(total: int) -> Tree:
    """A folder whose names and CIDs have `total` bytes: 4096 entries of 64, the last longer or shorter."""
    names = [f"{number:06d}".ljust(28, "x") for number in range(4095)]
    return {name: File(0) for name in [*names, "last".ljust(total - 4095 * 64 - 36, "x")]}


def _many(count: int, name: str) -> dict[str, Tree]:
    return {name.format(number): File(0) for number in range(count)}


def _deep(levels: int) -> Tree:
    tree: Tree = File(10, "deep")
    for level in range(levels):
        tree = {f"level {level}": tree}
    return tree


KIB, CHUNK = 1024, 262_144

RECIPES: dict[str, Tree] = {
    **{
        f"file of {size} B": File(size, "file")
        for size in (0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 1_000_000, 174 * CHUNK, 174 * CHUNK + 1)
    },
    "file of 100 MB": File(100_000_000, "file"),
    "file of 1 GB": File(1_000_000_000, "file"),
    "empty folder": {},
    "folder of empty folders": {"a": {}, "b": {"c": {}}},
    "order of names": {
        name: File(3, name)
        for name in ("a", "B", "a.b", "a-b", "a b", "ab", "é", "e\u0301", "日本語.html", "🦊", "~", "Z", "_")
    },
    "hidden files": {".well-known": {"x": File(1)}, ".hidden": File(2), "shown": File(3)},
    "a long name": {"n" * 255: File(1), "é" * 127: File(2)},
    "deep folders": _deep(40),
    "symlinks": {
        "here": Link("file"),
        "below": {"up": Link("../file"), "dangling": Link("nothing/there"), "absolute": Link("/etc/passwd")},
        "bytes": Link("caf\udce9"),
        "file": File(7, "file"),
    },
    "a site": {
        "index.html": File(12_345, "index"),
        "css": {"main.css": File(40_000, "css"), "print.css": File(0)},
        "img": {"big.jpg": File(700_000, "big"), "again.jpg": File(700_000, "big")},
        "docs": {str(n): {"index.html": File(100 + n, str(n))} for n in range(50)},
    },
    "folder of 262143 B": _flat(262_143),
    "folder of 262144 B": _flat(262_144),
    "folder of 262145 B": _flat(262_145),
    "sharded, other letters": _many(3000, "é{}日本" + "x" * 60),
    "sharded, with everything": {
        **_many(6000, "entry-{}"),
        "link": Link("entry-1"),
        "folder": {"a": File(5), "empty": {}},
        "file": File(3 * CHUNK, "shard"),
    },
    "sharded twice": {"inner": _many(6000, "{}"), **_many(6000, "{}.html")},
    "sharded, three levels": _many(20_000, "f{}"),
}
SLOW = {"file of 1 GB"}


def to_disk(tree: Tree, path: Path) -> None:
    if isinstance(tree, File):
        with path.open("wb") as target, tree.open() as source:
            while piece := source.read(_PIECE):
                target.write(piece)
    elif isinstance(tree, Link):
        os.symlink(tree.target, path)
    else:
        path.mkdir()
        for name, inner in tree.items():
            to_disk(inner, path / name)


def to_blocks(tree: Tree, sink: Sink) -> Entry:
    if isinstance(tree, File):
        with tree.open() as source:
            return add_file(source, sink)
    if isinstance(tree, Link):
        return add_symlink(tree.target, sink)
    return add_directory({name: to_blocks(inner, sink) for name, inner in tree.items()}, sink)
