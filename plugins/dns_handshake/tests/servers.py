"""Real name servers (Knot DNS) on two addresses of this machine and one port, with zones that are signed or not."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import dns.dnssec
import dns.exception
import dns.message
import dns.query
import dns.rcode
import dns.rdatatype
import dns.rdtypes.ANY.DS
import dns.update
from tests.support import require_real

FIRST, SECOND = "127.0.0.1", "127.0.0.2"
_DEADLINE = 60.0  # seconds
_CONFIG = """
server:
    listen: {address}@{port}
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
    address: 127.0.0.0/8
    action: update
zone:
"""
_ZONE = """  - domain: {zone}
    storage: "{folder}"
    file: "{zone}.zone"
    acl: here
    dnssec-signing: {signed}
"""
_TEXT = "$ORIGIN {zone}.\n@ 30 SOA ns nobody 1 3600 900 86400 20\n@ 30 NS ns\nns 30 A {address}\n"


class Server:
    """`zones` are those without signatures, `signed` those with."""

    def __init__(self, address: str, port: int, zones: Sequence[str], signed: Sequence[str]) -> None:
        self.address, self.port, self.zones, self.signed = address, port, tuple(zones), tuple(signed)

    def ask(self, name: str, kind: str) -> dns.message.Message:
        question = dns.message.make_query(name, kind, want_dnssec=True, payload=1232)
        return dns.query.tcp(question, self.address, port=self.port, timeout=_DEADLINE)

    def set(self, host: str, *data: str, kind: str = "TXT", ttl: int = 30) -> None:
        """Replace the records of `host`, a whole name, in the zone that it is in (RFC 2136); none: delete them."""
        zones = [zone for zone in (*self.zones, *self.signed) if host == zone or host.endswith("." + zone)]
        update = dns.update.Update(max(zones, key=len) if kind not in ("DS", "NS") else min(zones, key=len))
        update.delete(host + ".", kind)
        for one in data:
            update.add(host + ".", ttl, kind, f'"{one}"' if kind == "TXT" else one)
        answer = dns.query.tcp(update, self.address, port=self.port, timeout=_DEADLINE)
        assert answer.rcode() == dns.rcode.NOERROR, answer

    def ds(self, zone: str) -> dns.rdtypes.ANY.DS.DS:
        """The fingerprint of the zone's key that signs its keys."""
        keys = self.ask(zone, "DNSKEY").answer[0]
        entry = next(key for key in keys if key.flags & 1)
        return dns.dnssec.make_ds(keys.name, entry, "SHA256")

    def ready(self) -> bool:
        with suppress(dns.exception.DNSException, OSError):
            return all(self.ask(zone, "SOA").answer for zone in self.zones) and all(
                self.ask(zone, "DNSKEY").answer for zone in self.signed
            )
        return False


@contextmanager
def knots(
    folder: Path, first: Sequence[Sequence[str]], second: Sequence[Sequence[str]]
) -> Iterator[tuple[Server, Server]]:
    """Two that answer; (zones without signatures, zones with) for each. Skips the test where there is no Knot."""
    port = free_on_both()
    with ExitStack() as stack:
        yield (
            stack.enter_context(knot(folder / "first", FIRST, port, *first)),
            stack.enter_context(knot(folder / "second", SECOND, port, *second)),
        )


@contextmanager
def knot(
    folder: Path, address: str, port: int, zones: Sequence[str], signed: Sequence[str]
) -> Iterator[Server]:
    program = shutil.which("knotd") or shutil.which("knotd", path="/usr/sbin:/usr/local/sbin")
    require_real("Knot DNS (apt-get install knot)", program)
    assert program is not None
    folder.mkdir(parents=True)
    config = _CONFIG.format(address=address, port=port, folder=folder)
    for zone in (*zones, *signed):
        (folder / f"{zone}.zone").write_text(_TEXT.format(zone=zone, address=address))
        config += _ZONE.format(zone=zone, folder=folder, signed="on" if zone in signed else "off")
    (folder / "knot.conf").write_text(config)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([program, "-c", str(folder / "knot.conf")], stdout=log, stderr=log)
    server = Server(address, port, zones, signed)
    try:
        deadline = time.monotonic() + _DEADLINE
        while not server.ready():
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < deadline, (folder / "log").read_text()
            time.sleep(0.05)
        yield server
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(_DEADLINE)


def free_on_both() -> int:
    """A port that is free for UDP and TCP on both addresses."""
    while True:
        with ExitStack() as stack, suppress(OSError):
            first = stack.enter_context(socket.create_server((FIRST, 0)))
            port = int(first.getsockname()[1])
            stack.enter_context(socket.create_server((SECOND, port)))
            for address in (FIRST, SECOND):
                udp = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
                udp.bind((address, port))
            return port
