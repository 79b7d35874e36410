"""A tar file as a stream of members: what a site may hold, and nothing that costs memory.

Reads ustar, GNU long names and pax headers, plain or packed with gzip. Written here because the readers in
use load whole extension headers and sparse maps of any size into memory, on a word of the archive.
Source: https://pubs.opengroup.org/onlinepubs/9699919799/utilities/pax.html (ustar and pax interchange
formats), https://www.gnu.org/software/tar/manual/html_node/Standard.html.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from decentraspace.errors import BadInput, TooLarge

BLOCK = 512
_EXTENSION_MOST = 64 * 1024  # bytes of one pax header or long name
_TRAILER_MOST = 1024 * 1024  # bytes of padding behind the end
_READ = 64 * 1024

FILE, DIRECTORY, SYMLINK = "file", "directory", "symlink"
_KINDS = {b"0": FILE, b"\0": FILE, b"7": FILE, b"5": DIRECTORY, b"2": SYMLINK}
_NAMES = {b"1": "a hard link", b"3": "a device", b"4": "a device", b"6": "a pipe", b"S": "a sparse file"}


class Member(NamedTuple):
    """`content` must be read before the next member is asked for; it gives `size` bytes or raises."""

    name: str
    kind: str
    size: int
    target: str
    content: io.RawIOBase


def members(stream: BinaryIO, *, max_bytes: int) -> Iterator[Member]:
    """Every member in order; at most `max_bytes` of unpacked archive are read.

    BadInput for damage, an end that is missing, and anything but files, folders and symlinks; TooLarge.
    """
    source = _Source(stream, max_bytes)
    extra: dict[str, str] = {}
    pending = 0  # extension headers since the last member
    while True:
        head = source.exactly(BLOCK)
        if not head.strip(b"\0"):
            source.drain()
            return
        _check_sum(head)
        size, kind = _number(head[124:136]), head[156:157]
        if kind in b"xgLK":
            pending += 1
            if size > _EXTENSION_MOST or pending > 8:
                raise TooLarge(f"A header in the archive has {size} bytes; {_EXTENSION_MOST} are allowed")
            body = source.exactly(size)
            source.exactly(-size % BLOCK)
            if kind == b"x":
                extra.update(_pax(body))
            elif kind in b"LK":
                extra["path" if kind == b"L" else "linkpath"] = _text(body.split(b"\0", 1)[0])
            continue  # a global header says nothing about content
        member, padding = _member(head, kind, size, extra, source)
        yield member
        while member.content.read(_READ):
            pass
        source.exactly(padding)
        extra, pending = {}, 0


def _member(
    head: bytes, code: bytes, size: int, extra: dict[str, str], source: _Source
) -> tuple[Member, int]:
    name = extra.get("path", "")
    if not name:
        name = _text(head[:100].split(b"\0", 1)[0])
        if head[257:263] == b"ustar\0" and (prefix := _text(head[345:500].split(b"\0", 1)[0])):
            name = f"{prefix}/{name}"
    kind = _KINDS.get(code, "")
    if not kind or any(key.startswith("GNU.sparse") for key in extra):
        raise BadInput(f"{name[:200]!r} is {_NAMES.get(code, 'neither a file nor a folder nor a symlink')}")
    if "size" in extra:
        size = _decimal(extra["size"])
    if kind == FILE and name.endswith("/"):
        kind = DIRECTORY  # as archives older than the standard say it
    if kind != FILE:
        size = 0
    target = extra.get("linkpath") or _text(head[157:257].split(b"\0", 1)[0])
    return Member(name, kind, size, target, _Content(source, size)), -size % BLOCK


def _check_sum(head: bytes) -> None:
    """The sum of all bytes with the sum's own eight taken as blanks; some writers added them as signed."""
    said = _number(head[148:156])
    total = sum(head[:148]) + 8 * ord(" ") + sum(head[156:])
    if said != total and said != total - 256 * sum(byte > 127 for byte in head[:148] + head[156:]):
        raise BadInput("This is no tar archive, or it is damaged: a header's checksum is wrong")


