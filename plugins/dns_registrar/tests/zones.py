"""A real name server (Knot) on loopback with signed and unsigned zones, as owners of domains have them.

signed.example          signed (NSEC), takes updates with the key of KEY
  kid.signed.example    signed (NSEC3), with a DS record above
  bare.signed.example   not signed, which is proven above
nsec3.example           signed (NSEC3 with opt-out), and not known by DNSSEC
  bare.nsec3.example    not signed, within the opt-out
plain.example           not signed at all
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import dns.dnssec
import dns.exception
import dns.message
import dns.name
import dns.query
import dns.rcode
import dns.rdatatype
import dns.tsig
import dns.update
from tests.support import free_port, require_real

KEY_NAME, KEY_SECRET = "owner-key", "b3duZXJzb3duc2VjcmV0b3duZXJzb3duc2VjcmV0MTI="
_DEADLINE = 60.0
SIGNED = {"signed.example": "nsec", "kid.signed.example": "nsec3", "nsec3.example": "optout"}
UNSIGNED = ("bare.signed.example", "bare.nsec3.example", "plain.example")
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
key:
  - id: {key}
    algorithm: hmac-sha256
    secret: {secret}
acl:
  - id: owner
    key: {key}
    action: update
policy:
  - id: nsec
    algorithm: ecdsap256sha256
    single-type-signing: on
  - id: nsec3
    algorithm: ed25519
    single-type-signing: on
    nsec3: on
  - id: optout
    algorithm: ed25519
    single-type-signing: on
    nsec3: on
    nsec3-opt-out: on
template:
  - id: default
    storage: "{folder}"
    acl: owner
zone:
"""


class Zones:
    """`server`: as in the setting `resolvers`; `anchors`: as in `trust_anchors`."""

    def __init__(self, port: int) -> None:
        self.port, self.server = port, f"127.0.0.1:{port}"
        self.anchors: list[str] = []

    @property
    def key(self) -> dns.tsig.Key:
        return dns.tsig.Key(KEY_NAME, KEY_SECRET, "hmac-sha256")

    @property
    def credentials(self) -> dict[str, str]:
        return {"server": self.server, "key_name": KEY_NAME, "key_secret": KEY_SECRET}

    def ask(self, name: str, kind: str, dnssec: bool = False) -> dns.message.Message:
        question = dns.message.make_query(name, kind, want_dnssec=dnssec)
        return dns.query.tcp(question, "127.0.0.1", port=self.port, timeout=_DEADLINE)

    def values(self, name: str, kind: str) -> set[str]:
        return {
            data.to_text()
            for rrset in self.ask(name, kind).answer
            if rrset.rdtype == dns.rdatatype.from_text(kind)
            for data in rrset
        }

    def set(self, name: str, kind: str, *values: str, ttl: int = 60) -> None:
        """Replace the records of a name; none: delete them."""
        zone = next(
            z for z in sorted((*SIGNED, *UNSIGNED), key=len, reverse=True) if ("." + name).endswith("." + z)
        )
        if kind == "DS":
            zone = name.partition(".")[2]
        update = dns.update.UpdateMessage(zone)
        update.use_tsig({self.key.name: self.key})
        update.delete(dns.name.from_text(name), kind)
        for value in values:
            update.add(dns.name.from_text(name), ttl, kind, f'"{value}"' if kind == "TXT" else value)
        answer = dns.query.tcp(update, "127.0.0.1", port=self.port, timeout=_DEADLINE)
        assert answer.rcode() == dns.rcode.NOERROR, answer

    def prove(self, name: str, *owners: str) -> None:
        self.set(f"_decentraspace.{name}", "TXT", *(f"decentraspace-owner={owner}" for owner in owners))

    def ds(self, zone: str) -> list[str]:
        [keys] = [one for one in self.ask(zone, "DNSKEY").answer if one.rdtype == dns.rdatatype.DNSKEY]
        return [dns.dnssec.make_ds(dns.name.from_text(zone), key, "SHA256").to_text() for key in keys]

    def signed(self, zone: str) -> bool:
        with suppress(dns.exception.DNSException, OSError):
            return any(one.rdtype == dns.rdatatype.RRSIG for one in self.ask(zone, "SOA", dnssec=True).answer)
        return False


@contextmanager
def zones(folder: Path) -> Iterator[Zones]:
    """Ready and signed. Skips the test where there is no Knot."""
    program = shutil.which("knotd") or shutil.which("knotd", path="/usr/sbin:/usr/local/sbin")
    require_real("Knot DNS (apt-get install knot)", program)
    assert program is not None
    folder.mkdir(parents=True, exist_ok=True)
    found = Zones(free_port())
    config = _CONFIG.format(port=found.port, folder=folder, key=KEY_NAME, secret=KEY_SECRET)
    for zone in (*SIGNED, *UNSIGNED):
        config += f"  - domain: {zone}\n    file: {zone}.zone\n"
        if zone in SIGNED:
            config += f"    dnssec-signing: on\n    dnssec-policy: {SIGNED[zone]}\n"
        lines = [
            f"$ORIGIN {zone}.",
            f"@ 60 SOA ns.{zone}. nobody.{zone}. 1 3600 900 86400 20",
            f"@ 60 NS ns.{zone}.",
        ]
        lines += ["ns 60 A 127.0.0.1", *(f"{sub} 60 NS ns.{sub}.{zone}." for sub in _below(zone))]
        lines += [f"ns.{sub} 60 A 127.0.0.1" for sub in _below(zone)]
        (folder / f"{zone}.zone").write_text("\n".join(lines) + "\n")
    (folder / "knot.conf").write_text(config)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([program, "-c", str(folder / "knot.conf")], stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + _DEADLINE
        while not all(found.signed(zone) for zone in SIGNED):
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < deadline, (folder / "log").read_text()
            time.sleep(0.05)
        found.anchors = [
            f"{zone}. {one}" for zone in ("signed.example", "nsec3.example") for one in found.ds(zone)
        ]
        found.set("kid.signed.example", "DS", *found.ds("kid.signed.example"))
        yield found
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(_DEADLINE)


def _below(zone: str) -> list[str]:
    return [one.removesuffix("." + zone) for one in (*SIGNED, *UNSIGNED) if one.endswith("." + zone)]
