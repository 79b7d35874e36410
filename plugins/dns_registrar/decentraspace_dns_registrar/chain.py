"""DNSSEC: from a trust anchor down to the zone of a name, and whether that zone signed what was said.

RFC 4035 section 5; denial of existence by RFC 4035 section 5.4 and RFC 5155 section 8, as far as it is needed to know
that a zone is *not* signed. What is proven once, by whichever server's records, holds for all until its time is over:
it rests on signatures, not on who brought it. Bounded: depth, keys and signatures at each step (CVE-2023-50387), rounds
of hashing (RFC 9276), what is remembered.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import dns.dnssec
import dns.dnssectypes
import dns.exception
import dns.message
import dns.name
import dns.rdataset
import dns.rdatatype
import dns.rdtypes.ANY.DS
import dns.rrset
from dns.rdatatype import CNAME, DNSKEY, DS, NS, NSEC, NSEC3, RRSIG, SOA

from decentraspace_dns_registrar.asking import Bogus, ask
from decentraspace_dns_registrar.settings import Server

_DEPTH = 16  # labels below the anchor
_KEYS_MOST = 16
_SIGNATURES_MOST = 8
_DENIALS_MOST = 8
_ROUNDS_MOST = 100  # of hashing, of NSEC3
_KNOWN_MOST = 2000
_TTL_MOST = 3600.0
_DIGESTS = (dns.dnssectypes.DSDigest.SHA256, dns.dnssectypes.DSDigest.SHA384)
# Those that RFC 8624 wants every validator to know, and Ed448; not those on SHA-1.
_ALGORITHMS = (8, 10, 13, 14, 15, 16)
_OPT_OUT = 1


class Zone(NamedTuple):
    """A signed zone, and the keys that are proven to be its own."""

    name: dns.name.Name
    keys: dns.rdataset.Rdataset


class _Known(NamedTuple):
    """What is below a name: a signed zone, no signed one (`insecure`), or no zone of its own (neither)."""

    zone: Zone | None
    insecure: bool
    until: float


class Chain:
    """`anchors`: zone and DS records of its keys."""

    def __init__(self, anchors: Iterable[tuple[dns.name.Name, dns.rdtypes.ANY.DS.DS]]) -> None:
        self._anchors: dict[dns.name.Name, list[Any]] = {}
        for name, record in anchors:
            self._anchors.setdefault(name, []).append(record)
        self._known: OrderedDict[dns.name.Name, _Known] = OrderedDict()
        self._starts: dict[dns.name.Name, tuple[Zone | None, float]] = {}

    async def verify(
        self, server: Server, rrset: dns.rrset.RRset, answer: dns.message.Message, *, wildcard: bool
    ) -> bool:
        """Whether `rrset` of the answer's section is signed by its zone; False where the zone is not signed.

        Bogus where it is and the signature is wrong or lacking. `wildcard`: whether a record that was made from a
        wildcard (*.example.org) counts.
        """
        zone = await self.zone_of(server, rrset.name)
        if zone is None:
            return False
        _validate(rrset, answer.answer, zone, wildcard=wildcard)
        return True

    async def zone_of(self, server: Server, name: dns.name.Name) -> Zone | None:
        """The signed zone that `name` is in; None where no chain of signatures leads there, which then is proven."""
        start = next(
            (a for a in sorted(self._anchors, key=len, reverse=True) if name.is_subdomain(a)),
            None,
        )
        if start is None:
            return None
        if len(name) - len(start) > _DEPTH:
            raise Bogus("the name is too deep for DNSSEC to be checked")
        zone = await self._start(server, start)
        for depth in range(len(start) + 1, len(name) + 1):
            if zone is None:
                return None
            found = await self._below(server, zone, name.split(depth)[1])
            if found.insecure:
                return None
            zone = found.zone or zone
        return zone

    async def _start(self, server: Server, name: dns.name.Name) -> Zone | None:
        zone, until = self._starts.get(name, (None, 0.0))
        if until <= time.monotonic():
            zone, ttl = await self._keys(server, name, self._anchors[name])
            self._starts[name] = zone, time.monotonic() + min(ttl, _TTL_MOST)
        return zone

    async def _below(self, server: Server, zone: Zone, child: dns.name.Name) -> _Known:
        known = self._known.get(child)
        if known is not None and known.until > time.monotonic():
            return known
        answer = await ask(server, child, DS)
        delegation = _find(answer.answer, child, DS)
        if delegation is not None:
            _validate(delegation, answer.answer, zone)
            _bounded(delegation, _KEYS_MOST, "too many DS records")
            found, ttl = await self._keys(server, child, list(delegation))
            return self._remember(child, found, found is None, min(ttl, delegation.ttl))
        alias = _find(answer.answer, child, CNAME)
        if alias is not None:  # where an alias is, no zone begins
            _validate(alias, answer.answer, zone)
            return self._remember(child, None, False, alias.ttl)
        insecure, ttl = _denied(answer, zone, child)
        return self._remember(child, None, insecure, ttl)

    async def _keys(
        self, server: Server, name: dns.name.Name, records: Sequence[Any]
    ) -> tuple[Zone | None, float]:
        """(the zone, seconds that holds). No zone where no key is of a kind that is understood here: it counts as
        unsigned then (RFC 4035 section 5.2)."""
        usable = [one for one in records if one.digest_type in _DIGESTS and one.algorithm in _ALGORITHMS]
        if not usable:
            return None, _TTL_MOST
        answer = await ask(server, name, DNSKEY)
        keys = _find(answer.answer, name, DNSKEY)
        if keys is None:
            raise Bogus("gives no keys for a signed zone")
        _bounded(keys, _KEYS_MOST, "too many keys")
        trusted = dns.rdataset.Rdataset(keys.rdclass, DNSKEY)
        for key in keys:
            if any(_is_of(name, key, one) for one in usable):
                trusted.add(key, keys.ttl)
        if not trusted:
            raise Bogus("gives keys that the zone above does not know")
        _validate(keys, answer.answer, Zone(name, trusted))
        return Zone(name, keys.to_rdataset()), float(keys.ttl)

    def _remember(self, name: dns.name.Name, zone: Zone | None, insecure: bool, ttl: float) -> _Known:
        known = _Known(zone, insecure, time.monotonic() + min(float(ttl), _TTL_MOST))
        self._known[name] = known
        self._known.move_to_end(name)
        while len(self._known) > _KNOWN_MOST:
            self._known.popitem(last=False)
        return known


def _denied(answer: dns.message.Message, zone: Zone, child: dns.name.Name) -> tuple[bool, float]:
    """(whether an unsigned zone begins at `child`, seconds that holds). False: no zone begins there.

    Bogus where the zone above does not say, signed, that there is no DS record.
    """
    proofs = [one for one in answer.authority if one.rdtype in (NSEC, NSEC3)][:_DENIALS_MOST]
    for proof in proofs:
        _validate(proof, answer.authority, zone)
        [record] = list(proof)[:1]
        found = (
            _by_nsec(record, proof.name, zone.name, child)
            if proof.rdtype == NSEC
            else _by_nsec3(record, proof.name, zone.name, child)
        )
        if found is not None:
            return found, float(proof.ttl)
    raise Bogus("gives no proof that the zone is not signed")


def _by_nsec(record: Any, owner: dns.name.Name, zone: dns.name.Name, child: dns.name.Name) -> bool | None:
    if owner == child:
        return _unsigned_cut(record)
    end = record.next == zone
    if owner < child and (child < record.next or end) and not _delegates(record, owner, child):
        return False  # no such name, or one with only names below it
    return None


def _delegates(record: Any, owner: dns.name.Name, child: dns.name.Name) -> bool:
    """Whether the record is of a zone's edge above `child`: it says nothing about what is below."""
    return child.is_subdomain(owner) and _has(record, NS) and not _has(record, SOA)