def _number(field: bytes) -> int:
    """Octal digits, or binary where the first bit is set."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    digits = field.strip(b" \0")
    if digits.strip(b"01234567"):
        raise BadInput("The tar archive is damaged: a header's number is not one")
    return int(digits, 8) if digits else 0


def _decimal(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise BadInput("A pax header's number is not one")
    return int(text)


def _pax(body: bytes) -> dict[str, str]:
    """Records of `LENGTH KEY=VALUE\\n`; the length counts itself."""
    found: dict[str, str] = {}
    offset = 0
    while offset < len(body) and body[offset]:
        blank = body.find(b" ", offset, offset + 8)
        digits = body[offset:blank]
        if blank < 0 or not digits.isdigit():
            raise BadInput("A pax header is damaged")
        end = offset + int(digits)
        key, equals, value = body[blank + 1 : end - 1].partition(b"=")
        if end <= blank + 1 or end > len(body) or not equals or body[end - 1 : end] != b"\n":
            raise BadInput("A pax header is damaged")
        if key in {b"path", b"linkpath", b"size"} or key.startswith(b"GNU.sparse"):
            found[key.decode("utf-8", "replace")] = _text(value)
        offset = end
    return found


def _text(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise BadInput(f"{raw[:80]!r} in the archive is not UTF-8") from error


class _Source:
    """The unpacked bytes, counted; gzip is told by its first two bytes."""

    def __init__(self, stream: BinaryIO, most: int) -> None:
        self._stream, self._left = stream, most
        self._start = stream.read(2)
        if len(self._start) == 1:
            self._start += stream.read(1)
        self._gzip = zlib.decompressobj(wbits=31) if self._start == b"\x1f\x8b" else None
        self._packed = b""

    def some(self, size: int) -> bytes:
        """1 to `size` bytes; none at the end."""
        data = self._raw(size) if self._gzip is None else self._unpacked(size)
        self._left -= len(data)
        if self._left < 0:
            raise TooLarge("The archive unpacks to more than it may")
        return data

    def exactly(self, size: int) -> bytes:
        data = self.some(size) if size else b""
        while len(data) < size:
            more = self.some(size - len(data))
            if not more:
                raise BadInput("The tar archive is cut off")
            data += more
        return data

    def drain(self) -> None:
        """Read the padding to its end, so that the checksum of the gzip data is reached and holds."""
        seen = 0
        while more := self.some(_READ):
            seen += len(more)
            if seen > _TRAILER_MOST:
                raise BadInput("The tar archive has something behind its end")

    def _raw(self, size: int) -> bytes:
        if self._start:
            data, self._start = self._start[:size], self._start[size:]
            return data
        return self._stream.read(size)

    def _unpacked(self, size: int) -> bytes:
        assert self._gzip is not None
        while True:
            try:
                data = self._gzip.decompress(self._packed, size)
            except zlib.error as error:
                raise BadInput(f"The gzip data is damaged: {error}") from error
            self._packed = self._gzip.unconsumed_tail
            if data:
                return data
            if self._gzip.eof:
                # Another gzip member may follow; zeros are padding.
                rest = (self._gzip.unused_data or self._raw(_READ)).lstrip(b"\0")
                if not rest:
                    return b""
                self._gzip, self._packed = zlib.decompressobj(wbits=31), rest
            elif not self._packed:
                self._packed = self._raw(_READ)
                if not self._packed:
                    raise BadInput("The gzip data is cut off")


class _Content(io.RawIOBase):
    def __init__(self, source: _Source, size: int) -> None:
        self._source, self._left = source, size

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        wanted = self._left if size < 0 else min(size, self._left)
        if not wanted:
            return b""
        data = self._source.some(min(wanted, _READ) if size < 0 else wanted)
        if not data:
            raise BadInput("The tar archive is cut off")
        self._left -= len(data)
        return data
