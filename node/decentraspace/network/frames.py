"""Length-prefixed DAG-CBOR messages on a libp2p stream: four bytes, big endian, then the map."""

from __future__ import annotations

from typing import Any, Protocol

import libipld
import trio

from decentraspace.errors import BadInput

MAX_FRAME = 512 * 1024  # bytes
_PIECE = 64 * 1024  # bytes written at once
_POLL = 0.01  # seconds


class Stream(Protocol):
    async def read(self, n: int | None = None) -> bytes: ...
    async def write(self, data: bytes) -> None: ...


async def send(stream: Stream, message: dict[str, Any]) -> None:
    """Callers set the deadline."""
    body = bytes(libipld.encode_dag_cbor(message))
    data = len(body).to_bytes(4, "big") + body
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


async def receive(stream: Stream) -> dict[str, Any]:
    """BadInput for an oversized, malformed or cut-off message. Callers set the deadline."""
    length = int.from_bytes(await _exactly(stream, 4), "big")
    if not 0 < length <= MAX_FRAME:
        raise BadInput(f"A peer announced a message of {length} bytes")
    try:
        message = libipld.decode_dag_cbor(await _exactly(stream, length))
    except (ValueError, RecursionError) as error:
        raise BadInput(f"A peer sent a malformed message: {error}") from error
    if not isinstance(message, dict):
        raise BadInput("A peer sent a message that is no map")
    return message


async def _exactly(stream: Stream, length: int) -> bytes:
    data = b""
    while len(data) < length:
        more = await stream.read(min(length - len(data), 65536))
        if not more:
            raise BadInput("A peer hung up in the middle of a message")
        data += more
    return data
