"""The UnixFS protobuf inside DAG-PB: what a block means as a file, directory, shard or symlink.

    Data { Type = 1; Data = 2; filesize = 3; blocksizes = 4; hashType = 5; fanout = 6 }

Source: https://specs.ipfs.tech/unixfs/.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from decentraspace.content.cid import varint
from decentraspace.content.dagpb import fields, packed
from decentraspace.errors import BadInput

TYPE_RAW, TYPE_DIRECTORY, TYPE_FILE, TYPE_METADATA, TYPE_SYMLINK, TYPE_SHARD = range(6)
MURMUR3_X64_64 = 0x22
DIRECTORY = b"\x08\x01"  # the Data of every plain directory


class UnixFS(NamedTuple):
    """`filesize` and `blocksizes` in bytes; `blocksizes[i]` is what link i holds of the file."""

    type: int
    data: bytes = b""
    filesize: int | None = None
    blocksizes: tuple[int, ...] = ()
    hash_type: int | None = None
    fanout: int | None = None


def encode_file(filesize: int, blocksizes: Sequence[int]) -> bytes:
    return b"\x08\x02\x18" + varint(filesize) + b"".join(b"\x20" + varint(size) for size in blocksizes)


def encode_symlink(target: bytes) -> bytes:
    return b"\x08\x04\x12" + varint(len(target)) + target


def encode_shard(bitfield: bytes, fanout: int) -> bytes:
    return (
        b"\x08\x05\x12"
        + varint(len(bitfield))
        + bitfield
        + b"\x28"
        + varint(MURMUR3_X64_64)
        + b"\x30"
        + varint(fanout)
    )


def decode(data: bytes | None) -> UnixFS:
    """BadInput unless `data` is a UnixFS message of a known type."""
    if data is None:
        raise BadInput("The block is not UnixFS: it has no data field")
    kind, content, filesize, hash_type, fanout = -1, b"", None, None, None
    sizes: list[int] = []
    for number, wire, value in fields(data):
        if number == 1 and isinstance(value, int):
            kind = value
        elif number == 2 and isinstance(value, bytes):
            content = value
        elif number == 3 and isinstance(value, int):
            filesize = value
        elif number == 4 and isinstance(value, int):
            sizes.append(value)
        elif number == 4 and wire == 2 and isinstance(value, bytes):
            sizes.extend(packed(value))  # as writers of a newer protobuf syntax do
        elif number == 5 and isinstance(value, int):
            hash_type = value
        elif number == 6 and isinstance(value, int):
            fanout = value
        # Further fields (mode 7, mtime 8) carry nothing that is served.
    if not TYPE_RAW <= kind <= TYPE_SHARD:
        raise BadInput(f"UnixFS type {kind} is not known")
    return UnixFS(kind, content, filesize, tuple(sizes), hash_type, fanout)
