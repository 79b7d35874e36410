"""Request bodies as streams with back pressure: at most a few MiB wait, then the client waits.

`Body`        what arrived and was not taken yet
`Pulled`      the same for a worker thread: an iterator of chunks, and a file to read from
`Connection`  the ASGI side, which stops receiving while `Body` is full
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import trio
from quart_trio.asgi import TrioASGIHTTPConnection
from quart_trio.wrappers import TrioRequest

from decentraspace.errors import DecentraSpaceError, TooLarge
from decentraspace.units import size_of

_WAITING_MOST = 4 * 1024 * 1024  # bytes that wait for a reader
_WORTH = 1024 * 1024  # bytes handed to a thread at once, if they come without a pause
_MOMENT = 0.02  # seconds
STALL = 60.0  # seconds without a byte after which an upload is given up


class Stalled(DecentraSpaceError):
    slug, status, title = "stalled", 408, "Nothing arrived for too long"


class Body:
    """Fits where Quart wants its own body, which would take in everything at once."""

    def __init__(self, expected_content_length: int | None, max_content_length: int | None) -> None:
        self.expected = expected_content_length
        self._chunks: list[bytes] = []
        self._waiting = 0
        self._wanted = 1  # bytes that are worth waking the reader for
        self._complete = False
        self._changed = trio.Event()
        self._room = trio.Event()
        self.received = 0

    # -- the side of the connection

    def append(self, data: bytes) -> None:
        if data:
            self._chunks.append(data)
            self._waiting += len(data)
            self.received += len(data)
            if len(self._chunks) == 1 or self._waiting >= self._wanted:
                self._changed.set()

    def set_complete(self) -> None:
        self._complete = True
        self._changed.set()

    async def room(self) -> None:
        """Wait until it is worth receiving more."""
        while self._waiting > _WAITING_MOST:
            self._room = trio.Event()
            await self._room.wait()

    # -- the side of the handler

    async def take(self, worth: int = 1) -> list[bytes]:
        """All that has arrived since; waits for something, [] at the end. Stalled after a minute.

        Waits a moment for `worth` bytes to be there: changing threads for every packet would cost more
        than all the rest.
        """
        self._wanted = worth
        while self._waiting < self._wanted and not self._complete:
            self._changed = trio.Event()
            with trio.move_on_after(_MOMENT if self._chunks else STALL) as scope:
                await self._changed.wait()
            if scope.cancelled_caught and self._chunks:
                break
            if scope.cancelled_caught:
                raise Stalled(f"No byte of the body came for {STALL:.0f} seconds")
        chunks, self._chunks, self._waiting = self._chunks, [], 0
        self._room.set()
        return chunks

    async def read(self, most: int) -> bytes:
        """The whole body. TooLarge beyond `most` bytes."""
        if self.expected is not None and self.expected > most:
            raise TooLarge(f"The body has {size_of(self.expected)}; {size_of(most)} are allowed here")
        whole = bytearray()
        with trio.move_on_after(STALL) as scope:
            while chunks := await self.take():
                for chunk in chunks:
                    whole += chunk
                if len(whole) > most:
                    raise TooLarge(f"The body has more than {size_of(most)}")
        if scope.cancelled_caught:
            raise Stalled(f"The body did not arrive within {STALL:.0f} seconds")
        return bytes(whole)

    async def drain(self, most: int, seconds: float) -> bool:
        """Read and forget, so that a client still sending can hear our answer; whether it all came."""
        gone = 0
        with trio.move_on_after(seconds):
            while chunks := await self.take():
                gone += sum(map(len, chunks))
                if gone > most:
                    return False
            return True
        return False


class Connection(TrioASGIHTTPConnection):
    async def handle_messages(  # type: ignore[override]
        self, nursery: trio.Nursery, request: Any, receive: Any
    ) -> None:
        body: Body = request.body
        while True:
            message = await receive()
            if message["type"] == "http.request":
                body.append(message.get("body", b""))
                if not message.get("more_body", False):
                    body.set_complete()
                await body.room()
            elif message["type"] == "http.disconnect":
                break
        nursery.cancel_scope.cancel()


class Request(TrioRequest):
    body_class = Body  # type: ignore[assignment]


class Pulled(io.RawIOBase):
    """A body read by a worker thread started with `trio.to_thread.run_sync`.

    TooLarge beyond `most` bytes. Raises trio.Cancelled in the thread when the request is gone.
    """

    def __init__(self, body: Body, most: int) -> None:
        self._body, self._most = body, most
        self._left: list[bytes] = []
        self._ended = False
        self.count = 0

    def chunks(self) -> Iterator[bytes]:
        """Pieces as they arrived, in order, after what `read` has left."""
        while True:
            while self._left:
                yield self._left.pop()
            if self._ended:
                return
            self._pull()

    def _pull(self) -> None:
        taken = trio.from_thread.run(self._body.take, _WORTH)
        self._ended = not taken
        self.count += sum(map(len, taken))
        if self.count > self._most:
            raise TooLarge(f"The upload has more than {size_of(self._most)}")
        taken.reverse()
        self._left = taken

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        """Exactly `size` bytes unless the body ends; what an archive reader wants."""
        parts: list[bytes] = []
        need = size if size >= 0 else 1 << 62
        while need:
            if not self._left:
                if self._ended:
                    break
                self._pull()
                continue
            chunk = self._left.pop()
            if len(chunk) > need:
                self._left.append(chunk[need:])
                chunk = chunk[:need]
            parts.append(chunk)
            need -= len(chunk)
        return parts[0] if len(parts) == 1 else b"".join(parts)
