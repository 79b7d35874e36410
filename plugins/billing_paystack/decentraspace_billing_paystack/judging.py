"""What a payment is, by all that Paystack's API says of it: pure, and independent of the order of events."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

from decentraspace_billing_paystack.amounts import called_back
from decentraspace_billing_paystack.answers import WAITING, Dispute, Refund, Transaction
from decentraspace_billing_paystack.payments import Payment

_SLOWEST = 6 * 3600  # seconds between looks at what is not paid, or contested
NOT_OURS = "Something else was paid than was asked for ({}): the operator has to look at it at Paystack"


def judge(
    payment: Payment,
    found: Transaction,
    refunds: Sequence[Refund],
    disputes: Sequence[Dispute],
    *,
    domain: str,
    hold: int,
    now: int,
) -> Payment:
    """The payment as it stands. `hold`: seconds it stays reversible; `domain`: "live" or "test"."""
    if found.status in WAITING or found.status == "failed":
        if payment.given:
            return replace(payment, state="disputed", detail=f"Paystack now says that it is {found.status}")
        if found.status == "failed":
            return replace(payment, state="refused", detail="The payment failed")
        return replace(payment, state="pending", detail=f"not paid yet ({found.status})")
    wrong = _difference(payment, found, domain)
    if wrong:
        return replace(
            payment,
            state="disputed" if payment.given else "refused",
            transaction=found.number,
            detail=NOT_OURS.format(wrong),
        )
    contested = _contested(refunds, disputes)
    back = called_back(payment.credits, found.amount, _back(found, refunds, disputes, contested))
    if not payment.given:
        if contested:
            return replace(payment, state="disputed", transaction=found.number, detail=contested)
        if back >= payment.credits:
            return replace(
                payment,
                state="refused",
                transaction=found.number,
                detail="It was paid, and called back before it was credited",
            )
        payment = replace(payment, given=payment.credits - back, held_until=now + hold)
    # What had gone back before anything was given was never given.
    before = payment.credits - payment.given
    gone = max(payment.reversed, min(payment.given, max(0, back - before)))
    channel = found.channel or "card"
    if contested:
        state, detail = "disputed", f"{channel}, {contested}"
    elif gone:
        state, detail = "reversed", f"{channel}, {gone} of {payment.given} credits called back"
    else:
        state, detail = "done", f"{channel}, reversible until {day(payment.held_until)}"
    return replace(payment, state=state, reversed=gone, transaction=found.number, detail=detail)


def next_look(payment: Payment, *, poll: int, recheck: int, expire: int, now: int) -> int:
    """When to look at it again, after a look that succeeded; 0: never, unless a webhook comes."""
    if payment.state == "disputed":
        return now + min(recheck, _SLOWEST)
    if payment.given:
        if payment.reversed >= payment.given or now >= payment.held_until:
            return 0
        return min(now + recheck, payment.held_until)
    age = now - payment.made
    return 0 if age >= expire else now + max(1, min(max(poll, age // 10), _SLOWEST, expire - age))


def day(time: int) -> str:
    return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%d")


def _difference(payment: Payment, found: Transaction, domain: str) -> str:
    """How what was paid differs from what was asked for; "" if it does not."""
    if found.domain != domain:
        return f"in {found.domain} mode"
    if found.currency != payment.currency:
        return f"in {found.currency}"
    # Where the account has the payer pay Paystack's fee, that is added to what was requested.
    with_fees = found.requested == payment.amount and found.amount > payment.amount
    if found.amount != payment.amount and not with_fees:
        return f"{found.amount} instead of {payment.amount} subunits"
    if found.owner is not None and found.owner.lower() != payment.owner.lower():
        return "for another wallet"
    if payment.transaction and payment.transaction != found.number:
        return "another transaction of the same reference"
    return ""


def _contested(refunds: Sequence[Refund], disputes: Sequence[Dispute]) -> str:
    """In words, why it is open whether the money stays; "" if it is not."""
    if any(one.status not in ("resolved", "archived") for one in disputes):
        return "contested by the payer"
    if any(one.status not in ("processed", "failed") for one in refunds):
        return "being refunded"
    return ""


def _back(found: Transaction, refunds: Sequence[Refund], disputes: Sequence[Dispute], contested: str) -> int:
    """Subunits that went back for good, at most all of them."""
    lost = [d for d in disputes if d.status in ("resolved", "archived") and _lost(d)]
    # A dispute that was lost shows as a refund, too.
    numbers = {d.number for d in lost}
    back = sum(found.amount if d.amount is None else d.amount for d in lost)
    back += sum(
        r.amount if r.currency == found.currency else found.amount
        for r in refunds
        if r.status == "processed" and r.dispute not in numbers
    )
    if found.status == "reversed" and not back and not contested:
        back = found.amount
    return min(back, found.amount)


def _lost(dispute: Dispute) -> bool:
    """ "declined": the payer's claim was. Archived without a word: nothing came of it."""
    if dispute.status == "archived" and not dispute.resolution:
        return False
    return dispute.resolution != "declined"
