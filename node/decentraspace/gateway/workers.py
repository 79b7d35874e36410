"""The gateway's processes: one that listens and watches, and workers that answer.

The first opens the port and hands it to each worker, so a worker that ends takes no waiting connection with it. It
imports next to nothing, starts a worker again that ended, and ends all of them when it is told to, or when the node
at the other end of its standard input is gone.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import resource
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from decentraspace.gateway.worker import Gateway

LISTEN_VARIABLE = "DECENTRASPACE_GATEWAY_LISTEN"
BACKLOG = 4096
_CONNECTIONS_MOST = 16_384
_PR_SET_PDEATHSIG = 1
_AGAIN_AFTER = 0.5  # seconds
_FINISH_WITHIN = (
    1.5  # seconds for answers under way when a worker is told to end; then it hands over its counts
)
_KILL_AFTER = 4.0  # seconds; the node waits for 5
_FREE_WITHIN = 3.0  # seconds in which the port of a gateway that was killed becomes free
_CANNOT_START = 3  # exit code of a worker


def die_with_parent() -> None:
    """Have the kernel end this process when its parent ends, even by SIGKILL (Linux prctl(2)).

    Only for a parent that starts it from its main thread: the kernel counts the thread, not the process.
    """
    if sys.platform == "linux":
        parent = os.getppid()
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # it ended before the call
            os.kill(os.getpid(), signal.SIGKILL)


# -- the process that watches


def main() -> int:
    """What the node starts. 0 after SIGTERM, 1 where there is no port or a worker cannot start."""
    threading.Thread(target=_end_with_input, daemon=True).start()
    host, port, count = json.loads(os.environ[LISTEN_VARIABLE])
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    told: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: told.append(number))
    signal.signal(signal.SIGCHLD, lambda *_: None)
    try:
        listener = _listen(host, port)
    except OSError as error:
        sys.stderr.write(f"The gateway cannot listen on {host}:{port}: {error}\n")
        return 1
    workers: list[subprocess.Popen[bytes]] = []
    code, again = 0, 0.0
    while not told:
        for worker in [each for each in workers if each.poll() is not None]:
            workers.remove(worker)
            if worker.returncode == _CANNOT_START:
                code = 1
                told.append(0)
            else:
                sys.stderr.write(
                    f"A worker of the gateway ended ({worker.returncode}) and is started again.\n"
                )
                again = time.monotonic() + _AGAIN_AFTER
        if not told and time.monotonic() >= again:
            try:
                while len(workers) < count:
                    workers.append(_start(listener))
            except OSError as error:  # no file, process or memory to be had just now
                sys.stderr.write(f"A worker of the gateway was not started: {error}\n")
                again = time.monotonic() + _AGAIN_AFTER
        missing = len(workers) < count
        if not told and select.select([woken], [], [], _AGAIN_AFTER if missing else None)[0]:
            os.read(woken, 4096)
    listener.close()
    for worker in workers:
        worker.terminate()
    until = time.monotonic() + _KILL_AFTER
    for worker in workers:
        try:
            worker.wait(max(0.0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            worker.kill()
            worker.wait()
    return code


def _listen(host: str, port: int) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    until = time.monotonic() + _FREE_WITHIN
    while True:
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(BACKLOG)
        except OSError as error:
            listener.close()
            if error.errno != errno.EADDRINUSE or time.monotonic() > until:
                raise
            time.sleep(0.05)
        else:
            return listener


def _start(listener: socket.socket) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "decentraspace.gateway", str(listener.fileno()), str(os.getpid())],
        stdin=subprocess.DEVNULL,
        pass_fds=(listener.fileno(),),
    )


def _end_with_input() -> None:
    """The node holds the other end of standard input; when it is gone, however, so is this process."""
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGKILL)


# -- a worker


def work(file: int, parent: int) -> int:
    """A worker that accepts connections of the socket `file`, until SIGTERM or the end of `parent`."""
    die_with_parent()
    if os.getppid() != parent:
        return 0
    import uvloop

    from decentraspace.gateway.worker import create

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = hard if hard != resource.RLIM_INFINITY else max(soft, 65536)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))
    # Connections at once of one worker, idle ones included. The store, its log and its sockets need files too.
    connections = max(64, min(_CONNECTIONS_MOST, files // 2 - 64))
    try:
        gateway = create()
    except Exception as error:  # noqa: BLE001 - told to the process that watches, which can do nothing about it
        sys.stderr.write(f"A worker of the gateway cannot start: {type(error).__name__}: {error}\n")
        return _CANNOT_START
    uvloop.run(_serve(gateway, socket.socket(fileno=file), connections))
    return 0


async def _serve(gateway: Gateway, listener: socket.socket, connections: int) -> None:
    import asyncio

    from decentraspace.gateway.http import Limits, Server

    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.set)
    server = Server(gateway, Limits(connections=connections))
    gateway.start()
    await server.start(listener)
    await told.wait()
    await server.stop(_FINISH_WITHIN)
    await gateway.stop()
