"""What this node found about who may link which name, kept across restarts. Blocking and thread-safe."""

from __future__ import annotations

import json
import threading
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from decentraspace.database import Database, Migration
from decentraspace.names.proofs import HELD, MISSING, STRANGER, Proof, Seen

_FIRST = """
CREATE TABLE proofs (
    name TEXT NOT NULL, wallet BLOB NOT NULL, state TEXT NOT NULL, method TEXT NOT NULL, detail TEXT NOT NULL,
    seen TEXT NOT NULL, points INTEGER, expires INTEGER, checked INTEGER NOT NULL, fresh INTEGER NOT NULL,
    held INTEGER NOT NULL, lost INTEGER NOT NULL, PRIMARY KEY (name, wallet)
) WITHOUT ROWID;
CREATE INDEX proofs_checked ON proofs (checked);
CREATE TABLE purchases (
    key TEXT PRIMARY KEY, owner BLOB NOT NULL, name TEXT NOT NULL, years INTEGER NOT NULL, plugin TEXT NOT NULL,
    credits INTEGER NOT NULL, status TEXT NOT NULL, reference TEXT NOT NULL, detail TEXT NOT NULL,
    expires INTEGER, at INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX purchases_owner ON purchases (owner, at);
CREATE INDEX purchases_open ON purchases (at) WHERE status IN ('reserved', 'pending')
"""
MIGRATIONS: tuple[Migration, ...] = (_FIRST,)
_COLUMNS = "name, wallet, state, method, detail, seen, points, expires, checked, fresh, held, lost"
_LEAST, _MOST = 30, 3600  # seconds that a finding is not looked at again because somebody visits the name
_NEGATIVE = 30
_KEPT = 86400  # seconds that it is remembered that there was no proof


@dataclass(frozen=True)
class Found:
    """Times in Unix seconds. `checked`: when somebody could say last; `fresh`: until when a visit is no reason to look
    again; `held`: when it was proven last, `lost`: since when it no longer is, 0 for never."""

    name: str
    wallet: bytes
    proof: Proof
    checked: int
    fresh: int
    held: int = 0
    lost: int = 0

    @property
    def place(self) -> tuple[int, str, bytes]:
        """Among those whose turn it is."""
        return self.checked, self.name, self.wallet

    def stands(self, now: int, check_every: float, grace: float) -> bool:
        """Whether the wallet's links of the name are shown. What is gone, or nobody can confirm any more, is shown for
        `grace` seconds; what is somebody else's is not."""
        if not self.held or self.proof.state == STRANGER:
            return False
        if self.proof.expires is not None and now >= self.proof.expires + grace:
            return False
        return now < (
            self.lost + grace if self.proof.state == MISSING else self.checked + check_every + grace
        )


def found_now(name: str, wallet: bytes, proof: Proof, now: int, before: Found | None) -> Found:
    held, lost = (before.held, before.lost) if before else (0, 0)
    if proof.state == HELD:
        held, lost = now, 0
        fresh = min(max(proof.ttl, _LEAST), _MOST)
    else:
        lost, fresh = lost or now, _NEGATIVE
        if proof.state == STRANGER:
            held = 0
    return Found(name, wallet, proof, now, now + int(fresh), held, lost)


class Book(Database):
    """Proofs found; purchases: see buying.py. `buying`: held by who sets credits aside."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, MIGRATIONS)
        self.buying = threading.Lock()

    def get(self, name: str, wallet: bytes) -> Found | None:
        with self.looking() as db:
            row = db.execute(
                f"SELECT {_COLUMNS} FROM proofs WHERE name = ? AND wallet = ?",  # noqa: S608
                (name, wallet),
            ).fetchone()
        return _found(row) if row else None

    def of(self, name: str) -> list[Found]:
        """Of wallets that held it once and are not known to be strangers since; who was proven last first."""
        with self.looking() as db:
            rows = db.execute(
                f"SELECT {_COLUMNS} FROM proofs WHERE name = ? AND held > 0 ORDER BY held DESC LIMIT 100",  # noqa: S608
                (name,),
            ).fetchall()
        return [_found(row) for row in rows]

    def looked_at(self, name: str) -> dict[bytes, int]:
        """When each wallet's claim of the name was looked into last."""
        with self.looking() as db:
            return dict(db.execute("SELECT wallet, checked FROM proofs WHERE name = ?", (name,)).fetchall())

    def put(self, found: Found) -> None:
        proof = found.proof
        seen = json.dumps([asdict(one) for one in proof.seen])
        with self.writing() as db:
            db.execute(
                "INSERT OR REPLACE INTO proofs VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    found.name, found.wallet, proof.state, proof.method, proof.detail, seen, proof.points,
                    proof.expires, found.checked, found.fresh, found.held, found.lost,
                ),
            )  # fmt: skip

    def forget(self, name: str, wallet: bytes) -> None:
        with self.writing() as db:
            db.execute("DELETE FROM proofs WHERE name = ? AND wallet = ?", (name, wallet))

    def due(self, before: int, limit: int, after: tuple[int, str, bytes] = (-1, "", b"")) -> list[Found]:
        """Those that were held once and were looked at before that time, longest ago first; those behind `after`."""
        with self.looking() as db:
            rows = db.execute(
                f"SELECT {_COLUMNS} FROM proofs WHERE checked < ? AND held > 0 "  # noqa: S608
                "AND (checked, name, wallet) > (?, ?, ?) ORDER BY checked, name, wallet LIMIT ?",
                (before, *after, limit),
            ).fetchall()
        return [_found(row) for row in rows]

    def tidy(self, now: int) -> None:
        """Forget what never was a proof, after a day."""
        with self.writing() as db:
            db.execute("DELETE FROM proofs WHERE held = 0 AND checked < ?", (now - _KEPT,))


def _found(row: tuple[Any, ...]) -> Found:
    name, wallet, state, method, detail, seen, points, expires, checked, fresh, held, lost = row
    proof = Proof(
        state,
        method,
        detail,
        expires=expires,
        seen=tuple(Seen(**one) for one in json.loads(seen)),
        points=None if points is None else bool(points),
    )
    return Found(name, wallet, proof, checked, fresh, held, lost)
