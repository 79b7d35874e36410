"""What name servers say: DNSLink (TXT records of `_dnslink.NAME`), other TXT records, addresses.

dnspython checks that an answer is one to the question (address, number, name); what is in it is judged here.
A name server answers on UDP, and on TCP what is longer than a datagram (RFC 1035 section 4.2, RFC 7766).
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Sequence
from dataclasses import dataclass

import dns.asyncresolver
import dns.exception
import dns.nameserver
import dns.rdatatype
import dns.resolver
import trio

from decentraspace.names import links
from decentraspace.names.links import Answer, NotResolved

_TEXTS_MOST = 100  # TXT records of one name that are looked at
_PAYLOAD = 1232  # bytes of a datagram that every network carries: https://www.dnsflagday.net/2020/
_SERVERS_MOST = 8  # that are asked side by side
_EACH = 2.0  # seconds that one server is waited for before the next is asked, or the same again
_NOTHING = 60.0  # seconds that there is no link, where no server says for how long


def parse_server(text: str) -> tuple[str, int]:
    """(address, port) of ADDRESS, ADDRESS:PORT or [ADDRESS]:PORT. ValueError."""
    host, port = text, "53"
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise ValueError("no address")
        port = rest[1:] if rest else port
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise ValueError("no port")
    return str(ipaddress.ip_address(host)), int(port)


@dataclass(frozen=True)
class Asked:
    """What one server said. `texts`: TXT records, none where there is no such name; None: it said nothing of use.
    `ttl`: seconds that holds."""

    server: str
    texts: tuple[str, ...] | None
    ttl: float = 0.0


class Dns:
    """`servers`: as in the setting; empty for those of the system. `deadline`: seconds for one look-up."""

    def __init__(self, servers: Sequence[str], deadline: float) -> None:
        self._servers, self._deadline = [parse_server(text) for text in servers], deadline
        self._resolver: dns.asyncresolver.Resolver | None = None
        self._read: object = None  # what the system's file was when it was read

    async def __call__(self, name: str) -> Answer:
        """`name` in its one spelling. NotResolved when no server gives an answer."""
        try:
            found = await self._ready().resolve(
                f"_dnslink.{name}.", "TXT", search=False, lifetime=self._deadline, raise_on_no_answer=False
            )
        except dns.resolver.NXDOMAIN as nothing:
            return Answer(None, _ttl_of_nothing(nothing))
        except dns.resolver.NoResolverConfiguration as error:
            raise _no_server() from error
        except (dns.exception.DNSException, OSError) as error:
            raise NotResolved(f"No name server could tell what {name} stands for") from error
        if found.rrset is None:
            authority = found.response.authority
            return Answer(None, min((r.ttl for r in authority), default=_NOTHING))
        texts = [
            b"".join(record.strings).decode("utf-8", "replace") for record in list(found.rrset)[:_TEXTS_MOST]
        ]
        # An alias (CNAME) on the way may hold for less.
        return Answer(links.read(texts), max(0.0, min(found.rrset.ttl, found.chaining_result.minimum_ttl)))

    async def texts(self, name: str) -> list[Asked]:
        """TXT records of a name, as each server has them, asked side by side. NotResolved where there is no server."""
        try:
            known = self._ready().nameservers
        except dns.resolver.NoResolverConfiguration as error:
            raise _no_server() from error
        servers = [server for server in known if isinstance(server, dns.nameserver.Do53Nameserver)]
        found: list[Asked | None] = [None] * len(servers[:_SERVERS_MOST])

        async def ask(place: int, server: dns.nameserver.Do53Nameserver) -> None:
            found[place] = await self._texts(name, server)

        async with trio.open_nursery() as nursery:
            for place, server in enumerate(servers[:_SERVERS_MOST]):
                nursery.start_soon(ask, place, server)
        return [one for one in found if one is not None]

    async def _texts(self, name: str, server: dns.nameserver.Do53Nameserver) -> Asked:
        shown = f"{server.address}:{server.port}" if server.port != 53 else server.address
        try:
            found = await self._made([server]).resolve(
                f"{name}.", "TXT", search=False, lifetime=self._deadline, raise_on_no_answer=False
            )
        except dns.resolver.NXDOMAIN as nothing:
            return Asked(shown, (), _ttl_of_nothing(nothing))
        except (dns.exception.DNSException, OSError):
            return Asked(shown, None)
        if found.rrset is None:
            return Asked(shown, (), min((r.ttl for r in found.response.authority), default=_NOTHING))
        texts = (b"".join(r.strings).decode("utf-8", "replace") for r in list(found.rrset)[:_TEXTS_MOST])
        return Asked(shown, tuple(texts), max(0.0, min(found.rrset.ttl, found.chaining_result.minimum_ttl)))

    async def addresses(self, name: str) -> frozenset[str] | None:
        """IPv4 and IPv6; None when nobody could say, also for aliases (CNAME) that lead round in a circle."""
        try:
            found = await self._ready().resolve_name(f"{name}.", lifetime=self._deadline, search=False)
        except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
            return frozenset()
        except (dns.exception.DNSException, OSError):
            return None
        return frozenset(str(ipaddress.ip_address(address)) for address in found.addresses())

    def _made(self, servers: list[dns.nameserver.Nameserver]) -> dns.asyncresolver.Resolver:
        resolver = dns.asyncresolver.Resolver(configure=False)
        resolver.nameservers = servers
        resolver.timeout = min(_EACH, self._deadline)
        resolver.use_edns(0, 0, _PAYLOAD)
        return resolver

    def _ready(self) -> dns.asyncresolver.Resolver:
        """Made anew when the system's name servers change, as on a laptop."""
        now = None if self._servers else _state_of_system()
        if self._resolver is None or now != self._read:
            servers: list[dns.nameserver.Nameserver] = [
                dns.nameserver.Do53Nameserver(address, port) for address, port in self._servers
            ]
            if not self._servers:
                servers = [
                    dns.nameserver.Do53Nameserver(server, 53) if isinstance(server, str) else server
                    for server in dns.asyncresolver.Resolver().nameservers
                ]
            self._resolver, self._read = self._made(servers), now
        return self._resolver


def _no_server() -> NotResolved:
    return NotResolved("This machine has no name server", hint="Set names.nameservers.")


def _ttl_of_nothing(nothing: dns.resolver.NXDOMAIN) -> float:
    """RFC 2308 section 5: the least of the zone's SOA record and what it says in `minimum`."""
    found = [_NOTHING]
    for response in nothing.responses().values():  # type: ignore[no-untyped-call]
        for rrset in response.authority:
            if rrset.rdtype == dns.rdatatype.SOA:
                found = [float(rrset.ttl), *(float(record.minimum) for record in rrset)]
    return min(found)


def _state_of_system() -> object:
    try:
        about = os.stat("/etc/resolv.conf")
    except OSError:
        return None
    return about.st_mtime_ns, about.st_ino
