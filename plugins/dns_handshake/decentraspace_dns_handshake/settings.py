"""The plugin's settings: checked once, then frozen."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from decentraspace.errors import ConfigError

_URL = re.compile(r"https?://[^\s]+")


@dataclass(frozen=True)
class Settings:
    """What `[plugin.dns_handshake]` says. Without `rpc` the plugin does nothing.

    rpc              URLs of hsd's HTTP server, best first
    api_key_file     file with hsd's API key: one line for all, or a line for each of `rpc`; "" for none
    network          the Handshake network: an hsd of another one is not believed
    safe             believe only what hsd holds for safe: committed to the tree, and some blocks deep
    stale_after      seconds; an hsd whose newest blocks are older is not believed; 0: always
    dns              hsd's recursive DNS, ADDRESS:PORT, for names that are delegated; "": follow them here
    nameservers      for the names of name servers that are not Handshake's; none: those of the system
    private          follow delegations to addresses of private networks, and of this machine
    port             of the name servers that names are delegated to
    require_dnssec   believe no answer of DNS that is not signed
    timeout          seconds that one endpoint, or one name server, may take
    deadline         seconds that one name may take
    ttl              seconds that what the chain says holds
    """

    rpc: tuple[str, ...] = ()
    api_key_file: str = ""
    network: str = "main"
    safe: bool = True
    stale_after: float = 21_600.0
    dns: str = ""
    nameservers: tuple[str, ...] = ()
    private: bool = False
    port: int = 53
    require_dnssec: bool = False
    timeout: float = 2.0
    deadline: float = 4.5
    ttl: int = 600

    def api_keys(self) -> tuple[str, ...]:
        """One for each of `rpc`, "" for none. Reads the file. ConfigError when that cannot be read, or does not fit."""
        if not self.api_key_file:
            return ("",) * len(self.rpc)
        try:
            lines = Path(self.api_key_file).read_text().split()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"plugin.dns_handshake.api_key_file cannot be read: {error}") from error
        if len(lines) == 1:
            return (lines[0],) * len(self.rpc)
        if len(lines) != len(self.rpc):
            raise ConfigError(
                f"plugin.dns_handshake.api_key_file has {len(lines)} lines for {len(self.rpc)} endpoints",
                hint="Give one line for all, or one for each of rpc, in their order.",
            )
        return tuple(lines)


def read(table: Mapping[str, Any]) -> Settings:
    """ConfigError, naming the setting, for anything that is not as it should be."""
    known = {field.name for field in fields(Settings)}
    for name in table:
        if name not in known:
            raise ConfigError(
                f"plugin.dns_handshake has no setting {name!r}", hint=f"There are {', '.join(sorted(known))}."
            )
    values = dict(table)
    for name in ("rpc", "nameservers"):
        if name in values:
            given = (values[name],) if isinstance(values[name], str) else values[name]
            values[name] = tuple(given) if isinstance(given, list | tuple) else (given,)
    for name, (fits, words) in _CHECKS.items():
        if name in values and not fits(values[name]):
            raise ConfigError(f"plugin.dns_handshake.{name} must be {words}, not {values[name]!r}")
    for url in values.get("rpc", ()):
        if urlsplit(url).username is not None:
            raise ConfigError(
                "plugin.dns_handshake.rpc holds a password", hint="Put hsd's API key into api_key_file."
            )
    return Settings(**values)


def server(text: str) -> tuple[str, int]:
    """(address, port) of ADDRESS, ADDRESS:PORT or [ADDRESS]:PORT. ValueError."""
    host, port = text, "53"
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        port = rest[1:] if rest.startswith(":") else "53" if not rest else ""
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise ValueError("no port")
    return str(ipaddress.ip_address(host)), int(port)


def _is_server(value: Any) -> bool:
    try:
        return isinstance(value, str) and bool(server(value))
    except ValueError:
        return False


def _url(value: Any) -> bool:
    try:
        return (
            isinstance(value, str)
            and _URL.fullmatch(value) is not None
            and urlsplit(value).hostname is not None
        )
    except ValueError:
        return False


def _number(least: float) -> Callable[[Any], bool]:
    return lambda v: isinstance(v, int | float) and not isinstance(v, bool) and least <= v <= 31_536_000


def _integer(least: int, most: int) -> Callable[[Any], bool]:
    return lambda v: isinstance(v, int) and not isinstance(v, bool) and least <= v <= most


def _boolean(value: Any) -> bool:
    return isinstance(value, bool)


_CHECKS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "rpc": (lambda v: len(v) <= 10 and all(_url(u) for u in v), "a list of http or https URLs, 10 at most"),
    "api_key_file": (
        lambda v: isinstance(v, str) and (not v or Path(v).is_absolute()),
        "a whole path, from the root on",
    ),
    "network": (
        lambda v: v in ("main", "test", "testnet", "regtest", "simnet"),
        '"main", "testnet", "regtest" or "simnet"',
    ),
    "safe": (_boolean, "true or false"),
    "stale_after": (_number(0), "seconds, or 0"),
    "dns": (lambda v: v == "" or _is_server(v), 'ADDRESS:PORT, or ""'),
    "nameservers": (
        lambda v: len(v) <= 8 and all(_is_server(s) for s in v),
        "a list of ADDRESS or ADDRESS:PORT",
    ),
    "private": (_boolean, "true or false"),
    "port": (_integer(1, 65535), "a port"),
    "require_dnssec": (_boolean, "true or false"),
    "timeout": (_number(0.05), "seconds, at least 0.05"),
    "deadline": (_number(0.05), "seconds, at least 0.05"),
    "ttl": (_integer(1, 86_400), "seconds, from 1 to 86400"),
}
