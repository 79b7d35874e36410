"""The plugin's settings: checked once, then frozen."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import dns.exception
import dns.name
import dns.rdataclass
import dns.rdatatype
import dns.rdtypes.ANY.DS
from dns import rdata

from decentraspace.errors import BadInput, ConfigError
from decentraspace_dns_registrar import domains

# https://data.iana.org/root-anchors/root-anchors.xml: the root's keys of 2017 and 2024.
ROOT_ANCHORS = (
    ". 20326 8 2 E06D44B80B8F1D39A95C0B0D7C65D08458E880409BBC683457104237C7F8EC8D",
    ". 38696 8 2 683D2D0ACB8C9B712A1948B27F741219298D0A450D612C483AF444A4C0FB2B16",
)
_MOST = 2**53


class Server(NamedTuple):
    """A name server. `text`: as in the settings."""

    address: str
    port: int
    text: str


def server(text: str) -> Server:
    """Of ADDRESS, ADDRESS:PORT or [ADDRESS]:PORT. ValueError."""
    host, port = text, "53"
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise ValueError("no address")
        port = rest[1:] if rest else port
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise ValueError("no port")
    return Server(str(ipaddress.ip_address(host)), int(port), text)


def anchor(text: str) -> tuple[dns.name.Name, dns.rdtypes.ANY.DS.DS]:
    """Of "ZONE TAG ALGORITHM DIGEST-TYPE DIGEST", a DS record (RFC 4034 section 5.3). ValueError."""
    zone, _, rest = text.strip().partition(" ")
    try:
        found = rdata.from_text(dns.rdataclass.IN, dns.rdatatype.DS, rest)
        name = dns.name.from_text(zone)
    except dns.exception.DNSException as error:
        raise ValueError(str(error)) from error
    assert isinstance(found, dns.rdtypes.ANY.DS.DS)
    return name, found


def _setting(default: Any, fits: Callable[[Any], bool], words: str, doc: str) -> Any:
    return field(default=default, metadata={"fits": fits, "words": words, "doc": doc})


def _integer(least: int, most: int) -> Callable[[Any], bool]:
    return lambda v: type(v) is int and least <= v <= most


def _each(fits: Callable[[Any], Any], most: int) -> Callable[[Any], bool]:
    def check(value: Any) -> bool:
        if not isinstance(value, tuple) or len(value) > most:
            return False
        try:
            for one in value:
                if not isinstance(one, str) or fits(one) is False:
                    return False
        except (ValueError, BadInput):
            return False
        return True

    return check


def _url(value: Any) -> bool:
    """https; http on loopback alone, where nobody can listen in."""
    if not isinstance(value, str) or re.search(r"\s", value):
        return False
    try:
        parts = urlsplit(value)
        local = parts.hostname is not None and ipaddress.ip_address(parts.hostname).is_loopback
    except ValueError:
        local = False
    return parts.username is None and (parts.scheme == "https" or (parts.scheme == "http" and local))


@dataclass(frozen=True)
class Settings:
    """What `[plugin.dns_registrar]` says."""

    resolvers: tuple[str, ...] = _setting(
        (),
        _each(server, 9),
        "a list of at most 9 addresses, each with or without a port",
        "Name servers (resolvers) that are asked for proofs, of which more than half must agree; empty: those of the "
        "system.",
    )
    timeout: float = _setting(
        4.0,
        lambda v: type(v) in (int, float) and 0.1 <= v <= 15,
        "seconds, 0.1 to 15",
        "Seconds that each of them may take for one name.",
    )
    trust_anchors: tuple[str, ...] = _setting(
        ROOT_ANCHORS,
        _each(anchor, 20),
        "a list of DS records, each after the name of its zone",
        "Keys (DS records) that DNSSEC is checked by; empty: it is not checked.",
    )
    gateways: tuple[str, ...] = _setting(
        (),
        _each(domains.checked, 100),
        "a list of host names",
        "Host names of further gateways of this network, besides this node's own, that a name may lead to.",
    )
    addresses: tuple[str, ...] = _setting(
        (),
        _each(ipaddress.ip_address, 20),
        "a list of addresses",
        "Addresses of gateways that a name may lead to; owners are told to enter them as A and AAAA records.",
    )
    update_networks: tuple[str, ...] = _setting(
        (),
        _each(ipaddress.ip_network, 20),
        "a list of networks",
        "Networks that are not public, in which owners' name servers may be sent updates all the same, at any port.",
    )
    registrar: str = _setting(
        "",
        lambda v: v in ("", "gandi"),
        'empty or "gandi"',
        "Whom domains are bought from; empty: none are sold.",
    )
    key_file: str = _setting(
        "",
        lambda v: isinstance(v, str) and (not v or v.startswith("/")),
        "a whole path, from the root on",
        "File with your access token at the registrar in its first line, mode 0600.",
    )
    sharing_id: str = _setting(
        "",
        lambda v: isinstance(v, str) and re.fullmatch(r"[0-9a-f-]{0,36}", v) is not None,
        "an id of hex digits and hyphens",
        "Organization at the registrar that pays; empty: the token's own.",
    )
    currency: str = _setting(
        "USD",
        lambda v: v in ("EUR", "USD", "GBP", "TWD", "CNY"),
        "EUR, USD, GBP, TWD or CNY",
        "Currency that the registrar charges you in.",
    )
    rate: tuple[int, ...] = _setting(
        (100, 1_000_000),
        lambda v: isinstance(v, tuple) and len(v) == 2 and all(_integer(1, _MOST)(x) for x in v),
        "two whole numbers above 0",
        "Exchange rate as two whole numbers: so many hundredths of the currency for so many credits.",
    )
    fee_bps: int = _setting(
        0, _integer(0, 10_000), "basis points, at most 10000", "Your fee in basis points (1/100 %), on top."
    )
    most: int = _setting(
        100_000_000,
        _integer(1, _MOST),
        "credits above 0",
        "Credits that one purchase may cost at most; dearer names are not sold.",
    )
    most_daily: int = _setting(
        1_000_000_000,
        _integer(1, _MOST),
        "credits above 0",
        "Credits that all purchases of 24 hours may cost together: what a fault could spend at the registrar.",
    )
    quote_valid: int = _setting(
        900,
        _integer(60, 86_400),
        "seconds, 60 to 86400",
        "Seconds that a price holds after it was asked for.",
    )
    lost_after: int = _setting(
        3600,
        _integer(1, 7 * 86_400),
        "seconds",
        "Seconds after which a purchase whose answer was lost, and which the registrar knows nothing of, counts as "
        "not made.",
    )
    api: str = _setting(
        "https://api.gandi.net",
        _url,
        "an https URL",
        "The registrar's API; `https://api.sandbox.gandi.net` sells nothing in earnest.",
    )
    api_timeout: int = _setting(
        15, _integer(1, 25), "seconds, 1 to 25", "Seconds that the registrar may take to answer."
    )


def read(table: Mapping[str, Any]) -> Settings:
    """ConfigError, naming the setting, for anything that is not as it should be."""
    known = {one.name: one for one in fields(Settings)}
    values: dict[str, Any] = {}
    for name, value in table.items():
        if name not in known:
            raise ConfigError(
                f"plugin.dns_registrar has no setting {name!r}", hint=f"There are {', '.join(sorted(known))}."
            )
        value = tuple(value) if isinstance(value, list) else value
        meta = known[name].metadata
        if not meta["fits"](value):
            # Whoever puts the token itself here by mistake shall not find it in the log.
            shown = "" if name == "key_file" else f", not {str(value)[:100]!r}"
            raise ConfigError(f"plugin.dns_registrar.{name} must be {meta['words']}{shown}")
        values[name] = value
    settings = Settings(**values)
    if settings.registrar and not settings.key_file:
        raise ConfigError(
            "plugin.dns_registrar.key_file is missing: the registrar wants an access token",
            hint="Leave out plugin.dns_registrar.registrar to sell no domains.",
        )
    return settings
