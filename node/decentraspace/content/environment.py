"""The LMDB environment of a block store: how large its map is, and when it counts as full.

A map that is full cannot even be emptied, because removing writes pages before it frees any. So blocks may
fill it only so far that there is always room to remove them.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import lmdb

_BLOCK_COST = 1024  # bytes of indexes, half-filled pages and old copies of pages that go with a block
_PAGES_COST = 2  # bytes on disk per byte of a block, at most: just over one page takes two
_SPARE = 1 << 30  # bytes of the map that blocks leave free
_READERS = 512  # transactions at once, of all processes
_READER_MAP = 1 << 40  # bytes; addresses only, so that no writer's growth can outrun a reader


def map_size(quota: int) -> int:
    """Bytes of address space for a store of `quota` bytes of blocks; the file grows only as it is used."""
    return quota * (_PAGES_COST + 1) + 2 * _SPARE


def fits(blocks: int, size: int, quota: int) -> bool:
    """Whether the map surely has room for so many blocks of `size` bytes in all, indexes included."""
    return size * _PAGES_COST + blocks * _BLOCK_COST <= map_size(quota) - _SPARE


def open_environment(path: Path, quota: int, readonly: bool, *, databases: int) -> Any:
    """Raises lmdb.Error and OSError. A reader never makes anything."""
    data = path / "data.mdb"
    used = data.stat().st_size if data.exists() else 0
    if readonly:
        size = max(_READER_MAP, 4 * used)
    else:
        # More than is used, so that a store that was filled to the brim can be emptied after a restart.
        size = max(map_size(quota), used + _SPARE)
        if not path.exists():
            path.mkdir(mode=0o700, parents=True)
            sync_folder(path.parent)
    env = lmdb.open(
        str(path),
        map_size=-(-size // 4096) * 4096,
        max_dbs=databases,
        max_readers=_READERS,
        readonly=readonly,
        readahead=False,
        create=not readonly,
    )
    if not readonly and not used:
        sync_folder(path)
    return env


def sync_folder(path: Path) -> None:
    """Make names that were added to or removed from a folder durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
