"""Names below a top-level name, asked of the name servers that it is delegated to on chain; and theirs of those
below. So does every resolver; here no address is asked that is not of the Internet, unless a setting allows it.

All that a stranger can make long is bounded for one look-up: questions, referrals, aliases, name servers whose
addresses must be looked up themselves. A zone below one with a DS record must be signed (see dnssec.py).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

import dns.asyncquery
import dns.asyncresolver
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.nameserver
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.resolver
import dns.rrset

from decentraspace.errors import Unavailable
from decentraspace_dns_handshake import addresses, dnssec
from decentraspace_dns_handshake.chain import NameState, Resource, Server
from decentraspace_dns_handshake.records import Records, nothing, query, values
from decentraspace_dns_handshake.settings import Settings, server

_QUESTIONS_MOST = 32
_REFERRALS_MOST = 8
_ALIASES_MOST = 8
_DEPTH_MOST = 2  # name servers named below others that have to be looked up first
_SERVERS_MOST = 6  # addresses of one zone that are tried
_NAMES_MOST = 2  # of its servers without an address that are looked up
_TRUST_MOST = 3  # zones between one whose keys are known and the one that signed

NameOf = Callable[[str], Awaitable[NameState]]


@dataclass
class _Walk:
    """One look-up. `states`: what the chain said meanwhile."""

    states: dict[str, NameState]
    questions: int = 0
    aliases: int = 0

    def spend(self) -> None:
        self.questions += 1
        if self.questions > _QUESTIONS_MOST:
            raise Unavailable(f"Looking it up takes more than {_QUESTIONS_MOST} questions")


@dataclass
class _Zone:
    """`keys`: those of it, and of zones below, that were found good; None for a zone that is not signed. `good`: the
    address that answered."""

    name: dns.name.Name
    servers: tuple[Server, ...]
    keys: dict[dns.name.Name, dns.rrset.RRset] | None = None
    good: str = ""
    tried: list[str] = field(default_factory=list)


class Delegated:
    """`name_of`: what the chain says of a top-level name."""

    def __init__(self, name_of: NameOf, settings: Settings) -> None:
        self._name_of, self._settings = name_of, settings
        self._resolver: dns.asyncresolver.Resolver | None = None

    async def lookup(self, name: str, kind: str, state: NameState) -> Records:
        """As in `records.Dns`."""
        walk = _Walk({state.name: state})
        return await self._records(dns.name.from_text(name), kind, walk, 0)

    async def _records(self, name: dns.name.Name, kind: str, walk: _Walk, depth: int) -> Records:
        ttl, secure = float("inf"), True
        while True:
            found = await self._once(name, kind, walk, depth)
            if isinstance(found, Records):
                return Records(found.values, min(ttl, found.ttl), secure and found.secure)
            alias, signed = found
            ttl, secure, name = min(ttl, alias.ttl), secure and signed, alias[0].target
            walk.aliases += 1
            if walk.aliases > _ALIASES_MOST:
                raise Unavailable(f"{name} is reached over more than {_ALIASES_MOST} aliases")

    async def _once(
        self, name: dns.name.Name, kind: str, walk: _Walk, depth: int
    ) -> Records | tuple[dns.rrset.RRset, bool]:
        """The records of a name, or the alias (CNAME) that stands there and whether it is signed."""
        if len(name) < 2:
            return Records((), self._settings.ttl, True)
        top = name.labels[-2].decode("ascii", "replace").lower()
        state = walk.states.get(top)
        if state is None:
            walk.spend()
            state = walk.states[top] = await self._name_of(top)
        if state.resource.delegated:
            return await self._descend(name, kind, _root(state.resource, top), state.resource, walk, depth)
        if state.held:
            texts = state.resource.texts if kind == "TXT" and len(name) == 2 else ()
            return Records(texts, self._settings.ttl, True)
        return await self._elsewhere(name, kind, walk)

    async def _descend(
        self, name: dns.name.Name, kind: str, zone: _Zone, resource: Resource, walk: _Walk, depth: int
    ) -> Records | tuple[dns.rrset.RRset, bool]:
        wanted = dns.rdatatype.from_text(kind)
        try:
            if resource.ds:
                zone.keys = {}
                keys = await self._ask(zone, zone.name, dns.rdatatype.DNSKEY, walk, depth)
                zone.keys[zone.name] = dnssec.zone_keys(keys, zone.name, resource.ds)
            for _ in range(_REFERRALS_MOST):
                message = await self._ask(zone, name, wanted, walk, depth)
                for one in (wanted, dns.rdatatype.CNAME):
                    if (rrset := dnssec.found(message, name, one)) is not None:
                        await self._check(zone, message.answer, rrset, walk, depth)
                        signed = zone.keys is not None
                        if one == wanted:
                            return Records(values(rrset, kind), rrset.ttl, signed)
                        return rrset, signed
                below = _referral(message, zone.name, name)
                if below is None or message.rcode() == dns.rcode.NXDOMAIN:
                    return Records((), nothing(message), False)
                zone = await self._enter(zone, below, message, walk, depth)
        except dnssec.Bogus as error:
            raise Unavailable(f"The signatures (DNSSEC) of {name} are not good: {error}") from error
        raise Unavailable(f"{name} is delegated more than {_REFERRALS_MOST} times")

    async def _enter(
        self, zone: _Zone, below: dns.rrset.RRset, message: dns.message.Message, walk: _Walk, depth: int
    ) -> _Zone:
        """The zone that a message refers to."""
        child = _Zone(below.name, _servers(below, message, zone.name))
        if zone.keys is not None:
            ds = message.get_rrset(message.authority, below.name, dns.rdataclass.IN, dns.rdatatype.DS)
            if ds is None:
                raise dnssec.Bogus(
                    f"{zone.name} is signed, and whether {below.name} is not, cannot be proved here: set "
                    "plugin.dns_handshake.dns"
                )
            dnssec.check(message.authority, ds, zone.keys)
            child.keys = {}
            keys = await self._ask(child, child.name, dns.rdatatype.DNSKEY, walk, depth)
            child.keys[child.name] = dnssec.zone_keys(keys, child.name, dnssec.fingerprints(ds))
        return child

    async def _check(
        self, zone: _Zone, section: list[dns.rrset.RRset], rrset: dns.rrset.RRset, walk: _Walk, depth: int
    ) -> None:
        if zone.keys is None:
            return
        await self._trust(zone, dnssec.signer(section, rrset), walk, depth, 0)
        dnssec.check(section, rrset, zone.keys)

    async def _trust(self, zone: _Zone, signer: dns.name.Name, walk: _Walk, depth: int, level: int) -> None:
        """Come to know the keys of a zone below that the same servers have: they refer to it without a word."""
        assert zone.keys is not None
        if signer in zone.keys:
            return
        if level >= _TRUST_MOST or not signer.is_subdomain(zone.name):
            raise dnssec.Bogus(f"{signer} signed, whose keys are not known")
        message = await self._ask(zone, signer, dns.rdatatype.DS, walk, depth)
        ds = dnssec.found(message, signer, dns.rdatatype.DS)
        if ds is None:
            raise dnssec.Bogus(f"{signer} signed, and nothing above says that it may")
        await self._trust(zone, dnssec.signer(message.answer, ds), walk, depth, level + 1)
        dnssec.check(message.answer, ds, zone.keys)
        keys = await self._ask(zone, signer, dns.rdatatype.DNSKEY, walk, depth)
        zone.keys[signer] = dnssec.zone_keys(keys, signer, dnssec.fingerprints(ds))

    async def _ask(
        self, zone: _Zone, name: dns.name.Name, kind: dns.rdatatype.RdataType, walk: _Walk, depth: int
    ) -> dns.message.Message:
        """What one of the zone's servers says. Unavailable when none says anything, or none may be asked."""
        question = query(name, kind, dnssec=zone.keys is not None)
        troubles = []
        async for address in self._addresses(zone, walk, depth):
            walk.spend()
            try:
                message, _ = await dns.asyncquery.udp_with_fallback(
                    question,
                    address,
                    timeout=self._settings.timeout,
                    port=self._settings.port,
                    ignore_unexpected=True,
                    ignore_errors=True,
                )
            except (dns.exception.DNSException, OSError, EOFError, ValueError) as error:
                troubles.append(f"{address}: {str(error) or type(error).__name__}")
                continue
            if message.rcode() not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
                troubles.append(f"{address}: {dns.rcode.to_text(message.rcode())}")
            elif message.flags & dns.flags.AA or _referral(message, zone.name, name) is not None:
                zone.good = address
                return message
            else:
                troubles.append(f"{address}: does not speak for {zone.name}")
        raise Unavailable(f"No name server of {zone.name} answers: {'; '.join(troubles)[:500]}")

    async def _addresses(self, zone: _Zone, walk: _Walk, depth: int) -> AsyncIterator[str]:
        """Of the zone's servers: first the one that answered last time, then those that are told, then those that have
        to be looked up. Unavailable when there is none that may be asked."""
        given: list[str] = []
        if zone.good:
            given.append(zone.good)
            yield zone.good
        kept_off = False
        for one in (address for each in zone.servers for address in each.addresses):
            if one in given or len(given) >= _SERVERS_MOST:
                continue
            if self._may(one):
                given.append(one)
                yield one
            else:
                kept_off = True
        nameless = [each.name for each in zone.servers if each.name and not each.addresses]
        for name in nameless[:_NAMES_MOST] if depth < _DEPTH_MOST else ():
            for kind in ("A", "AAAA"):
                try:
                    found = await self._records(dns.name.from_text(name), kind, walk, depth + 1)
                except Unavailable:
                    continue
                for one in found.values:
                    if one in given or len(given) >= _SERVERS_MOST:
                        continue
                    if self._may(one):
                        given.append(one)
                        yield one
                    else:
                        kept_off = True
        if not given:
            reason = (
                "are at private addresses, where this node asks nobody (plugin.dns_handshake.private)"
                if kept_off
                else "have no address that could be found"
            )
            raise Unavailable(f"The name servers of {zone.name} {reason}")

    def _may(self, address: str) -> bool:
        return self._settings.private or addresses.public(address)

    async def _elsewhere(self, name: dns.name.Name, kind: str, walk: _Walk) -> Records:
        """A name that is not Handshake's, such as that of a hoster's name server."""
        walk.spend()
        if self._resolver is None:
            own = [server(text) for text in self._settings.nameservers]
            try:
                self._resolver = dns.asyncresolver.Resolver(configure=not own)
            except dns.resolver.NoResolverConfiguration as error:
                raise Unavailable("This machine has no name server") from error
            if own:
                self._resolver.nameservers = [dns.nameserver.Do53Nameserver(a, p) for a, p in own]
        try:
            found = await self._resolver.resolve(
                name, kind, search=False, lifetime=self._settings.timeout, raise_on_no_answer=False
            )
        except dns.resolver.NXDOMAIN:
            return Records((), self._settings.ttl, False)
        except (dns.exception.DNSException, OSError) as error:
            raise Unavailable(f"No name server could say what {name} is") from error
        if found.rrset is None:
            return Records((), self._settings.ttl, False)
        return Records(values(found.rrset, kind), found.rrset.ttl, False)


