"""Card money: reversible, so kept apart from what is earned until it can no longer be called back.

The operator gets the money and deposits credits for the user out of its own float, at its own risk: `card` is
what it may not count on yet.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from decentraspace.errors import Conflict, NotFound
from decentraspace.ledger import journal
from decentraspace.ledger.rollup import address

HELD, CLEARED, REVERSED = "held", "cleared", "reversed"


@dataclass(frozen=True)
class Card:
    """A payment. `until`: when it can no longer be called back; `state`: held, cleared or reversed."""

    reference: str
    owner: bytes
    credits: int
    state: str
    received: int
    until: int


def find(db: sqlite3.Connection, reference: str) -> Card | None:
    found = db.execute("SELECT * FROM cards WHERE reference = ?", (reference,)).fetchone()
    return Card(*found) if found else None


def of_owner(db: sqlite3.Connection, owner: bytes, limit: int = 100) -> list[Card]:
    rows = db.execute(
        "SELECT * FROM cards WHERE owner = ? ORDER BY received DESC, reference LIMIT ?", (owner, limit)
    )
    return [Card(*row) for row in rows]


def received(db: sqlite3.Connection, reference: str, owner: bytes, credits: int, until: int, at: int) -> bool:
    """Money has come, and credits were deposited for it; whether that is news. Conflict for another sum."""
    known = find(db, reference)
    if known is not None:
        if (known.owner, known.credits) != (owner, credits):
            raise Conflict(f"Payment {reference} was of another sum or owner")
        return False
    db.execute("INSERT INTO cards VALUES (?, ?, ?, ?, ?, ?)", (reference, owner, credits, HELD, at, until))
    return journal.post(
        db, f"card:{reference}", "card", at, {f"card:{address(owner)}": credits, "float": -credits}
    )


def clear(db: sqlite3.Connection, at: int) -> int:
    """What can no longer be called back is the operator's; how many payments."""
    rows = db.execute("SELECT * FROM cards WHERE state = ? AND until <= ?", (HELD, at)).fetchall()
    for card in (Card(*row) for row in rows):
        _end(db, card, CLEARED, {f"card:{address(card.owner)}": -card.credits, "bank": card.credits}, at)
    return len(rows)


def reverse(db: sqlite3.Connection, reference: str, at: int) -> bool:
    """A payment was called back; whether that is news. NotFound."""
    card = find(db, reference)
    if card is None:
        raise NotFound(f"No payment {reference[:80]} is known here")
    if card.state == REVERSED:
        return False
    who = address(card.owner)
    source = f"card:{who}" if card.state == HELD else "bank"
    _end(db, card, REVERSED, {f"chargeback:{who}": card.credits, source: -card.credits}, at)
    return True


def _end(db: sqlite3.Connection, card: Card, state: str, postings: dict[str, int], at: int) -> None:
    db.execute("UPDATE cards SET state = ? WHERE reference = ?", (state, card.reference))
    journal.post(db, f"card:{card.reference}:{state}", f"card {state}", at, postings)
