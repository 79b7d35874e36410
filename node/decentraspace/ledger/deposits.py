"""Credits for card payments: what plugins report becomes one deposit on chain a payment, neither none nor two.

A payment's name here is PLUGIN/REFERENCE. All that a report changes, with the place to go on from, is one
transaction of the ledger; and a deposit's amount is on disk before it is asked for with its name as the key, with
which it is asked for again until the chain has it in a final block.

A deposit is `waiting` before it was ever asked for: what is disputed then waits, and what is called back is never
deposited. From `pending` on its amount is fixed. Then it is `final`, or `refused` (shown to the operator), or
`void` when nothing was left to deposit.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import structlog

from decentraspace.errors import BadInput, Conflict
from decentraspace.identity.ethereum import parse_address
from decentraspace.ledger import cards, facts

log = structlog.get_logger(__name__)

WAITING, PENDING, FINAL, REFUSED, VOID = "waiting", "pending", "final", "refused", "void"


@dataclass(frozen=True)
class Deposit:
    """`credits`: for `owner`, out of the operator's tokens; `transaction`: its hash, "" before there is one."""

    reference: str
    owner: bytes
    credits: int
    status: str
    transaction: str
    detail: str


@dataclass(frozen=True)
class Told:
    """What a report was news of: received, disputed, kept or reversed."""

    what: str
    card: cards.Card


def cursor(db: sqlite3.Connection, plugin: str) -> int:
    return int(facts.get(db, f"payments:{plugin}") or 0)


def take(db: sqlite3.Connection, plugin: str, answer: Mapping[str, Any], at: int) -> list[Told]:
    """What `payment_events` answered; what is new in it. One that makes no sense keeps no other waiting."""
    news = []
    for event in answer["events"]:
        try:
            news += report(db, plugin, event, at)
        except (BadInput, Conflict) as error:  # nothing of it was written
            log.error("payment_makes_no_sense", reference=event["reference"], reason=str(error))
    facts.put(db, f"payments:{plugin}", answer["next"])
    return news


def report(db: sqlite3.Connection, plugin: str, event: Mapping[str, Any], at: int) -> list[Told]:
    """How one payment stands now, by an event or a webhook; repeatable."""
    name, status = f"{plugin}/{event['reference']}", event["status"]
    known = cards.find(db, name)
    if status not in ("done", "reversed") and not (status == "disputed" and known is not None):
        return []  # not paid, or not ours: nothing was credited
    done: list[str] = []
    if known is None:
        if not event.get("credits") or not event.get("owner"):
            raise BadInput(f"Payment {name} is {status}, but nobody says of whom and how much")
        cards.received(
            db, name, parse_address(event["owner"]), event["credits"], event.get("held_until", at), at
        )
        db.execute("INSERT INTO deposits (reference, status) VALUES (?, ?)", (name, WAITING))
        done.append("received")
    elif _differs(known, event):
        raise Conflict(f"Payment {name} was of another sum or owner")
    if status == "disputed":
        done += ["disputed"] if cards.dispute(db, name, at) else []
    else:
        back = event.get("reversed", cards.known(db, name).credits if status == "reversed" else 0)
        done += ["reversed"] if back and cards.reverse(db, name, at, back, _given(db, name)) else []
        until = event.get("held_until", cards.known(db, name).until)
        done += ["kept"] if cards.keep(db, name, until, at) else []
    card = cards.known(db, name)
    return [Told(what, card) for what in done]


def _differs(card: cards.Card, event: Mapping[str, Any]) -> bool:
    owner, credits = event.get("owner"), event.get("credits")
    return (owner is not None and parse_address(owner) != card.owner) or (
        bool(credits) and credits != card.credits
    )


def _given(db: sqlite3.Connection, name: str) -> bool:
    found = db.execute("SELECT status FROM deposits WHERE reference = ?", (name,)).fetchone()
    return found is None or found[0] not in (WAITING, VOID)


def due(db: sqlite3.Connection, limit: int = 100, after: str = "") -> list[Deposit]:
    """What is to be asked for now, by reference after `after`; written down as asked for."""
    rows = db.execute(
        "SELECT d.reference, d.status, c.state FROM deposits d JOIN cards c USING (reference) "
        "WHERE d.status IN ('waiting', 'pending') AND d.reference > ? "
        "AND NOT (d.status = 'waiting' AND c.state = 'disputed') ORDER BY d.reference LIMIT ?",
        (after, limit),
    ).fetchall()
    for name, status, _ in rows:
        if status == WAITING:
            left = cards.known(db, name).left
            db.execute(
                "UPDATE deposits SET status = ?, credits = ? WHERE reference = ?",
                (PENDING if left else VOID, left, name),
            )
    found = [of(db, name) for name, _, _ in rows]
    return [one for one in found if one is not None and one.status == PENDING]


def answered(db: sqlite3.Connection, reference: str, answer: Mapping[str, Any]) -> None:
    """What `chain_send` said of it."""
    db.execute(
        'UPDATE deposits SET status = ?, "transaction" = ?, detail = ? WHERE reference = ? AND status = ?',
        (answer["status"], answer["reference"], answer.get("detail", ""), reference, PENDING),
    )


def of(db: sqlite3.Connection, reference: str) -> Deposit | None:
    """None for a payment whose deposit was not this ledger's to make."""
    row = db.execute(
        'SELECT c.owner, COALESCE(d.credits, c.credits - c.reversed), d.status, d."transaction", d.detail '
        "FROM deposits d JOIN cards c USING (reference) WHERE d.reference = ?",
        (reference,),
    ).fetchone()
    return Deposit(reference, bytes(row[0]), *row[1:]) if row else None
