"""Single facts the ledger remembers by name: its clock, its place in the chain, whom it settles as."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import asdict
from typing import Any

from decentraspace.ledger.clock import MeterClock, Moment


def get(db: sqlite3.Connection, name: str) -> Any:
    """None for what was never put."""
    found = db.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
    return json.loads(found[0]) if found else None


def put(db: sqlite3.Connection, name: str, value: Any) -> None:
    db.execute(
        "INSERT INTO facts VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        (name, json.dumps(value)),
    )


def clock(db: sqlite3.Connection) -> MeterClock:
    kept = get(db, "clock")
    if kept is None:
        return MeterClock()
    return MeterClock(**{**kept, "last": Moment(**kept["last"]) if kept["last"] else None})


def put_clock(db: sqlite3.Connection, value: MeterClock) -> None:
    put(db, "clock", asdict(value))
