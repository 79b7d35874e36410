"""The payments of this node, each one small document, synced to disk at every change.

    pending   begun, not paid
    refused   nothing is to be credited: not paid in time, failed, or another sum was paid
    done      paid
    disputed  on its way back, or contested
    reversed  called back, at least in part

What the node is told of carries a number that grows with every change it could notice.
"""

from __future__ import annotations

import base64
import hashlib
import threading
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from decentraspace.errors import QuotaExceeded
from decentraspace.plugin_storage import open_documents

_MOST = 10_000
_KEPT = 2 * 365 * 86_400  # seconds an ended payment is remembered
_KEPT_UNPAID = 90 * 86_400


@dataclass(frozen=True)
class Payment:
    """Times in Unix seconds, `amount` in subunits of `currency`, other amounts in credits.

    reference    what Paystack knows it by
    key          of the purchase; one that was cut off has several payments, of which `attempt` counts
    transaction  Paystack's own number; 0: not known
    given        what the owner got a right to; 0: nothing yet
    reversed     of that, what was called back, all told
    held_until   until when it can be called back; 0 before it was paid
    due          when to look at it next; 0: no more
    failures     looks that failed since the last that did not
    number       of the last change that the node could notice, `changed` its time
    """

    reference: str
    key: str
    owner: str
    credits: int
    amount: int
    currency: str
    made: int
    attempt: int = 1
    url: str = ""
    state: str = "pending"
    transaction: int = 0
    given: int = 0
    reversed: int = 0
    held_until: int = 0
    due: int = 0
    failures: int = 0
    number: int = 0
    changed: int = 0
    detail: str = ""

    @property
    def visible(self) -> tuple[Any, ...]:
        return self.state, self.given, self.reversed, self.held_until, self.detail

    def answer(self) -> dict[str, Any]:
        """As the payment hooks give it."""
        found: dict[str, Any] = {
            "status": self.state,
            "reference": self.reference,
            "owner": self.owner,
            "credits": self.given or self.credits,
            "detail": self.detail,
        }
        if self.given:
            found |= {"held_until": self.held_until, "reversed": self.reversed}
        return found


def reference_of(peer_id: str, owner: str, key: str, attempt: int) -> str:
    """Always the same, so that a node that lost its documents cannot begin the same payment again unnoticed."""
    text = "\0".join((peer_id, owner.lower(), key, str(attempt)))
    return "ds-" + base64.b32encode(hashlib.sha256(text.encode()).digest()[:20]).decode().lower()


class Payments:
    """Blocking; from any thread. Conflict when another program has the file open."""

    def __init__(self, path: Path) -> None:
        self._documents = open_documents(path)
        self._table = self._documents.table("payments")
        self._lock = threading.Lock()
        self._known: dict[str, Payment] = {}
        self._rows: dict[str, int] = {}
        names = {one.name for one in fields(Payment)}
        for document in self._table.all():
            payment = Payment(**{name: value for name, value in document.items() if name in names})
            self._known[payment.reference] = payment
            self._rows[payment.reference] = document.doc_id
        self._number = max((p.number for p in self._known.values()), default=0)

    def close(self) -> None:
        with self._lock:
            self._documents.close()

    def add(self, payment: Payment, now: int) -> Payment:
        """Write a new one down. QuotaExceeded when there are too many."""
        with self._lock:
            if (known := self._known.get(payment.reference)) is not None:
                return known
            if len(self._known) >= _MOST:
                self._forget(now)
            payment = self._numbered(payment, now)
            self._rows[payment.reference] = self._table.insert(dict(vars(payment)))
            self._known[payment.reference] = payment
            return payment

    def change(self, reference: str, now: int, **changes: Any) -> Payment:
        """On disk when it returns; nothing has changed when it raises."""
        with self._lock:
            before = self._known[reference]
            payment = replace(before, **changes)
            if payment == before:
                return before
            if payment.visible != before.visible:
                payment = self._numbered(payment, now)
            self._table.update(dict(vars(payment)), doc_ids=[self._rows[reference]])
            self._known[reference] = payment
            return payment

    def get(self, reference: str) -> Payment | None:
        with self._lock:
            return self._known.get(reference)

    def of_key(self, owner: str, key: str) -> Payment | None:
        """The newest attempt."""
        with self._lock:
            found = [p for p in self._known.values() if p.key == key and p.owner.lower() == owner.lower()]
        return max(found, key=lambda p: p.attempt, default=None)

    def all(self) -> list[Payment]:
        with self._lock:
            return list(self._known.values())

    def due(self, now: int) -> list[Payment]:
        return sorted((p for p in self.all() if 0 < p.due <= now), key=lambda p: p.due)

    def next_due(self) -> int | None:
        return min((p.due for p in self.all() if p.due), default=None)

    def since(self, after: int, most: int) -> tuple[int, list[Payment]]:
        """Number to go on from, and the payments that changed after `after`, the oldest change first."""
        with self._lock:
            known = list(self._known.values())
        found = sorted((p for p in known if p.number > after), key=lambda p: p.number)[:most]
        return (found[-1].number if found else after), found

    def _numbered(self, payment: Payment, now: int) -> Payment:
        # Of the clock, so that documents restored from a copy go on beyond what the node has been told already.
        self._number = max(self._number + 1, now * 1000)
        return replace(payment, number=self._number, changed=now)

    def _forget(self, now: int) -> None:
        """The oldest of those that are over, some at once; never the last number, from which counting goes on."""
        over = [
            p
            for p in self._known.values()
            if not p.due
            and p.number != self._number
            and p.changed + (_KEPT if p.given else _KEPT_UNPAID) < now
            and p.held_until + _KEPT_UNPAID < now
        ]
        over = sorted(over, key=lambda p: p.changed)[: _MOST // 10]
        if not over:
            raise QuotaExceeded("There are too many payments to remember", hint="Pay by token for now.")
        self._table.remove(doc_ids=[self._rows[p.reference] for p in over])
        for payment in over:
            del self._known[payment.reference], self._rows[payment.reference]
