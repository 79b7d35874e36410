"""What owners granted to operators on chain, as this node knows it from final events.

An allocation pays by the second (its stream, for storage) and for what is metered, together never more than
its cap. Amounts are credits, times Unix seconds.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from typing import Any

from decentraspace.ledger.charging import Fund

AHEAD = 2 * 86400
"""Seconds of its stream that are kept free in an allocation's cap: anybody may settle a stream before a
metered charge is."""


@dataclass(frozen=True)
class Allocation:
    """`number` names it in this ledger, `id` (32 bytes) on chain.

    `settled`: metered credits paid on chain; `charged`: metered in all, `base` of which these books do not
    know; `billed`: of `charged`, in a batch that was written down; `lost`: given up; `stream_base`: what the
    stream had come to by `stream_from`, when its terms changed; `stream_settled`: paid of it on chain;
    `stream_used`: of it, used up by storage; `ended`: what was left of it was released; `oldest`: since when
    something is to be billed; `wait`: not to be billed again before, having been refused; `chosen`:
    its number by its owner, in decimal."""

    number: int
    id: bytes
    owner: bytes
    operator: bytes
    cap: int
    rate: int
    start: int
    expires: int
    stream_base: int
    stream_from: int
    stream_settled: int
    stream_used: int
    settled: int
    charged: int
    base: int
    billed: int
    lost: int
    ended: int
    oldest: int | None
    wait: int
    chosen: str

    def live(self, at: int, since: int | None = None) -> bool:
        """At some time from `since` to `at`, or at `at`."""
        return not self.ended and self.start <= at and (at if since is None else since) < self.expires

    def streamed(self, at: int) -> int:
        """What the stream has come to by `at`."""
        seconds = max(0, min(at, self.expires) - max(self.start, self.stream_from))
        most = max(0, self.cap - self.settled)
        return max(self.stream_settled, min(most, self.stream_base + self.rate * seconds))

    @property
    def unsettled(self) -> int:
        """Metered, not paid on chain yet, not given up."""
        return max(0, self.charged - self.settled - self.lost)

    def fund(self, at: int) -> Fund:
        room = max(0, self.cap - self.charged - self.streamed(at + AHEAD))
        return Fund(self.number, room, max(0, self.streamed(at) - self.stream_used))


_ALL = "SELECT * FROM allocations"


def by_id(db: sqlite3.Connection, allocation: bytes) -> Allocation | None:
    found = db.execute(f"{_ALL} WHERE id = ?", (allocation,)).fetchone()
    return Allocation(*found) if found else None


def of_owner(db: sqlite3.Connection, owner: bytes, operator: bytes) -> list[Allocation]:
    """Those that end first first, ended ones included."""
    return of_owners(db, "SELECT ?", (owner,), operator)


def of_owners(
    db: sqlite3.Connection, owners: str, asked: tuple[Any, ...], operator: bytes
) -> list[Allocation]:
    """The same of all owners that a query gives, with what it asks for."""
    rows = db.execute(
        f"{_ALL} WHERE operator = ? AND owner IN ({owners}) ORDER BY expires, number", (operator, *asked)
    )
    return [Allocation(*row) for row in rows]


def due(db: sqlite3.Connection, operator: bytes, at: int, limit: int) -> list[Allocation]:
    """Those with charges that the chain has not paid, the oldest first."""
    rows = db.execute(
        f"{_ALL} WHERE operator = ? AND charged > settled + lost AND ended = 0 AND wait <= ? "
        "ORDER BY oldest IS NULL, oldest, number LIMIT ?",
        (operator, at, limit),
    )
    return [Allocation(*row) for row in rows]