def _by_nsec3(record: Any, owner: dns.name.Name, zone: dns.name.Name, child: dns.name.Name) -> bool | None:
    if record.algorithm != 1:
        return None
    if record.iterations > _ROUNDS_MOST:
        raise Bogus(f"hashes names {record.iterations} times; {_ROUNDS_MOST} are allowed")
    if owner.parent() != zone:
        return None
    hashed = dns.dnssec.nsec3_hash(child, record.salt, record.iterations, record.algorithm).lower()
    first = owner.labels[0].decode("ascii", "replace").lower()
    if first == hashed:
        return _unsigned_cut(record)
    following = _base32hex(record.next)
    inside = first < hashed < following or (following <= first and (hashed > first or hashed < following))
    return bool(record.flags & _OPT_OUT) if inside else None


def _unsigned_cut(record: Any) -> bool:
    if _has(record, DS):
        raise Bogus("keeps back the DS record that the zone above says there is")
    if _has(record, SOA):
        raise Bogus("proves with a record of the zone itself, not of the one above")
    return _has(record, NS)


def _has(record: Any, kind: dns.rdatatype.RdataType) -> bool:
    for window, bitmap in record.windows:
        if window == kind >> 8:
            place = kind & 0xFF
            return place >> 3 < len(bitmap) and bool(bitmap[place >> 3] & (0x80 >> (place & 7)))
    return False


