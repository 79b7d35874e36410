"""Files, folders and symlinks into UnixFS blocks, with the CIDs of `ipfs add --cid-version=1 --raw-leaves`.

256 KiB chunks, raw leaves, balanced trees of 174 links, directories sharded when their links pass
256 KiB. Blocks go to a sink, children before parents; nothing is kept but the links of the open levels.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import BinaryIO, NamedTuple, TypeAlias

from decentraspace.content import cid as cids
from decentraspace.content import dagpb, hamt, unixfs
from decentraspace.content.dagpb import Link
from decentraspace.errors import BadInput, NotFound, TooLarge

CHUNK = 262_144  # bytes
LINKS_PER_NODE = 174
SHARD_OVER = 262_144  # bytes of names and CIDs in a directory
MAX_DEPTH = 64
MAX_NAME = 255  # bytes

Sink = Callable[[bytes, bytes], None]


class Entry(NamedTuple):
    """A finished piece: `size` bytes of file content, `tsize` bytes of blocks, kind file, directory or symlink."""

    cid: bytes
    size: int
    tsize: int
    kind: str


_Folder: TypeAlias = "dict[str, Entry | _Folder]"


class _Sized(NamedTuple):
    cid: bytes
    size: int
    tsize: int


def add_file(stream: BinaryIO, sink: Sink, *, on_bytes: Callable[[int], None] | None = None) -> Entry:
    """One file. Holds one chunk at a time."""
    tree = FileTree(sink)
    while chunk := _read_chunk(stream):
        tree.add(chunk)
        if on_bytes is not None:
            on_bytes(len(chunk))
    return tree.finish()


def _read_chunk(stream: BinaryIO) -> bytes:
    """A full chunk unless the stream ends; raw streams may give less at a time."""
    chunk = stream.read(CHUNK)
    while chunk and len(chunk) < CHUNK:
        more = stream.read(CHUNK - len(chunk))
        if not more:
            break
        chunk += more
    return chunk


class FileTree:
    """The balanced tree of one file: give it the chunks in order, then `finish`."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._levels: list[list[_Sized]] = [[]]

    def add(self, chunk: bytes) -> None:
        """A chunk of CHUNK bytes (the last may be shorter)."""
        cid = cids.make(cids.RAW, chunk)
        self._sink(cid, chunk)
        self.add_leaf(cid, len(chunk))

    def add_leaf(self, cid: bytes, size: int) -> None:
        """A raw leaf that is in the sink already."""
        self._push(0, _Sized(cid, size, size))

    def _push(self, level: int, item: _Sized) -> None:
        while True:
            if level == len(self._levels):
                self._levels.append([])
            row = self._levels[level]
            if len(row) < LINKS_PER_NODE:
                row.append(item)
                return
            # The row is full and there is more: close it and carry it up.
            self._levels[level] = [item]
            item, level = self._close(row), level + 1

    def _close(self, row: list[_Sized]) -> _Sized:
        size = sum(item.size for item in row)
        data = unixfs.encode_file(size, [item.size for item in row])
        block = dagpb.encode([Link(item.cid, "", item.tsize) for item in row], data)
        cid = cids.make(cids.DAG_PB, block)
        self._sink(cid, block)
        return _Sized(cid, size, len(block) + sum(item.tsize for item in row))

    def finish(self) -> Entry:
        if not self._levels[0]:
            self.add(b"")
        level = 0
        while True:
            row = self._levels[level]
            top = level == len(self._levels) - 1
            if top and len(row) == 1:
                return Entry(row[0].cid, row[0].size, row[0].tsize, "file")
            self._push(level + 1, self._close(row))
            level += 1


def add_symlink(target: str, sink: Sink) -> Entry:
    """`target` as `os.readlink` gives it, bytes that are not UTF-8 included; not looked at."""
    block = dagpb.encode([], unixfs.encode_symlink(target.encode("utf-8", "surrogateescape")))
    cid = cids.make(cids.DAG_PB, block)
    sink(cid, block)
    return Entry(cid, 0, len(block), "symlink")


def add_directory(entries: Mapping[str, Entry], sink: Sink) -> Entry:
    """A directory of finished entries; one block, or a HAMT when the links are too many for that."""
    links = [Link(e.cid, name, e.tsize) for name, e in sorted(entries.items(), key=lambda p: p[0].encode())]
    size = sum(e.size for e in entries.values())
    if sum(len(link.name.encode()) + len(link.cid) for link in links) > SHARD_OVER:
        cid, tsize = hamt.build(links, sink)
        return Entry(cid, size, tsize, "directory")
    block = dagpb.encode(links, unixfs.DIRECTORY)
    cid = cids.make(cids.DAG_PB, block)
    sink(cid, block)
    return Entry(cid, size, len(block) + sum(link.tsize for link in links), "directory")


def check_name(name: str) -> str:
    """BadInput unless it can be one segment of a path: UTF-8, at most MAX_NAME bytes, no way up."""
    try:
        length = len(name.encode())
    except UnicodeEncodeError as error:
        raise BadInput(f"{name[:80]!r} is not UTF-8") from error
    if not 0 < length <= MAX_NAME or name in {".", ".."} or "/" in name or "\0" in name:
        raise BadInput(f"{name[:80]!r} cannot be the name of a file")
    return name


