"""Whether a use can be paid, asked before it is made; and what is said where it cannot."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from decentraspace.errors import PaymentRequired
from decentraspace.ledger.charging import CREDIT, Standing, Use, charge, lacking
from decentraspace.ledger.prices import PriceList

_HINTS = {
    "credit": "Add credit and grant this node's operator an allocation (`decentraspace credits`): "
    "/billing/recharge/, /blockchain/credit/.",
    "cap": "Raise the site's monthly cap (`decentraspace credits limit`), or wait for the next month.",
    "exposure": "Wait for the next settlement; it is under way.",
    "tier": "An allocation of so much to this node's operator brings the paid tier (`decentraspace credits`): "
    "/billing/recharge/, /blockchain/credit/.",
}


@dataclass(frozen=True)
class Cover:
    """Whether a use can be paid. `credits`: what it would cost beyond the allowance; `missing`: of that, what
    nobody would pay, and at least 1 where nobody pays for a use worth less than a credit; `reason`: credit, cap or
    exposure, "" when nothing is missing."""

    credits: int
    missing: int
    reason: str

    @property
    def ok(self) -> bool:
        return self.missing == 0


def cover(uses: Iterable[Use], standing: Standing, prices: PriceList) -> Cover:
    """Whether the last of an owner's uses can be paid, after the others."""
    *before, use = uses
    left = charge(before, standing, prices).after
    made = charge([use], left, prices)
    missing, after = sum(leaf.waived for leaf in made.leaves), made.after
    paid = sum(leaf.credits + leaf.streamed for leaf in made.leaves)
    free = sum(leaf.free for leaf in made.leaves)
    if not missing and use.quantity > free and lacking(use.site, use.service, left, prices):
        # What is worth less than a credit is rounded away, and for ever, where one owner does it again and again.
        missing, after = 1, left
    why = lacking(use.site, use.service, after, prices) or CREDIT
    return Cover(paid + missing, missing, why if missing else "")


def refusal(detail: str, reason: str, missing: int, service: str, api: str) -> PaymentRequired:
    """402, with how many credits are missing for what, why, and where to pay. `api`: the node's URL."""
    return PaymentRequired(
        detail,
        hint=_HINTS[reason],
        missing=missing,
        reason=reason,
        service=service,
        pay={
            "methods": f"{api}/billing/payment-methods/",
            "recharge": f"{api}/billing/recharge/",
            "grant": f"{api}/blockchain/credit/",
            "limit": f"{api}/billing/balance/",
        },
    )
