"""A real name server on loopback: Knot DNS with one zone, and a raw one that answers as it is told, or not."""

from __future__ import annotations

import shutil
import signal
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import dns.exception
import dns.message
import dns.query
import dns.rcode
import dns.update

from tests.support import free_port, require_real

ZONE = "zone.example"
_DEADLINE = 20.0  # seconds
_CONFIG = """
server:
    listen: 127.0.0.1@{port}
    rundir: "{folder}"
    udp-workers: 1
    tcp-workers: 1
    background-workers: 1
database:
    storage: "{folder}"
log:
  - target: stderr
    any: warning
acl:
  - id: here
    address: 127.0.0.1
    action: update
template:
  - id: default
    storage: "{folder}"
zone:
  - domain: {zone}
    file: "zone"
    acl: here
"""
_SOA = "@ 30 SOA ns.{zone}. nobody.{zone}. 1 3600 900 86400 20\n@ 30 NS ns.{zone}.\nns 30 A 127.0.0.1\n"


class Knot:
    """`server`: as in the setting `names.nameservers`."""

    def __init__(self, port: int) -> None:
        self.port, self.server = port, f"127.0.0.1:{port}"

    def set(self, name: str, *texts: str, ttl: int = 30, kind: str = "TXT") -> None:
        """Replace the records of a name below the zone (RFC 2136); none: delete it."""
        update = dns.update.Update(ZONE)
        update.delete(name, kind)
        for text in texts:
            data = (
                text
                if kind != "TXT"
                else " ".join(_quoted(text[i : i + 200]) for i in range(0, len(text), 200))
            )
            update.add(name, ttl, kind, data)
        answer = dns.query.tcp(update, "127.0.0.1", port=self.port, timeout=_DEADLINE)
        assert answer.rcode() == dns.rcode.NOERROR, answer

    def link(self, name: str, *paths: str, ttl: int = 30) -> str:
        """Have `name` lead to content paths; the whole name."""
        self.set(f"_dnslink.{name}", *(f"dnslink={path}" for path in paths), ttl=ttl)
        return f"{name}.{ZONE}"


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


@contextmanager
def knot(folder: Path) -> Iterator[Knot]:
    """A server that is ready. Skips the test where there is no Knot."""
    program = shutil.which("knotd") or shutil.which("knotd", path="/usr/sbin:/usr/local/sbin")
    require_real("Knot DNS (apt-get install knot)", program)
    assert program is not None
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    (folder / "zone").write_text(f"$ORIGIN {ZONE}.\n" + _SOA.format(zone=ZONE))
    (folder / "knot.conf").write_text(_CONFIG.format(port=port, folder=folder, zone=ZONE))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([program, "-c", str(folder / "knot.conf")], stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + _DEADLINE
        while not _answers(port):
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < deadline, (folder / "log").read_text()
        yield Knot(port)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(_DEADLINE)


def _answers(port: int) -> bool:
    question = dns.message.make_query(ZONE, "SOA")
    with suppress(dns.exception.DNSException, OSError):
        return bool(dns.query.udp(question, "127.0.0.1", port=port, timeout=0.2).answer)
    return False


class Liar:
    """Answers UDP and TCP questions with what `say` makes of them: messages, and nothing to be silent.
    `asked`: questions so far."""

    def __init__(self, say: Callable[[bytes], list[bytes]]) -> None:
        self.say, self.asked = say, 0
        self._udp, self._tcp, port = _two_sockets()
        self._over = False
        self.server = f"127.0.0.1:{port}"

    def _serve_udp(self) -> None:
        with suppress(OSError):
            while not self._over:
                question, whom = self._udp.recvfrom(4096)
                if not question:  # also when the socket is shut
                    continue
                self.asked += 1
                for answer in self.say(question):
                    self._udp.sendto(answer, whom)

    def _serve_tcp(self) -> None:
        with suppress(OSError):
            while True:
                stream, _ = self._tcp.accept()
                with stream, suppress(OSError):
                    stream.settimeout(_DEADLINE)
                    length = struct.unpack(">H", stream.recv(2, socket.MSG_WAITALL))[0]
                    question = stream.recv(length, socket.MSG_WAITALL)
                    self.asked += 1
                    for answer in self.say(question):
                        stream.sendall(struct.pack(">H", len(answer)) + answer)

    @contextmanager
    def serving(self) -> Iterator[Liar]:
        threads = [threading.Thread(target=work) for work in (self._serve_udp, self._serve_tcp)]
        for thread in threads:
            thread.start()
        try:
            yield self
        finally:
            self._over = True
            for listening in (self._udp, self._tcp):
                with suppress(OSError):
                    listening.shutdown(socket.SHUT_RDWR)
                listening.close()
            for thread in threads:
                thread.join()


def _two_sockets() -> tuple[socket.socket, socket.socket, int]:
    """UDP and TCP on one port."""
    while True:
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        udp.bind(("127.0.0.1", 0))
        port = int(udp.getsockname()[1])
        try:
            return udp, socket.create_server(("127.0.0.1", port)), port
        except OSError:  # taken by somebody else's TCP
            udp.close()