def add_path(
    path: Path,
    sink: Sink,
    *,
    on_bytes: Callable[[int], None] | None = None,
    add: Callable[[Path], Entry] | None = None,
    hidden: bool = True,
    shown: Collection[str] = (),
) -> Entry:
    """A file, symlink or folder on this machine, and everything in it.

    Symlinks are kept as symlinks, never followed. `add` replaces how one regular file is added.
    `hidden=False` leaves out what starts with a dot inside folders, as `ipfs add -r` does without `-H`,
    but for the names in `shown`.
    NotFound, or BadInput for sockets, devices, names that are not UTF-8 and what may not be read.
    """

    def one(file: Path) -> Entry:
        with file.open("rb") as stream:
            return add_file(stream, sink, on_bytes=on_bytes)

    def visit(here: Path, depth: int) -> Entry:
        if depth > MAX_DEPTH:
            raise TooLarge(f"{here} lies more than {MAX_DEPTH} folders deep")
        mode = here.lstat().st_mode
        if stat.S_ISLNK(mode):
            return add_symlink(os.readlink(here), sink)
        if stat.S_ISREG(mode):
            return (add or one)(here)
        if not stat.S_ISDIR(mode):
            raise BadInput(f"{here} is neither a file nor a folder nor a symlink")
        with os.scandir(here) as found:
            names = sorted(
                check_name(e.name) for e in found if hidden or not e.name.startswith(".") or e.name in shown
            )
        return add_directory({name: visit(here / name, depth + 1) for name in names}, sink)

    try:
        return visit(path, 0)
    except FileNotFoundError as error:
        raise NotFound(f"{error.filename} does not exist") from error
    except OSError as error:
        raise BadInput(f"{error.filename or path} cannot be read: {error.strerror or error}") from error


def _parts(path: str) -> list[str]:
    """Segments of a path from outside. BadInput, or TooLarge."""
    if path.startswith("/") or "\\" in path:
        raise BadInput(f"{path[:200]!r} is not a relative path")
    parts = path.removeprefix("./").split("/")
    if len(parts) > MAX_DEPTH:
        raise TooLarge(f"{path[:200]!r} lies more than {MAX_DEPTH} folders deep")
    return parts


class TreeBuilder:
    """A directory tree from files that come in any order, with paths that nobody has checked."""

    def __init__(self, sink: Sink, *, max_files: int = 100_000, max_bytes: int | None = None) -> None:
        self._sink, self._max_files, self._max_bytes = sink, max_files, max_bytes
        self._root: _Folder = {}
        self.files = self.folders = 0
        self.bytes = 0

    def _folder(self, path: str, parts: list[str]) -> _Folder:
        here = self._root
        for part in parts:
            inner = here.get(part)
            if inner is None:
                inner = here[check_name(part)] = {}
                self.folders += 1
                if self.folders > self._max_files:
                    raise TooLarge(f"More than {self._max_files} folders")
            if not isinstance(inner, dict):
                raise BadInput(f"{path[:200]!r} lies below something that is a file")
            here = inner
        return here

    def _place(self, path: str) -> tuple[_Folder, str]:
        parts = _parts(path)
        self.files += 1
        if self.files > self._max_files:
            raise TooLarge(f"More than {self._max_files} files")
        here, name = self._folder(path, parts[:-1]), check_name(parts[-1])
        if name in here:
            raise BadInput(f"{path[:200]!r} is there twice")
        return here, name

    def put_directory(self, path: str) -> None:
        """A folder that may stay empty; one that is there already is fine."""
        trimmed = path.rstrip("/")
        if trimmed in {"", "."} and not path.startswith("/"):
            return  # the root itself
        self._folder(path, _parts(trimmed or path))

    def put_file(self, path: str, stream: BinaryIO) -> Entry:
        folder, name = self._place(path)
        entry = add_file(stream, self._sink, on_bytes=self._count)
        folder[name] = entry
        return entry

    def put_symlink(self, path: str, target: str) -> None:
        """BadInput when the target leaves the tree."""
        depth = len(path.removeprefix("./").split("/")) - 1
        if target.startswith("/") or "\0" in target or not target or len(target) > 4096:
            raise BadInput(f"The symlink {path[:200]!r} leaves the site")
        for part in target.split("/"):
            depth += -1 if part == ".." else 0 if part in {"", "."} else 1
            if depth < 0:
                raise BadInput(f"The symlink {path[:200]!r} leaves the site")
        folder, name = self._place(path)
        folder[name] = add_symlink(target, self._sink)

    def _count(self, size: int) -> None:
        self.bytes += size
        if self._max_bytes is not None and self.bytes > self._max_bytes:
            raise TooLarge(f"More than {self._max_bytes} bytes")

    def finish(self) -> Entry:
        """Write the directories; the root's entry."""

        def close(folder: _Folder) -> Entry:
            done = {n: close(e) if isinstance(e, dict) else e for n, e in folder.items()}
            return add_directory(done, self._sink)

        return close(self._root)