def _base32hex(data: bytes) -> str:
    alphabet = "0123456789abcdefghijklmnopqrstuv"
    number, length = int.from_bytes(data, "big"), len(data) * 8
    padded = -length % 5
    number <<= padded
    return "".join(alphabet[number >> shift & 31] for shift in range(length + padded - 5, -1, -5))


def _validate(
    rrset: dns.rrset.RRset, section: Sequence[dns.rrset.RRset], zone: Zone, *, wildcard: bool = False
) -> None:
    """Bogus unless one of the zone's keys signed it."""
    if not rrset.name.is_subdomain(zone.name):
        raise Bogus("answers with records of another zone")
    found = next(
        (s for s in section if s.rdtype == RRSIG and s.covers == rrset.rdtype and s.name == rrset.name), None
    )
    signatures = [s for s in found or [] if s.signer == zone.name]
    if not signatures:
        raise Bogus("gives no DNSSEC signature of a signed zone")
    if len(signatures) > _SIGNATURES_MOST:
        raise Bogus("gives too many signatures")
    labels = len(rrset.name) - 1 - rrset.name.is_wild()  # RFC 4034 section 3.1.3
    keys: Mapping[Any, Any] = {zone.name: zone.keys}
    for signature in signatures:
        if signature.labels > labels or (signature.labels < labels and not wildcard):
            continue
        try:
            dns.dnssec.validate_rrsig(rrset, signature, keys)  # type: ignore[arg-type]
            return
        except (dns.exception.DNSException, ValueError):
            continue
    raise Bogus("gives a wrong DNSSEC signature")


def _is_of(name: dns.name.Name, key: Any, record: Any) -> bool:
    if dns.dnssec.key_id(key) != record.key_tag or key.algorithm != record.algorithm:
        return False
    try:
        return bool(
            dns.dnssec.make_ds(name, key, record.digest_type, validating=True).digest == record.digest
        )
    except (dns.exception.DNSException, ValueError):
        return False


def _find(
    section: Sequence[dns.rrset.RRset], name: dns.name.Name, kind: dns.rdatatype.RdataType
) -> dns.rrset.RRset | None:
    return next((one for one in section if one.name == name and one.rdtype == kind), None)


def _bounded(rrset: dns.rrset.RRset, most: int, words: str) -> None:
    if len(rrset) > most:
        raise Bogus(f"gives {words}")
