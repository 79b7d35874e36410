"""What is paused, why, since when; and when sites of the free tier end.

    credit    the owner has no allocation here with anything left, and the allowance is used up
    cap       the site has cost this month what it may
    exposure  the owner owes this node as much as it lets anybody owe; a settlement ends that
    owner     the owner wants it so
    expired   a site of the free tier that nobody has renewed

A service may be paused for several reasons; it resumes when the last has gone. `egress` and `requests` paused:
visitors get 402. `storage` paused: nobody pays for keeping the data, which stays for the grace period.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from decentraspace.ledger.charging import CAP, CREDIT, EXPOSURE
from decentraspace.ledger.prices import EGRESS, REQUESTS, SERVED, STORAGE

OWNER, EXPIRED = "owner", "expired"
COUNTED = (CREDIT, CAP, EXPOSURE)
"""Reasons that follow from the books."""
UNPAID = (CREDIT, CAP)
"""Those of them for which data goes in the end. What waits for a settlement was granted: its owner has paid."""
_MONTH = 32 * 86400
WARNINGS = (30 * 86400, 7 * 86400, 86400)
"""Seconds before a site ends that its owner is warned."""


class Change(NamedTuple):
    """A service of a site was paused (`reason`) or resumed (`reason` is "")."""

    owner: bytes
    site: str
    service: str
    reason: str


@dataclass(frozen=True)
class Pause:
    service: str
    reason: str
    since: int


@dataclass(frozen=True)
class SiteState:
    """`state`: active, warned (it ends soon), paused, ending (data is kept until `removable`), or removed.

    `expires`: when a site of the free tier ends, None where it does not; `removable`: from when on its data may be
    deleted, None while nothing speaks for that; `warned`: the warning given last, in seconds before the end, or 0."""

    site: str
    state: str
    pauses: tuple[Pause, ...]
    expires: int | None
    removable: int | None
    warned: int


Wanted = Mapping[tuple[str, str], str]
"""(site, service) -> why it is to be paused, of all that an owner has here."""


def _counted(db: sqlite3.Connection, owner: bytes) -> dict[tuple[str, str], str]:
    rows = db.execute(
        "SELECT site, service, reason FROM pauses WHERE owner = ? AND reason IN (?, ?, ?)", (owner, *COUNTED)
    )
    return {(site, service): reason for site, service, reason in rows}


def differ(db: sqlite3.Connection, owner: bytes, wanted: Wanted) -> bool:
    """Whether `follow` would change anything."""
    return _counted(db, owner) != wanted


def follow(db: sqlite3.Connection, owner: bytes, wanted: Wanted, at: int) -> list[Change]:
    """Have an owner's pauses that follow from the books be those `wanted`."""
    changes, before = [], _counted(db, owner)
    for site, service in sorted(before.keys() - wanted.keys()):
        db.execute(
            "DELETE FROM pauses WHERE site = ? AND service = ? AND owner = ? AND reason IN (?, ?, ?)",
            (site, service, owner, *COUNTED),
        )
        if not _any(db, site, service):
            changes.append(Change(owner, site, service, ""))
    for (site, service), reason in sorted(wanted.items()):
        known = before.get((site, service))
        if known is None:
            _set(db, site, service, reason, owner, at)
            changes.append(Change(owner, site, service, reason))
        elif known != reason:  # since when stays
            db.execute(
                "UPDATE pauses SET reason = ? WHERE site = ? AND service = ? AND reason = ?",
                (reason, site, service, known),
            )
    return changes


def _set(db: sqlite3.Connection, site: str, service: str, reason: str, owner: bytes, at: int) -> bool:
    done = db.execute(
        "INSERT INTO pauses VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING", (site, service, reason, owner, at)
    )
    return done.rowcount > 0


def _any(db: sqlite3.Connection, site: str, service: str) -> bool:
    found = db.execute("SELECT 1 FROM pauses WHERE site = ? AND service = ?", (site, service))
    return found.fetchone() is not None


def pause(
    db: sqlite3.Connection, owner: bytes, site: str, service: str, reason: str, at: int
) -> list[Change]:
    return [Change(owner, site, service, reason)] if _set(db, site, service, reason, owner, at) else []


