"""DAG-PB: the protobuf blocks that UnixFS is made of, and the links of a block of any known codec.

    PBNode { repeated PBLink Links = 2; optional bytes Data = 1 }      (Links come first on the wire)
    PBLink { optional bytes Hash = 1; optional string Name = 2; optional uint64 Tsize = 3 }

Source: https://ipld.io/specs/codecs/dag-pb/spec/.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from decentraspace.content import cid as cids
from decentraspace.content.cid import varint
from decentraspace.errors import BadInput

MAX_LINKS = 100_000
_LINKS, _DATA = 0x12, 0x0A  # keys of the two fields of a node
_PLAIN_START = b"\x0a\x24\x01"  # a link whose CID has 36 bytes, as with SHA2-256 and a codec of one byte
_PLAIN = 2 + 36  # bytes of such a link before its name


class Link(NamedTuple):
    """`tsize`: bytes of the whole DAG below, as the writer claims; never trusted for bounds."""

    cid: bytes
    name: str = ""
    tsize: int = 0


class Node(NamedTuple):
    links: list[Link]
    data: bytes | None


def encode(links: Iterable[Link], data: bytes | None) -> bytes:
    """The block; links in the order given (UnixFS: by name for directories, by position for files)."""
    out = bytearray()
    for link in links:
        name = link.name.encode()
        body = (
            b"\x0a"
            + varint(len(link.cid))
            + link.cid
            + b"\x12"
            + varint(len(name))
            + name
            + b"\x18"
            + varint(link.tsize)
        )
        out += b"\x12" + varint(len(body)) + body
    if data is not None:
        out += b"\x0a" + varint(len(data)) + data
    return bytes(out)


def fields(data: bytes) -> Iterable[tuple[int, int, int | bytes]]:
    """(field number, wire type, value) of a protobuf message; only varints, byte strings and fixed sizes.

    BadInput when it is cut off or uses anything else. Source: https://protobuf.dev/programming-guides/encoding/.
    """
    offset, end = 0, len(data)
    while offset < end:
        key, offset = _uint(data, offset)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, offset = _uint(data, offset)
            yield number, wire, value
            continue
        if wire == 2:
            length, offset = _uint(data, offset)
        elif wire in (1, 5):
            length = 8 if wire == 1 else 4
        else:
            raise BadInput(f"Protobuf wire type {wire} is not allowed")
        if offset + length > end:
            raise BadInput("A protobuf field is cut off")
        yield number, wire, data[offset : offset + length]
        offset += length


def packed(data: bytes) -> list[int]:
    """The numbers of a packed repeated field."""
    values, offset = [], 0
    while offset < len(data):
        value, offset = _uint(data, offset)
        values.append(value)
    return values


def _uint(data: bytes, offset: int) -> tuple[int, int]:
    """A protobuf varint: up to ten bytes, any form, 64 bits."""
    value = shift = 0
    for position in range(offset, min(offset + 10, len(data))):
        byte = data[position]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, position + 1
        shift += 7
    raise BadInput("A protobuf number is cut off")


def decode(block: bytes) -> Node:
    """Links and data of a DAG-PB block. BadInput for anything malformed: as strict as go-codec-dagpb."""
    links: list[Link] = []
    data: bytes | None = None
    closed = False  # links came, then data: no further link may follow
    for number, start, stop in _sections(block):
        if number == _LINKS and not closed:
            links.append(_plain_link(block, start, stop) or _link(block[start:stop]))
            if len(links) > MAX_LINKS:
                raise BadInput(f"A block has more than {MAX_LINKS} links")
        elif number == _DATA and data is None:
            data, closed = block[start:stop], bool(links)
        else:
            raise BadInput("A DAG-PB block has a repeated field, or links in two places")
    return Node(links, data)


def find(block: bytes, name: str) -> bytes | None:
    """CID of the first link of that name, or None. Of other links it reads as little as it can."""
    wanted = name.encode("utf-8", "surrogatepass")
    known = b"\x12" + varint(len(wanted)) + wanted
    for key, start, stop in _sections(block):
        if key != _LINKS:
            continue
        at = start + _PLAIN
        if (
            block.startswith(_PLAIN_START, start)
            and at + 1 < stop
            and block[at] == 0x12
            and block[at + 1] < 0x80
            and not block.startswith(known, at)
        ):
            continue
        link = _plain_link(block, start, stop) or _link(block[start:stop])
        if link.name == name:
            return link.cid
    return None


def old_links(block: bytes) -> set[bytes]:
    """The CIDs that a block links to as version 0, in the form of version 1 that they have here."""
    old = set()
    for key, start, stop in _sections(block):
        if key == _LINKS:
            hashes = [field for number, _, field in fields(block[start:stop]) if number == 1]
            if hashes and isinstance(hashes[0], bytes) and len(hashes[0]) == 34:
                old.add(cids.normal(hashes[0]))
    return old


def data_of(block: bytes) -> bytes | None:
    """The Data of a block; its links are not looked at."""
    return next((block[start:stop] for key, start, stop in _sections(block) if key == _DATA), None)


def _sections(block: bytes) -> Iterator[tuple[int, int, int]]:
    """(key, start, end) of the fields of a block, which are links and data and nothing else."""
    offset, end = 0, len(block)
    while offset < end:
        key = block[offset]
        if key not in (_LINKS, _DATA):
            raise BadInput("A DAG-PB block has an unknown field")
        if offset + 1 < end and block[offset + 1] < 0x80:
            start = offset + 2
            offset = start + block[offset + 1]
        else:
            length, start = _uint(block, offset + 1)
            offset = start + length
        if offset > end:
            raise BadInput("A DAG-PB field is cut off")
        yield key, start, offset


def _plain_link(block: bytes, start: int, stop: int) -> Link | None:
    """A link as nearly all are: SHA2-256, a name of less than 128 bytes, a size. None for any other."""
    name = start + _PLAIN + 2
    if stop <= name or not block.startswith(_PLAIN_START, start) or block[name - 2] != 0x12:
        return None
    size = name + block[name - 1]
    cid = block[start + 2 : start + _PLAIN]
    if block[name - 1] >= 0x80 or stop <= size or block[size] != 0x18 or not cids.is_plain(cid):
        return None
    tsize, end = _uint(block, size + 1)
    if end != stop:
        return None
    try:
        return Link(cid, block[name:size].decode(), tsize)
    except UnicodeDecodeError as error:
        raise BadInput("A link's name is not UTF-8") from error


def _link(body: bytes) -> Link:
    """Any link: CID, then perhaps a name, then perhaps a size, each once and in this order."""
    cid, name, tsize, last = b"", "", 0, 0
    for number, wire, field in fields(body):
        if number <= last:
            raise BadInput("A DAG-PB link has its fields twice or in another order")
        last = number
        if number == 1 and isinstance(field, bytes) and wire == 2:
            cid = cids.normal(field)
        elif number == 2 and isinstance(field, bytes) and wire == 2:
            try:
                name = field.decode()
            except UnicodeDecodeError as error:
                raise BadInput("A link's name is not UTF-8") from error
        elif number == 3 and isinstance(field, int):
            tsize = field
        else:
            raise BadInput("A DAG-PB link has an unknown field")
    if not cid:
        raise BadInput("A DAG-PB link has no CID")
    return Link(cid, name, tsize)


def links_of(cid: bytes, block: bytes) -> list[bytes]:
    """CIDs a block points at, by the codec of `cid`; [] for raw and codecs without links. BadInput if malformed."""
    codec = cids.codec(cid)
    if codec == cids.DAG_PB:
        return [link.cid for link in decode(block).links]
    if codec == cids.DAG_CBOR:
        return cbor_links(block)
    if codec == cids.DAG_JSON:
        try:
            return list(_json_links(json.loads(block)))
        except (ValueError, RecursionError) as error:
            raise BadInput(f"A DAG-JSON block is malformed: {error}") from error
    return []


def cbor_links(block: bytes) -> list[bytes]:
    """CIDs under tag 42 of a DAG-CBOR block, in order. Source: https://ipld.io/specs/codecs/dag-cbor/spec/.

    Read by hand, because decoders that give links and byte strings alike as bytes leave it open which of
    them are links, and because nesting costs nothing here.
    """
    links: list[bytes] = []
    offset, items, tagged = 0, 1, False
    while items:
        if offset >= len(block):
            raise BadInput("A DAG-CBOR block is cut off")
        major, info = block[offset] >> 5, block[offset] & 31
        offset += 1
        value = info
        if 24 <= info <= 27:
            width = 1 << (info - 24)
            value = int.from_bytes(block[offset : offset + width], "big")
            offset += width
        elif info > 27:
            raise BadInput("A DAG-CBOR block has a length that is not stated")
        items -= 1
        if tagged and major != 2:
            raise BadInput("A DAG-CBOR link is not a byte string")
        if major in (2, 3):
            content = block[offset : offset + value]
            offset += value
            if tagged:
                if content[:1] != b"\0":
                    raise BadInput("A DAG-CBOR link does not start with a zero byte")
                links.append(cids.normal(content[1:]))
        elif major in (4, 5):
            items += value * (major - 3)
        elif major == 6:
            if value != 42:
                raise BadInput(f"DAG-CBOR has no tag {value}")
            items += 1
        tagged = major == 6
        if offset > len(block) or items > len(block):
            raise BadInput("A DAG-CBOR block is cut off")
    if offset != len(block):
        raise BadInput("A DAG-CBOR block has something behind its end")
    return links


def _json_links(value: Any) -> Iterable[bytes]:
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            if set(item) == {"/"} and isinstance(item["/"], str):
                yield cids.parse(item["/"])
            else:
                stack.extend(item.values())
        elif isinstance(item, list):
            stack.extend(item)
