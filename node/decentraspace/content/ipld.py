"""Documents of DAG-CBOR and DAG-JSON, read so that links stay apart from byte strings.

Sources: https://ipld.io/specs/codecs/dag-cbor/spec/, https://ipld.io/specs/codecs/dag-json/spec/.
"""

from __future__ import annotations

import base64
import json
import struct
from typing import Any, NamedTuple

from decentraspace.content import cid as cids
from decentraspace.errors import BadInput, NotFound

MAX_DEPTH = 128
_FLOATS = {25: ">e", 26: ">f", 27: ">d"}
_SIMPLE = {20: False, 21: True, 22: None}


class Link(NamedTuple):
    cid: bytes


def decode(codec: int, block: bytes) -> Any:
    """Maps as dict, lists, text, bytes, numbers, booleans, None and Link. BadInput if malformed."""
    if codec == cids.DAG_JSON:
        try:
            return _from_json(json.loads(block), 0)
        except (ValueError, RecursionError) as error:
            raise BadInput(f"A DAG-JSON block is malformed: {error}") from error
    value, end = _item(block, 0, 0)
    if end != len(block):
        raise BadInput("A DAG-CBOR block has something behind its end")
    return value


def step(value: Any, segment: str) -> Any:
    """What is under a key of a map or at a position of a list. NotFound."""
    if isinstance(value, dict) and segment in value:
        return value[segment]
    if isinstance(value, list) and segment.isdecimal() and len(segment) < 10 and int(segment) < len(value):
        return value[int(segment)]
    raise NotFound(f"There is no {segment!r}")


def to_json(value: Any) -> Any:
    """The value as DAG-JSON has it."""
    if isinstance(value, Link):
        return {"/": cids.to_text(value.cid)}
    if isinstance(value, bytes):
        return {"/": {"bytes": base64.b64encode(value).decode().rstrip("=")}}
    if isinstance(value, dict):
        return {key: to_json(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [to_json(inner) for inner in value]
    return value


def _from_json(value: Any, depth: int) -> Any:
    if depth > MAX_DEPTH:
        raise BadInput("A document is nested too deeply")
    if isinstance(value, list):
        return [_from_json(inner, depth + 1) for inner in value]
    if not isinstance(value, dict):
        return value
    if set(value) == {"/"}:
        inner = value["/"]
        if isinstance(inner, str):
            return Link(cids.parse(inner))
        if isinstance(inner, dict) and set(inner) == {"bytes"} and isinstance(inner["bytes"], str):
            return base64.b64decode(inner["bytes"] + "=" * (-len(inner["bytes"]) % 4))
    return {key: _from_json(inner, depth + 1) for key, inner in value.items()}


def _item(block: bytes, at: int, depth: int) -> tuple[Any, int]:
    if depth > MAX_DEPTH:
        raise BadInput("A document is nested too deeply")
    major, info, number, at = _head(block, at)
    if major == 0:
        return number, at
    if major == 1:
        return -1 - number, at
    if major in (2, 3):
        content = block[at : at + number]
        if len(content) != number:
            raise BadInput("A DAG-CBOR block is cut off")
        if major == 2:
            return content, at + number
        try:
            return content.decode(), at + number
        except UnicodeDecodeError as error:
            raise BadInput("A DAG-CBOR text is not UTF-8") from error
    if major == 4:
        items: list[Any] = []
        for _ in range(number):
            item, at = _item(block, at, depth + 1)
            items.append(item)
        return items, at
    if major == 5:
        entries: dict[str, Any] = {}
        for _ in range(number):
            key, at = _item(block, at, depth + 1)
            if not isinstance(key, str) or key in entries:
                raise BadInput("A DAG-CBOR map has a key that is no text, or one twice")
            entries[key], at = _item(block, at, depth + 1)
        return entries, at
    if major == 6:
        content, at = _item(block, at, depth + 1)
        if number != 42 or not isinstance(content, bytes) or content[:1] != b"\0":
            raise BadInput("A DAG-CBOR tag is no link")
        return Link(cids.normal(content[1:])), at
    if info in _SIMPLE:
        return _SIMPLE[info], at
    if info in _FLOATS:
        return struct.unpack(_FLOATS[info], number.to_bytes(1 << (info - 24), "big"))[0], at
    raise BadInput("A DAG-CBOR block has a simple value that is not allowed")


def _head(block: bytes, at: int) -> tuple[int, int, int, int]:
    """(major type, additional information, argument, offset behind it)."""
    if at >= len(block):
        raise BadInput("A DAG-CBOR block is cut off")
    major, info = block[at] >> 5, block[at] & 31
    at += 1
    if info < 24:
        return major, info, info, at
    if info > 27:
        raise BadInput("A DAG-CBOR block has a length that is not stated")
    width = 1 << (info - 24)
    if at + width > len(block):
        raise BadInput("A DAG-CBOR block is cut off")
    number = int.from_bytes(block[at : at + width], "big")
    if major in (2, 3, 4, 5) and number > len(block):  # each item takes a byte at least
        raise BadInput("A DAG-CBOR block is cut off")
    return major, info, number, at + width
