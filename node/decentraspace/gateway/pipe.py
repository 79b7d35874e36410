"""A large body that is read only as fast as its client takes it.

Granian's `response_stream` keeps whatever it is given in memory until the client has read it, so a few slow
clients of a large file would fill the machine. A file it reads as it sends. So a large body goes through a
named pipe, which Granian opens as a file, and which is full until the client goes on reading.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import itertools
import os
from pathlib import Path
from typing import Any

_CAPACITY = 256 * 1024  # bytes
_OPENED_WITHIN = 10.0  # seconds; Granian opens the pipe at once, unless the client has left already
_STALL = 60.0  # seconds in which a client must take something
_POLL_FIRST, _POLL_MOST = 0.001, 0.05

_numbers = itertools.count()


def folder(data: Path) -> Path:
    """Where the workers of a node make pipes, without those that a killed worker left behind."""
    path = data / "gateway-pipes"
    path.mkdir(mode=0o700, exist_ok=True)
    for left in path.iterdir():
        if not Path(f"/proc/{left.name.partition('-')[0]}").exists():
            left.unlink(missing_ok=True)
    return path


class ClientGone(Exception):
    """It closed the connection, or took nothing for a minute."""


class PipeBody:
    """`start` the answer, `write` all of its body, `close`. `sent`: bytes written."""

    def __init__(self) -> None:
        self._writing = -1
        self.sent = 0

    async def start(self, folder: Path, protocol: Any, status: int, headers: list[tuple[str, str]]) -> None:
        """`folder`: where this worker may make pipes. ClientGone."""
        path = folder / f"{os.getpid()}-{next(_numbers)}"
        os.mkfifo(path, 0o600)
        try:
            protocol.response_file(status, headers, str(path))
            self._writing = await _opened(path)
        finally:
            path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # beyond the user's allowance of pipe memory: a smaller one does
            fcntl.fcntl(self._writing, fcntl.F_SETPIPE_SZ, _CAPACITY)

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

    def close(self) -> None:
        """The end of the body."""
        if self._writing >= 0:
            os.close(self._writing)


async def _opened(path: Path) -> int:
    """The writing end, once somebody reads. Nothing tells when, so it is tried."""
    delay = _POLL_FIRST
    try:
        async with asyncio.timeout(_OPENED_WITHIN):
            while True:
                try:
                    return os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
                except OSError:  # ENXIO: nobody yet
                    await asyncio.sleep(delay)
                    delay = min(2 * delay, _POLL_MOST)
    except TimeoutError as error:
        # Should a thread of Granian's be waiting in open() by now, this lets it go.
        os.close(os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC))
        raise ClientGone from error
