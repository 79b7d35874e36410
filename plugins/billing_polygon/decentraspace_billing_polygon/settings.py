"""The plugin's settings: checked once, then frozen."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from decentraspace.errors import ConfigError

_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}")
_URL = re.compile(r"https?://[^\s]+")
GWEI = 10**9


@dataclass(frozen=True)
class Settings:
    """What `[plugin.billing_polygon]` says. Without `rpc` the plugin does nothing.

    rpc              JSON-RPC endpoints, best first
    quorum           how many of them must say the same where money is moved; 0: more than half
    chain_id         refused when an endpoint is of another chain
    vault, operators, sites   addresses of the contracts; `operators` and `sites` may be ""
    first_block      where the contracts begin
    final            "finalized", "safe" or a number of blocks: when a block counts
    range            blocks asked for at once
    timeout          seconds an endpoint may take
    keystore         the operator's encrypted key (Web3 Secret Storage); "" with a `signer`
    password_file    what it is encrypted with, first line
    signer           URL of an external signer (`eth_signTransaction`); "" with a `keystore`
    operator         address that the external signer signs for
    settle_margin    settle when what is due is that many times the fee …
    coin_credits     … at this price of the chain's own coin (10^18 wei), in credits; 0: the fee is not compared
    max_fee          most that is paid for a unit of gas, in gwei
    replace_after    seconds after which a transaction that is not mined is sent again with higher fees
    streams_every    seconds between two settlements of streams, at least
    upkeep           seconds between looks at streams and at allocations that have expired
    explorer         URL of a block explorer, for people
    labels           the top-level domain below which labels of `sites` are names; "": they are not
    webhook_keys     secrets of RPC providers that push to /blockchain/listener/
    """

    rpc: tuple[str, ...] = ()
    quorum: int = 0
    chain_id: int = 137
    vault: str = ""
    operators: str = ""
    sites: str = ""
    first_block: int = 0
    final: str | int = "finalized"
    range: int = 2000
    timeout: float = 10.0
    keystore: str = ""
    password_file: str = ""
    signer: str = ""
    operator: str = ""
    settle_margin: int = 20
    coin_credits: int = 0
    max_fee: int = 500
    replace_after: float = 60.0
    streams_every: int = 86_400
    upkeep: float = 600.0
    explorer: str = ""
    labels: str = ""
    webhook_keys: tuple[str, ...] = ()

    @property
    def agreeing(self) -> int:
        """Endpoints that must agree."""
        return self.quorum or len(self.rpc) // 2 + 1

    @property
    def contracts(self) -> tuple[str, ...]:
        return tuple(a for a in (self.vault, self.operators, self.sites) if a)


def read(table: Mapping[str, Any]) -> Settings:
    """ConfigError, naming the setting, for anything that is not as it should be."""
    known = {field.name for field in fields(Settings)}
    for name in table:
        if name not in known:
            raise ConfigError(
                f"plugin.billing_polygon has no setting {name!r}",
                hint=f"There are {', '.join(sorted(known))}.",
            )
    values = dict(table)
    for name in ("rpc", "webhook_keys"):
        if name in values:
            given = (values[name],) if isinstance(values[name], str) else values[name]
            # Anything else is left to the checks.
            values[name] = tuple(given) if isinstance(given, list | tuple) else (given,)
    for name, (fits, words) in _CHECKS.items():
        if name in values and not fits(values[name]):
            raise ConfigError(f"plugin.billing_polygon.{name} must be {words}, not {values[name]!r}")
    settings = Settings(**values)
    if settings.rpc:
        _whole(settings)
    return settings


def _whole(settings: Settings) -> None:
    if not settings.vault:
        raise ConfigError("plugin.billing_polygon.vault is missing", hint="It is the address of CreditVault.")
    if settings.labels and not settings.sites:
        raise ConfigError("plugin.billing_polygon.sites is missing: whose labels `labels` makes names")
    if len(set(settings.rpc)) < len(settings.rpc):
        raise ConfigError("plugin.billing_polygon.rpc names an endpoint twice: it would agree with itself")
    if settings.quorum > len(settings.rpc):
        raise ConfigError(
            f"plugin.billing_polygon.quorum is {settings.quorum}, of {len(settings.rpc)} endpoints in rpc"
        )
    if bool(settings.keystore) == bool(settings.signer):
        raise ConfigError(
            "plugin.billing_polygon needs the operator's key: either keystore or signer",
            hint="`decentraspace operator-key FILE` makes a keystore.",
        )
    if settings.signer and not settings.operator:
        raise ConfigError("plugin.billing_polygon.operator is missing: whom the external signer signs for")
    if settings.keystore and not Path(settings.keystore).is_absolute():
        raise ConfigError("plugin.billing_polygon.keystore must be a whole path, from the root on")


def _integer(least: int, most: int = 2**63 - 1) -> Callable[[Any], bool]:
    return lambda v: isinstance(v, int) and not isinstance(v, bool) and least <= v <= most


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= 86_400


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _url(value: Any) -> bool:
    return isinstance(value, str) and (not value or _URL.fullmatch(value) is not None)


def _address(value: Any) -> bool:
    return isinstance(value, str) and (not value or _ADDRESS.fullmatch(value) is not None)


_CHECKS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "rpc": (lambda v: len(v) <= 20 and all(_url(u) and u for u in v), "a list of http or https URLs"),
    "quorum": (_integer(0, 20), "a whole number"),
    "chain_id": (_integer(1), "a chain id"),
    "vault": (_address, "an address (0x and 40 hex digits)"),
    "operators": (_address, 'an address, or ""'),
    "sites": (_address, 'an address, or ""'),
    "operator": (_address, 'an address, or ""'),
    "first_block": (_integer(0), "a block's number"),
    "final": (
        lambda v: v in ("finalized", "safe") or _integer(0, 100_000)(v),
        '"finalized", "safe" or a number of blocks',
    ),
    "range": (_integer(1, 100_000), "a number of blocks"),
    "timeout": (_number, "seconds above 0"),
    "replace_after": (_number, "seconds above 0"),
    "streams_every": (_integer(0), "seconds"),
    "upkeep": (_number, "seconds above 0"),
    "keystore": (_text, "a path"),
    "password_file": (_text, "a path"),
    "signer": (_url, "an http or https URL"),
    "explorer": (_url, "an http or https URL"),
    "labels": (
        lambda v: (
            isinstance(v, str) and (not v or re.fullmatch(r"[a-z][a-z0-9-]{0,61}[a-z0-9]", v) is not None)
        ),
        'a top-level domain without its dot, or ""',
    ),
    "settle_margin": (_integer(0, 10_000), "a whole number"),
    "coin_credits": (_integer(0), "credits"),
    "max_fee": (_integer(1, 10**6), "gwei above 0"),
    "webhook_keys": (
        lambda v: len(v) <= 20 and all(isinstance(k, str) and len(k) >= 8 for k in v),
        "a list of texts of at least 8 characters",
    ),
}
