"""Whether what a zone's servers say was signed by the zone (RFC 4035): from the fingerprint above it, down.

Only what is there is proved. That something is not there is believed without proof: whoever can lie about that
can as well keep the answer away. Answers made from a wildcard are refused, as they need such a proof.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import dns.dnssec
import dns.exception
import dns.message
import dns.name
import dns.rdataclass
import dns.rdatatype
import dns.rdtypes.ANY.DNSKEY
import dns.rdtypes.ANY.DS
import dns.rdtypes.ANY.RRSIG
import dns.rrset

from decentraspace_dns_handshake.chain import DS

_KEYS_MOST, _SIGNATURES_MOST = 16, 8
_DIGESTS = {2: "SHA256", 4: "SHA384"}

Keys = Mapping[dns.name.Name, dns.rrset.RRset]
"""A zone's name and its keys that were found good."""


class Bogus(Exception):
    """The signatures are wrong, or lacking where they must be."""


def found(
    message: dns.message.Message, name: dns.name.Name, kind: dns.rdatatype.RdataType
) -> dns.rrset.RRset | None:
    """The records of one name and type in the answer."""
    return message.get_rrset(message.answer, name, dns.rdataclass.IN, kind)


def fingerprints(records: Iterable[dns.rdtypes.ANY.DS.DS]) -> tuple[DS, ...]:
    """Of the records of a zone above."""
    return tuple(DS(r.key_tag, int(r.algorithm), int(r.digest_type), bytes(r.digest)) for r in records)


def zone_keys(message: dns.message.Message, zone: dns.name.Name, ds: Iterable[DS]) -> dns.rrset.RRset:
    """The zone's keys, of which one has one of the fingerprints and signed them all. Bogus."""
    keys = found(message, zone, dns.rdatatype.DNSKEY)
    if keys is None or len(keys) > _KEYS_MOST:
        raise Bogus(f"{zone} has no keys, or too many")
    wanted = set(ds)
    entry = dns.rrset.RRset(zone, dns.rdataclass.IN, dns.rdatatype.DNSKEY)
    entry.update_ttl(keys.ttl)
    for key in keys:
        if any(_matches(zone, key, one) for one in wanted):
            entry.add(key)
    if not entry:
        raise Bogus(f"no key of {zone} has the fingerprint that stands above it")
    _check(message.answer, keys, zone, {zone: entry})
    return keys


def signer(section: list[dns.rrset.RRset], records: dns.rrset.RRset) -> dns.name.Name:
    """Which zone says to have signed these records. Bogus when none does."""
    signatures = _signatures(section, records)
    return signatures[0].signer


def check(section: list[dns.rrset.RRset], records: dns.rrset.RRset, keys: Keys) -> None:
    """Bogus unless one of the zones signed these records, in this very name."""
    zone = signer(section, records)
    if zone not in keys:
        raise Bogus(f"{records.name} is signed by {zone}, whose keys are not known")
    _check(section, records, zone, keys)


def _check(section: list[dns.rrset.RRset], records: dns.rrset.RRset, zone: dns.name.Name, keys: Keys) -> None:
    signatures = [s for s in _signatures(section, records) if s.signer == zone]
    if not records.name.is_subdomain(zone) or not signatures:
        raise Bogus(f"{records.name} is not signed by {zone}")
    if any(s.labels != len(records.name.labels) - 1 for s in signatures):
        raise Bogus(f"{records.name} is made from a wildcard, which is not proved")
    rrsigs = dns.rrset.from_rdata_list(records.name, records.ttl, signatures)
    try:
        dns.dnssec.validate(records, rrsigs, dict(keys))
    except (dns.exception.DNSException, ValueError) as error:
        raise Bogus(f"the signature of {records.name} by {zone} is wrong: {error}") from error


def _signatures(
    section: list[dns.rrset.RRset], records: dns.rrset.RRset
) -> list[dns.rdtypes.ANY.RRSIG.RRSIG]:
    for rrset in section:
        if (
            rrset.name == records.name
            and rrset.rdtype == dns.rdatatype.RRSIG
            and rrset.covers == records.rdtype
        ):
            if len(rrset) > _SIGNATURES_MOST:
                raise Bogus(f"{records.name} has {len(rrset)} signatures")
            return list(rrset)
    raise Bogus(f"{records.name} is not signed")


def _matches(zone: dns.name.Name, key: dns.rdtypes.ANY.DNSKEY.DNSKEY, ds: DS) -> bool:
    if ds.digest_type not in _DIGESTS or int(key.algorithm) != ds.algorithm or not key.flags & 0x0100:
        return False
    if dns.dnssec.key_id(key) != ds.key_tag:
        return False
    return dns.dnssec.make_ds(zone, key, _DIGESTS[ds.digest_type]).digest == ds.digest
