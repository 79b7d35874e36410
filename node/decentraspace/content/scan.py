"""The DAG of a folder on this machine without storing it: what to upload, and where to read it again."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from decentraspace.content import cid as cids
from decentraspace.content.importer import CHUNK, Entry, FileTree, add_path
from decentraspace.errors import Conflict


class LeafSource(NamedTuple):
    """Where a leaf's bytes lie."""

    path: Path
    offset: int
    length: int


@dataclass
class Scan:
    """`root`, and every block's CID in the order made (children first). Inner nodes are kept, leaves are
    read again from their files when asked for."""

    root: Entry
    blocks: dict[bytes, bytes | LeafSource] = field(default_factory=dict)

    def read(self, cid: bytes) -> bytes:
        """A block's bytes, checked against its CID. Conflict when the file has changed since."""
        source = self.blocks[cid]
        if isinstance(source, bytes):
            return source
        try:
            with source.path.open("rb", buffering=0) as stream:
                stream.seek(source.offset)
                data = stream.read(source.length) or b""
        except OSError as error:
            raise Conflict(f"{source.path} cannot be read any more: {error}") from error
        if len(data) != source.length or not cids.digest_matches(cid, data):
            raise Conflict(f"{source.path} changed during the deploy", hint="Deploy again.")
        return data

    def length(self, cid: bytes) -> int:
        source = self.blocks[cid]
        return len(source) if isinstance(source, bytes) else source.length


def scan_path(
    path: Path,
    *,
    on_bytes: Callable[[int], None] | None = None,
    hidden: bool = True,
    shown: Collection[str] = (),
) -> Scan:
    """Hash everything below `path` once, as `add_path` reads it. Holds one chunk and the inner nodes."""
    blocks: dict[bytes, bytes | LeafSource] = {}
    buffer = memoryview(bytearray(CHUNK))
    sha256 = hashlib.sha256

    def keep(cid: bytes, data: bytes) -> None:
        blocks.setdefault(cid, data)

    def add(file: Path) -> Entry:
        tree = FileTree(keep)
        descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            offset = 0
            while True:
                length = os.readv(descriptor, [buffer])
                while 0 < length < CHUNK and (more := os.readv(descriptor, [buffer[length:]])):
                    length += more
                if not length and offset:
                    break
                cid = b"\x01\x55\x12\x20" + sha256(buffer[:length]).digest()
                blocks.setdefault(cid, LeafSource(file, offset, length))
                tree.add_leaf(cid, length)
                offset += length
                if on_bytes is not None:
                    on_bytes(length)
                if length < CHUNK:
                    break
        finally:
            os.close(descriptor)
        return tree.finish()

    root = add_path(path, keep, add=add, hidden=hidden, shown=shown)
    return Scan(root, blocks)
