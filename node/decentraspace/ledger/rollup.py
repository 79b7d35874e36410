"""An hour that is over becomes leaves, charges and entries: all of it in one transaction, once."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any

from decentraspace.config import LimitsConfig
from decentraspace.ledger import allocations, facts, journal, meters
from decentraspace.ledger.charging import Carry, Charged, Standing, Use, charge
from decentraspace.ledger.clock import HOUR, MeterClock, month_of
from decentraspace.ledger.prices import STORAGE, Allowance, PriceList


@dataclass(frozen=True)
class Terms:
    """What is charged, and to whom. `operator`: whom allocations must be granted to; without one nothing is
    charged. `cap`: credits a month of a site whose owner set none."""

    operator: bytes | None = None
    prices: PriceList = field(default_factory=PriceList)
    limits: LimitsConfig = field(default_factory=LimitsConfig)
    exposure: int = 0
    cap: int = 0
    tier: Callable[[bytes], str] = lambda owner: "free"

    @property
    def asked(self) -> PriceList:
        return self.prices if self.operator is not None else PriceList()


def address(owner: bytes) -> str:
    return "0x" + owner.hex()


def standing(
    db: sqlite3.Connection, owner: bytes, sites: Iterable[str], hour: int, at: int, terms: Terms
) -> Standing:
    """How an owner stands at `at`, before what was used in open hours; caps are those of `hour`'s month."""
    if terms.operator is None:
        return Standing()
    month = month_of(hour)
    used = dict(
        db.execute("SELECT service, used FROM allowances WHERE owner = ? AND month = ?", (owner, month))
    )
    quantities = Allowance.of_tier(terms.tier(owner), terms.limits).quantities
    granted = allocations.of_owner(db, owner, terms.operator)
    return Standing(
        {service: max(0, most - used.get(service, 0)) for service, most in quantities.items()},
        tuple(a.fund(at) for a in granted if a.live(at)),
        max(0, terms.exposure - sum(a.unsettled for a in granted)),
        {site: max(0, cap_of(db, site, terms.cap) - spent(db, site, month)) for site in sites if site},
    )


def cap_of(db: sqlite3.Connection, site: str, default: int) -> int:
    found = db.execute("SELECT credits FROM caps WHERE site = ?", (site,)).fetchone()
    return int(found[0]) if found else default


def spent(db: sqlite3.Connection, site: str, month: int) -> int:
    found = db.execute("SELECT credits FROM spent WHERE site = ? AND month = ?", (site, month)).fetchone()
    return int(found[0]) if found else 0


_USES = (
    "SELECT o.owner, o.site, o.service, SUM(o.quantity), SUM(o.fixed), COALESCE(c.paid, 0), "
    "COALESCE(c.free, 0), COALESCE(c.seconds, 0) FROM open o LEFT JOIN carries c "
    "USING (owner, site, service) {} GROUP BY o.owner, o.site, o.service ORDER BY o.owner, o.site, o.service"
)


def _use(row: Sequence[Any], held: int = 0) -> Use:
    """`held`: byte-seconds that are in no hour yet."""
    site, service, quantity, fixed, paid, free, seconds = row
    if service == STORAGE:
        quantity, seconds = divmod(quantity + held + seconds, HOUR)
    return Use(site, service, quantity, fixed, Carry(paid, free, seconds))


def outlook(
    db: sqlite3.Connection,
    owner: bytes,
    clock: MeterClock,
    at: int,
    terms: Terms,
    sites: Iterable[str] = (),
) -> Charged:
    """What would become of an owner's open hours if they were closed now, and how the owner stands after.
    `sites`: of which caps are wanted although nothing is used."""
    held = meters.held_since(db, clock, owner)
    uses = [
        _use(row[1:], held.pop(row[1], 0) if row[2] == STORAGE else 0)
        for row in db.execute(_USES.format("WHERE o.owner = ?"), (owner,))
    ]
    for site, seconds in held.items():
        carry = db.execute(
            "SELECT paid, free, seconds FROM carries WHERE owner = ? AND site = ? AND service = ?",
            (owner, site, STORAGE),
        ).fetchone()
        uses.append(_use((site, STORAGE, 0, 0, *(carry or (0, 0, 0))), seconds))
    wanted = {*sites, *(use.site for use in uses)}
    return charge(uses, standing(db, owner, wanted, clock.hour, at, terms), terms.asked)


