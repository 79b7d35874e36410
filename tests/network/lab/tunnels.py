"""A network in this process: each node in a network namespace, its only way out a tunnel that ends here.

What a node sends comes out of its TUN device as IP packets. `Switch` hands each on to the node it is for:
later, not at all, or at once, as the weather between the two says. TCP on top of it is the kernel's own, so
that loss, delay and partitions are what they are on a real network: retransmissions, half-open connections,
time-outs. It takes root (or a user namespace in which one is), /dev/net/tun, and neither netem nor netfilter.
Source: Linux Documentation/networking/tuntap.rst, network_namespaces(7).
"""

from __future__ import annotations

import ctypes
import fcntl
import heapq
import os
import random
import select
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

_CLONE_NEWNET = 0x40000000
_TUNSETIFF, _IFF_TUN, _IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
_SIOCSIFADDR, _SIOCSIFNETMASK, _SIOCSIFFLAGS, _SIOCSIFMTU = 0x8916, 0x891C, 0x8914, 0x8922
_UP = 0x1 | 0x40  # IFF_UP, IFF_RUNNING
_MTU = 9000  # fewer packets to hand on
_WAITING_MOST = 20_000  # packets under way; beyond that they are dropped, as by any router
_libc = ctypes.CDLL(None, use_errno=True)


class NoNamespaces(Exception):
    """This machine does not let us make network namespaces or tunnels."""


def address(number: int) -> str:
    return f"10.77.0.{number + 1}"


class Namespace:
    """A network namespace with loopback and one tunnel. `tunnel`: the tunnel's end in this process."""

    def __init__(self, number: int) -> None:
        """NoNamespaces."""
        self.address = address(number)
        failed: list[OSError] = []

        def make() -> None:  # in a thread of its own: namespaces belong to threads
            try:
                _check(_libc.unshare(_CLONE_NEWNET))
                self._namespace = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
                self.tunnel = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
                fcntl.ioctl(self.tunnel, _TUNSETIFF, struct.pack("16sH22x", b"lab0", _IFF_TUN | _IFF_NO_PI))
                _configure(b"lo", "127.0.0.1", "255.0.0.0", 65536)
                _configure(b"lab0", self.address, "255.255.255.0", _MTU)
            except OSError as error:
                failed.append(error)

        thread = threading.Thread(target=make)
        thread.start()
        thread.join()
        if failed:
            raise NoNamespaces(str(failed[0])) from failed[0]

    @contextmanager
    def entered(self) -> Iterator[None]:
        """This thread, and the sockets, threads and processes it makes meanwhile, are in the namespace."""
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            _check(_libc.setns(self._namespace, _CLONE_NEWNET))
            try:
                yield
            finally:
                _check(_libc.setns(home, _CLONE_NEWNET))
        finally:
            os.close(home)

    def close(self) -> None:
        os.close(self.tunnel)
        os.close(self._namespace)


def _configure(name: bytes, ip: str, mask: str, mtu: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        for request, text in ((_SIOCSIFADDR, ip), (_SIOCSIFNETMASK, mask)):
            sockaddr = struct.pack("H2x4s8x", socket.AF_INET, socket.inet_aton(text))
            fcntl.ioctl(control, request, struct.pack("16s16s8x", name, sockaddr))
        fcntl.ioctl(control, _SIOCSIFMTU, struct.pack("16si20x", name, mtu))
        fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sH22x", name, _UP))


def _check(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


@dataclass(frozen=True)
class Weather:
    """Of one direction between two nodes: seconds each packet takes, the share that is lost, or nothing passes."""

    delay: float = 0.0
    loss: float = 0.0
    cut: bool = False


CALM = Weather()


class Switch:
    """Hands packets on between namespaces, in a thread, until `close`. Which are lost, `seed` decides."""

    def __init__(self, namespaces: list[Namespace], seed: int) -> None:
        self._random = random.Random(seed)
        self._tunnels = [n.tunnel for n in namespaces]
        self._numbers = {socket.inet_aton(n.address): i for i, n in enumerate(namespaces)}
        self._weather: dict[tuple[int, int], Weather] = {}
        self._due: list[tuple[float, int, int, bytes]] = []  # when, a number, tunnel, packet
        self._count = 0
        self.passed = self.dropped = 0
        self._wake, self._woken = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._thread = threading.Thread(target=self._run, name="lab switch", daemon=True)
        self._thread.start()

    def set(self, source: int, to: int, weather: Weather) -> None:
        self._weather[source, to] = weather

    def calm(self) -> None:
        """No delay, no loss, no partition."""
        self._weather = {}

    def close(self) -> None:
        os.write(self._woken, b"x")
        self._thread.join()
        os.close(self._wake)
        os.close(self._woken)

    def _run(self) -> None:
        with select.epoll() as poll:
            poll.register(self._wake, select.EPOLLIN)
            numbers = {tunnel: number for number, tunnel in enumerate(self._tunnels)}
            for tunnel in self._tunnels:
                poll.register(tunnel, select.EPOLLIN)
            while True:
                wait = max(0.0, self._due[0][0] - time.monotonic()) if self._due else -1
                for ready, _ in poll.poll(wait):
                    if ready == self._wake:
                        return
                    self._read(numbers[ready])
                now = time.monotonic()
                while self._due and self._due[0][0] <= now:
                    _, _, tunnel, packet = heapq.heappop(self._due)
                    self._write(tunnel, packet)

    def _read(self, source: int) -> None:
        for _ in range(64):
            try:
                packet = os.read(self._tunnels[source], 65536)
            except BlockingIOError:
                return
            if len(packet) < 20 or packet[0] >> 4 != 4:
                continue  # IPv6 looks for routers
            to = self._numbers.get(packet[16:20])
            if to is None:
                continue
            weather = self._weather.get((source, to), CALM)
            if weather.cut or (weather.loss and self._random.random() < weather.loss):
                self.dropped += 1
            elif weather.delay == 0.0:
                self._write(self._tunnels[to], packet)
            elif len(self._due) < _WAITING_MOST:
                self._count += 1
                due = time.monotonic() + weather.delay
                heapq.heappush(self._due, (due, self._count, self._tunnels[to], packet))

    def _write(self, tunnel: int, packet: bytes) -> None:
        self.passed += 1
        with suppress(OSError):  # its queue is full: lost, as it would be elsewhere
            os.write(tunnel, packet)
