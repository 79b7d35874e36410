"""What Paystack says, checked and brought into small typed values; `Malformed` for anything else.

Forms: https://paystack.com/docs/api/transaction/, …/refund/, …/dispute/.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

# https://paystack.com/docs/payments/verify-payments/: what a transaction's status may be
WAITING = frozenset({"abandoned", "ongoing", "pending", "processing", "queued"})
STATUSES = WAITING | {"failed", "reversed", "success"}

_AMOUNT_MOST = 2**53
_REFERENCE = re.compile(r"[A-Za-z0-9.=_-]{1,100}")
_CURRENCY = re.compile(r"[A-Z]{3}")
_LIST_MOST = 100
_CHECKOUT = "paystack.com"


class Malformed(ValueError):
    """An answer has not the published form."""


@dataclass(frozen=True)
class Begun:
    """A transaction that was initialised."""

    url: str
    reference: str


@dataclass(frozen=True)
class Transaction:
    """Amounts in subunits; `requested`: before fees that Paystack puts on the payer, where it says so."""

    number: int
    domain: str
    status: str
    reference: str
    amount: int
    requested: int | None
    currency: str
    channel: str
    owner: str | None


@dataclass(frozen=True)
class Refund:
    """`dispute`: number of the dispute it comes from, or None."""

    status: str
    amount: int
    currency: str
    dispute: int | None


@dataclass(frozen=True)
class Dispute:
    """`amount`: what it is about, or None for all of it; `resolution`: "declined" when the payer lost."""

    number: int
    status: str
    resolution: str
    amount: int | None


def begun(data: Any) -> Begun:
    table = _table(data)
    url = _text(table, "authorization_url", 500)
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise Malformed("authorization_url is no URL") from error
    # A payer is sent there: nobody else's page, whatever the answer says.
    ours = host == _CHECKOUT or host.endswith("." + _CHECKOUT)
    if parts.scheme != "https" or not ours or port not in (None, 443) or parts.username is not None:
        raise Malformed("authorization_url is not of Paystack")
    if not url.isascii() or not url.isprintable() or " " in url:
        raise Malformed("authorization_url is no URL")
    return Begun(url, _reference(table))


def transaction(data: Any) -> Transaction:
    table = _table(data)
    status = _text(table, "status", 40)
    if status not in STATUSES:
        raise Malformed("a status that is not published")
    requested = table.get("requested_amount")
    return Transaction(
        _number(table, "id"),
        _text(table, "domain", 10),
        status,
        _reference(table),
        _amount(table.get("amount")),
        None if requested is None else _amount(requested),
        _currency(table),
        _words(table.get("channel")),
        _owner(table.get("metadata")),
    )


def refunds(data: Any, of: int) -> list[Refund]:
    """Those of transaction `of`."""
    found = []
    for one in _list(data):
        if _of_transaction(one) != of:
            continue
        dispute = one.get("dispute")
        if isinstance(dispute, dict):
            dispute = dispute.get("id")
        if dispute is not None and (type(dispute) is not int or dispute <= 0):
            raise Malformed("dispute is no number")
        found.append(Refund(_text(one, "status", 40), _amount(one.get("amount")), _currency(one), dispute))
    return found


def disputes(data: Any, of: int) -> list[Dispute]:
    """Those of transaction `of`."""
    found = []
    for one in _list(data):
        if _of_transaction(one) != of:
            continue
        amount = one.get("refund_amount")
        found.append(
            Dispute(
                _number(one, "id"),
                _text(one, "status", 40),
                _words(one.get("resolution")),
                None if amount is None else _amount(amount),
            )
        )
    return found


def event(document: Any) -> tuple[str, str]:
    """Kind of a webhook's event and the reference it is about, "" if none: hints of where to look, no more."""
    table = _table(document)
    kind, data = _text(table, "event", 100), _table(table.get("data"))
    inner = data.get("transaction")
    places = [data.get("transaction_reference"), data.get("reference")]
    if kind.startswith("charge.dispute.") and isinstance(inner, dict):
        places.insert(0, inner.get("reference"))
    for place in places:
        if isinstance(place, str) and _REFERENCE.fullmatch(place):
            return kind, place
    return kind, ""


def _table(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Malformed("not an object")
    return value


def _list(value: Any) -> list[dict[str, Any]]:
    if not isinstance(value, list) or len(value) > _LIST_MOST:
        raise Malformed("not a list of at most 100")
    return [_table(one) for one in value]


def _text(table: dict[str, Any], name: str, most: int) -> str:
    value = table.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= most:
        raise Malformed(f"{name} is no text of at most {most} characters")
    return value


def _words(value: Any) -> str:
    """A short text that is only shown or compared; "" for anything else."""
    return value if isinstance(value, str) and len(value) <= 40 and value.isprintable() else ""


def _reference(table: dict[str, Any]) -> str:
    value = _text(table, "reference", 100)
    if _REFERENCE.fullmatch(value) is None:
        raise Malformed("reference has other characters than a reference may")
    return value


def _currency(table: dict[str, Any]) -> str:
    value = _text(table, "currency", 3)
    if _CURRENCY.fullmatch(value) is None:
        raise Malformed("currency is no ISO 4217 code")
    return value


def _number(table: dict[str, Any], name: str) -> int:
    value = table.get(name)
    if type(value) is not int or not 0 < value < 2**63:
        raise Malformed(f"{name} is no number")
    return value


def _amount(value: Any) -> int:
    # Some of Paystack's own examples have amounts as text.
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,16}", value):
        value = int(value)
    if type(value) is not int or not 0 <= value <= _AMOUNT_MOST:
        raise Malformed("an amount is no whole number of subunits")
    return value


def _of_transaction(one: dict[str, Any]) -> int | None:
    value = one.get("transaction")
    if isinstance(value, dict):
        value = value.get("id")
    return value if type(value) is int else None


def _owner(metadata: Any) -> str | None:
    """The wallet that was told when the transaction was initialised, if Paystack still says so."""
    if isinstance(metadata, str):
        try:
            metadata = json.loads(metadata[:10_000])
        except (ValueError, RecursionError):
            return None
    value = metadata.get("owner") if isinstance(metadata, dict) else None
    return value if isinstance(value, str) and len(value) <= 100 else None
