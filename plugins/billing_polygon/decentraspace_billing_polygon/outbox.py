"""The operator's transactions that are on their way: written down, synced to disk, before anything is sent.

    written  to be sent
    sent     signed and sent at least once, under a nonce of its own
    final    in a final block; `result` is what its receipt said
    failed   can never be mined, or would revert: `detail` says why

A job is known by its key, for good: the same key is never sent as two transactions that could both be mined. Every
attempt at a job has the same nonce until a final block shows that somebody else's transaction used it.
"""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass, field, replace
from typing import Any

from decentraspace_billing_polygon.store import Store

_WHOLE = 200  # ended jobs whose data is kept; of older ones what came of them


@dataclass(frozen=True)
class Attempt:
    """`most`, `tip` in wei per unit of gas; `at` in Unix seconds; `after`: the final block it was signed after."""

    hash: str
    raw: str
    most: int
    tip: int
    at: int
    after: int


@dataclass(frozen=True)
class Job:
    """A call of `to` with `data`. `result`: a plain document; `about`: what it is for, likewise; `patient`: when
    it would be reverted, it waits until it would not; `once`: doing it twice is not the same as doing it once."""

    key: str
    to: str
    data: str
    made: int
    value: int = 0
    state: str = "written"
    nonce: int | None = None
    gas: int = 0
    attempts: tuple[Attempt, ...] = ()
    detail: str = ""
    patient: bool = False
    once: bool = False
    result: dict[str, Any] = field(default_factory=dict)
    about: dict[str, Any] = field(default_factory=dict)

    @property
    def open(self) -> bool:
        return self.state in ("written", "sent")

    @property
    def reference(self) -> str:
        """The hash of the transaction that was mined, or of the newest attempt, or ""."""
        return str(self.result.get("transaction") or (self.attempts[-1].hash if self.attempts else ""))


class Outbox:
    """Blocking; from any thread."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def add(self, job: Job) -> Job:
        """Write the job down unless its key is known; the job as it stands. On disk when it returns."""
        with self.store.write() as db:
            if (known := _get(db, job.key)) is None:
                _put(db, job)
            return known or job

    def get(self, key: str) -> Job | None:
        with self.store.read() as db:
            return _get(db, key)

    def open_jobs(self) -> list[Job]:
        """In the order they are to be mined: what may wait for something comes after what need not."""
        with self.store.read() as db:
            rows = db.execute("SELECT document FROM jobs WHERE state IN ('written', 'sent')").fetchall()
        unsent = 2**64
        return sorted(
            (_job(row[0]) for row in rows),
            key=lambda j: (unsent if j.nonce is None else j.nonce, j.patient, j.made),
        )

    def change(self, key: str, **changes: Any) -> Job:
        """On disk when it returns."""
        with self.store.write() as db:
            known = _get(db, key)
            if known is None:
                raise KeyError(key)
            job = replace(known, **changes)
            _put(db, job)
            if not job.open:
                _shorten(db)
            return job


def _get(db: sqlite3.Connection, key: str) -> Job | None:
    found = db.execute("SELECT document FROM jobs WHERE key = ?", (key,)).fetchone()
    return _job(found[0]) if found else None


def _put(db: sqlite3.Connection, job: Job) -> None:
    document = json.dumps({**vars(job), "attempts": [vars(attempt) for attempt in job.attempts]})
    db.execute(
        "INSERT OR REPLACE INTO jobs VALUES (?, ?, ?, ?, ?)",
        (job.key, job.state, job.nonce, job.made, document),
    )


def _shorten(db: sqlite3.Connection) -> None:
    """Of what ended long ago, forget how."""
    for (document,) in db.execute(
        "SELECT document FROM jobs WHERE state IN ('final', 'failed') AND length(document) > 4000 "
        "ORDER BY made DESC LIMIT -1 OFFSET ?",
        (_WHOLE,),
    ).fetchall():
        job = _job(document)
        result = {**job.result, "transaction": job.reference}
        _put(db, replace(job, data="0x", attempts=(), result=result))


def _job(document: str) -> Job:
    found = json.loads(document)
    return Job(**{**found, "attempts": tuple(Attempt(**attempt) for attempt in found["attempts"])})
