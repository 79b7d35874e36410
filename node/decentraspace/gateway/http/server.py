"""All connections of a worker: how many there are, how long they may take, and how they end."""

from __future__ import annotations

import asyncio
import socket
import time
from contextlib import suppress
from typing import Any, Protocol

import structlog

from decentraspace.gateway.http.connection import Connection
from decentraspace.gateway.http.exchange import Exchange
from decentraspace.gateway.http.heads import Kept, Tails
from decentraspace.gateway.http.limits import Limits

log = structlog.get_logger(__name__)

_TICK = 0.5  # seconds between looks at the clock and at all connections
_EVICTED = 16  # connections that make room at once
BACKLOG = 4096


class Application(Protocol):
    """Both get a request and the way to answer it, which are one object."""

    def at_once(self, scope: Exchange, protocol: Exchange) -> bool:
        """Answer what needs no waiting; False, with nothing answered, for all else."""

    async def answer(self, scope: Exchange, protocol: Exchange) -> None:
        """Cancelled when the client leaves."""


class Server:
    """`now`: a clock that goes by ticks, which is enough for deadlines and costs nothing to read."""

    def __init__(self, application: Application, limits: Limits) -> None:
        self.application, self.limits = application, limits
        self.now = time.monotonic()
        self.heads, self.tails = Kept(), Tails(time.time())
        self.stopping = False
        self._connections: dict[Connection, None] = {}  # in the order in which they came
        self._listening: Any = None
        self._ticking: asyncio.Task[None] | None = None
        self._searched = 0.0
        self._empty = asyncio.Event()

    async def start(self, listener: socket.socket) -> None:
        """Accept connections of a socket that listens."""
        loop = asyncio.get_running_loop()
        self._ticking = loop.create_task(self._tick())
        self._listening = await loop.create_server(lambda: Connection(self), sock=listener, backlog=BACKLOG)

    async def stop(self, seconds: float) -> None:
        """Accept nothing more, finish what is being answered within `seconds`, and end."""
        self.stopping = True
        if self._listening is not None:
            self._listening.close()
        for connection in list(self._connections):
            if not connection.busy():
                connection.close()
        self._empty.clear()
        if self._connections:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._empty.wait(), seconds)
        for connection in list(self._connections):
            connection.abort()
        if self._ticking is not None:
            self._ticking.cancel()
        await asyncio.sleep(0)  # for those that were cut off to hear of it

    # -- called by connections

    def add(self, connection: Connection) -> None:
        if len(self._connections) >= self.limits.connections:
            self._evict()
            if len(self._connections) >= self.limits.connections:
                connection.abort()
                return
        self._connections[connection] = None

    def remove(self, connection: Connection) -> None:
        self._connections.pop(connection, None)
        if self.stopping and not self._connections:
            self._empty.set()

    def _evict(self) -> None:
        """Whoever came first and asks for nothing makes room: idle clients keep nobody out."""
        if self._searched == self.now:
            return
        found = 0
        for connection in list(self._connections):
            if connection.idle():
                self._connections.pop(connection)  # counted no more, though its end takes a moment
                connection.abort()
                found += 1
                if found == _EVICTED:
                    return
        self._searched = self.now  # in vain: not again before the next tick

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(_TICK)
            self.now = time.monotonic()
            if self.tails.update(time.time()):
                self.heads.forget()
            for connection in list(self._connections):
                try:
                    connection.check()
                except Exception:  # one that cannot be looked at is no reason to look at none any more
                    log.exception("gateway_connection_not_checked")
                    connection.abort()
