"""An hour that is over becomes leaves, charges and entries: all of it in one transaction, once."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any

from decentraspace.config import LimitsConfig
from decentraspace.ledger import allocations, facts, journal, meters
from decentraspace.ledger.allocations import Allocation
from decentraspace.ledger.charging import Carry, Charged, Leaf, Standing, Use, charge
from decentraspace.ledger.clock import HOUR, MeterClock, month_of
from decentraspace.ledger.prices import STORAGE, Allowance, PriceList

_AT_ONCE = 5000  # leaves that are kept before they are written


@dataclass(frozen=True)
class Terms:
    """What is charged, and to whom. `operator`: whom allocations must be granted to; without one nothing is
    charged. `cap`: credits a month of a site whose owner set none. `tier` of an owner with these allocations to the
    operator, at a time."""

    operator: bytes | None = None
    prices: PriceList = field(default_factory=PriceList)
    limits: LimitsConfig = field(default_factory=LimitsConfig)
    exposure: int = 0
    cap: int = 0
    tier: Callable[[bytes, Sequence[Allocation], int], str] = lambda owner, granted, at: "free"

    @property
    def asked(self) -> PriceList:
        return self.prices if self.operator is not None else PriceList()


def address(owner: bytes) -> str:
    return "0x" + owner.hex()


@dataclass(frozen=True)
class _Loaded:
    """What standings are made of, of some owners and sites: read at once, because an hour has thousands."""

    used: Mapping[bytes, Mapping[str, int]]
    granted: Mapping[bytes, Sequence[Allocation]]
    caps: Mapping[str, int]
    cost: Mapping[str, int]


def _load(
    db: sqlite3.Connection,
    owners: str,
    asked: tuple[Any, ...],
    sites: Iterable[str],
    month: int,
    operator: bytes,
) -> _Loaded:
    """`owners`: a query for them, with what it asks for."""
    used: dict[bytes, dict[str, int]] = {}
    for owner, service, quantity in db.execute(
        f"SELECT owner, service, used FROM allowances WHERE month = ? AND owner IN ({owners})",  # noqa: S608
        (month, *asked),
    ):
        used.setdefault(owner, {})[service] = quantity
    granted: dict[bytes, list[Allocation]] = {}
    for one in allocations.of_owners(db, owners, asked, operator):
        granted.setdefault(one.owner, []).append(one)
    listed = json.dumps([site for site in sites if site])
    within = "site IN (SELECT value FROM json_each(?))"
    caps = db.execute(f"SELECT site, credits FROM caps WHERE {within}", (listed,))  # noqa: S608
    cost = db.execute(f"SELECT site, credits FROM spent WHERE month = ? AND {within}", (month, listed))  # noqa: S608
    return _Loaded(used, granted, dict(caps), dict(cost))


def _stands(
    loaded: _Loaded, owner: bytes, sites: Iterable[str], at: int, terms: Terms, since: int | None = None
) -> Standing:
    granted = loaded.granted.get(owner, ())
    used = loaded.used.get(owner, {})
    quantities = Allowance.of_tier(terms.tier(owner, granted, at), terms.limits).quantities
    left = {site: loaded.caps.get(site, terms.cap) - loaded.cost.get(site, 0) for site in sites if site}
    return Standing(
        {service: max(0, most - used.get(service, 0)) for service, most in quantities.items()},
        tuple(a.fund(at) for a in granted if a.live(at, since)),
        max(0, terms.exposure - sum(a.unsettled for a in granted)),
        {site: max(0, most) for site, most in left.items()},
    )


def standing(
    db: sqlite3.Connection, owner: bytes, sites: Collection[str], hour: int, at: int, terms: Terms
) -> Standing:
    """How an owner stands at `at`, before what was used in open hours; caps are those of `hour`'s month."""
    if terms.operator is None:
        return Standing()
    loaded = _load(db, "SELECT ?", (owner,), sites, month_of(hour), terms.operator)
    return _stands(loaded, owner, sites, at, terms)


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
    rows = db.execute(_USES.format("WHERE o.hour <= ?"), (hour,)).fetchall()
    loaded = None
    if terms.operator is not None:
        owners, sites = "SELECT owner FROM open WHERE hour <= ?", {row[1] for row in rows}
        loaded = _load(db, owners, (hour,), sites, month_of(hour), terms.operator)
    leaves, writing = 0, _Writing(hour, at)
    for owner, group in groupby(rows, key=lambda row: row[0]):
        uses = [_use(row[1:]) for row in group]
        # What was used while an allocation lasted is taken by the contract for days after its end.
        since = min(at, hour * HOUR)
        stands = _stands(loaded, owner, {u.site for u in uses}, at, terms, since) if loaded else Standing()
        leaves += writing.add(owner, charge(uses, stands, terms.asked), loaded)
        if len(writing.leaves) >= _AT_ONCE:
            writing.flush(db)
    writing.flush(db)
    db.execute("DELETE FROM open WHERE hour <= ?", (hour,))
    facts.put_clock(db, replace(clock, closed=hour))
    return leaves


