"""The plugin's settings: checked once, then frozen."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from decentraspace.errors import ConfigError

_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}")
_URL = re.compile(r"https?://[^\s/@?#]+(?:[/?][^\s]*)?")


@dataclass(frozen=True)
class Settings:
    """What `[plugin.dns_ens]` says. Without `rpc` the plugin does nothing.

    rpc              JSON-RPC endpoints of Ethereum, best first
    quorum           how many of them must say the same; 0: more than half, but one of two
    chain_id         answers of another chain are not taken
    registry         ENS's registry
    wrapper          ENS's NameWrapper; "" where there is none
    universal        ENS's Universal Resolver, which finds a name's resolver; "" for the registry alone
    public_resolver  the resolver that a name without one is to be given
    timeout          seconds for one name, gateways included
    patience         seconds after which a silent endpoint is not waited for alone
    gateways         most gateways that are asked in turn for one answer (EIP-3668)
    gateway_timeout  seconds for each of them
    gateway_bytes    most that one of them may answer
    allow_private    ask gateways at private addresses, too
    ttl              seconds that an answer holds, where the registry does not say
    """

    rpc: tuple[str, ...] = ()
    quorum: int = 0
    chain_id: int = 1
    # https://docs.ens.domains/learn/deployments
    registry: str = "0x00000000000C2E074eC69A0dFb2997BA6C7d2e1e"
    wrapper: str = "0xD4416b13d2b3a9aBae7AcD5D6C2BbDBE25686401"
    universal: str = "0xeEeEEEeE14D718C2B47D9923Deab1335E144EeEe"
    public_resolver: str = "0xF29100983E058B709F3D539b0c765937B804AC15"
    timeout: float = 4.5
    patience: float = 1.0
    gateways: int = 3
    gateway_timeout: float = 2.0
    gateway_bytes: int = 65_536
    allow_private: bool = False
    ttl: int = 300

    @property
    def agreeing(self) -> int:
        """Endpoints that must agree. Of two, one could stop all by its silence: then the first one is believed."""
        return self.quorum or (1 if len(self.rpc) == 2 else len(self.rpc) // 2 + 1)


def read(table: Mapping[str, Any]) -> Settings:
    """ConfigError, naming the setting, for anything that is not as it should be."""
    known = {field.name for field in fields(Settings)}
    for name in table:
        if name not in known:
            raise ConfigError(
                f"plugin.dns_ens has no setting {name!r}", hint=f"There are {', '.join(sorted(known))}."
            )
    values = dict(table)
    if "rpc" in values:
        given = (values["rpc"],) if isinstance(values["rpc"], str) else values["rpc"]
        values["rpc"] = tuple(given) if isinstance(given, list | tuple) else (given,)
    for name, (fits, words) in _CHECKS.items():
        if name in values and not fits(values[name]):
            raise ConfigError(f"plugin.dns_ens.{name} must be {words}, not {values[name]!r}")
    settings = Settings(**values)
    if len(set(settings.rpc)) < len(settings.rpc):
        raise ConfigError("plugin.dns_ens.rpc names an endpoint twice: it would agree with itself")
    if settings.rpc and settings.quorum > len(settings.rpc):
        raise ConfigError(
            f"plugin.dns_ens.quorum is {settings.quorum}, of {len(settings.rpc)} endpoints in rpc"
        )
    return settings


def _integer(least: int, most: int) -> Callable[[Any], bool]:
    return lambda v: type(v) is int and least <= v <= most


def _seconds(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= 60


def _address(value: Any) -> bool:
    return isinstance(value, str) and bool(_ADDRESS.fullmatch(value))


_CHECKS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "rpc": (
        lambda v: len(v) <= 16 and all(isinstance(u, str) and _URL.fullmatch(u) for u in v),
        "a list of at most 16 http or https URLs",
    ),
    "quorum": (_integer(0, 16), "a number of endpoints"),
    "chain_id": (_integer(1, 2**53), "a chain's number"),
    "registry": (_address, "an address"),
    "wrapper": (lambda v: v == "" or _address(v), "an address, or empty"),
    "universal": (lambda v: v == "" or _address(v), "an address, or empty"),
    "public_resolver": (lambda v: v == "" or _address(v), "an address, or empty"),
    "timeout": (_seconds, "seconds above 0, at most 60"),
    "patience": (_seconds, "seconds above 0, at most 60"),
    "gateways": (_integer(0, 16), "0 to 16"),
    "gateway_timeout": (_seconds, "seconds above 0, at most 60"),
    "gateway_bytes": (_integer(1024, 1 << 20), "bytes from 1024 to 1048576"),
    "allow_private": (lambda v: isinstance(v, bool), "true or false"),
    "ttl": (_integer(0, 86_400), "seconds up to 86400"),
}
