"""What was used in the hours that are still open: by visitors, by holding data, by services on their own.

Each function works within the transaction under way. A late count goes to the oldest hour that is open: closed
ones are priced, and perhaps settled.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from decentraspace.errors import Conflict
from decentraspace.ledger.clock import MeterClock
from decentraspace.ledger.prices import EGRESS, REQUESTS, STORAGE
from decentraspace.ledger.usage import Total

_ADD = (
    "INSERT INTO open VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (hour, owner, site, service) DO UPDATE SET "
    "quantity = quantity + excluded.quantity, fixed = fixed + excluded.fixed"
)
_MOST = 2**62  # of a quantity: far beyond what a machine does in an hour


class Held(NamedTuple):
    """How much of a site this node holds."""

    owner: bytes
    bytes: int


def take_totals(
    db: sqlite3.Connection, clock: MeterClock, totals: Sequence[Total], owners: Mapping[str, bytes]
) -> None:
    """Count what the totals have beyond what was seen of them before: repeating it changes nothing.

    A site without an owner in `owners` is seen, and charged to nobody.
    """
    totals = list({total[:2]: total for total in totals}.values())
    seen = {
        (site, hour): (requests, size)
        for site, hour, requests, size in db.execute(
            "SELECT s.site, s.hour, s.requests, s.bytes FROM json_each(?) j JOIN seen s "
            "ON s.site = json_extract(j.value, '$[0]') AND s.hour = json_extract(j.value, '$[1]')",
            (json.dumps([total[:2] for total in totals]),),
        )
    }
    fresh: list[Total] = []
    more: list[tuple[int, bytes, str, str, int, int]] = []
    for total in totals:
        requests, size = seen.get(total[:2], (0, 0))
        requests, size = total.requests - requests, total.bytes - size
        if requests <= 0 and size <= 0:
            continue
        fresh.append(total)
        owner = owners.get(total.site)
        if owner is not None:
            hour = open_hour(clock, total.hour)
            for name, count in ((EGRESS, size), (REQUESTS, requests)):
                if count > 0:
                    more.append((hour, owner, total.site, name, min(count, _MOST), 0))
    db.executemany("INSERT OR REPLACE INTO seen (site, hour, requests, bytes) VALUES (?, ?, ?, ?)", fresh)
    db.executemany(_ADD, more)


def open_hour(clock: MeterClock, hour: int) -> int:
    """Where use of an hour is counted."""
    if clock.last is None:
        return hour  # before the first look
    return min(max(hour, clock.closed + 1), max(clock.hour, clock.closed + 1))


def add(
    db: sqlite3.Connection, hour: int, owner: bytes, site: str, service: str, quantity: int, fixed: int
) -> None:
    db.execute(_ADD, (hour, owner, site, service, quantity, fixed))


# -- storage: byte-seconds, until an hour is closed


def hold(db: sqlite3.Connection, clock: MeterClock, hour: int, now: Mapping[str, Held]) -> set[bytes]:
    """From now on this is what the node holds; what it held until now is counted in `hour`. The owners whose
    sites have changed."""
    owners = set()
    before = {
        site: (Held(owner, size), since) for site, owner, size, since in db.execute("SELECT * FROM holdings")
    }
    for site in before.keys() | now.keys():
        held, since = before.get(site, (None, 0))
        fresh = now.get(site)
        if held == fresh:
            continue
        owners |= {one.owner for one in (held, fresh) if one is not None}
        if held is not None:
            _count(db, hour, site, held, clock.seconds - since)
            db.execute("DELETE FROM holdings WHERE site = ?", (site,))
        if fresh is not None and fresh.bytes:
            db.execute("INSERT INTO holdings VALUES (?, ?, ?, ?)", (site, *fresh, clock.seconds))
    return owners


def _count(db: sqlite3.Connection, hour: int, site: str, held: Held, seconds: int) -> None:
    if seconds > 0:
        add(db, hour, held.owner, site, STORAGE, min(held.bytes * seconds, _MOST), 0)


def count_held(db: sqlite3.Connection, clock: MeterClock, hour: int) -> None:
    """Count in `hour` all that was held until now."""
    for site, owner, size, since in db.execute(
        "SELECT * FROM holdings WHERE since < ?", (clock.seconds,)
    ).fetchall():
        _count(db, hour, site, Held(owner, size), clock.seconds - since)
    db.execute("UPDATE holdings SET since = ?", (clock.seconds,))


def held_since(db: sqlite3.Connection, clock: MeterClock, owner: bytes) -> dict[str, int]:
    """Byte-seconds of an owner's sites that are in no hour yet."""
    rows = db.execute("SELECT site, bytes, since FROM holdings WHERE owner = ?", (owner,))
    return {site: size * (clock.seconds - since) for site, size, since in rows}


# -- services that say themselves what was used


class Deduct(NamedTuple):
    """`credits`: what it was thought to cost, asked explicitly or by the price list."""

    owner: bytes
    site: str
    service: str
    quantity: int
    fixed: int
    credits: int
    hour: int
    at: int


def deducted(db: sqlite3.Connection, key: str) -> Deduct | None:
    found = db.execute(
        "SELECT owner, site, service, quantity, fixed, credits, hour, at FROM deducts WHERE key = ?", (key,)
    ).fetchone()
    return Deduct(*found) if found else None


def deduct(db: sqlite3.Connection, key: str, one: Deduct) -> Deduct:
    """Count it once. Conflict when the key stood for something else."""
    before = deducted(db, key)
    if before is not None:
        if before[:4] != one[:4] or before.fixed != one.fixed:
            raise Conflict("This key was used for another charge", hint="Use a new key for each charge.")
        return before
    db.execute("INSERT INTO deducts VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", (key, *one))
    add(db, one.hour, one.owner, one.site, one.service, one.quantity, one.fixed)
    return one
