"""The settlement book: what was offered to the chain, and what came of it.

A batch is written down before it is offered, and stays open until each of its charges is final or refused. There
is one open batch at most; after a crash at any instant the same one, with the same root, is offered again. Its
charges are running totals, so that paying twice pays nothing, and what a refused or forgotten batch did not
bring is in the next.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from decentraspace.ledger import allocations, booking, facts
from decentraspace.ledger.allocations import Allocation
from decentraspace.ledger.merkle import Tree, charge_leaf, service_words, site_bytes, usage_leaf_of
from decentraspace.ledger.prices import PriceList
from decentraspace.ledger.rollup import address

CHARGES_MOST = 200
"""Charges in one batch: what fits a transaction."""
LATER = 900
"""Seconds until what did not pay to settle is offered again."""


@dataclass(frozen=True)
class Charge:
    """One allocation's part of a batch. `chosen`: its number by its owner, in decimal; `cumulative`: all that was
    metered under it; `previous`: the total before the use that `usage_root` is of; `status`: offered, pending,
    final or refused."""

    allocation: bytes
    owner: bytes
    chosen: str
    cumulative: int
    previous: int
    usage_root: bytes
    status: str
    reference: str
    detail: str

    @property
    def leaf(self) -> bytes:
        return charge_leaf(self.allocation, self.cumulative, self.usage_root)

    def offer(self) -> dict[str, Any]:
        """As `ledger_settle` gets it."""
        return {
            "allocation": "0x" + self.allocation.hex(),
            "owner": address(self.owner),
            "id": int(self.chosen),
            "credits": self.cumulative,
            "leaf": "0x" + self.usage_root.hex(),
        }


@dataclass(frozen=True)
class Batch:
    """`state`: open or done; times in Unix seconds."""

    root: bytes
    state: str
    made: int
    offered: int
    prices: str
    charges: tuple[Charge, ...]


@dataclass(frozen=True)
class When:
    """From which sum on, after how many seconds, and from which debt of one owner on charges are settled."""

    least: int
    every: int
    exposure: int


_CHARGES = (
    "SELECT a.id, a.owner, a.chosen, c.cumulative, t.previous, t.usage_root, c.status, c.reference, c.detail "
    "FROM charges c JOIN totals t USING (allocation, cumulative) "
    "JOIN allocations a ON a.number = c.allocation WHERE c.root = ? ORDER BY a.id"
)


def batch(db: sqlite3.Connection, root: bytes) -> Batch | None:
    found = db.execute("SELECT state, made, offered, prices FROM batches WHERE root = ?", (root,)).fetchone()
    if found is None:
        return None
    charges = tuple(Charge(*row) for row in db.execute(_CHARGES, (root,)))
    state, made, offered, prices = found
    return Batch(root, state, made, offered, prices, charges)


def open_batch(db: sqlite3.Connection) -> Batch | None:
    """The one that is to be offered, or offered again."""
    db.execute(
        "UPDATE batches SET state = 'done' WHERE state = 'open' AND NOT EXISTS (SELECT 1 FROM charges c "
        "WHERE c.root = batches.root AND c.status IN ('offered', 'pending'))"
    )
    found = db.execute("SELECT root FROM batches WHERE state = 'open'").fetchone()
    return batch(db, found[0]) if found else None


def is_due(granted: Sequence[Allocation], when: When, at: int) -> bool:
    """Whether it is time to settle these."""
    debts: dict[bytes, int] = {}
    for one in granted:
        debts[one.owner] = debts.get(one.owner, 0) + one.unsettled
    return bool(granted) and (
        sum(debts.values()) >= when.least
        or max(debts.values()) * 2 >= when.exposure
        or any(one.oldest is not None and one.oldest + when.every <= at for one in granted)
        or any(one.expires <= at + when.every for one in granted)
        or any(
            one.rate > 0 and one.fund(at).room == 0 for one in granted
        )  # its stream is about to take the rest
    )


def make(db: sqlite3.Connection, operator: bytes, at: int, when: When, prices: PriceList) -> Batch | None:
    """A new batch of what is due; None when there is one open, nothing is due, or not yet. Written down with the
    transaction under way."""
    if open_batch(db) is not None or int(facts.get(db, "settle_after") or 0) > at:
        return None
    granted = allocations.due(db, operator, at, CHARGES_MOST)
    if not is_due(granted, when, at):
        return None
    leaves = [charge_leaf(one.id, one.charged, _total(db, one)) for one in granted]
    root = Tree(leaves).root
    db.execute(
        "INSERT INTO batches (root, state, made, prices) VALUES (?, 'open', ?, ?) ON CONFLICT (root) DO UPDATE "
        "SET state = 'open', attempt = attempt + 1",
        (root, at, json.dumps(dict(prices.credits), sort_keys=True)),
    )
    db.executemany(
        "INSERT INTO charges (root, allocation, cumulative) VALUES (?, ?, ?) "
        "ON CONFLICT (root, allocation) DO UPDATE SET status = 'offered'",
        [(root, one.number, one.charged) for one in granted],
    )
    return batch(db, root)


def _total(db: sqlite3.Connection, one: Allocation) -> bytes:
    """The usage root of what was charged under an allocation and is not paid. Made once for each total: an
    operator that signs two roots for one total would contradict itself."""
    known = db.execute(
        "SELECT usage_root FROM totals WHERE allocation = ? AND cumulative = ?", (one.number, one.charged)
    ).fetchone()
    if known is not None:
        return bytes(known[0])
    paid = db.execute(
        "SELECT COALESCE(MAX(last), 0) FROM totals WHERE allocation = ? AND cumulative <= ?",
        (one.number, one.settled),
    ).fetchone()[0]
    hashes, credits, last = [], 0, paid
    sites: dict[str, bytes] = {}
    services: dict[str, bytes] = {}
    for number, site, hour, service, quantity, worth in db.execute(
        "SELECT id, site, hour, service, quantity, credits FROM leaves WHERE allocation = ? AND id > ? "
        "ORDER BY id",
        (one.number, paid),
    ):
        place = sites.get(site) or sites.setdefault(site, site_bytes(site))
        name = services.get(service) or services.setdefault(service, service_words(service))
        hashes.append(usage_leaf_of(place, hour, name, quantity, worth))
        credits += worth
        last = number
    root = Tree(hashes).root
    previous = one.charged - credits
    db.execute(
        "INSERT INTO totals VALUES (?, ?, ?, ?, ?, ?)",
        (one.number, one.charged, previous, root, paid + 1, last),
    )
    return root


def offering(db: sqlite3.Connection, root: bytes, at: int) -> None:
    """It is about to be offered."""
    db.execute("UPDATE batches SET offered = ? WHERE root = ?", (at, root))


def answered(db: sqlite3.Connection, root: bytes, answers: Sequence[Mapping[str, Any]], at: int) -> None:
    """Book what `ledger_settle` answered. Repeatable; answers about something else are passed over."""
    one = batch(db, root)
    if one is None or one.state != "open":
        return
    by_allocation = {answer["allocation"]: answer for answer in answers}
    told = [(charge, by_allocation.get("0x" + charge.allocation.hex())) for charge in one.charges]
    right = [(c, a) for c, a in told if a is not None and a["credits"] == c.cumulative]
    fresh = all(charge.status == "offered" for charge in one.charges)
    if fresh and len(right) == len(told) and all(a["status"] == "later" for _, a in right):
        # The plugin has written nothing down: there is no such batch.
        db.execute("DELETE FROM charges WHERE root = ?", (root,))
        db.execute("DELETE FROM batches WHERE root = ?", (root,))
        facts.put(db, "settle_after", at + LATER)
        return
    for charge, answer in right:
        if charge.status not in ("final", "refused"):
            _answer(db, root, charge, answer, at)


def _answer(db: sqlite3.Connection, root: bytes, charge: Charge, answer: Mapping[str, Any], at: int) -> None:
    known = allocations.by_id(db, charge.allocation)
    assert known is not None
    status, reference = answer["status"], answer["reference"]
    if status == "refused":
        booking.refuse(db, root, known, charge.cumulative, at, reference, answer.get("detail", ""))
        return
    if status not in ("pending", "final"):
        return
    db.execute(
        "UPDATE charges SET status = 'pending', reference = ? WHERE root = ? AND allocation = ?",
        (reference, root, known.number),
    )
    booking.bill(db, root, known, charge.cumulative, at)
    if status == "final":
        known = allocations.by_id(db, charge.allocation)
        assert known is not None
        booking.paid(db, known, charge.cumulative, at, reference)
        db.execute(
            "UPDATE charges SET status = 'final' WHERE root = ? AND allocation = ?", (root, known.number)
        )
