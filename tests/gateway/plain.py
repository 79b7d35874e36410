"""The gateway's server with an application that does what a path says, and the bytes of a connection to it."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvloop

from decentraspace.gateway.http import Exchange, Limits, Server
from tests.gateway.served import Wire

PART = b"0123456789abcdef" * 4096  # 64 KiB
PARTS = 320  # of a large body: more than a kernel takes for a client that does not read
KIND = [("content-type", "text/plain")]


class Told:
    """`/METHOD`-free: what a request was is in its answer; other paths answer in other ways."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.cancelled: list[str] = []
        self.left: list[str] = []
        self.parts = 0  # of large bodies that were taken
        self.go = asyncio.Event()

    def at_once(self, scope: Exchange, protocol: Exchange) -> bool:
        self.begun.append(scope.path)
        if scope.path == "/none":
            protocol.response_empty(204, [("content-length", "0")])
        elif scope.path == "/same":
            protocol.response_empty(304, [("etag", '"x"')])
        elif scope.path == "/injected":
            protocol.response_empty(302, [("location", "/\r\nX-Injected: 1")])
        elif scope.path == "/broken":
            raise ZeroDivisionError
        elif scope.path in ("/later", "/waits", "/chunks", "/large", "/short", "/broken-later"):
            return False
        else:
            fields = sorted(f"{name}={value}" for name, value in scope.headers.items())
            body = f"{scope.method} {scope.authority} {scope.path} {scope.query_string} {fields}"
            protocol.response_bytes(200, list(KIND), body.encode())
        return True

    async def answer(self, scope: Exchange, protocol: Exchange) -> None:
        if scope.path == "/later":
            await asyncio.sleep(0)
            protocol.response_bytes(200, KIND, b"later")
        elif scope.path == "/waits":
            await self._wait(protocol)
        elif scope.path == "/chunks":
            protocol.response_stream(200, KIND)
            for part in (b"one", b"", b"two" * 1000):
                await protocol.send_bytes(part)
        elif scope.path == "/large":
            protocol.response_stream(200, [("content-length", str(PARTS * len(PART)))])
            for _ in range(PARTS):
                await protocol.send_bytes(PART)
                self.parts += 1
        elif scope.path == "/short":
            protocol.response_stream(200, [("content-length", "10")])
            await protocol.send_bytes(b"short")
        else:
            raise ZeroDivisionError

    async def _wait(self, protocol: Exchange) -> None:
        gone = protocol.client_disconnect()
        gone.add_done_callback(lambda done: None if done.cancelled() else self.left.append("/waits"))
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled.append("/waits")
            raise
        protocol.response_bytes(200, KIND, b"waited")


class Plain:
    """A running one. `faults`: what the event loop was told of."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.faults: list[dict[str, Any]] = []

    def wire(self) -> Wire:
        return Wire(self.port)

    def ask(self, text: bytes) -> Wire:
        wire = self.wire()
        wire.send(text)
        return wire

    def call(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(20)

    async def _run(self, ready: threading.Event) -> None:
        self.loop = asyncio.get_running_loop()
        self.loop.set_exception_handler(lambda _, context: self.faults.append(context))
        listener = socket.create_server(("127.0.0.1", 0))
        self.port = listener.getsockname()[1]
        self.told = Told()
        self.server = Server(self.told, self.limits)
        await self.server.start(listener)
        self._end = asyncio.Event()
        ready.set()
        await self._end.wait()
        await self.server.stop(0)

    def finish(self) -> None:
        self.loop.call_soon_threadsafe(self._end.set)


@contextmanager
def plain(**limits: Any) -> Iterator[Plain]:
    running, ready = Plain(Limits(**limits)), threading.Event()
    thread = threading.Thread(target=lambda: uvloop.run(running._run(ready)))
    thread.start()
    assert ready.wait(20)
    try:
        yield running
    finally:
        running.finish()
        thread.join()
    assert running.faults == []
