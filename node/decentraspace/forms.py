"""What a setting may be, so that a slip is named when the configuration is read, not met later.

    checked     a value as its setting has it, or ConfigError
    kind_of     what values a setting takes, in words, for the reference

Imports in functions are late because most commands of the command line need none of them.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from dataclasses import Field, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from decentraspace.errors import ConfigError, DecentraSpaceError

MOST = 2**53 - 1  # what every JSON reader can hold, and what an announcement may say
_NETWORK = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?")
_NAME_PART = r"[A-Za-z0-9](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9])?"
_HOST_NAME = re.compile(rf"(?=.{{1,253}}$){_NAME_PART}(?:\.{_NAME_PART})*")
_AUTHORITY = re.compile(r"(?P<name>[^:]+)(?::(?P<port>[1-9][0-9]{0,4}))?")
_RESOLVED = re.compile(r"\*|[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_PLUGIN = re.compile(r"[a-z][a-z0-9_]{0,63}")
_PEER_ID = re.compile(r"12D3KooW[1-9A-HJ-NP-Za-km-z]{44}")
_ADDRESS_MOST = 140  # characters; with /p2p/PEERID it is an address of an announcement, which has up to 200


@dataclass(frozen=True)
class Form:
    """What texts may be. `take` gives one in its one spelling, or raises ValueError or BadInput. `name`, and
    `names` for several, stand in the reference and in errors; `example` is one that is right."""

    name: str
    example: str
    take: Callable[[str], str]
    names: str = ""


def one_of(*choices: str) -> Form:
    def take(value: str) -> str:
        if value not in choices:
            raise ValueError
        return value

    return Form("one of " + ", ".join(f"`{choice}`" for choice in choices), choices[-1], take)


def _path(value: str) -> str:
    if not value.strip() or "\0" in value:
        raise ValueError
    try:
        Path(value).expanduser()
    except RuntimeError as error:  # the home of nobody
        raise ValueError from error
    return value


def _person(value: str) -> str:
    if not value.isprintable():
        raise ValueError
    _announceable(name=value)
    return value


def _contact(value: str) -> str:
    if not value.isprintable() or len(value) > 200:
        raise ValueError
    return value.strip()


def _wallet(value: str) -> str:
    from decentraspace.identity.ethereum import parse_address

    parse_address(value)
    return value


def _network(value: str) -> str:
    if not _NETWORK.fullmatch(value):
        raise ValueError
    return value


def _host(value: str) -> str:
    """An IP address, or a name that the system looks up."""
    try:
        ipaddress.ip_address(value)
    except ValueError:
        if not _HOST_NAME.fullmatch(value) or value.replace(".", "").isdigit():
            raise
    return value


def _domain(value: str) -> str:
    """Host names have no case (RFC 4343), and browsers send them in lower case without the last dot."""
    value = value.lower().removesuffix(".")
    if not _HOST_NAME.fullmatch(value):
        raise ValueError
    return value


def _authority(value: str) -> str:
    found = _AUTHORITY.fullmatch(value)
    if not found or not _HOST_NAME.fullmatch(found["name"]) or int(found["port"] or 0) > 65535:
        raise ValueError
    return value


def _url(value: str) -> str:
    _announceable(gateway=value)
    parts = urlsplit(value)
    _host(parts.hostname or "")
    return value.rstrip("/")


def _announceable(**values: str) -> None:
    """What every node must be able to tell the others has the form that records of them ask for."""
    from decentraspace.records.schema import NodeAnnouncement

    rest: dict[str, Any] = {"http": "http://a", "gateway": "http://a", "name": ""}
    fixed: dict[str, Any] = {
        "addrs": (),
        "operator": None,
        "capacity": 0,
        "prices": {},
        "seq": 1,
        "created": 1,
    }
    NodeAnnouncement(**{**rest, **fixed, **values}).check()


def _multiaddress(value: str) -> dict[str, str]:
    """Its parts by protocol, for example {"ip4": "127.0.0.1", "tcp": "4001"}."""
    from multiaddr import Multiaddr

    if len(value) > 200:
        raise ValueError
    try:
        parsed = Multiaddr(value)
        return {protocol.name: str(part) for protocol, part in parsed.items()}
    except Exception as error:  # multiaddr raises a dozen kinds
        raise ValueError from error


def _listening(value: str) -> str:
    found = list(_multiaddress(value))
    if found not in (["ip4", "tcp"], ["ip6", "tcp"]):
        raise ValueError
    return value


def _announced(value: str) -> str:
    found = _multiaddress(value)
    if len(value.partition("/p2p/")[0]) > _ADDRESS_MOST or not found:
        raise ValueError
    return value


def _bootstrap(value: str) -> str:
    found = list(_multiaddress(value))
    if "p2p" not in found[1:]:
        raise ValueError
    return value


def _name_link(value: str) -> str:
    name, equals, path = value.partition("=")
    if not equals or not _HOST_NAME.fullmatch(name) or not re.fullmatch(r"/ip[fn]s/[^/\s]+(/\S*)?", path):
        raise ValueError
    return f"{name.lower()}={path}"


def _nameserver(value: str) -> str:
    from decentraspace.names.dns import parse_server

    parse_server(value)
    return value


def _resolver(value: str) -> str:
    """Host names have no case; the plugin's name is as its distribution has it."""
    domain, equals, plugin = value.partition("=")
    domain = domain.strip().lower().removeprefix(".")
    if not equals or not _RESOLVED.fullmatch(domain) or not _PLUGIN.fullmatch(plugin.strip()):
        raise ValueError
    return f"{domain}={plugin.strip()}"


