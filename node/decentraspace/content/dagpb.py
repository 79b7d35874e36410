"""DAG-PB: the protobuf blocks that UnixFS is made of, and the links of a block of any known codec.

    PBNode { repeated PBLink Links = 2; optional bytes Data = 1 }      (Links come first on the wire)
    PBLink { optional bytes Hash = 1; optional string Name = 2; optional uint64 Tsize = 3 }

Source: https://ipld.io/specs/codecs/dag-pb/spec/.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, NamedTuple

import libipld

from decentraspace.content import cid as cids
from decentraspace.content.cid import varint
from decentraspace.errors import BadInput

MAX_LINKS = 100_000


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
    """Links and data of a DAG-PB block. BadInput for anything malformed."""
    links: list[Link] = []
    data: bytes | None = None
    for number, wire, value in fields(block):
        if number == 2 and wire == 2:
            links.append(_link(value))
            if len(links) > MAX_LINKS:
                raise BadInput(f"A block has more than {MAX_LINKS} links")
        elif number == 1 and wire == 2 and data is None:
            data = bytes(value)
        else:
            raise BadInput("A DAG-PB block has an unknown or repeated field")
    return Node(links, data)


def _link(value: Any) -> Link:
    cid, name, tsize = b"", "", 0
    try:
        for number, wire, field in fields(value):
            if number == 1 and wire == 2:
                cid = bytes(field)
                cid = b"\x01\x70" + cid if cid[:2] == b"\x12\x20" and len(cid) == 34 else cids.validate(cid)
            elif number == 2 and wire == 2:
                name = bytes(field).decode()
            elif number == 3 and wire == 0:
                tsize = int(field)
            else:
                raise BadInput("A DAG-PB link has an unknown field")
    except UnicodeDecodeError as error:
        raise BadInput("A link's name is not UTF-8") from error
    if not cid:
        raise BadInput("A DAG-PB link has no CID")
    return Link(cid, name, tsize)


def links_of(cid: bytes, block: bytes) -> list[bytes]:
    """CIDs a block points at, by the codec of `cid`; [] for raw and codecs without links. BadInput if malformed."""
    codec = cids.codec(cid)
    if codec == cids.DAG_PB:
        return [link.cid for link in decode(block).links]
    if codec == cids.DAG_CBOR:
        try:
            return list(_cbor_links(libipld.decode_dag_cbor(block)))
        except (ValueError, RecursionError) as error:
            raise BadInput(f"A DAG-CBOR block is malformed: {error}") from error
    if codec == cids.DAG_JSON:
        try:
            return list(_json_links(json.loads(block)))
        except (ValueError, RecursionError) as error:
            raise BadInput(f"A DAG-JSON block is malformed: {error}") from error
    return []


def _cbor_links(value: Any) -> Iterable[bytes]:
    # The decoder gives links and byte strings alike as bytes; only what reads as a CID can be a link.
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, bytes):
            if item[:1] == b"\x01" and len(item) >= 5:
                try:
                    yield cids.validate(item)
                except BadInput:
                    continue
        elif isinstance(item, dict):
            stack.extend(item.values())
        elif isinstance(item, list):
            stack.extend(item)


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
