"""Records of DNS as the rest of the plugin has them, and questions for them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, Protocol

import dns.flags
import dns.message
import dns.name
import dns.rdatatype
import dns.rrset

from decentraspace_dns_handshake.chain import NameState

_PAYLOAD = 1232  # bytes of a datagram that every network carries: https://www.dnsflagday.net/2020/
_VALUES_MOST = 100
_NOTHING = 60.0  # seconds that there is no record, where no server says for how long


class Records(NamedTuple):
    """`values`: texts (the pieces of one joined), or addresses; `ttl`: seconds; `secure`: whether the signatures down
    to them are good."""

    values: tuple[str, ...]
    ttl: float
    secure: bool


class Dns(Protocol):
    """Who can be asked for names that are delegated."""

    async def lookup(self, name: str, kind: str, state: NameState) -> Records:
        """`kind`: "TXT", "A" or "AAAA". Unavailable when no server says, or one says what is not to be believed."""


def query(
    name: dns.name.Name, kind: dns.rdatatype.RdataType | str, *flags: dns.flags.Flag, dnssec: bool
) -> dns.message.QueryMessage:
    """A question; `dnssec`: for the signatures, too (RFC 4035 section 3.2.1)."""
    made = dns.message.make_query(name, kind, use_edns=0, payload=_PAYLOAD, want_dnssec=dnssec, flags=0)
    for flag in flags:
        made.flags |= flag
    return made


def values(rrset: Iterable[object], kind: str) -> tuple[str, ...]:
    """As text, 100 at most."""
    found = []
    for record in list(rrset)[:_VALUES_MOST]:
        if kind == "TXT":
            found.append(b"".join(record.strings).decode("utf-8", "replace"))  # type: ignore[attr-defined]
        else:
            found.append(str(record.address))  # type: ignore[attr-defined]
    return tuple(found)


def nothing(message: dns.message.Message) -> float:
    """Seconds that there is no such record (RFC 2308 section 5): by the zone's SOA."""
    for rrset in message.authority:
        if rrset.rdtype == dns.rdatatype.SOA:
            return float(min(rrset.ttl, *(record.minimum for record in rrset)))
    return _NOTHING