def _root(resource: Resource, top: str) -> _Zone:
    """As hsd has it: addresses that the chain gives for names elsewhere do not count."""
    zone = dns.name.from_text(top)
    servers = tuple(
        one if not one.name or dns.name.from_text(one.name).is_subdomain(zone) else Server(one.name, ())
        for one in resource.servers
    )
    return _Zone(zone, servers)


def _referral(
    message: dns.message.Message, zone: dns.name.Name, name: dns.name.Name
) -> dns.rrset.RRset | None:
    """The name servers of a zone below, on the way to the name."""
    if message.flags & dns.flags.AA and message.answer:
        return None
    for rrset in message.authority:
        if (
            rrset.rdtype == dns.rdatatype.NS
            and rrset.name != zone
            and rrset.name.is_subdomain(zone)
            and name.is_subdomain(rrset.name)
        ):
            return rrset
    return None


def _servers(below: dns.rrset.RRset, message: dns.message.Message, zone: dns.name.Name) -> tuple[Server, ...]:
    """Of a referral. Addresses are taken for names below the zone that gives them alone (RFC 2181 section 5.4.1)."""
    found = []
    for record in list(below)[:_SERVERS_MOST]:
        told: list[str] = []
        if record.target.is_subdomain(zone):
            for kind, words in ((dns.rdatatype.A, "A"), (dns.rdatatype.AAAA, "AAAA")):
                glue = message.get_rrset(message.additional, record.target, dns.rdataclass.IN, kind)
                told.extend(values(glue, words) if glue is not None else ())
        found.append(Server(record.target.to_text().lower(), tuple(told[:_SERVERS_MOST])))
    return tuple(found)
