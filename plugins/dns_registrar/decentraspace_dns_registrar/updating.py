"""Entering records for the owner of a name, at their own name server: RFC 2136, signed with their key (TSIG, RFC 8945).

The key is used and forgotten. Whoever names the server could have this node connect to anything, so it connects to
public addresses at port 53, and to what the operator allows.
"""

from __future__ import annotations

import binascii
import ipaddress
import re
from collections.abc import Mapping, Sequence
from typing import Any

import dns.asyncquery
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.tsig
import dns.tsigkeyring
import dns.update
import trio
from dns.rdatatype import SOA

from decentraspace.errors import BadInput, DecentraSpaceError, Unavailable
from decentraspace_dns_registrar.choosing import Choice, Record, choose
from decentraspace_dns_registrar.settings import Server, Settings, server

_SECONDS = 50.0  # within the hook's 60
_EACH = 10.0
_TTL = 300
_RECORDS_MOST = 20
_KINDS = ("A", "AAAA", "CNAME", "TXT")
_ELSEWHERE = ("ALIAS", "ANAME")
_ALGORITHMS = ("hmac-sha224", "hmac-sha256", "hmac-sha384", "hmac-sha512")
_TOKEN = "gandi_token"
_FIELDS = ("server", "zone", "key_name", "key_secret", "key_algorithm")
_TEXT_MOST = 1000
_SIX = ipaddress.ip_network("2000::/3")  # where the internet's addresses of version 6 are
_HOST = re.compile(r"(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)+[a-z0-9-]{2,63}")


class Refused(DecentraSpaceError):
    slug, status, title = "update-refused", 422, "The name server does not take this"


async def update(
    name: str, records: Sequence[Mapping[str, str]], credentials: Mapping[str, str], settings: Settings
) -> str:
    """What was done, in words. Refused when the server says no, Unavailable when it says nothing.

    TXT records are added. Of the ways to lead visitors here (see `choose`) one takes the place of the host's addresses
    and alias.
    """
    unknown = set(credentials) - {*_FIELDS, _TOKEN}
    if unknown:
        raise BadInput(
            f"Credentials have no {min(unknown)[:40]!r}",
            hint=f"There are {', '.join(_FIELDS)}; or {_TOKEN} alone.",
        )
    wanted = _read(name, records)
    if _TOKEN in credentials:
        if len(credentials) > 1:
            raise BadInput(f"{_TOKEN} stands alone in credentials")
        from decentraspace_dns_registrar import livedns

        aliases = [(one["host"], one["value"]) for one in records if one["type"].upper() in _ELSEWHERE]
        return await livedns.enter(name, wanted, _below(name, aliases), credentials[_TOKEN], settings)
    ring = _ring(credentials)
    where = await _server(credentials, settings)

    async def present(host: dns.name.Name, kind: dns.rdatatype.RdataType) -> bool:
        answer = await _exchange(dns.message.make_query(host, kind), where)
        return any(one.name == host and one.rdtype == kind for one in answer.answer)

    try:
        with trio.fail_after(_SECONDS):
            zone = await _zone(name, credentials, where)
            choice = await choose(zone, wanted, present)
            if not choice.records:
                raise Refused("; ".join(choice.notes) or "None of these records can be entered this way")
            await _send(zone, choice, where, ring)
            await _check(choice.records, where)
    except trio.TooSlowError:
        raise Unavailable(f"{where.text} did not answer in time") from None
    kinds = (f"{dns.rdatatype.to_text(data.rdtype)} of {_plain(host)}" for host, data in choice.records)
    done = f"Entered at {where.text}: {', '.join(dict.fromkeys(kinds))}."
    return " ".join([done, *(note + "." for note in choice.notes)])[:2000]


def _plain(host: dns.name.Name) -> str:
    return host.to_text(omit_final_dot=True)


def _read(name: str, records: Sequence[Mapping[str, str]]) -> list[Record]:
    if not records or len(records) > _RECORDS_MOST:
        raise BadInput(f"1 to {_RECORDS_MOST} records can be entered at once")
    found = []
    for record in records:
        kind, host, value = record["type"].upper(), record["host"].lower().removesuffix("."), record["value"]
        if kind in _ELSEWHERE:
            continue  # instead of a CNAME; name servers that take updates know no such record
        if kind not in _KINDS:
            raise Refused(
                f"{record['type'][:20]} is no record that can be entered this way; {', '.join(_KINDS)} are"
            )
        _check_host(name, host)
        if len(value) > _TEXT_MOST or not value.isprintable():
            raise BadInput("The value of a record is too long, or cannot be printed")
        if kind == "TXT":
            raw = value.encode()
            parts = [raw[i : i + 255] for i in range(0, len(raw), 255)] or [b""]
            text = " ".join('"' + "".join(f"\\{byte:03d}" for byte in part) + '"' for part in parts)
        elif kind == "CNAME":
            text = value.lower().removesuffix(".") + "."
        else:
            text = value
        try:
            data = dns.rdata.from_text(dns.rdataclass.IN, dns.rdatatype.from_text(kind), text)
        except dns.exception.DNSException as error:
            raise BadInput(f"{value[:100]!r} is no value of a {kind} record") from error
        found.append(Record(dns.name.from_text(host), data))
    return found


def _check_host(name: str, host: str) -> None:
    if host != name and not host.endswith("." + name):
        raise BadInput(f"{host[:100]} is not below {name}")
    if not _HOST.fullmatch(host) or len(host) > 253:
        raise BadInput(f"{host[:100]!r} is no name of a host")