def resume(db: sqlite3.Connection, owner: bytes, site: str, service: str, reason: str) -> list[Change]:
    done = db.execute(
        "DELETE FROM pauses WHERE site = ? AND service = ? AND reason = ?", (site, service, reason)
    )
    return [Change(owner, site, service, "")] if done.rowcount and not _any(db, site, service) else []


def hand_over(db: sqlite3.Connection, site: str, owner: bytes) -> None:
    """A site is another's now: what is paused of it follows from how that one stands."""
    db.execute("UPDATE pauses SET owner = ? WHERE site = ?", (owner, site))


def unserved(db: sqlite3.Connection) -> set[str]:
    """Sites whose visitors get 402."""
    rows = db.execute("SELECT DISTINCT site FROM pauses WHERE service IN (?, ?)", SERVED)
    return {site for (site,) in rows}


# -- the end of free sites


def seen(db: sqlite3.Connection, site: str, owner: bytes, deployed: int) -> None:
    """A site was taken here; its newest version is of `deployed`."""
    db.execute(
        "INSERT INTO terms (site, owner, renewed) VALUES (?, ?, ?) ON CONFLICT (site) DO UPDATE SET "
        "renewed = MAX(renewed, excluded.renewed), owner = excluded.owner",
        (site, owner, deployed),
    )


def end_of(renewed: int, expires: int | None, tier: str, lifetime: int) -> int | None:
    """When a site ends: as the operator set it (0: never), or so long after it was renewed."""
    if expires is not None:
        return expires or None
    return renewed + lifetime if tier != "paid" and lifetime else None


def warning(left: int) -> int:
    """The last warning that is due when so many seconds are left; 0 for none."""
    due = [seconds for seconds in WARNINGS if left <= seconds]
    return min(due, default=0)


def kept(reason: str, grace: int) -> int:
    """Seconds that data is kept for all that. A cap ends with its month: whoever had visitors use it up, who may be
    anybody, is not to have had the data removed as well."""
    return max(grace, _MONTH) if reason == CAP else grace


def look(
    db: sqlite3.Connection, site: str, owner: bytes, tier: str, lifetime: int, at: int
) -> tuple[list[Change], int]:
    """Pause what has ended, resume what was renewed; and the warning that is to be given now, 0 for none."""
    renewed, expires, warned = db.execute(
        "SELECT renewed, expires, warned FROM terms WHERE site = ?", (site,)
    ).fetchone()
    end = end_of(renewed, expires, tier, lifetime)
    if end is not None and at >= end:
        return [c for name in SERVED for c in pause(db, owner, site, name, EXPIRED, end)], 0
    changes = [c for name in SERVED for c in resume(db, owner, site, name, EXPIRED)]
    due = warning(end - at) if end is not None else 0
    if due == warned:
        return changes, 0
    db.execute("UPDATE terms SET warned = ? WHERE site = ?", (due, site))
    return changes, due if due and (not warned or due < warned) else 0


def state_of(db: sqlite3.Connection, site: str, tier: str, lifetime: int, grace: int, at: int) -> SiteState:
    """How a site stands here."""
    rows = db.execute(
        "SELECT service, reason, since FROM pauses WHERE site = ? ORDER BY service, reason", (site,)
    )
    pauses = tuple(Pause(*row) for row in rows)
    term = db.execute("SELECT renewed, expires, warned FROM terms WHERE site = ?", (site,)).fetchone()
    end = end_of(term[0], term[1], tier, lifetime) if term else None
    unpaid = [p for p in pauses if p.reason == EXPIRED or (p.service == STORAGE and p.reason in UNPAID)]
    removable = min((p.since + kept(p.reason, grace) for p in unpaid), default=None)
    gone = db.execute("SELECT 1 FROM removals WHERE site = ? AND removed > 0", (site,)).fetchone()
    if removable is not None:
        state = "removed" if gone else "ending"
    elif any(p.service in (EGRESS, REQUESTS) for p in pauses):
        state = "paused"
    else:
        state = "warned" if end is not None and warning(end - at) else "active"
    return SiteState(site, state, pauses, end, removable, term[2] if term else 0)
