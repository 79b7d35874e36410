"""Statements: what a settled charge was for, in a form that anybody can recompute.

A statement is one allocation's part of one batch: every use with its price, the root over them, the charge with
its way up to the batch's root, which the contract's event has. `verify.py` reads it without this node.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from typing import Any

from decentraspace.errors import NotFound
from decentraspace.identity.ethereum import checksum_address
from decentraspace.ledger import allocations, facts
from decentraspace.ledger.merkle import Tree, usage_leaf
from decentraspace.ledger.settlement import Batch, Charge, batch

FORMAT = "decentraspace-statement-1"


def statement(db: sqlite3.Connection, root: bytes, allocation: bytes) -> dict[str, Any]:
    """As JSON: hashes and addresses as text, hours as Unix hours, amounts as integers. NotFound."""
    one = batch(db, root)
    charge = next((c for c in one.charges if c.allocation == allocation), None) if one else None
    if one is None or charge is None:
        raise NotFound("There is no such statement here")
    return _statement(db, one, charge, Tree([other.leaf for other in one.charges]))


def of_batch(db: sqlite3.Connection, root: bytes) -> Iterator[dict[str, Any]]:
    """All statements of a batch, one after the other. NotFound."""
    one = batch(db, root)
    if one is None:
        raise NotFound("There is no such batch here")
    tree = Tree([charge.leaf for charge in one.charges])
    for charge in one.charges:
        yield _statement(db, one, charge, tree)


def _statement(db: sqlite3.Connection, one: Batch, charge: Charge, tree: Tree) -> dict[str, Any]:
    settles = facts.get(db, "settles") or {}
    granted = allocations.by_id(db, charge.allocation)
    assert granted is not None
    return {
        "format": FORMAT,
        "chain": settles.get("chain"),
        "vault": settles.get("vault"),
        "operator": checksum_address(granted.operator),
        "owner": checksum_address(charge.owner),
        "allocation": _hex(charge.allocation),
        "previous": charge.previous,
        "cumulative": charge.cumulative,
        "usage_root": _hex(charge.usage_root),
        "root": _hex(one.root),
        "proof": [_hex(sibling) for sibling in tree.proof(charge.leaf)],
        "status": charge.status,
        "transaction": charge.reference,
        "made": one.made,
        "prices": json.loads(one.prices),
        "usage": _usage(db, granted.number, charge.cumulative),
    }


def _hex(data: bytes) -> str:
    return "0x" + data.hex()


def _usage(db: sqlite3.Connection, number: int, cumulative: int) -> list[dict[str, Any]]:
    rows = db.execute(
        "SELECT l.site, l.hour, l.service, l.quantity, l.credits, l.free, l.streamed, l.waived FROM totals t "
        "JOIN leaves l ON l.allocation = t.allocation AND l.id BETWEEN t.first AND t.last "
        "WHERE t.allocation = ? AND t.cumulative = ? ORDER BY l.site, l.hour, l.service",
        (number, cumulative),
    )
    names = ("site", "hour", "service", "quantity", "credits", "free", "streamed", "waived")
    return [dict(zip(names, row, strict=True)) for row in rows]


def proved(document: dict[str, Any], place: int) -> dict[str, Any]:
    """The same statement with only its use number `place`, and the way from that to the usage root: enough to
    show one charge without showing all."""
    uses = document["usage"]
    leaves = [usage_leaf(u["site"], u["hour"], u["service"], u["quantity"], u["credits"]) for u in uses]
    proof = Tree(leaves).proof(leaves[place])
    return {**document, "usage": [{**uses[place], "proof": [_hex(sibling) for sibling in proof]}]}


def listed(
    db: sqlite3.Connection, owner: bytes, limit: int = 100, before: int | None = None
) -> list[dict[str, Any]]:
    """An owner's statements, newest first, without their uses. `before`: made before that time."""
    rows = db.execute(
        "SELECT b.root, a.id, b.made, t.previous, c.cumulative, c.status, c.reference, c.detail FROM charges c "
        "JOIN totals t USING (allocation, cumulative) JOIN batches b ON b.root = c.root "
        "JOIN allocations a ON a.number = c.allocation "
        "WHERE a.owner = ? AND b.made < ? ORDER BY b.made DESC, b.root LIMIT ?",
        (owner, 2**62 if before is None else before, limit),
    )
    return [
        {
            "root": _hex(root),
            "allocation": _hex(allocation),
            "made": made,
            "credits": cumulative - previous,
            "cumulative": cumulative,
            "status": status,
            "transaction": reference,
            "detail": detail,
        }
        for root, allocation, made, previous, cumulative, status, reference, detail in rows
    ]
