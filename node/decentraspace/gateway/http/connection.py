"""One connection: its requests in their order, and no more of them, or of their answers, than there is room for."""

from __future__ import annotations

import asyncio
import fcntl
import struct
import termios
from collections import deque
from typing import TYPE_CHECKING, Any

import structlog

from decentraspace.gateway.http import heads
from decentraspace.gateway.http.exchange import ClientGone, Exchange
from decentraspace.gateway.http.limits import PIECE
from decentraspace.gateway.http.reading import NOTHING, Reader

if TYPE_CHECKING:
    from decentraspace.gateway.http.server import Server

log = structlog.get_logger(__name__)


class Connection(asyncio.Protocol):
    """`since`: when what its client is waited for began; `lost`: nobody is there any more."""

    __slots__ = (
        "_ahead",
        "_closing",
        "_current",
        "_emptied",
        "_full",
        "_leaving",
        "_lingering",
        "_outstanding",
        "_paused",
        "_queue",
        "_reader",
        "_rest",
        "_task",
        "_transport",
        "lost",
        "server",
        "since",
    )

    def __init__(self, server: Server) -> None:
        self.server = server
        self.since = server.now
        self.lost = False
        self._transport: Any = None
        self._reader = Reader(self)
        self._current: Exchange | None = None
        self._task: asyncio.Task[None] | None = None
        self._queue: deque[Exchange] | None = None
        self._rest: deque[memoryview | bytes] | None = None
        self._ahead = 0  # bytes of it
        self._paused = self._full = self._closing = self._lingering = False
        self._emptied: asyncio.Future[None] | None = None
        self._leaving: asyncio.Future[None] | None = None
        self._outstanding: int | None = None

    # -- called by the event loop

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        limits = self.server.limits
        transport.set_write_buffer_limits(high=limits.full, low=limits.emptied)
        self.server.add(self)

    def data_received(self, data: bytes) -> None:
        if self._closing:
            return  # to an end that is under way nothing matters any more
        if self._current is None and not self._full and len(data) <= PIECE:
            self._reader.feed(data)
            if self._reader.expects:
                self._advance()
            return
        if self._rest is None:
            self._rest = deque()
        self._rest.append(memoryview(data))
        self._ahead += len(data)
        self._advance()

    def eof_received(self) -> bool:
        """Whoever says no more has left: nobody could tell it from a client that is gone."""
        self._gone()
        return False

    def pause_writing(self) -> None:
        self._full, self._outstanding = True, None
        self.since = self.server.now

    def resume_writing(self) -> None:
        self._full = False
        self.since = self.server.now
        if self._emptied is not None and not self._emptied.done():
            self._emptied.set_result(None)
        self._advance()

    def connection_lost(self, exc: Exception | None) -> None:
        self.server.remove(self)
        self._gone()
        self._reader.close()

    # -- requests

    def take(self, exchange: Exchange) -> None:
        """The next one, wholly read."""
        if self._current is None and not self._full and not self._queue:
            self._begin(exchange)
        else:
            if self._queue is None:
                self._queue = deque()
            self._queue.append(exchange)

    def _begin(self, exchange: Exchange) -> None:
        if self._closing:
            return
        self._current = exchange
        try:
            if exchange.refusal:
                self._lingering = True
                self._finish(exchange, whole=False)
                return
            if self.server.application.at_once(exchange, exchange):
                self._finish(exchange, whole=True)
                return
        except Exception:  # a bug in one answer is no reason to answer nobody any more
            log.exception("gateway_answer_broken", path=exchange.path[:200])
            self._finish(exchange, whole=False)
            return
        self._task = asyncio.get_running_loop().create_task(self._answer(exchange))

    async def _answer(self, exchange: Exchange) -> None:
        whole = False
        try:
            await self.server.application.answer(exchange, exchange)
            whole = True
        except ClientGone:
            pass
        except Exception:
            log.exception("gateway_answer_broken", path=exchange.path[:200])
        finally:  # also where it was cancelled
            self._task = None
            self._finish(exchange, whole=whole)
            self._advance()

    def _finish(self, exchange: Exchange, *, whole: bool) -> None:
        if not self.lost:
            exchange.end(whole=whole)
        self._current = None
        self.since = self.server.now
        if not exchange.stays or self.server.stopping:
            self.close()

    def _advance(self) -> None:
        """Answer what waits, then read on, as far as there is room."""
        while self._current is None and not self._full and not self._closing:
            if self._queue:
                self._begin(self._queue.popleft())
            elif self._rest:
                data = self._rest.popleft()
                if len(data) > PIECE:
                    self._rest.appendleft(data[PIECE:])
                    data = data[:PIECE]
                self._ahead -= len(data)
                self._reader.feed(data)
            else:
                break
        if self._closing:
            return
        busy = self._current is not None or self._full
        if self._reader.expects and not busy:
            self._reader.expects = False
            self.send(heads.CONTINUE)
        if busy and not self._paused and self._ahead >= self.server.limits.ahead:
            self._paused = True
            self._transport.pause_reading()
        elif self._paused and not busy:
            self._paused = False
            self._transport.resume_reading()

    # -- answers

    def send(self, data: bytes) -> None:
        if not self.lost:
            self._transport.write(data)

    def send_all(self, parts: tuple[bytes, ...]) -> None:
        if not self.lost:
            self._transport.writelines(parts)

    async def room(self) -> None:
        """Until more can be sent, or nobody is there."""
        if self._full and not self.lost:
            self._emptied = asyncio.get_running_loop().create_future()
            try:
                await self._emptied
            finally:
                self._emptied = None

    def leaving(self) -> asyncio.Future[None]:
        """Done when the client leaves during the answer under way."""
        self._leaving = asyncio.get_running_loop().create_future()
        if self.lost:
            self._leaving.set_result(None)
        return self._leaving

    # -- the end

    def close(self) -> None:
        """After what was sent has gone out."""
        if self._closing or self._transport is None:
            return
        self._closing, self._outstanding = True, None
        self.since = self.server.now
        unread = self._rest or self._lingering
        self._drop()
        if unread and not self.lost:
            # To close with bytes unread resets the connection, and the client may never see its answer.
            self._lingering = True
            if self._paused:
                self._transport.resume_reading()
            self._transport.write_eof()
        else:
            self._transport.close()

    def abort(self) -> None:
        if self._transport is not None:
            self._closing = True
            self._transport.abort()

    def idle(self) -> bool:
        """Whether nothing of a request is there, and nothing of an answer is left."""
        return self._current is None and not self._full and self._reader.state == NOTHING

    def busy(self) -> bool:
        """Whether a request is being answered."""
        return self._current is not None

    def check(self) -> None:
        """End what takes too long; called with each tick of the clock."""
        waited = self.server.now - self.since
        limits = self.server.limits
        if self._full or (self._closing and not self._lingering):
            left = self._left()
            if self._outstanding is None:
                self._outstanding = left
            elif waited > limits.stalled:
                if left > self._outstanding - limits.trickle:
                    self.abort()
                self._outstanding, self.since = left, self.server.now
        elif self._lingering and self._closing:
            if waited > limits.lingering:
                self.abort()
        elif self._current is None and waited > limits.reading:
            self.close()

    def _left(self) -> int:
        """Bytes that the client has not taken, here and in the kernel."""
        waiting: int = self._transport.get_write_buffer_size()
        connected = self._transport.get_extra_info("socket")
        try:
            answer = fcntl.ioctl(connected.fileno(), termios.TIOCOUTQ, b"\0\0\0\0")
        except (AttributeError, OSError, ValueError):  # closed meanwhile
            return waiting
        return waiting + int(struct.unpack("i", answer)[0])

    def _gone(self) -> None:
        if self.lost:
            return
        self.lost = self._closing = True
        self._drop()
        for future in (self._leaving, self._emptied):
            if future is not None and not future.done():
                future.set_result(None)
        if self._task is not None:
            self._task.cancel()

    def _drop(self) -> None:
        self._queue = self._rest = None
        self._ahead = 0
