"""Length-prefixed DAG-CBOR messages on a libp2p stream: four bytes, big endian, then the map.

`pack` and `unpack`: many byte strings as one, compressed. Records of one session have their delegation in
common, which is half of each.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Protocol

import libipld
import trio
import zstandard

from decentraspace.errors import BadInput

MAX_FRAME = 512 * 1024  # bytes
PACK_MOST = 256 * 1024  # bytes packed together, unless a single item is larger
_UNPACKED_MOST = 384 * 1024
_ITEMS_MOST = 4096
_WINDOW_MOST = 1 << 20  # bytes of memory that a peer can have unpacking take
_LEVEL = 1
_PIECE = 64 * 1024  # bytes written at once
_POLL = 0.01  # seconds


class Stream(Protocol):
    async def read(self, n: int | None = None) -> bytes: ...
    async def write(self, data: bytes) -> None: ...


def encode(message: dict[str, Any]) -> bytes:
    body = bytes(libipld.encode_dag_cbor(message))
    return len(body).to_bytes(4, "big") + body


async def send(stream: Stream, message: dict[str, Any] | bytes) -> None:
    """A message, or one that was encoded. Callers set the deadline."""
    data = message if isinstance(message, bytes) else encode(message)
    for start in range(0, len(data), _PIECE):
        piece = data[start : start + _PIECE]
        await _room(stream, len(piece))
        await stream.write(piece)


async def _room(stream: Stream, size: int) -> None:
    """Until the peer takes so much. By itself py-libp2p gives a stream up after five seconds without room,
    less than a slow disk may need for the records that were sent before."""
    muxed: Any = getattr(stream, "muxed_stream", None)
    while muxed is not None and muxed.send_window < size and not muxed.closed:  # noqa: ASYNC110 - no event tells
        await trio.sleep(_POLL)


async def receive(stream: Stream) -> tuple[dict[str, Any], int]:
    """A message and its bytes. BadInput for an oversized, malformed or cut-off message. Callers set the deadline."""
    length = int.from_bytes(await _exactly(stream, 4), "big")
    if not 0 < length <= MAX_FRAME:
        raise BadInput(f"A peer announced a message of {length} bytes")
    try:
        message = libipld.decode_dag_cbor(await _exactly(stream, length))
    except (ValueError, RecursionError) as error:
        raise BadInput(f"A peer sent a malformed message: {error}") from error
    if not isinstance(message, dict):
        raise BadInput("A peer sent a message that is no map")
    return message, 4 + length


async def _exactly(stream: Stream, length: int) -> bytes:
    data = bytearray()
    while len(data) < length:
        more = await stream.read(min(length - len(data), 65536))
        if not more:
            raise BadInput("A peer hung up in the middle of a message")
        data += more
    return bytes(data)


def packs(items: Iterable[bytes]) -> Iterator[tuple[bytes, int]]:
    """All items in order, as packs that fit into a message each, with the number of items in it."""
    compressor = zstandard.ZstdCompressor(level=_LEVEL)
    waiting: list[bytes] = []
    size = 0
    for item in items:
        if waiting and (size + len(item) > PACK_MOST or len(waiting) >= _ITEMS_MOST):
            yield compressor.compress(b"".join(waiting)), len(waiting) // 2
            waiting, size = [], 0
        waiting += (len(item).to_bytes(4, "big"), item)
        size += 4 + len(item)
    if waiting:
        yield compressor.compress(b"".join(waiting)), len(waiting) // 2


def unpack(packed: Any) -> list[bytes]:
    """At least one item. BadInput for what `packs` does not make, without taking more memory than it may."""
    if not isinstance(packed, bytes):
        raise BadInput("A peer sent something else where a pack belongs")
    decompressor = zstandard.ZstdDecompressor(max_window_size=_WINDOW_MOST)
    try:
        with decompressor.stream_reader(packed) as reader:
            # Read as a stream: asked for all at once, the library believes the length the peer wrote.
            data = reader.read(_UNPACKED_MOST + 1)
    except zstandard.ZstdError as error:
        raise BadInput(f"A peer sent a malformed pack: {error}") from error
    if len(data) > _UNPACKED_MOST:
        raise BadInput("A peer sent a pack of too many bytes")
    items: list[bytes] = []
    at = 0
    while at < len(data):
        end = at + 4 + int.from_bytes(data[at : at + 4], "big")
        if at + 4 > len(data) or end > len(data) or len(items) >= _ITEMS_MOST:
            raise BadInput("A peer sent a malformed pack")
        items.append(data[at + 4 : end])
        at = end
    if not items:
        raise BadInput("A peer sent an empty pack")
    return items
