"""Request bodies as streams with back pressure: at most a few MiB wait, then the client waits.

`Body`        what arrived and was not taken yet
`Pulled`      the same for a worker thread: an iterator of chunks, and a file to read from
`Connection`  the ASGI side, which stops receiving while `Body` is full
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import trio
from quart_trio.asgi import TrioASGIHTTPConnection
from quart_trio.wrappers import TrioRequest

from decentraspace.errors import DecentraSpaceError, TooLarge
from decentraspace.units import size_of

_WAITING_MOST = 4 * 1024 * 1024  # bytes that wait for a reader
WORTH = 1024 * 1024  # bytes handed to a thread at once, if they come without a pause
_MOMENT = 0.02  # seconds
STALL = 30.0  # seconds without a byte after which an upload is given up
_SLOWEST = 4 * 1024  # bytes for each second that a client is waited for; what it lacks, `STALL` makes up for


class Stalled(DecentraSpaceError):
    slug, status, title = "stalled", 408, "Too little arrived for too long"


class Body:
    """Fits where Quart wants its own body, which would take in everything at once."""

    def __init__(self, expected_content_length: int | None, max_content_length: int | None) -> None:
        self.expected = expected_content_length
        self._chunks: list[bytes] = []
        self._waiting = 0
        self._wanted = 1  # bytes that are worth waking the reader for
        self._complete = False
        self._credit = STALL  # seconds that the client may still be waited for, earned by bytes
        self._demanded: tuple[float, float] | None = None  # bytes a second, seconds more
        self._waited = 0.0  # seconds since that was demanded
        self._came_before = 0  # bytes
        self._changed = trio.Event()
        self._room = trio.Event()
        self.received = 0

    # -- the side of the connection

    def append(self, data: bytes) -> None:
        if data:
            self._chunks.append(data)
            self._waiting += len(data)
            self.received += len(data)
            self._credit = min(STALL, self._credit + len(data) / _SLOWEST)
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

    def demand(self, rate: float, seconds: float) -> None:
        """From now on the client is waited for `seconds`, and one more for every `rate` bytes that come."""
        self._demanded, self._waited, self._came_before = (rate, seconds), 0.0, self.received

    def _left(self) -> float:
        """Seconds for which the client may still be waited for."""
        if self._demanded is None:
            return self._credit
        rate, seconds = self._demanded
        return min(self._credit, seconds + (self.received - self._came_before) / rate - self._waited)

    async def take(self, worth: int = 1) -> list[bytes]:
        """All that has arrived since; waits for something, [] at the end. Stalled when too little comes.

        Waits a moment for `worth` bytes to be there: changing threads for every packet would cost more
        than all the rest.
        """
        self._wanted = worth
        while self._waiting < self._wanted and not self._complete:
            if not await self._change(_MOMENT if self._chunks else math.inf) and self._chunks:
                break
        return self.take_now()

    def take_now(self) -> list[bytes]:
        """All that has arrived since, without waiting."""
        chunks, self._chunks, self._waiting = self._chunks, [], 0
        self._room.set()
        return chunks

    async def gather(self, worth: int, patience: float = math.inf) -> bool:
        """Wait for `worth` bytes or the end to be there, and leave them; False after `patience` seconds.

        So that a thread is taken when there is work for it, however slowly it comes. Stalled as for `take`.
        """
        end = trio.current_time() + patience
        self._wanted = worth
        while self._waiting < worth and not self._complete:
            left = end - trio.current_time()
            if left <= 0:
                return False
            await self._change(left)
        return True

    async def _change(self, patience: float) -> bool:
        """Wait; whether something came. Only time in which the client is waited for counts against it."""
        self._changed = trio.Event()
        began = trio.current_time()
        with trio.move_on_after(max(0.0, min(patience, self._left()))) as scope:
            await self._changed.wait()
        self._credit -= trio.current_time() - began
        self._waited += trio.current_time() - began
        if scope.cancelled_caught and self._left() <= 0.001:
            if self._credit <= 0.001 or self._demanded is None:
                raise Stalled(f"The body comes at less than {_SLOWEST} bytes a second")
            raise Stalled(
                f"The upload comes at less than {size_of(int(self._demanded[0]))} a second, and keeps a place "
                "that others wait for",
                hint="Send it as one that can go on (`Upload-Complete: ?0`): those keep no place while they come.",
            )
        return not scope.cancelled_caught

    @property
    def ended(self) -> bool:
        """Nothing is left, and nothing comes."""
        return self._complete and not self._chunks

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
        with trio.move_on_after(seconds), suppress(Stalled):
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
        taken = trio.from_thread.run(self._body.take, WORTH)
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
