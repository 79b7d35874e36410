"""What becomes of what was charged under an allocation: billed, paid, refused, lost. One entry each.

Of `charged`, `settled` was paid and `lost` given up. Of the rest, what is beyond `billed` is the owner's to bear
(owner:ADDRESS), and what is not is on its way (receivable:ALLOCATION).
"""

from __future__ import annotations

import sqlite3

from decentraspace.ledger import journal
from decentraspace.ledger.allocations import Allocation
from decentraspace.ledger.rollup import address

REFUSED_WAIT = 3600
"""Seconds until a charge that the contract did not pay is offered again."""


def bill(db: sqlite3.Connection, root: bytes, known: Allocation, cumulative: int, at: int) -> None:
    """It is on its way: no longer owed by its owner, but by the chain."""
    more = cumulative - max(known.billed, known.settled + known.lost)
    if more <= 0:
        return
    name = "0x" + known.id.hex()
    journal.post(
        db,
        f"billed:{name}:{root.hex()}:{attempt(db, root)}",
        "billed",
        at,
        {f"receivable:{name}": more, f"owner:{address(known.owner)}": -more},
    )
    left = known.charged > cumulative
    db.execute(
        "UPDATE allocations SET billed = ?, oldest = ? WHERE number = ?",
        (cumulative, at if left else None, known.number),
    )


def paid(db: sqlite3.Connection, known: Allocation, cumulative: int, at: int, reference: str) -> None:
    """The chain has paid all of an allocation up to `cumulative`. Repeatable, in any order.

    What was billed is no longer receivable. A payment may come before the answer that says it was billed; and one
    for use that these books have forgotten, restored from a backup, is booked as such, once.
    """
    amount = cumulative - known.settled
    if amount <= 0:
        return
    left = amount
    found = min(left, known.lost)
    left -= found
    billed = min(left, max(0, known.billed - known.settled - known.lost))
    left -= billed
    owed = min(left, max(0, known.charged - max(known.billed, known.settled + known.lost)))
    left -= owed
    name = "0x" + known.id.hex()
    journal.post(
        db,
        f"settled:{name}:{cumulative}",
        "settled",
        at,
        {
            f"settled:{name}": amount,
            f"lost:{name}": -found,
            f"receivable:{name}": -billed,
            f"owner:{address(known.owner)}": -owed,
            f"unexplained:{name}": -left,
        },
    )
    charged = known.charged + left
    db.execute(
        "UPDATE allocations SET settled = ?, lost = ?, charged = ?, base = ?, billed = ?, "
        "oldest = CASE WHEN ? THEN NULL ELSE oldest END WHERE number = ?",
        (
            cumulative,
            known.lost - found,
            charged,
            known.base + left,
            max(known.billed, cumulative),
            cumulative >= charged,
            known.number,
        ),
    )
    db.execute(
        "UPDATE charges SET status = 'final', reference = CASE WHEN ? <> '' THEN ? ELSE reference END "
        "WHERE allocation = ? AND cumulative <= ? AND status NOT IN ('final', 'refused')",
        (reference, reference, known.number, cumulative),
    )


def refuse(
    db: sqlite3.Connection,
    root: bytes,
    known: Allocation,
    cumulative: int,
    at: int,
    reference: str,
    detail: str,
) -> None:
    """A charge of a batch was not paid: what was billed is owed again, and billed again later."""
    db.execute(
        "UPDATE charges SET status = 'refused', detail = ?, reference = ? WHERE root = ? AND allocation = ?",
        (detail[:200], reference, root, known.number),
    )
    name, paid = "0x" + known.id.hex(), known.settled + known.lost
    back = max(0, known.billed - paid)
    journal.post(
        db,
        f"refused:{name}:{root.hex()}:{attempt(db, root)}",
        "refused",
        at,
        {f"receivable:{name}": -back, f"owner:{address(known.owner)}": back},
    )
    db.execute(
        "UPDATE allocations SET billed = billed - ?, wait = ? WHERE number = ?",
        (back, at + REFUSED_WAIT, known.number),
    )


def attempt(db: sqlite3.Connection, root: bytes) -> int:
    """How often a batch was begun: the same charges, refused and offered again, have the same root."""
    return int(db.execute("SELECT attempt FROM batches WHERE root = ?", (root,)).fetchone()[0])


def lose(db: sqlite3.Connection, known: Allocation, at: int, *, ours: bool) -> None:
    """An allocation has ended, and what was left went back to its owner: what it still owed is lost."""
    name, lost = "0x" + known.id.hex(), known.unsettled
    billed = min(lost, max(0, known.billed - known.settled - known.lost))
    if ours:
        journal.post(
            db,
            f"lost:{name}:{known.settled + known.lost}",
            "lost",
            at,
            {
                f"lost:{name}": lost,
                f"receivable:{name}": -billed,
                f"owner:{address(known.owner)}": billed - lost,
            },
        )
    db.execute(
        "UPDATE allocations SET ended = 1, oldest = NULL, lost = lost + ? WHERE number = ?",
        (lost, known.number),
    )
