"""Bitswap messages on libp2p streams: what comes in is bounded before it is kept, what goes out has a deadline."""

from __future__ import annotations

from typing import Any

import structlog
import trio
from libp2p.custom_types import TProtocol
from libp2p.peer.id import ID

from decentraspace.errors import BadInput
from decentraspace.network.bitswap.wire import MAX_MESSAGE, PROTOCOL
from decentraspace.network.streams import finish

log = structlog.get_logger(__name__)

_PIECE = 64 * 1024  # bytes written at once, and read
_DEADLINE = 10.0  # seconds a message may take, and as long as its size takes at the slowest rate
_SLOWEST = 16 * 1024  # bytes a second
_IDLE = 5.0  # seconds; others end a stream on which nothing comes for ten
_POLL = 0.01  # seconds


class Incoming:
    """Messages of one stream: `length`, then `message` or `skip`, and again."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._buffer = bytearray()

    async def length(self) -> int | None:
        """How long the next message is, or None at the end. BadInput beyond what anybody may send."""
        while True:
            for position, byte in enumerate(self._buffer[:5]):
                if byte < 0x80:
                    length = sum((b & 0x7F) << 7 * n for n, b in enumerate(self._buffer[: position + 1]))
                    if length > MAX_MESSAGE:
                        raise BadInput(f"it announces a message of {length} bytes")
                    del self._buffer[: position + 1]
                    return length
            if len(self._buffer) >= 5:
                raise BadInput("its messages do not say how long they are")
            if not await self._fill():
                return None

    async def message(self, length: int) -> bytes:
        """BadInput when it is cut off, TooSlowError when it trickles."""
        with trio.fail_after(_DEADLINE + length / _SLOWEST):
            while len(self._buffer) < length:
                if not await self._fill():
                    raise BadInput("it hung up in the middle of a message")
        data = bytes(memoryview(self._buffer)[:length])
        del self._buffer[:length]
        return data

    async def skip(self, length: int) -> None:
        """Read a message without keeping it."""
        with trio.fail_after(_DEADLINE + length / _SLOWEST):
            while True:
                taken = min(length, len(self._buffer))
                del self._buffer[:taken]
                length -= taken
                if not length:
                    return
                if not await self._fill():
                    raise BadInput("it hung up in the middle of a message")

    async def _fill(self) -> bool:
        data = await self._stream.read(_PIECE)
        self._buffer += data
        return bool(data)


class Outgoing:
    """What this node sends to one peer: one message at a time, over a stream that is kept while it is used."""

    def __init__(self, host: Any, peer: ID) -> None:
        self._host, self._peer = host, peer
        self._stream: Any = None
        self._used = 0.0
        self._lock = trio.Lock()

    async def send(self, data: bytes) -> None:
        """TooSlowError when the peer takes it slower than it may; whatever libp2p raises when it is gone."""
        async with self._lock:
            if self._stream is not None and trio.current_time() - self._used > _IDLE:
                await self._end()
            kept = self._stream is not None
            try:
                await self._send(data)
            except trio.TooSlowError:
                await self._end(reset=True)
                raise
            except Exception:
                await self._end(reset=True)
                if not kept:
                    raise
                await self._send(data)  # the peer had closed the stream that was kept
            except BaseException:
                await self._end(reset=True)  # cut off in the middle of a message
                raise
            self._used = trio.current_time()

    async def _send(self, data: bytes) -> None:
        with trio.fail_after(_DEADLINE + len(data) / _SLOWEST):
            if self._stream is None:
                self._stream = await self._host.new_stream(self._peer, [TProtocol(PROTOCOL)])
            for start in range(0, len(data), _PIECE):
                piece = data[start : start + _PIECE]
                muxed = self._stream.muxed_stream
                # py-libp2p gives a stream up after five seconds without room, and no event tells of room.
                while muxed.send_window < len(piece) and not muxed.closed:  # noqa: ASYNC110
                    await trio.sleep(_POLL)
                await self._stream.write(piece)

    async def rest(self) -> None:
        """Close the stream if it was not used lately."""
        async with self._lock:
            if trio.current_time() - self._used > _IDLE:
                await self._end()

    async def _end(self, *, reset: bool = False) -> None:
        stream, self._stream = self._stream, None
        await finish(stream, reset=reset)
