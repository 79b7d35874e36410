"""Where a webhook came from, through the operator's own proxies."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

_HOPS_MOST = 20


def caller(source: str, forwarded: str, proxies: Iterable[str]) -> str:
    """Address of whoever called, as text; "" where it is none.

    `source`: who connected. If that is one of `proxies`, what it says in X-Forwarded-For counts, from the right,
    until an address that is none of them: what stands before that was written by the caller.
    """
    hops = [*(part.strip() for part in forwarded.split(",")[-_HOPS_MOST:] if part.strip()), source.strip()]
    trusted = tuple(proxies)
    found = ""
    for hop in reversed(hops):
        found = _plain(hop)
        if not within(found, trusted):
            break
    return found


def within(address: str, networks: Iterable[str]) -> bool:
    """Whether `address` (text) is in one of `networks`; False for what is no address."""
    try:
        one = ipaddress.ip_address(address)
    except ValueError:
        return False
    return any(one in ipaddress.ip_network(network) for network in networks)


def _plain(text: str) -> str:
    """An IPv4 address that came over IPv6 as IPv4; "" for what is no address."""
    try:
        one = ipaddress.ip_address(text)
    except ValueError:
        return ""
    mapped = one.ipv4_mapped if isinstance(one, ipaddress.IPv6Address) else None
    return str(mapped or one)
