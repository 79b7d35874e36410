"""Which addresses a name may have this node ask. Pure."""

from __future__ import annotations

import ipaddress

_NAT64 = ipaddress.ip_network("64:ff9b::/96")  # RFC 6052
_OTHERS = (ipaddress.ip_network("2000::/3"), _NAT64)  # where the Internet's addresses of version 6 are


def public(text: str) -> bool:
    """Whether the address is somebody's on the Internet, and not of a private network, of this machine, of many at
    once, or one that carries such an address in it. ValueError for what is no address."""
    address = ipaddress.ip_address(text)
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)
        if inner is None and address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return public(str(inner))
        if not any(address in network for network in _OTHERS):
            return False
    return address.is_global and not address.is_multicast and not address.is_reserved