def close(db: sqlite3.Connection, hour: int, at: int, terms: Terms) -> int:
    """Price an hour; how many leaves it had. The clock that is kept says afterwards that it is closed."""
    clock = facts.clock(db)
    if hour <= clock.closed:
        return 0
    leaves = 0
    for owner, uses in _by_owner(db, hour):
        sites = dict.fromkeys(use.site for use in uses)
        charged = charge(uses, standing(db, owner, sites, hour, at, terms), terms.asked)
        _write(db, hour, at, owner, charged, terms)
        leaves += len(charged.leaves)
    db.execute("DELETE FROM open WHERE hour <= ?", (hour,))
    facts.put_clock(db, replace(clock, closed=hour))
    return leaves


def _by_owner(db: sqlite3.Connection, hour: int) -> Iterator[tuple[bytes, list[Use]]]:
    rows = db.execute(_USES.format("WHERE o.hour <= ?"), (hour,)).fetchall()
    for owner, group in groupby(rows, key=lambda row: row[0]):
        yield owner, [_use(row[1:]) for row in group]


def _write(db: sqlite3.Connection, hour: int, at: int, owner: bytes, charged: Charged, terms: Terms) -> None:
    month, leaves = month_of(hour), [leaf for leaf in charged.leaves if leaf.quantity or any(leaf[4:8])]
    db.executemany(
        "INSERT INTO leaves (hour, owner, site, service, quantity, free, given, credits, streamed, waived, "
        "allocation) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [(hour, owner, *leaf) for leaf in leaves],
    )
    db.executemany(
        "INSERT INTO carries VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (owner, site, service) DO UPDATE SET "
        "paid = excluded.paid, free = excluded.free, seconds = excluded.seconds",
        [(owner, site, service, *carry) for (site, service), carry in charged.carries.items()],
    )
    if terms.operator is None:
        return
    free: dict[str, int] = {}
    cost: dict[str, int] = {}
    granted: dict[int, list[int]] = {}
    for leaf in leaves:
        free[leaf.service] = free.get(leaf.service, 0) + leaf.free
        if leaf.site:
            cost[leaf.site] = cost.get(leaf.site, 0) + leaf.credits
        if leaf.allocation is not None:
            sums = granted.setdefault(leaf.allocation, [0, 0])
            sums[0] += leaf.credits
            sums[1] += leaf.streamed
    db.executemany(
        "INSERT INTO allowances VALUES (?, ?, ?, ?) ON CONFLICT (owner, month, service) DO UPDATE SET "
        "used = used + excluded.used",
        [(owner, month, service, used) for service, used in free.items() if used],
    )
    db.executemany(
        "INSERT INTO spent VALUES (?, ?, ?) ON CONFLICT (site, month) DO UPDATE SET "
        "credits = credits + excluded.credits",
        [(site, month, credits) for site, credits in cost.items() if credits],
    )
    db.executemany(
        "UPDATE allocations SET charged = charged + ?, stream_used = stream_used + ?, "
        "oldest = CASE WHEN ? > 0 THEN COALESCE(oldest, ?) ELSE oldest END WHERE number = ?",
        [(c, s, c, at, number) for number, (c, s) in granted.items()],
    )
    journal.post(db, f"hour:{hour}:{owner.hex()}", "usage", at, _postings(db, owner, charged, granted))


def _postings(
    db: sqlite3.Connection, owner: bytes, charged: Charged, granted: Mapping[int, list[int]]
) -> dict[str, int]:
    who = address(owner)
    postings = {f"owner:{who}": 0, f"free:{who}": 0, f"waived:{who}": 0}
    for leaf in charged.leaves:
        postings[f"owner:{who}"] += leaf.credits
        postings[f"free:{who}"] += leaf.given
        postings[f"waived:{who}"] += leaf.waived
        income = f"income:{leaf.service}"
        worth = leaf.credits + leaf.given + leaf.waived + leaf.streamed
        postings[income] = postings.get(income, 0) - worth
    for number, (_, streamed) in granted.items():
        if streamed:
            postings[f"stream:0x{allocations.by_number(db, number).id.hex()}"] = streamed
    return postings
