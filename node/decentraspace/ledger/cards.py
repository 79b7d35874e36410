"""Card money: reversible, so kept apart from what is earned until it can no longer be called back.

The operator gets the money and deposits credits for the user out of its own float, at its own risk (deposits.py):
`card:OWNER` is what it may not count on yet, `bank` what it may, `chargeback:OWNER` what it lost.

A payment is held until a time, then cleared. While it is disputed it is held whatever the time. What was called back
of it is `reversed`, and it is in state reversed when nothing is left.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from decentraspace.errors import Conflict, NotFound
from decentraspace.ledger import journal
from decentraspace.ledger.rollup import address

HELD, DISPUTED, CLEARED, REVERSED = "held", "disputed", "cleared", "reversed"


@dataclass(frozen=True)
class Card:
    """A payment. `until`: when it can no longer be called back; `state`: held, disputed, cleared or reversed;
    `reversed`: how much of `credits` was called back; `changes`: how often it was booked."""

    reference: str
    owner: bytes
    credits: int
    state: str
    received: int
    until: int
    reversed: int = 0
    changes: int = 0

    @property
    def left(self) -> int:
        return self.credits - self.reversed


def find(db: sqlite3.Connection, reference: str) -> Card | None:
    found = db.execute("SELECT * FROM cards WHERE reference = ?", (reference,)).fetchone()
    return Card(*found) if found else None


def of_owner(db: sqlite3.Connection, owner: bytes, limit: int = 100) -> list[Card]:
    rows = db.execute(
        "SELECT * FROM cards WHERE owner = ? ORDER BY received DESC, reference LIMIT ?", (owner, limit)
    )
    return [Card(*row) for row in rows]


def received(db: sqlite3.Connection, reference: str, owner: bytes, credits: int, until: int, at: int) -> bool:
    """Money has come, and credits are due for it; whether that is news. Conflict for another sum."""
    known = find(db, reference)
    if known is not None:
        if (known.owner, known.credits) != (owner, credits):
            raise Conflict(f"Payment {reference} was of another sum or owner")
        return False
    values = (reference, owner, credits, HELD, at, until, 0, 0)
    db.execute("INSERT INTO cards VALUES (?, ?, ?, ?, ?, ?, ?, ?)", values)
    return journal.post(
        db, f"card:{reference}", "card", at, {f"card:{address(owner)}": credits, "float": -credits}
    )


def clear(db: sqlite3.Connection, at: int) -> int:
    """What can no longer be called back is the operator's; how many payments."""
    rows = db.execute("SELECT * FROM cards WHERE state = ? AND until <= ?", (HELD, at)).fetchall()
    for card in (Card(*row) for row in rows):
        _change(db, card, CLEARED, {f"card:{address(card.owner)}": -card.left, "bank": card.left}, at)
    return len(rows)


def dispute(db: sqlite3.Connection, reference: str, at: int) -> bool:
    """It is being called back: held, also where it was cleared, until that has ended. Whether that is news."""
    card = known(db, reference)
    if card.state in (DISPUTED, REVERSED):
        return False
    back = card.left if card.state == CLEARED else 0
    _change(db, card, DISPUTED, {f"card:{address(card.owner)}": back, "bank": -back}, at)
    return True


def keep(db: sqlite3.Connection, reference: str, until: int, at: int) -> bool:
    """A dispute has ended, and what is left is the operator's after `until`. Whether that is news."""
    card = known(db, reference)
    if card.state == HELD and card.until != until:
        db.execute("UPDATE cards SET until = ? WHERE reference = ?", (until, reference))
    if card.state != DISPUTED:
        return False
    db.execute("UPDATE cards SET until = ? WHERE reference = ?", (until, reference))
    _change(db, card, HELD, {}, at)
    return True


def reverse(
    db: sqlite3.Connection, reference: str, at: int, total: int | None = None, given: bool = True
) -> bool:
    """`total` of a payment, all told (None: all), was called back; whether that is news. NotFound.

    `given`: whether credits went out for it. If not, the operator has lost nothing.
    """
    card = known(db, reference)
    total = card.credits if total is None else min(total, card.credits)
    more = total - card.reversed
    if more <= 0:
        return False
    who = address(card.owner)
    source = "bank" if card.state == CLEARED else f"card:{who}"
    lost = f"chargeback:{who}" if given else "float"
    db.execute("UPDATE cards SET reversed = ? WHERE reference = ?", (total, reference))
    _change(db, card, REVERSED if total == card.credits else card.state, {lost: more, source: -more}, at)
    return True


def known(db: sqlite3.Connection, reference: str) -> Card:
    """NotFound."""
    card = find(db, reference)
    if card is None:
        raise NotFound(f"No payment {reference[:80]} is known here")
    return card


def _change(db: sqlite3.Connection, card: Card, state: str, postings: dict[str, int], at: int) -> None:
    number = card.changes + 1
    db.execute("UPDATE cards SET state = ?, changes = ? WHERE reference = ?", (state, number, card.reference))
    journal.post(db, f"card:{card.reference}:{number}:{state}", f"card {state}", at, postings)
