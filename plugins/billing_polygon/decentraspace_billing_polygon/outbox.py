"""The operator's transactions that are on their way: written down, synced to disk, before anything is sent.

    written  to be sent
    sent     signed and sent at least once, under a nonce of its own
    final    in a final block; `result` is what its receipt said
    failed   can never be mined, or would revert: `detail` says why

A job is known by its key, and the same key is never sent as two transactions that could both be mined: every
attempt at a job has the same nonce until a final block shows that somebody else's transaction used it.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tinydb import where

from decentraspace.plugin_storage import open_documents

_KEPT = 200  # ended jobs that are remembered: what asks for them again does so soon


@dataclass(frozen=True)
class Attempt:
    """`most`, `tip` in wei per unit of gas; `at` in Unix seconds."""

    hash: str
    raw: str
    most: int
    tip: int
    at: int


@dataclass(frozen=True)
class Job:
    """A call of `to` with `data`; `result`: a plain document."""

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
    """Blocking; from any thread. Conflict when another program has the file open."""

    def __init__(self, path: Path) -> None:
        self._documents = open_documents(path)
        self._jobs = self._documents.table("jobs")
        self._lock = threading.Lock()

    def close(self) -> None:
        with self._lock:
            self._documents.close()

    def add(self, job: Job) -> Job:
        """Write the job down unless its key is known; the job as it stands. On disk when it returns."""
        with self._lock:
            if (known := self._get(job.key)) is not None:
                return known
            self._jobs.insert(_plain(job))
            ended = [d for d in self._jobs if d["state"] in ("final", "failed")]
            if len(ended) > _KEPT:
                oldest = sorted(ended, key=lambda d: d["made"])[: len(ended) - _KEPT]
                self._jobs.remove(doc_ids=[d.doc_id for d in oldest])
            return job

    def get(self, key: str) -> Job | None:
        with self._lock:
            return self._get(key)

    def open_jobs(self) -> list[Job]:
        """In the order they are to be mined."""
        with self._lock:
            jobs = [_job(d) for d in self._jobs if d["state"] in ("written", "sent")]
        unsent = 2**64
        return sorted(jobs, key=lambda j: (unsent if j.nonce is None else j.nonce, j.made))

    def change(self, key: str, **changes: Any) -> Job:
        """On disk when it returns."""
        with self._lock:
            known = self._get(key)
            if known is None:
                raise KeyError(key)
            job = replace(known, **changes)
            self._jobs.update(_plain(job), where("key") == key)
            return job

    def _get(self, key: str) -> Job | None:
        found = self._jobs.get(where("key") == key)
        return _job(found) if isinstance(found, dict) else None


def _plain(job: Job) -> dict[str, Any]:
    document = {**vars(job), "attempts": [vars(a) for a in job.attempts]}
    # JSON readers round integers beyond 2^53; wei go far beyond.
    document["value"] = str(job.value)
    document["attempts"] = [{**a, "most": str(a["most"]), "tip": str(a["tip"])} for a in document["attempts"]]
    return document


def _job(document: Any) -> Job:
    attempts = tuple(
        Attempt(a["hash"], a["raw"], int(a["most"]), int(a["tip"]), a["at"]) for a in document["attempts"]
    )
    return Job(**{**document, "value": int(document["value"]), "attempts": attempts})