def _top_level(value: str) -> str:
    domain = value.strip().lower().removeprefix(".")
    if domain == "*" or not _RESOLVED.fullmatch(domain):
        raise ValueError
    return domain


def _peer_id(value: str) -> str:
    if not _PEER_ID.fullmatch(value):
        raise ValueError
    return value


_SOME_PEER = "12D3KooWGzxzKZYveHXtpG6AsrUJBcWxHBFS2HsEoGTxrMLvKXtf"

PATH = Form("path", "/srv/node", _path, "paths")
CONTACT = Form("text of up to 200 printable characters", "abuse@node.example", _contact)
PERSON = Form("text of up to 64 printable characters", "a node", _person)
WALLET = Form("wallet address", "0x" + "00" * 20, _wallet, "wallet addresses")
NETWORK = Form("name of a-z, 0-9 and hyphens", "devnet", _network)
HOST = Form("IP address or host name", "::1", _host)
DOMAIN = Form("host name", "sites.example", _domain)
AUTHORITY = Form("host name, port optional", "app.example:8080", _authority)
URL = Form("http or https URL", "https://node.example", _url)
LISTENING = Form(
    "/ip4/ADDRESS/tcp/PORT", "/ip4/127.0.0.1/tcp/4001", _listening, "/ip4/ADDRESS/tcp/PORT (or ip6)"
)
ANNOUNCED = Form("libp2p address", "/dns4/node.example/tcp/4001", _announced, "libp2p addresses")
BOOTSTRAP = Form(
    "libp2p address with /p2p/PEERID",
    f"/dns4/node.example/tcp/4001/p2p/{_SOME_PEER}",
    _bootstrap,
    "libp2p addresses with /p2p/PEERID",
)
NAME_LINK = Form(
    "`NAME=/ipfs/CID`, or `=/ipns/…`",
    "docs.example=/ipfs/bafybeiczsscdsbs7ffqz55asqdf3smv6klcw3gofszvwlyarci47bgf354",
    _name_link,
    "`NAME=/ipfs/CID` or `NAME=/ipns/…`",
)
NAMESERVER = Form(
    "IP address, port optional",
    "[::1]:5353",
    _nameserver,
    "IP addresses, port optional (`[ADDRESS]:PORT` of IPv6)",
)
RESOLVER = Form("`DOMAIN=PLUGIN`", "eth=dns_ens", _resolver, "`DOMAIN=PLUGIN`")
TOP_LEVEL = Form("top-level domain", "eth", _top_level)
PEER_ID = Form("peer id", _SOME_PEER, _peer_id, "peer ids")


def kind_of(f: Field[Any]) -> str:
    """What a setting may be, as the reference says it."""
    least, most, form = (f.metadata[name] for name in ("least", "most", "form"))
    kind = type(f.default)
    if kind in (int, float):
        return ("integer, " if kind is int else "number, ") + _span(least, most)
    if kind is tuple:
        each = (form.names or form.name) if form else "texts"
        return f"list of {f'up to {most} ' if most else ''}{each}"
    return "boolean" if kind is bool else form.name if form else "text"


def _span(least: float, most: float) -> str:
    return f"{least:g} or more" if most == MOST else f"{least:g} to {most:.0f}"


def checked(value: Any, f: Field[Any], where: str) -> Any:
    """`value` as the setting's type, in its one spelling. ConfigError."""
    value = _coerce(value, f, where)
    least, most, form = (f.metadata[name] for name in ("least", "most", "form"))
    if isinstance(f.default, int | float) and least is not None and not least <= value <= most:
        raise ConfigError(f"{where} must be {_span(least, most)}, not {value}")  # so is nan
    if isinstance(value, tuple):
        if most is not None and len(value) > most:
            raise ConfigError(f"{where} may name at most {most}, not {len(value)}")
        return tuple(_formed(one, form, where) for one in value)
    if isinstance(value, str) and value != f.default:
        return _formed(value, form, where)
    return value


def _formed(value: str, form: Form | None, where: str) -> str:
    if form is None:
        return value
    try:
        return form.take(value)
    except (ValueError, DecentraSpaceError) as error:
        hint = str(error) if isinstance(error, DecentraSpaceError) else f"For example: {form.example}"
        raise ConfigError(
            f"{where} must be {_article(form.name)}{form.name}, not {value[:100]!r}", hint=hint
        ) from error


def _article(name: str) -> str:
    return "" if name.startswith("one of") else "an " if name.startswith(("IP", "http")) else "a "


def _coerce(value: Any, f: Field[Any], where: str) -> Any:
    expected = type(f.default)
    if expected is tuple and isinstance(value, list | tuple) and all(isinstance(v, str) for v in value):
        return tuple(value)
    if expected is float and isinstance(value, int) and not isinstance(value, bool):
        return float(max(-MOST, min(value, MOST)))
    if not isinstance(value, expected) or (expected is int and isinstance(value, bool)):
        names = {
            bool: "true or false",
            int: "a whole number",
            float: "a number",
            str: "a text",
            tuple: "a list",
        }
        raise ConfigError(f"{where} must be {names[expected]}, not {value!r}")
    return value
