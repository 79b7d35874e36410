"""A file or folder as a tar, in pieces; the same bytes each time, as nothing in it is of this day or machine."""

from __future__ import annotations

import posixpath
import tarfile
from collections.abc import Iterator

from decentraspace.content import cid as cids
from decentraspace.content import reader
from decentraspace.content.reader import GetBlock, Stat
from decentraspace.errors import Unprocessable

_BLOCK = 512  # bytes
MAX_DEPTH = 64  # folders within folders

# No header of a member: whoever unpacks sees that the rest did not come.
BROKEN_OFF = b"\xff" * _BLOCK


def stream(get: GetBlock, top: Stat) -> Iterator[bytes]:
    """Everything is below a name that is the CID. Unprocessable for what would lead out of it."""
    name = cids.to_text(top.cid)
    if top.kind != "directory":
        yield from _member(get, name, top)
    else:
        yield _header(name, tarfile.DIRTYPE)
        levels = [(name, reader.list_directory(get, top.cid))]
        while levels:
            path, entries = levels[-1]
            entry = next(entries, None)
            if entry is None:
                levels.pop()
                continue
            inner = posixpath.normpath(f"{path}/{entry.name}")
            if not inner.startswith(f"{name}/") or "\0" in inner:
                raise Unprocessable("A name in the content leads out of it")
            stat = reader.stat(get, entry.cid)
            if stat.kind != "directory":
                yield from _member(get, inner, stat)
                continue
            if len(levels) == MAX_DEPTH:
                raise Unprocessable(f"There are more than {MAX_DEPTH} folders within each other")
            yield _header(inner, tarfile.DIRTYPE)
            levels.append((inner, reader.list_directory(get, entry.cid)))
    yield bytes(2 * _BLOCK)


def _member(get: GetBlock, path: str, stat: Stat) -> Iterator[bytes]:
    if stat.kind == "symlink":
        yield _header(path, tarfile.SYMTYPE, target=stat.target)
    elif stat.kind == "file":
        yield _header(path, tarfile.REGTYPE, stat.size)
        yield from reader.iter_file(get, stat.cid)
        yield bytes(-stat.size % _BLOCK)
    else:
        raise Unprocessable("The content has a part that is no file and no folder")


def _header(path: str, kind: bytes, size: int = 0, target: str = "") -> bytes:
    info = tarfile.TarInfo(path)
    info.type, info.size, info.linkname = kind, size, target
    info.mode = 0o755 if kind == tarfile.DIRTYPE else 0o644
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
