"""A large body that is read only as fast as its client takes it.

Granian's `response_stream` keeps whatever it is given in memory until the client has read it, so a few slow
clients of a large file would fill the machine. A file it reads as it sends. So a large body goes through a
pipe, which Granian opens as the file `/proc/self/fd/N`, and which is full until the client goes on reading.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import termios
from typing import Any

CAPACITY = 256 * 1024  # bytes; a body that goes through a pipe must be larger
_STALL = 60.0  # seconds in which a client must take something
_POLL = 0.05


class ClientGone(Exception):
    """It closed the connection, or took nothing for a minute."""


class PipeBody:
    """Call `answer`, then `write` until all is written, then `close`. `sent`: bytes written."""

    def __init__(self) -> None:
        # The end that Granian reads is opened anew by its path, and that one blocks.
        self._reading, self._writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        with contextlib.suppress(OSError):  # beyond the user's allowance of pipe memory: a smaller one does
            fcntl.fcntl(self._writing, fcntl.F_SETPIPE_SZ, CAPACITY)
        self._opened = False
        self.sent = 0

    def answer(self, protocol: Any, status: int, headers: list[tuple[str, str]]) -> None:
        protocol.response_file(status, headers, f"/proc/self/fd/{self._reading}")

    async def write(self, data: bytes) -> None:
        """ClientGone."""
        left = memoryview(data)
        while left:
            try:
                count = os.write(self._writing, left)
            except BlockingIOError:
                await self._room()
            except BrokenPipeError as error:
                raise ClientGone from error
            else:
                left = left[count:]
                self.sent += count

    async def _room(self) -> None:
        loop = asyncio.get_running_loop()
        ready = asyncio.Event()
        loop.add_writer(self._writing, ready.set)
        try:
            async with asyncio.timeout(_STALL):
                await ready.wait()
        except TimeoutError as error:
            raise ClientGone from error
        finally:
            loop.remove_writer(self._writing)
        if not self._opened:
            # It was full, and only Granian can have read from it. From now on its end is the only one, and
            # when it is closed, writing fails.
            self._opened = True
            os.close(self._reading)

    async def close(self) -> None:
        """The end of the body."""
        os.close(self._writing)
        if not self._opened:
            # Broken off early. Until Granian has opened the path, the number must not become another file's.
            try:
                async with asyncio.timeout(_STALL):
                    while self._unread():  # noqa: ASYNC110 - nothing tells when a pipe is empty
                        await asyncio.sleep(_POLL)
            except TimeoutError:
                pass
            finally:
                os.close(self._reading)

    def _unread(self) -> int:
        return int.from_bytes(fcntl.ioctl(self._reading, termios.FIONREAD, b"\0\0\0\0"), "little")
