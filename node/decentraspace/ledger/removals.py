"""Sites whose data nobody pays for: how long it is kept still, who is to be told, and from when on it is gone.

The grace period has passed when it has by the clock and by the meter, which counts only time that the node ran: a
clock that is set to another year deletes nothing. Nor does a node that has not heard of the chain lately: its owners
may have paid long since. Until then a payment, or a renewal, undoes all of it; and after
that the site is taken up again, from whoever has it.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, field

from decentraspace.ledger import facts
from decentraspace.ledger.pauses import EXPIRED, UNPAID, kept, warning
from decentraspace.ledger.prices import STORAGE

_HEARD = 86400
"""Seconds for which what the chain said last is good enough to remove data."""


@dataclass(frozen=True)
class Removals:
    """`soon`: owner, site, and in how many seconds it goes at the earliest; `gone`: owner and site, from now on;
    `back`: sites that are paid for again after they were gone."""

    soon: list[tuple[bytes, str, int]] = field(default_factory=list)
    gone: list[tuple[bytes, str]] = field(default_factory=list)
    back: list[str] = field(default_factory=list)


def look(db: sqlite3.Connection, seconds: int, at: int, grace: int) -> Removals:
    """What has changed, once; within the transaction under way. `seconds`: what the meter has counted."""
    found = Removals()
    unpaid: dict[str, tuple[int, int, bytes]] = {}  # until when it is kept at least, and how long
    for site, owner, since, reason in db.execute(
        "SELECT site, owner, since, reason FROM pauses WHERE reason = ? OR (service = ? AND reason IN (?, ?))",
        (EXPIRED, STORAGE, *UNPAID),
    ):
        keep = kept(reason, grace)
        unpaid[site] = min(unpaid.get(site, (since + keep, keep, owner)), (since + keep, keep, owner))
    known = {site: row for site, *row in db.execute("SELECT site, began, warned, removed FROM removals")}
    for site in known.keys() - unpaid.keys():
        db.execute("DELETE FROM removals WHERE site = ?", (site,))
        if known[site][2]:
            found.back.append(site)
    for site, (end, keep, owner) in sorted(unpaid.items()):
        began, warned, removed = known.get(site, (None, 0, 0))
        if began is None:
            began = seconds
            db.execute("INSERT INTO removals (site, began) VALUES (?, ?)", (site, began))
        if removed:
            continue
        left = max(end - at, began + keep - seconds)
        due = warning(left)
        if left <= 0:
            if not _heard(db, seconds, end):
                continue
            db.execute("UPDATE removals SET removed = ? WHERE site = ?", (at, site))
            found.gone.append((owner, site))
        elif due and (not warned or due < warned):
            db.execute("UPDATE removals SET warned = ? WHERE site = ?", (due, site))
            found.soon.append((owner, site, left))
    return found


def _heard(db: sqlite3.Connection, seconds: int, end: int) -> bool:
    """Whether the chain was asked lately, and what it said is of about `end` or later."""
    followed, final = facts.get(db, "followed"), facts.get(db, "final") or {"time": 0}
    recently = followed is not None and seconds - followed <= _HEARD
    return recently and (not final["time"] or final["time"] + _HEARD >= end)


def removed(db: sqlite3.Connection) -> frozenset[str]:
    """Sites whose data is not kept any more."""
    return frozenset(site for (site,) in db.execute("SELECT site FROM removals WHERE removed > 0"))
