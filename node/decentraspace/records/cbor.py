"""The DAG-CBOR of records: one encoding for each value, and nothing else is read.

Written out here, though libipld is faster, because a record's verdict must not depend on a library's
version or guess: libipld writes any bytes that happen to look like a CID as a link, its depth limit is
that of the interpreter, and on a small stack deep nesting ends the process. Here a link is a `Link`, and
depth and number of items are bounded before they cost anything. Records hold no fractions: floats are
refused. Source: https://ipld.io/specs/codecs/dag-cbor/spec/, RFC 8949 section 4.2.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from decentraspace.content import cid as cids
from decentraspace.errors import BadInput

MAX_DEPTH = 4  # a record, its body, a list or map in it, and one to spare
MAX_ITEMS = 256  # values in all, keys not counted
_LINK_TAG = b"\xd8\x2a"
_SIMPLE = {0xF4: False, 0xF5: True, 0xF6: None}
_INDEFINITE = "indefinite lengths are not allowed"


class Link(bytes):
    """A binary CID that is written as a link (tag 42), not as bytes."""


def encode(value: Any) -> bytes:
    """TypeError or OverflowError for what has no DAG-CBOR or is not for records."""
    out = bytearray()
    _write(out, value)
    return bytes(out)


def _write(out: bytearray, value: Any) -> None:
    if value is None or isinstance(value, bool):
        out.append(0xF6 if value is None else 0xF4 + value)
    elif isinstance(value, int):
        out += _head(0, value) if value >= 0 else _head(1, -1 - value)
    elif isinstance(value, Link):
        out += _LINK_TAG + _head(2, len(value) + 1) + b"\0" + value
    elif isinstance(value, bytes):
        out += _head(2, len(value)) + value
    elif isinstance(value, str):
        raw = value.encode()
        out += _head(3, len(raw)) + raw
    elif isinstance(value, list | tuple):
        out += _head(4, len(value))
        for item in value:
            _write(out, item)
    elif isinstance(value, Mapping):
        out += _head(5, len(value))
        # Shorter keys first, then by bytes: the order of their encodings.
        for key, item in sorted((encode(str(k)), v) for k, v in value.items()):
            out += key
            _write(out, item)
    else:
        raise TypeError(f"{type(value).__name__} has no place in a record")


def _head(major: int, argument: int) -> bytes:
    for code, length in ((24, 1), (25, 2), (26, 4), (27, 8)):
        if argument < 24:
            return bytes((major << 5 | argument,))
        if argument < 1 << (8 * length):
            return bytes((major << 5 | code,)) + argument.to_bytes(length, "big")
    raise OverflowError("A number has more than 64 bits")


def decode(data: bytes) -> Any:
    """Links come as `Link`. BadInput unless `data` is exactly what `encode` writes for some value."""
    try:
        value, end = _Reader(data).value(0, 0)
    except IndexError as error:
        raise BadInput("it is cut off") from error
    except UnicodeDecodeError as error:
        raise BadInput("a text is not UTF-8") from error
    if end != len(data):
        raise BadInput("bytes follow the value")
    return value


class _Reader:
    """Reads what begins `at` a place: all methods answer with it and where it ends, and raise IndexError where the
    data end before. Written for speed: half the time of a verdict that is not spent on signatures was spent here."""

    __slots__ = ("_data", "_items", "_size")

    def __init__(self, data: bytes) -> None:
        self._data, self._size, self._items = data, len(data), 1

    def value(self, at: int, depth: int) -> tuple[Any, int]:
        first = self._data[at]
        major, argument = first >> 5, first & 31
        at += 1
        if major == 7:
            if first not in _SIMPLE:
                raise BadInput("floats and simple values other than true, false and null are not allowed")
            return _SIMPLE[first], at
        if argument > 23:
            argument, at = self._long(argument, at)
        if major == 0:
            return argument, at
        if major == 3:
            end = self._end(at, argument)
            return self._data[at:end].decode(), end
        if major == 2:
            end = self._end(at, argument)
            return self._data[at:end], end
        if major == 1:
            return -1 - argument, at
        if major == 6:
            if first != _LINK_TAG[0] or argument != _LINK_TAG[1]:
                raise BadInput("the only tag allowed is a link's")
            return self._link(at)
        if depth >= MAX_DEPTH:
            raise BadInput("too deeply nested")
        self._items += argument
        if self._items > MAX_ITEMS:
            raise BadInput(f"more than {MAX_ITEMS} values")
        return self._map(at, argument, depth + 1) if major == 5 else self._list(at, argument, depth + 1)

    def _list(self, at: int, length: int, depth: int) -> tuple[list[Any], int]:
        result = []
        for _ in range(length):
            item, at = self.value(at, depth)
            result.append(item)
        return result, at

    def _map(self, at: int, length: int, depth: int) -> tuple[dict[str, Any], int]:
        data, size, value = self._data, self._size, self.value
        result: dict[str, Any] = {}
        last = b""
        for _ in range(length):
            first = data[at]
            if 0x60 <= first < 0x78:
                begin, end = at + 1, at + first - 0x5F
            else:
                begin, end = self._long_key(at)
            written = data[at:end]
            if written <= last:
                raise BadInput("a map's keys must be sorted, each once")
            last = written
            key = data[begin:end].decode()
            # What is short, which most of it is, without another call.
            first = data[end]
            if 0x60 <= first < 0x78:
                at = end + first - 0x5F
                if at > size:
                    raise IndexError
                result[key] = data[end + 1 : at].decode()
            elif first < 24:
                result[key], at = first, end + 1
            else:
                result[key], at = value(end, depth)
        return result, at

    def _long_key(self, at: int) -> tuple[int, int]:
        """Where a key that is longer than usual begins and ends, behind its head."""
        if self._data[at] >> 5 != 3:
            raise BadInput("a map's keys must be text")
        argument, begin = self._long(self._data[at] & 31, at + 1)
        return begin, self._end(begin, argument)

    def _long(self, info: int, at: int) -> tuple[int, int]:
        """An argument that is not in the first byte; shortest form only."""
        if info > 27:
            raise BadInput(_INDEFINITE)
        length = 1 << (info - 24)
        end = self._end(at, length)
        argument = int.from_bytes(self._data[at:end], "big")
        if argument < (24 if length == 1 else 1 << (4 * length)):
            raise BadInput("a number is not in its shortest form")
        return argument, end

    def _end(self, at: int, length: int) -> int:
        end = at + length
        if end > self._size:
            raise IndexError
        return end

    def _link(self, at: int) -> tuple[Link, int]:
        first = self._data[at]
        length, at = first - 0x40, at + 1
        if not 0 <= length < 28:
            raise BadInput("a link must be bytes")
        if length > 23:
            length, at = self._long(length, at)
        end = self._end(at, length)
        if length > cids.MAX_CID + 1:
            raise BadInput("a link is too long")
        if self._data[at] != 0:
            raise BadInput("a link's bytes must begin with zero")
        return Link(cids.validate(self._data[at + 1 : end])), end