def _below(name: str, aliases: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """ALIAS records, in one spelling."""
    found = [(host.lower().removesuffix("."), target.lower().removesuffix(".")) for host, target in aliases]
    for host, target in found:
        _check_host(name, host)
        if not _HOST.fullmatch(target):
            raise BadInput(f"{target[:100]!r} is no name of a host")
    return found


def _ring(credentials: Mapping[str, str]) -> dict[dns.name.Name, dns.tsig.Key]:
    name, secret = credentials.get("key_name", ""), credentials.get("key_secret", "")
    algorithm = credentials.get("key_algorithm", "hmac-sha256").lower().removesuffix(".")
    if not name or not secret:
        raise BadInput("Credentials need key_name and key_secret, those of a TSIG key")
    if algorithm not in _ALGORITHMS:
        raise BadInput(f"key_algorithm must be one of {', '.join(_ALGORITHMS)}")
    try:
        key = dns.tsig.Key(dns.name.from_text(name[:255]), secret, dns.name.from_text(algorithm))
    except (dns.exception.DNSException, binascii.Error, ValueError):
        raise BadInput("key_name or key_secret is none: a secret is base64") from None
    return {key.name: key}


async def _server(credentials: Mapping[str, str], settings: Settings) -> Server:
    text = credentials.get("server", "")
    try:
        found = server(text)
    except ValueError:
        raise BadInput(
            "Credentials need server: the address of the primary name server, such as 192.0.2.53"
        ) from None
    address = ipaddress.ip_address(found.address)
    allowed = any(address in ipaddress.ip_network(network) for network in settings.update_networks)
    if not allowed and (not _public(address) or found.port != 53):
        raise BadInput(
            f"This node sends no updates to {text[:60]}",
            hint="Give a public address, port 53; plugin.dns_registrar.update_networks allows others.",
        )
    return found


def _public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Whether it is of the open internet. Addresses of version 6 that carry one of version 4 lead into private
    networks where a translator stands: no name server needs to be given that way."""
    if isinstance(address, ipaddress.IPv6Address) and (
        address not in _SIX or address.sixtofour is not None or address.teredo is not None
    ):
        return False
    return address.is_global and not address.is_multicast


async def _zone(name: str, credentials: Mapping[str, str], where: Server) -> dns.name.Name:
    """The zone that the server keeps `name` in: as given, or as its SOA record says."""
    given = credentials.get("zone", "").lower().removesuffix(".")
    if given and given != name and not name.endswith("." + given):
        raise BadInput(f"{name} is not in the zone {given[:100]}")
    labels = name.split(".")
    for text in [given] if given else [".".join(labels[i:]) for i in range(len(labels) - 1)]:
        zone = dns.name.from_text(text)
        query = dns.message.make_query(zone, SOA)
        query.flags &= ~dns.flags.RD
        answer = await _exchange(query, where)
        own = answer.rcode() == dns.rcode.NOERROR and answer.flags & dns.flags.AA
        if own and any(one.name == zone and one.rdtype == SOA for one in answer.answer):
            return zone
    raise Refused(
        f"{where.text} does not keep the zone of {name}",
        hint="Name its primary server, and the zone as `zone`.",
    )


async def _send(zone: dns.name.Name, choice: Choice, where: Server, ring: Mapping[Any, Any]) -> None:
    message = dns.update.UpdateMessage(zone)
    message.use_tsig(ring)
    for host, kind in choice.replaced:
        message.delete(host, kind)
    for host, data in choice.records:
        message.add(host, _TTL, data)
    try:
        answer = await dns.asyncquery.tcp(message, where.address, timeout=_EACH, port=where.port)
    except dns.tsig.PeerError as error:
        raise Refused(f"{where.text} does not take the key ({type(error).__name__[4:]})") from None
    except (dns.tsig.BadSignature, dns.tsig.BadTime, dns.tsig.BadKey, dns.message.UnknownTSIGKey):
        raise Unavailable(f"{where.text} answers with a wrong signature") from None
    except dns.exception.FormError:
        raise Unavailable(
            f"{where.text} answers without a signature: whether it did anything is not known"
        ) from None
    except (dns.exception.DNSException, OSError, EOFError) as error:
        raise Unavailable(f"{where.text} cannot be asked ({type(error).__name__})") from None
    code = answer.rcode()
    if code in (dns.rcode.NOTAUTH, dns.rcode.REFUSED, dns.rcode.BADSIG, dns.rcode.BADKEY, dns.rcode.BADTIME):
        raise Refused(
            f"{where.text} does not let this key change {_plain(zone)} ({dns.rcode.to_text(code)})",
            hint="Look at the key's name, secret and algorithm, and at what it may change.",
        )
    if code != dns.rcode.NOERROR:
        raise Refused(f"{where.text} does not take the records ({dns.rcode.to_text(code)})")


async def _check(records: Sequence[Record], where: Server) -> None:
    """RFC 2136 section 3.4.2.2: an alias beside other records is left out, and nobody is told."""
    for host, data in records:
        answer = await _exchange(dns.message.make_query(host, data.rdtype), where)
        if not any(one.name == host and one.rdtype == data.rdtype and data in one for one in answer.answer):
            kind = dns.rdatatype.to_text(data.rdtype)
            raise Refused(
                f"{where.text} took the records, but {_plain(host)} has no such {kind} now",
                hint="An alias (CNAME) cannot be beside other records of the same host: remove those first.",
            )


async def _exchange(message: dns.message.Message, where: Server) -> dns.message.Message:
    try:
        return await dns.asyncquery.tcp(message, where.address, timeout=_EACH, port=where.port)
    except (dns.exception.DNSException, OSError, EOFError) as error:
        raise Unavailable(f"{where.text} cannot be asked ({type(error).__name__})") from None