class _Writing:
    """What an hour's charges come to, kept for a while and written at once."""

    def __init__(self, hour: int, at: int) -> None:
        self._hour, self._month, self._at = hour, month_of(hour), at
        self._clear()

    def _clear(self) -> None:
        self.leaves: list[tuple[Any, ...]] = []
        self._carries: list[tuple[Any, ...]] = []
        self._entries: list[journal.Entry] = []
        self._free: list[tuple[Any, ...]] = []
        self._cost: dict[str, int] = {}
        self._granted: dict[int, list[int]] = {}

    def add(self, owner: bytes, charged: Charged, loaded: _Loaded | None) -> int:
        """How many leaves it has."""
        leaves = [leaf for leaf in charged.leaves if leaf.quantity or any(leaf[4:8])]
        self.leaves += [(self._hour, owner, *leaf) for leaf in leaves]
        self._carries += [(owner, *place, *carry) for place, carry in charged.carries.items()]
        if loaded is None:
            return len(leaves)
        free: dict[str, int] = {}
        streams: dict[int, int] = {}
        for leaf in leaves:
            if leaf.free:
                free[leaf.service] = free.get(leaf.service, 0) + leaf.free
            if leaf.site and leaf.credits:
                self._cost[leaf.site] = self._cost.get(leaf.site, 0) + leaf.credits
            if leaf.allocation is not None:
                sums = self._granted.setdefault(leaf.allocation, [0, 0])
                sums[0] += leaf.credits
                sums[1] += leaf.streamed
                streams[leaf.allocation] = streams.get(leaf.allocation, 0) + leaf.streamed
        self._free += [(owner, self._month, service, used) for service, used in free.items()]
        names = {a.number: a.id.hex() for a in loaded.granted.get(owner, ())}
        postings = _postings(owner, leaves)
        postings |= {f"stream:0x{names[number]}": amount for number, amount in streams.items()}
        self._entries.append((f"hour:{self._hour}:{owner.hex()}", postings))
        return len(leaves)

    def flush(self, db: sqlite3.Connection) -> None:
        db.executemany(
            "INSERT INTO leaves (hour, owner, site, service, quantity, free, given, credits, streamed, waived, "
            "allocation) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            self.leaves,
        )
        db.executemany(
            "INSERT INTO carries VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (owner, site, service) DO UPDATE SET "
            "paid = excluded.paid, free = excluded.free, seconds = excluded.seconds",
            self._carries,
        )
        db.executemany(
            "INSERT INTO allowances VALUES (?, ?, ?, ?) ON CONFLICT (owner, month, service) DO UPDATE SET "
            "used = used + excluded.used",
            self._free,
        )
        db.executemany(
            "INSERT INTO spent VALUES (?, ?, ?) ON CONFLICT (site, month) DO UPDATE SET "
            "credits = credits + excluded.credits",
            [(site, self._month, credits) for site, credits in self._cost.items()],
        )
        db.executemany(
            "UPDATE allocations SET charged = charged + ?, stream_used = stream_used + ?, "
            "oldest = CASE WHEN ? > 0 THEN COALESCE(oldest, ?) ELSE oldest END WHERE number = ?",
            [(c, s, c, self._at, number) for number, (c, s) in self._granted.items()],
        )
        journal.post_many(db, "usage", self._at, self._entries)
        self._clear()


def _postings(owner: bytes, leaves: Iterable[Leaf]) -> dict[str, int]:
    credits = given = waived = 0
    income: dict[str, int] = {}
    for leaf in leaves:
        credits += leaf.credits
        given += leaf.given
        waived += leaf.waived
        worth = leaf.credits + leaf.given + leaf.waived + leaf.streamed
        income[leaf.service] = income.get(leaf.service, 0) - worth
    who = address(owner)
    postings = {f"income:{service}": amount for service, amount in income.items()}
    return postings | {f"owner:{who}": credits, f"free:{who}": given, f"waived:{who}": waived}
