"""multipart/form-data as a stream of parts, read as far as its reader asks. Source: RFC 7578.

The parser (python-multipart) calls back; here its calls are queued, and the next piece of the body is fed
only when the queue is empty, so nothing piles up.
"""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from decentraspace.errors import BadInput

_HEADERS_MOST = 16 * 1024  # bytes of all headers of one part


class Part(NamedTuple):
    """`filename`: None for a plain form field. `stream` must be read before the next part is asked for."""

    name: str
    filename: str | None
    stream: io.RawIOBase


class _PartStream(io.RawIOBase):
    def __init__(self, reader: _Reader) -> None:
        self._reader = reader
        self._rest = b""

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        """Exactly `size` bytes unless the part ends."""
        parts: list[bytes] = []
        need = size if size >= 0 else 1 << 62
        while need:
            piece = self._rest or self._reader.data()
            if not piece:
                break
            parts.append(piece[:need])
            self._rest = piece[need:]
            need -= len(parts[-1])
        return parts[0] if len(parts) == 1 else b"".join(parts)


def boundary_of(content_type: str) -> bytes:
    """BadInput without one."""
    _, options = parse_options_header(content_type)
    boundary = options.get(b"boundary", b"")
    if not 1 <= len(boundary) <= 70:
        raise BadInput("multipart/form-data needs a boundary of 1 to 70 characters")
    return boundary


def parts(chunks: Iterator[bytes], boundary: bytes) -> Iterator[Part]:
    """BadInput for anything that is not well formed or cut off."""
    reader = _Reader(chunks, boundary)
    while (headers := reader.next_part()) is not None:
        disposition, options = parse_options_header(headers.get(b"content-disposition", b""))
        if disposition != b"form-data" or b"name" not in options:
            raise BadInput("A part of the form has no name")
        if headers.get(b"content-transfer-encoding", b"binary").lower() not in (b"binary", b"8bit", b"7bit"):
            raise BadInput("Content-Transfer-Encoding is not supported (RFC 7578 section 4.7)")
        filename = options.get(b"filename")
        stream = _PartStream(reader)
        yield Part(_text(options[b"name"]), None if filename is None else _text(filename), stream)
        while reader.data():
            pass  # what the caller left unread


def _text(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise BadInput("A name in the form is not UTF-8") from error


class _Reader:
    """Turns the parser's calls into a queue: a dict of headers, bytes of data, None for the end of a part."""

    def __init__(self, chunks: Iterator[bytes], boundary: bytes) -> None:
        self._chunks = chunks
        self._queue: deque[dict[bytes, bytes] | bytes | None] = deque()
        self._headers: dict[bytes, bytes] = {}
        self._field = self._value = b""
        self._size = 0
        self._open = False  # inside a part
        self._ended = False
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._begin,
                    "on_header_field": self._header_field,
                    "on_header_value": self._header_value,
                    "on_header_end": self._header_end,
                    "on_headers_finished": lambda: self._queue.append(self._headers),
                    "on_part_data": lambda data, start, end: self._queue.append(data[start:end]),
                    "on_part_end": lambda: self._queue.append(None),
                    "on_end": self._end,
                },
            )
        except FormParserError as error:
            raise BadInput(f"The form cannot be read: {error}") from error

    def _begin(self) -> None:
        self._headers, self._size = {}, 0

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]
        self._count(end - start)

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]
        self._count(end - start)

    def _count(self, size: int) -> None:
        self._size += size
        if self._size > _HEADERS_MOST:
            raise BadInput(f"The headers of a part have more than {_HEADERS_MOST} bytes")

    def _header_end(self) -> None:
        self._headers[self._field.lower()] = self._value
        self._field = self._value = b""

    def _end(self) -> None:
        self._ended = True

    def _feed(self) -> bool:
        """Parse one more piece; False when there is none."""
        chunk = next(self._chunks, None)
        if chunk is None:
            if not self._ended:
                raise BadInput("The form is cut off")
            return False
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            raise BadInput(f"The form cannot be read: {error}") from error
        return True

    def next_part(self) -> dict[bytes, bytes] | None:
        """The headers of the next part; None at the end of the form."""
        while not self._queue:
            if not self._feed():
                return None
        headers = self._queue.popleft()
        if not isinstance(headers, dict):
            raise BadInput("The form cannot be read")
        self._open = True
        return headers

    def data(self) -> bytes:
        """Some bytes of the current part; b"" at its end."""
        while self._open:
            while not self._queue:
                if not self._feed():
                    raise BadInput("The form is cut off")
            piece = self._queue.popleft()
            if isinstance(piece, dict):
                raise BadInput("The form cannot be read")
            if piece is None:
                self._open = False
            elif piece:
                return piece
        return b""
