"""Of the ways to lead visitors here that the instructions name, the one that fits beside what a host has already."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

import dns.name
import dns.rdata
import dns.rdatatype
from dns.rdatatype import AAAA, CAA, CNAME, HTTPS, MX, NS, SRV, TXT, A

_ADDRESSES = (A, AAAA)
# What hosts commonly have; beside any record an alias cannot be (RFC 1034 section 3.6.2).
_OTHERS = (TXT, MX, NS, CAA, SRV, HTTPS)


class Record(NamedTuple):
    host: dns.name.Name
    data: dns.rdata.Rdata


class Choice(NamedTuple):
    """`replaced`: what makes room for `records`. `notes`: what was left out, and why."""

    records: list[Record]
    replaced: list[tuple[dns.name.Name, dns.rdatatype.RdataType]]
    notes: list[str]


async def choose(
    zone: dns.name.Name,
    wanted: Sequence[Record],
    present: Callable[[dns.name.Name, dns.rdatatype.RdataType], Awaitable[bool]],
) -> Choice:
    """An alias (CNAME) where there may be one, else addresses. `present`: whether a host has such records."""
    choice = Choice([], [], [])
    for host in dict.fromkeys(record.host for record in wanted):
        mine = [record for record in wanted if record.host == host]
        texts = [record for record in mine if record.data.rdtype == TXT]
        aliases = [record for record in mine if record.data.rdtype == CNAME][:1]
        addresses = [record for record in mine if record.data.rdtype in _ADDRESSES]
        choice.records.extend(texts)
        if aliases and not texts and host != zone and not await _any(host, present):
            choice.records.extend(aliases)
            # A new alias takes an old one's place by itself (RFC 2136 section 3.4.2.2).
            choice.replaced.extend((host, kind) for kind in _ADDRESSES)
        elif addresses:
            choice.records.extend(addresses)
            choice.replaced.extend((host, kind) for kind in (*_ADDRESSES, CNAME))
        elif aliases:
            name = host.to_text(omit_final_dot=True)
            choice.notes.append(
                f"{name} cannot have an alias (CNAME) beside its other records: enter an ALIAS (ANAME) at your "
                "provider, if it has such, or addresses (A, AAAA)"
            )
    return choice


async def _any(
    host: dns.name.Name, present: Callable[[dns.name.Name, dns.rdatatype.RdataType], Awaitable[bool]]
) -> bool:
    for kind in _OTHERS:
        if await present(host, kind):
            return True
    return False
