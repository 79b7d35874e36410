"""Events of the contracts as the hook `chain_events` tells them: a pure function of a final block's log."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from typing import Any

from decentraspace.shapes import MAX_CREDITS, MAX_TIME
from decentraspace_billing_polygon import contracts
from decentraspace_billing_polygon.forms import Log
from decentraspace_billing_polygon.settings import Settings

_REASONS = ("no such allocation of this operator", "its settlement window is over", "nothing is due",
            "more than is left of its cap")  # fmt: skip
"""ICreditVault.SkipReason."""
NOTHING_DUE = 2

Arguments = Mapping[str, Any]


def reason(number: int) -> str:
    return _REASONS[number] if number < len(_REASONS) else f"reason {number}"


def credits(value: int) -> int:
    """Within what the hook takes."""
    return min(value, MAX_CREDITS)


def hash_(value: bytes) -> str:
    return "0x" + bytes(value).hex()


def site_id(value: bytes) -> str:
    """bytes10 as the node writes it: base32 (RFC 4648), lower case."""
    return base64.b32encode(bytes(value)[:10]).decode().lower()


def _time(value: int) -> int:
    return min(value, MAX_TIME)


def _parties(a: Arguments) -> dict[str, Any]:
    return {"owner": a["owner"], "operator": a["operator"], "allocation": hash_(a["allocation"])}


def _allocated(a: Arguments) -> dict[str, Any]:
    return {
        **_parties(a),
        "id": a["id"],
        "cap": credits(a["cap"]),
        "rate": credits(a["rate"]),
        "start": _time(a["start"]),
        "expires": _time(a["expires"]),
    }


def _settled(a: Arguments) -> dict[str, Any]:
    return {**_parties(a), "credits": credits(a["amount"]), "cumulative": credits(a["cumulative"])}


def _removed(a: Arguments) -> dict[str, Any]:
    return {"operator": a["operator"]}


_VAULT: dict[str, tuple[str, Callable[[Arguments], dict[str, Any]]]] = {
    "Recharged": ("recharged", lambda a: {"owner": a["owner"], "credits": credits(a["amount"])}),
    "LimitChanged": ("allocated", _allocated),
    "Settled": ("settled", _settled),
    "StreamSettled": ("stream_settled", _settled),
    "ChargeSkipped": (
        "skipped",
        lambda a: {
            "allocation": hash_(a["allocation"]),
            "operator": a["operator"],
            "reason": reason(a["reason"]),
        },
    ),
    "BatchSettled": (
        "batch",
        lambda a: {"operator": a["operator"], "root": hash_(a["root"]), "credits": credits(a["amount"])},
    ),
    "CreditDepleted": ("depleted", _parties),
    "Released": ("released", lambda a: {**_parties(a), "credits": credits(a["amount"])}),
    "Withdrawn": ("withdrawn", lambda a: {"owner": a["owner"], "credits": credits(a["amount"])}),
    "CreditsMoved": (
        "spent",
        lambda a: {"owner": a["from"], "to": a["to"], "credits": credits(a["amount"])},
    ),
}
_OPERATORS: dict[str, tuple[str, Callable[[Arguments], dict[str, Any]]]] = {
    "OperatorRegistered": ("operator_registered", _removed),
    "OperatorLeaving": ("operator_removed", _removed),
    "OperatorRemoved": ("operator_removed", _removed),
    "OperatorSlashed": ("operator_removed", _removed),
}
_SITES: dict[str, tuple[str, Callable[[Arguments], dict[str, Any]]]] = {
    "SiteRegistered": (
        "site_transferred",
        lambda a: {"site": site_id(a["site"]), "owner": a["owner"], "label": a["label"]},
    ),
    "SiteTransferred": ("site_transferred", lambda a: {"site": site_id(a["site"]), "owner": a["to"]}),
    "DelegationRevoked": (
        "delegations_revoked",
        lambda a: {"site": site_id(a["site"]), "owner": a["owner"], "before": _time(a["before"])},
    ),
}


def tell(log: Log, settings: Settings, time: int) -> dict[str, Any] | None:
    """The event for the hook, `time` being its block's; None for one of no concern."""
    for address, contract, told in (
        (settings.vault, "CreditVault", _VAULT),
        (settings.operators, "OperatorRegistry", _OPERATORS),
        (settings.sites, "SiteRegistry", _SITES),
    ):
        if log.address == address.lower():
            found = contracts.event(contract, log)
            if found is None or found[0] not in told:
                return None
            kind, fields = told[found[0]]
            return {
                "block": log.block,
                "block_hash": log.block_hash,
                "time": time,
                "transaction": log.transaction,
                "index": log.index,
                "kind": kind,
                **fields(found[1]),
            }
    return None
