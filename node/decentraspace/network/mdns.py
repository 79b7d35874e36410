"""Peers on the local network by multicast DNS, in zeroconf's own thread.

Source: https://github.com/libp2p/specs/blob/master/discovery/mdns.md (service `_p2p._udp.local.`,
addresses in TXT attributes `dnsaddr=…/p2p/PEERID`).
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import ifaddr
import structlog
from zeroconf import NonUniqueNameException, ServiceBrowser, ServiceInfo, ServiceStateChange, Zeroconf

log = structlog.get_logger(__name__)

SERVICE = "_p2p._udp.local."
_ATTRIBUTE = b"dnsaddr="
_ADDRESSES_MOST = 16


@contextmanager
def discover(addresses: Iterable[str], found: Callable[[str], None]) -> Iterator[None]:
    """Announce `addresses` and call `found(multiaddr)`, from another thread, for each one seen. Blocking.

    Where multicast is not to be had, this logs so and does nothing.
    """
    try:
        zeroconf = Zeroconf()
    except OSError as error:
        log.info("mdns_unavailable", reason=str(error))
        yield
        return
    try:
        name = secrets.token_hex(16)
        text = b"".join(
            bytes((len(entry),)) + entry
            for entry in (_ATTRIBUTE + a.encode() for a in addresses)
            if len(entry) < 256
        )
        info = ServiceInfo(SERVICE, f"{name}.{SERVICE}", port=4001, properties=text, server=f"{name}.local.")

        def changed(
            zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange
        ) -> None:
            if state_change is ServiceStateChange.Removed or name == info.name:
                return
            other = zeroconf.get_service_info(service_type, name, timeout=2000)
            for address in _addresses(other.text if other else b"")[:_ADDRESSES_MOST]:
                found(address)

        try:
            zeroconf.register_service(info)
        except (NonUniqueNameException, OSError) as error:
            log.info("mdns_unavailable", reason=str(error))
        ServiceBrowser(zeroconf, SERVICE, handlers=[changed])
        yield
    finally:
        zeroconf.close()


def own_addresses() -> list[str]:
    """IPv4 addresses of this machine's interfaces."""
    return [str(ip.ip) for adapter in ifaddr.get_adapters() for ip in adapter.ips if ip.is_IPv4]


def _addresses(text: bytes) -> list[str]:
    """The addresses in a TXT record's strings; anything else is passed over."""
    result, position = [], 0
    while position < len(text):
        length = text[position]
        entry = text[position + 1 : position + 1 + length]
        position += 1 + length
        if entry.startswith(_ATTRIBUTE) and entry.isascii():
            result.append(entry[len(_ATTRIBUTE) :].decode())
    return result
