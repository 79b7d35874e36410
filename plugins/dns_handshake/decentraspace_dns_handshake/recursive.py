"""Names below a top-level name, asked of hsd's own recursive DNS, which checks signatures (DNSSEC).

It is the operator's, on this machine or on a private network, so that what it says of signatures (the AD flag) is
believed. It follows delegations by its own rules, also to private addresses.
"""

from __future__ import annotations

import dns.asyncquery
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode

from decentraspace.errors import Unavailable
from decentraspace_dns_handshake.chain import NameState
from decentraspace_dns_handshake.records import Records, nothing, query, values


class Recursive:
    """`server`: (address, port); `timeout`: seconds."""

    def __init__(self, server: tuple[str, int], timeout: float) -> None:
        self._server, self._timeout = server, timeout

    async def lookup(self, name: str, kind: str, state: NameState) -> Records:
        """As in `records.Dns`."""
        address, port = self._server
        # AD asks whether they are good, without asking for the signatures themselves (RFC 6840 section 5.7): those hsd
        # writes in a form that RFC 3597 section 4 forbids, and that dnspython refuses.
        question = query(dns.name.from_text(name), kind, dns.flags.Flag.RD, dns.flags.Flag.AD, dnssec=False)
        try:
            message, _ = await dns.asyncquery.udp_with_fallback(
                question,
                address,
                timeout=self._timeout,
                port=port,
                ignore_unexpected=True,
                ignore_errors=True,
            )
            if message.rcode() not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
                raise Unavailable(
                    f"hsd's DNS cannot say what {name} is ({dns.rcode.to_text(message.rcode())}): its name servers are "
                    "silent, or the signatures (DNSSEC) are not good"
                )
            assert isinstance(message, dns.message.QueryMessage)
            chain = message.resolve_chaining()
        except (dns.exception.DNSException, OSError, EOFError, ValueError) as error:
            raise Unavailable(f"hsd's DNS at {address}:{port} does not answer", hint=str(error)) from error
        secure = bool(message.flags & dns.flags.AD)
        if chain.answer is None:
            return Records((), nothing(message), secure)
        return Records(values(chain.answer, kind), chain.minimum_ttl, secure)
