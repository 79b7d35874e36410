"""The plugin's settings: checked once, then frozen."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any
from urllib.parse import urlsplit

from decentraspace.errors import ConfigError

# Paystack's published list, the same for test and live mode (https://paystack.com/docs/payments/webhooks/).
PUBLISHED_SOURCES = ("52.31.139.75", "52.49.173.169", "52.214.14.220")
_CHANNELS = (
    "card", "bank", "apple_pay", "ussd", "qr", "mobile_money", "bank_transfer", "eft", "capitec_pay", "payattitude",
)  # fmt: skip
_CURRENCIES = ("NGN", "GHS", "ZAR", "KES", "USD", "XOF", "EGP", "RWF")
_DAY = 86_400
_MOST = 2**53  # amounts are JSON numbers at Paystack


def _setting(default: Any, fits: Callable[[Any], bool], words: str, doc: str) -> Any:
    return field(default=default, metadata={"fits": fits, "words": words, "doc": doc})


def _integer(least: int, most: int) -> Callable[[Any], bool]:
    return lambda v: type(v) is int and least <= v <= most


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


def _networks(value: Any) -> bool:
    try:
        return len([ipaddress.ip_network(one) for one in value]) <= 100
    except (TypeError, ValueError):
        return False


_EMAIL = re.compile(r"[A-Za-z0-9._%+{}-]+@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+")


def _email(value: Any) -> bool:
    return isinstance(value, str) and _EMAIL.fullmatch(value.replace("{owner}", "0" * 42, 1)) is not None


def _pair(value: Any) -> bool:
    return isinstance(value, tuple) and len(value) == 2 and all(_integer(1, _MOST)(v) for v in value)


@dataclass(frozen=True)
class Settings:
    """What `[plugin.billing_paystack]` says. Without `key_file` the plugin does nothing."""

    key_file: str = _setting(
        "",
        lambda v: isinstance(v, str) and (not v or v.startswith("/")),
        "a whole path, from the root on",
        "File with Paystack's secret key (`sk_live_…`) in its first line, mode 0600. Further lines: keys of before, "
        "whose webhooks are still taken.",
    )
    test: bool = _setting(
        False,
        lambda v: isinstance(v, bool),
        "true or false",
        "Take a key of Paystack's test mode, where no money moves and cards are made up.",
    )
    email: str = _setting(
        "",
        lambda v: v == "" or _email(v),
        "an email address, with {owner} in it if you like",
        "Address that Paystack is told as the payer's, and sends receipts to; `{owner}` stands for the wallet. "
        "Needed.",
    )
    currency: str = _setting(
        "NGN",
        lambda v: v in _CURRENCIES,
        f"one of {', '.join(_CURRENCIES)}",
        "Currency that is charged; your Paystack account must have it.",
    )
    rate: tuple[int, int] = _setting(
        (0, 0),
        _pair,
        "two whole numbers above 0",
        "Exchange rate as two whole numbers: so many subunits (kobo, cents) for so many credits. Needed; "
        "`[160000, 1000000]` is 1,600 NGN for 1 USD.",
    )
    fee_bps: int = _setting(
        0,
        _integer(0, 5_000),
        "basis points, at most 5000",
        "Fee in basis points (1/100 %), on top of the rate.",
    )
    fee_fixed: int = _setting(
        0, _integer(0, _MOST), "subunits, not below 0", "Fee of each payment, in subunits, on top of that."
    )
    least: int = _setting(
        1_000_000, _integer(1, _MOST), "credits above 0", "Credits that one payment must have at least."
    )
    most: int = _setting(
        100_000_000, _integer(1, _MOST), "credits above 0", "Credits that one payment may have at most."
    )
    most_daily: int = _setting(
        200_000_000,
        _integer(1, _MOST),
        "credits above 0",
        "Credits that one wallet may pay for, or begin to, within 24 hours.",
    )
    most_open: int = _setting(
        5, _integer(1, 100), "1 to 100", "Payments that one wallet may have begun and not ended."
    )
    most_held: int = _setting(
        1_000_000_000,
        _integer(1, _MOST),
        "credits above 0",
        "Credits, of all wallets together, whose payment can still be called back: your risk. Beyond it none is begun; "
        "those begun before are still taken.",
    )
    hold: int = _setting(
        120 * _DAY,
        _integer(0, 3650 * _DAY),
        "seconds",
        "Seconds after a payment in which it counts as reversible.",
    )
    expire: int = _setting(
        7 * _DAY,
        _integer(60, 365 * _DAY),
        "seconds, at least 60",
        "Seconds after which a payment that was begun and not paid is given up. Money that comes later counts all "
        "the same.",
    )
    channels: tuple[str, ...] = _setting(
        ("card",),
        lambda v: isinstance(v, tuple) and len(v) > 0 and all(c in _CHANNELS for c in v),
        f"a list of {', '.join(_CHANNELS)}",
        "Ways to pay that Paystack's page offers.",
    )
    callback_url: str = _setting(
        "",
        lambda v: v == "" or _url(v),
        "an https URL",
        "Where Paystack sends the payer's browser afterwards; empty: as your Paystack account says.",
    )
    sources: tuple[str, ...] = _setting(
        PUBLISHED_SOURCES,
        _networks,
        "a list of addresses or networks",
        "Addresses or networks that webhooks may come from; empty: any, then the signature alone decides.",
    )
    proxies: tuple[str, ...] = _setting(
        ("127.0.0.1", "::1"),
        _networks,
        "a list of addresses or networks",
        "Your own servers in front of the node, whose `X-Forwarded-For` is believed.",
    )
    poll: int = _setting(
        30, _integer(1, 3600), "seconds, 1 to 3600", "Seconds between looks at a payment that has just begun."
    )
    recheck: int = _setting(
        _DAY,
        _integer(1, 30 * _DAY),
        "seconds",
        "Seconds between looks at a payment that was made and can still be called back.",
    )
    timeout: int = _setting(
        10, _integer(1, 15), "seconds, 1 to 15", "Seconds that Paystack may take to answer."
    )
    api: str = _setting(
        "https://api.paystack.co", _url, "an https URL", "Paystack's API; another one only for tests."
    )


def read(table: Mapping[str, Any]) -> Settings:
    """ConfigError, naming the setting, for anything that is not as it should be."""
    known = {one.name: one for one in fields(Settings)}
    values: dict[str, Any] = {}
    for name, value in table.items():
        if name not in known:
            raise ConfigError(
                f"plugin.billing_paystack has no setting {name!r}",
                hint=f"There are {', '.join(sorted(known))}.",
            )
        value = tuple(value) if isinstance(value, list) else value
        meta = known[name].metadata
        if not meta["fits"](value):
            # Whoever puts the key itself here by mistake shall not find it in the log.
            shown = "" if name == "key_file" else f", not {str(value)[:100]!r}"
            raise ConfigError(f"plugin.billing_paystack.{name} must be {meta['words']}{shown}")
        values[name] = value
    settings = Settings(**values)
    if settings.key_file:
        _whole(settings)
    return settings


def _whole(settings: Settings) -> None:
    if settings.rate == (0, 0):
        raise ConfigError(
            "plugin.billing_paystack.rate is missing",
            hint="[160000, 1000000] charges 1,600 NGN for 1,000,000 credits (1 USD).",
        )
    if not settings.email:
        raise ConfigError(
            "plugin.billing_paystack.email is missing: Paystack wants an address for each payer",
            hint='"cards+{owner}@your.domain" tells you whose receipt it is.',
        )
    if settings.least > settings.most:
        raise ConfigError("plugin.billing_paystack.least is more than most")
