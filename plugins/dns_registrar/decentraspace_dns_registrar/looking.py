"""What one name server says of a name: who may link it, and where it leads visitors."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import dns.exception
import dns.message
import dns.name
import dns.rdatatype
import dns.rrset
from dns.rdatatype import AAAA, CNAME, SOA, TXT, A

from decentraspace_dns_registrar import domains
from decentraspace_dns_registrar.asking import Silent, ask
from decentraspace_dns_registrar.chain import Chain
from decentraspace_dns_registrar.settings import Server

_ALIASES_MOST = 8
_TEXTS_MOST = 100  # TXT records of one name that are looked at
_ADDRESSES_MOST = 32
_NOTHING = 60.0  # seconds that nothing is there, where no server says for how long


@dataclass(frozen=True)
class Proof:
    """`owners`: wallets that the name's TXT records name. `signed`: by the zone's DNSSEC keys. `ttl`: seconds.
    `trouble`: why there are no records, where that is the fault of what was entered."""

    owners: frozenset[str]
    signed: bool
    ttl: float
    trouble: str = ""


@dataclass(frozen=True)
class Way:
    """Whether the name leads to gateways of this network, and in words where else."""

    points: bool
    detail: str = ""


@dataclass(frozen=True)
class _Found:
    records: tuple[Any, ...]
    aliases: tuple[dns.name.Name, ...]
    signed: bool
    ttl: float
    circle: bool = False


class Looking:
    """At one server, for one name."""

    def __init__(self, server: Server, chain: Chain) -> None:
        self._server, self._chain = server, chain

    async def proof(self, name: str) -> Proof:
        """Silent when the server says nothing that counts."""
        found = await self._follow(domains.proof_host(name), TXT, wildcard=False)
        texts = (
            b"".join(record.strings).decode("utf-8", "replace") for record in found.records[:_TEXTS_MOST]
        )
        owners = frozenset(owner for text in texts if (owner := domains.owner_of(text)) is not None)
        trouble = ""
        if found.circle:
            trouble = f"the aliases (CNAME) of {domains.proof_host(name)} lead in a circle"
        elif found.records and not owners:
            trouble = "the TXT record there names no wallet"
        return Proof(owners, found.signed, found.ttl, trouble)

    async def way(self, name: str, gateways: Collection[str], addresses: Collection[str]) -> Way:
        """`addresses`: those that the operator says are gateways'; private ones count only there. Silent as above."""
        plain, six = await self._follow(name, A), await self._follow(name, AAAA)
        if plain.circle or six.circle:
            return Way(False, "its aliases (CNAME) lead in a circle")
        targets = [target.to_text(omit_final_dot=True).lower() for target in (*plain.aliases, *six.aliases)]
        if any(target == gate or target.endswith("." + gate) for target in targets for gate in gateways):
            return Way(True)
        mine = _addresses(plain, six)
        if not mine:
            return Way(False, "it leads nowhere yet")
        known = {ipaddress.ip_address(one) for one in addresses}
        for gate in gateways:
            if not mine <= known:
                theirs = _addresses(await self._follow(gate, A), await self._follow(gate, AAAA))
                known |= {one for one in theirs if one.is_global}
        if mine <= known:
            return Way(True)
        other = min(mine - known, key=str)
        if not other.is_global:
            return Way(False, f"it leads to {other}, which only its own network can reach")
        rest = "also " if mine & known else ""
        return Way(
            False, f"it {rest}leads to {other}, which is no gateway of this network as far as is known here"
        )

    async def _follow(self, name: str, kind: dns.rdatatype.RdataType, *, wildcard: bool = True) -> _Found:
        """The records of that kind, wherever aliases lead; none where there are none."""
        at = dns.name.from_text(name)
        passed: list[dns.name.Name] = []
        signed, ttl, fresh = True, 86_400.0, True
        answer: dns.message.Message | None = None
        while True:
            if answer is None:
                answer, fresh = await ask(self._server, at, kind), True
            rrset = _find(answer, at, kind) or _find(answer, at, CNAME)
            if rrset is None and not fresh:
                answer = None  # the rest of the way is another server's to tell
                continue
            if rrset is None:
                return _Found((), tuple(passed), False, min(ttl, _ttl_of_nothing(answer)))
            signed &= await self._chain.verify(self._server, rrset, answer, wildcard=wildcard)
            ttl = min(ttl, float(rrset.ttl))
            if rrset.rdtype == kind:
                return _Found(tuple(rrset), tuple(passed), signed, ttl)
            at, fresh = next(iter(rrset)).target, False
            if at in passed or at == dns.name.from_text(name):
                return _Found((), tuple(passed), False, ttl, circle=True)
            passed.append(at)
            if len(passed) > _ALIASES_MOST:
                raise Silent(f"knows more than {_ALIASES_MOST} aliases (CNAME) in a row")


def _addresses(*found: _Found) -> set[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    every = [record.address for one in found for record in one.records[:_ADDRESSES_MOST]]
    return {ipaddress.ip_address(address) for address in every}


def _find(
    answer: dns.message.Message, name: dns.name.Name, kind: dns.rdatatype.RdataType
) -> dns.rrset.RRset | None:
    return next((one for one in answer.answer if one.name == name and one.rdtype == kind), None)


def _ttl_of_nothing(answer: dns.message.Message) -> float:
    """RFC 2308 section 5: the least of the zone's SOA record and what it says in `minimum`."""
    found = [_NOTHING]
    for rrset in answer.authority:
        if rrset.rdtype == SOA:
            found = [float(rrset.ttl), *(float(record.minimum) for record in rrset)]
    return min(found)
