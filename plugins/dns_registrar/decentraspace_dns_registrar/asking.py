"""One question to one name server, bounded in time and size.

dnspython checks that an answer is one to the question (address, number, name). What a datagram cannot carry comes by
TCP (RFC 7766). DNSSEC records are asked for (DO); "checking disabled" is not, so a resolver that validates, too, keeps
what is forged to itself.
"""

from __future__ import annotations

from typing import NamedTuple

import dns.asyncquery
import dns.asyncresolver
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.resolver

from decentraspace.errors import Unavailable
from decentraspace_dns_registrar.settings import Server

_PAYLOAD = 1232  # bytes of a datagram that every network carries: https://www.dnsflagday.net/2020/
_PATIENCE = 15.0  # seconds; whoever asks has a deadline of their own, which is less
_SERVERS_MOST = 9


class Silent(Exception):
    """A server gave no answer that counts. The text says why, in words for people."""


class Bogus(Silent):
    """What came is not what the zone's owner signed."""


class Question(NamedTuple):
    name: dns.name.Name
    kind: dns.rdatatype.RdataType


async def ask(server: Server, name: dns.name.Name, kind: dns.rdatatype.RdataType) -> dns.message.Message:
    """The answer: that there are such records, or none (NXDOMAIN included). Silent for all else."""
    query = dns.message.make_query(name, kind, want_dnssec=True, payload=_PAYLOAD)
    try:
        answer, _ = await dns.asyncquery.udp_with_fallback(
            query,
            server.address,
            timeout=_PATIENCE,
            port=server.port,
            ignore_unexpected=True,
            ignore_errors=True,
        )
    except dns.exception.DNSException as error:
        raise Silent(f"answers in a form that is none ({type(error).__name__})") from error
    except (OSError, EOFError) as error:
        raise Silent("cannot be reached") from error
    if answer.rcode() == dns.rcode.SERVFAIL:
        raise Silent("could not find out, or found a wrong DNSSEC signature (SERVFAIL)")
    if answer.rcode() not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
        raise Silent(f"refuses to answer ({dns.rcode.to_text(answer.rcode())[:20]})")
    if answer.flags & dns.flags.TC:
        raise Silent("gives an answer that was cut off")
    return answer


def of_system() -> list[Server]:
    """The name servers of this machine. Unavailable where there are none."""
    try:
        found = dns.resolver.Resolver().nameservers
    except dns.resolver.NoResolverConfiguration as error:
        raise Unavailable(
            "This machine has no name server", hint="Set plugin.dns_registrar.resolvers."
        ) from error
    plain = [str(one) for one in found if isinstance(one, str)]
    return [Server(one, 53, one) for one in plain[:_SERVERS_MOST]]
