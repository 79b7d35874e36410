"""Amounts of credits, as people write them and read them: integers throughout."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    _Type = click.ParamType[int]
else:
    _Type = click.ParamType  # generic only in newer versions

_USD = 10**6  # credits
_MOST = 2**53 - 1  # what JSON carries


def credits_of(text: str) -> int:
    """`250000` are credits, `5usd` and `0.25 USD` dollars of 1,000,000 credits each. ValueError."""
    plain = text.strip().lower().replace("_", "").replace(",", "")
    found = re.fullmatch(r"(\d{1,20})(?:\.(\d{1,6}))?\s*(usd)?", plain, re.ASCII)
    if found is None or (found[2] is not None and found[3] is None):
        raise ValueError("write credits as 250000, or dollars as 5usd or 0.25usd")
    amount = int(found[1]) * (_USD if found[3] else 1) + int((found[2] or "0").ljust(6, "0"))
    if amount > _MOST:
        raise ValueError(f"at most {_MOST} credits")
    return amount


def words_of(credits: int) -> str:
    """`5250000 credits (5.25 USD)`."""
    whole, rest = divmod(abs(credits), _USD)
    cents = f"{rest:06d}".rstrip("0").ljust(2, "0")
    return f"{credits} credits ({'-' if credits < 0 else ''}{whole}.{cents} USD)"


class Amount(_Type):
    """An argument that `credits_of` reads."""

    name = "amount"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        try:
            return credits_of(str(value))
        except ValueError as error:
            self.fail(f"{str(value)[:40]!r} is no amount: {error}.", param, ctx)
