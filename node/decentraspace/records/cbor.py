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
    reader = _Reader(data)
    value = reader.value(0)
    if reader.at != len(data):
        raise BadInput("bytes follow the value")
    return value


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data, self.at, self._items = data, 0, 0

    def value(self, depth: int) -> Any:
        self._items += 1
        if self._items > MAX_ITEMS:
            raise BadInput(f"more than {MAX_ITEMS} values")
        start = self.at
        major, argument = self._read_head()
        if major == 0:
            return argument
        if major == 1:
            return -1 - argument
        if major == 2:
            return self._take(argument)
        if major == 3:
            return self._text(argument)
        if major == 6:
            return self._link(start)
        if major == 7:
            return _SIMPLE[self.data[start]]
        if depth >= MAX_DEPTH:
            raise BadInput("too deeply nested")
        if argument > MAX_ITEMS:
            raise BadInput(f"more than {MAX_ITEMS} values")
        if major == 4:
            return [self.value(depth + 1) for _ in range(argument)]
        return self._map(argument, depth)

    def _map(self, length: int, depth: int) -> dict[str, Any]:
        result: dict[str, Any] = {}
        last = b""
        for _ in range(length):
            start = self.at
            major, argument = self._read_head()
            if major != 3:
                raise BadInput("a map's keys must be text")
            key = self._text(argument)
            written = self.data[start : self.at]
            if written <= last:
                raise BadInput("a map's keys must be sorted, each once")
            last = written
            result[key] = self.value(depth + 1)
        return result

    def _read_head(self) -> tuple[int, int]:
        """(major type, argument); shortest form only."""
        if self.at >= len(self.data):
            raise BadInput("it is cut off")
        first = self.data[self.at]
        self.at += 1
        major, info = first >> 5, first & 31
        if major == 7:
            if first not in _SIMPLE:
                raise BadInput("floats and simple values other than true, false and null are not allowed")
            return major, info
        if info < 24:
            return major, info
        if info > 27:
            raise BadInput("indefinite lengths are not allowed")
        length = 1 << (info - 24)
        argument = int.from_bytes(self._take(length), "big")
        if argument < (24 if length == 1 else 1 << (4 * length)):
            raise BadInput("a number is not in its shortest form")
        return major, argument

    def _take(self, length: int) -> bytes:
        end = self.at + length
        if end > len(self.data):
            raise BadInput("it is cut off")
        taken = self.data[self.at : end]
        self.at = end
        return taken

    def _text(self, length: int) -> str:
        try:
            return self._take(length).decode()
        except UnicodeDecodeError as error:
            raise BadInput("a text is not UTF-8") from error

    def _link(self, start: int) -> Link:
        major, length = self._read_head() if self.data[start : self.at] == _LINK_TAG else (0, 0)
        if major != 2 or length > cids.MAX_CID + 1:
            raise BadInput("the only tag allowed is a link's")
        written = self._take(length)
        if written[:1] != b"\0":
            raise BadInput("a link's bytes must begin with zero")
        return Link(cids.validate(written[1:]))
