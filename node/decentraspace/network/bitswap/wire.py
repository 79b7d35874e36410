"""Messages of Bitswap 1.2 as bytes: Protocol Buffers read by hand, so that what a peer makes up stays small.

py-libp2p's own Bitswap (0.8.1) stores blocks nobody asked for, keeps wantlists of any length, and reads a
message of four megabytes into as many objects as it names; hence this one.
Source: https://specs.ipfs.tech/bitswap-protocol/, https://protobuf.dev/programming-guides/encoding/.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from decentraspace.content import cid as cids
from decentraspace.errors import BadInput

PROTOCOL = "/ipfs/bitswap/1.2.0"
MAX_MESSAGE = 4 * 1024 * 1024  # bytes; what other implementations send at most
MAX_WANTS = 1024  # of one message; what comes behind them is not read
_MAX_FIELDS = 50_000  # of one message, those of its parts included
_MAX_BLOCKS = 4096
_MAX_PRESENCES = 4096
_BYTES, _VARINT, _FIXED64, _FIXED32 = 2, 0, 1, 5


class Want(NamedTuple):
    """One entry of a wantlist. `cid` is binary, as the peer wrote it: of either version.

    `have`: only whether the block is there is asked. `dont_have`: it wants to be told when it is not."""

    cid: bytes
    have: bool = False
    dont_have: bool = False
    cancel: bool = False


@dataclass
class Message:
    """`full`: the wants are all there are. `blocks`: (CID without digest, data), not verified.
    `presences`: (CID, whether it is there). `pending`: bytes of blocks the sender has yet to send."""

    wants: list[Want] = field(default_factory=list)
    full: bool = False
    blocks: list[tuple[bytes, bytes]] = field(default_factory=list)
    presences: list[tuple[bytes, bool]] = field(default_factory=list)
    pending: int = 0


def encode(message: Message) -> bytes:
    """With its length in front, as it goes onto a stream."""
    body = bytearray()
    if message.wants or message.full:
        entries = [_part(1, b"".join(_entry(want))) for want in message.wants]
        body += _part(1, b"".join(entries) + (b"\x10\x01" if message.full else b""))
    for prefix, data in message.blocks:
        head = _part(1, prefix) + b"\x12" + cids.varint(len(data))
        body += b"\x1a" + cids.varint(len(head) + len(data)) + head
        body += data
    for cid, there in message.presences:
        body += _part(4, _part(1, cid) + (b"" if there else b"\x10\x01"))
    if message.pending:
        body += b"\x28" + cids.varint(message.pending)
    return cids.varint(len(body)) + bytes(body)


def _entry(want: Want) -> Iterator[bytes]:
    yield _part(1, want.cid) + b"\x10\x01"  # all of the same priority
    for flag, key in ((want.cancel, b"\x18\x01"), (want.have, b"\x20\x01"), (want.dont_have, b"\x28\x01")):
        if flag:
            yield key


def _part(number: int, data: bytes) -> bytes:
    return bytes((number << 3 | _BYTES,)) + cids.varint(len(data)) + data


def decode(data: bytes) -> Message:
    """BadInput when it is malformed, or is made of more pieces than an honest one is."""
    message, budget = Message(), _Budget(_MAX_FIELDS)
    view = memoryview(data)
    for number, value in _fields(view, budget):
        if number == 1:
            _wantlist(_bytes(value), message, budget)
        elif number == 3:
            if len(message.blocks) >= _MAX_BLOCKS:
                raise BadInput("A message has too many blocks")
            parts = dict(_fields(_bytes(value), budget))
            message.blocks.append((_cid(parts.get(1, b"")), bytes(_bytes(parts.get(2, b"")))))
        elif number == 4:
            if len(message.presences) >= _MAX_PRESENCES:
                raise BadInput("A message has too many presences")
            parts = dict(_fields(_bytes(value), budget))
            message.presences.append((_cid(parts.get(1, b"")), not parts.get(2, 0)))
        elif number == 5 and isinstance(value, int):
            message.pending = value & 0x7FFFFFFF
        # 2: blocks without a prefix, of version 1.0, which nobody is asked for here
    return message


def _wantlist(data: memoryview, message: Message, budget: _Budget) -> None:
    for number, value in _fields(data, budget):
        if number == 2:
            message.full = bool(value)
        elif number == 1 and len(message.wants) < MAX_WANTS:
            parts = dict(_fields(_bytes(value), budget))
            cid = _cid(parts.get(1, b""))
            cancel, have, dont_have = (bool(parts.get(key, 0)) for key in (3, 4, 5))
            message.wants.append(Want(cid, have, dont_have, cancel))


class _Budget:
    def __init__(self, left: int) -> None:
        self.left = left


_Value = int | memoryview | bytes


def _fields(data: memoryview, budget: _Budget) -> Iterator[tuple[int, _Value]]:
    offset, end = 0, len(data)
    while offset < end:
        budget.left -= 1
        if budget.left < 0:
            raise BadInput("A message has too many fields")
        key, offset = _varint(data, offset)
        kind = key & 7
        if kind == _VARINT:
            value, offset = _varint(data, offset)
            yield key >> 3, value
        elif kind == _BYTES:
            length, offset = _varint(data, offset)
            if length > end - offset:
                raise BadInput("A message is cut off")
            yield key >> 3, data[offset : offset + length]
            offset += length
        elif kind in (_FIXED32, _FIXED64):
            offset += 4 if kind == _FIXED32 else 8
        else:
            raise BadInput("A message has a field of unknown kind")
    if offset > end:
        raise BadInput("A message is cut off")


def _varint(data: memoryview, offset: int) -> tuple[int, int]:
    """Ten bytes at most: a negative number takes so many here, and other writers pad."""
    value = 0
    for shift in range(0, 70, 7):
        if offset >= len(data):
            raise BadInput("A message is cut off")
        byte = data[offset]
        offset += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, offset
    raise BadInput("A number in a message is too long")


def _bytes(value: _Value) -> memoryview:
    if isinstance(value, int):
        raise BadInput("A message has a number where bytes belong")
    return memoryview(value)


def _cid(value: _Value) -> bytes:
    data = _bytes(value)
    if len(data) > cids.MAX_CID:
        raise BadInput("A message has a CID that is too long")
    return bytes(data)


def prefix(cid: bytes) -> bytes:
    """A binary CID of either version without its digest, as it stands beside a block."""
    if len(cid) == 34 and cid[:2] == b"\x12\x20":
        return b"\x00\x70\x12\x20"
    return cid[: len(cid) - len(cids.parts(cid)[2])]


_HASHES = {
    cids.SHA2_256: lambda data: hashlib.sha256(data).digest(),
    cids.SHA2_512: lambda data: hashlib.sha512(data).digest(),
    cids.BLAKE2B_256: lambda data: hashlib.blake2b(data, digest_size=32).digest(),
}


def multihash_of(prefix: bytes, data: bytes) -> bytes | None:
    """What `data` hashes to under the hash function that its prefix names; None when that is not known here.

    Which codec the prefix names does not matter: a block is what its hash says, whoever reads it."""
    try:
        _, offset = cids.read_varint(prefix)
        _, offset = cids.read_varint(prefix, offset)
        code, offset = cids.read_varint(prefix, offset)
        length, offset = cids.read_varint(prefix, offset)
    except BadInput:
        return None
    if offset != len(prefix) or code not in _HASHES:
        return None
    digest = _HASHES[code](data)
    return cids.varint(code) + cids.varint(length) + digest if length == len(digest) else None


def named(blocks: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """(multihash, data) of those blocks whose hash function is known. Blocking: hashes everything."""
    found = ((multihash_of(head, data), data) for head, data in blocks)
    return [(key, data) for key, data in found if key is not None]
