"""The ledger: one SQLite file, one writer, every change whole and on disk before anybody relies on it."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import structlog

from decentraspace.config import Config
from decentraspace.database import open_database, reading, transaction
from decentraspace.errors import Conflict
from decentraspace.ledger import (
    cards,
    clock,
    facts,
    journal,
    meters,
    mirror,
    pauses,
    removals,
    rollup,
    settlement,
)
from decentraspace.ledger.charging import CREDIT, paused_services
from decentraspace.ledger.clock import Moment
from decentraspace.ledger.inspect import inspect
from decentraspace.ledger.journal import Unbalanced
from decentraspace.ledger.meters import Held
from decentraspace.ledger.owners import Owners
from decentraspace.ledger.prices import STORAGE, PriceList
from decentraspace.ledger.rollup import Terms
from decentraspace.ledger.tables import MIGRATIONS
from decentraspace.ledger.usage import Total

_CACHE = 16 * 1024  # KiB of pages kept in memory: a busy node's open hour and the edges of its indices
_CHECKPOINT = 8000  # pages of the log: an hour's many small changes to the same pages are moved together

log = structlog.get_logger(__name__)


@dataclass
class Outbox:
    """What is to be told: services paused and resumed, owners without credit, sites that end in so many seconds."""

    changes: list[pauses.Change] = field(default_factory=list)
    depleted: list[tuple[bytes, int]] = field(default_factory=list)
    warnings: list[tuple[bytes, str, int]] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.changes or self.depleted or self.warnings)


class Ledger(Owners):
    """`tier` of an owner as the operator set it. Nothing is charged before `bind` says that charges can be
    settled. `sound` is false when the books do not balance: then use is counted, and nothing is charged or
    settled any more."""

    def __init__(
        self, path: Path, config: Config, tier: Callable[[bytes], str] = lambda owner: "free"
    ) -> None:
        db = open_database(path, MIGRATIONS)
        db.execute(f"PRAGMA cache_size = -{_CACHE}")
        db.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT}")
        lock = threading.RLock()
        super().__init__(db, lock, config, tier)
        self._operator: bytes | None = None
        self._dirty: set[bytes] = set()
        self._all_dirty = True
        self._outbox = Outbox()
        self._unserved = pauses.unserved(db)
        self._removed = removals.removed(db)
        self.path = path
        self.sound = True
        self.distrust(self._quick_check())

    def close(self) -> None:
        with self._lock:
            self._db.close()

    @contextmanager
    def _write(self) -> Iterator[sqlite3.Connection]:
        with self._lock, transaction(self._db) as db:
            yield db

    def check(self) -> list[str]:
        """What is wrong with the books; nothing when they balance. Takes seconds for millions of entries, and
        keeps nobody waiting."""
        return inspect(self.path)

    def _quick_check(self) -> list[str]:
        with self._lock, reading():
            return journal.check_total(self._db)

    def distrust(self, wrong: Sequence[str]) -> None:
        """If anything is wrong with the books, charge and settle nothing any more."""
        for words in wrong:
            log.error("books_do_not_balance", what=words)
        self.sound = self.sound and not wrong

    def balances(self, prefix: str = "") -> dict[str, int]:
        """Accounts whose names begin so, and what they have."""
        with self._lock, reading():
            return journal.balances(self._db, prefix)

    # -- what is charged

    @property
    def billing(self) -> bool:
        """Whether use is charged, and lack of credit pauses services."""
        return self._operator is not None and self.sound

    @property
    def terms(self) -> Terms:
        billing = self.config.billing
        if not self.billing:
            return Terms()
        prices, limits, cap = PriceList.from_config(billing), self.config.limits, billing.site_monthly_cap
        return Terms(self._operator, prices, limits, billing.exposure, cap, self._tier_with)

    @property
    def operator(self) -> bytes | None:
        return self._operator

    def bind(self, chain: int, vault: str, operator: str) -> None:
        """From now on use is charged, and settled there. Conflict when these books are about another vault; then
        nothing is charged any more."""
        try:
            with self._write() as db:
                mirror.bind(db, chain, vault, operator)
                bound = mirror.operator_of(db)
        except Conflict:
            self._charge_as(None)
            raise
        self._charge_as(bound)

    def bind_again(self) -> bool:
        """Charge as these books did before, until the plugin says where it settles now; whether they did. What is used
        while it cannot say is owed all the same, as far as `billing.exposure`."""
        with self._lock, reading():
            known = mirror.operator_of(self._db)
        self._charge_as(known)
        return known is not None

    def _charge_as(self, operator: bytes | None) -> None:
        with self._lock:
            self._operator, self._all_dirty = operator, True

    # -- counting

    def take_usage(self, totals: Sequence[Total], owners: Mapping[str, bytes]) -> None:
        """What visitors used, as `UsageStore.touched` has it; repeatable. On disk when it returns."""
        if totals:
            with self._write() as db:
                meters.take_totals(db, facts.clock(db), totals, owners)
            self._mark(owner for t in totals if (owner := owners.get(t.site)) is not None)

    def tick(self, now: Moment, held: Mapping[str, Held] | None = None) -> None:
        """Time has passed: count what is held, close hours that are over, pause and resume. `held`: what the node
        holds from now on; None: what it held before."""
        with self._write() as db:
            before = facts.clock(db)
            after = clock.advance(before, now)
            hour = before.hour if before.last else after.hour
            hour = meters.open_hour(after, hour)
            if after.hour != before.hour:
                meters.count_held(db, after, hour)
            if held is not None:
                self._mark(meters.hold(db, after, hour, held))
            facts.put_clock(db, after)
            cards.clear(db, now.wall)
        last = clock.due(after, now)
        if last > after.closed:
            self.close_hours(last, now.wall)
        self._look_at_owners(now.wall)

    def close_hours(self, last: int, at: int) -> int:
        """Price all use of hours up to `last`; how many leaves it gave. An hour is one transaction."""
        with self._lock, reading():
            # What is from before the first hour that can be closed is closed with that.
            first = facts.clock(self._db).closed + 1
            rows = self._db.execute(
                "SELECT DISTINCT MAX(hour, ?) FROM open WHERE hour <= ? ORDER BY 1", (first, last)
            )
            hours = [hour for (hour,) in rows]
        leaves = 0
        for hour in hours:
            with self._write() as db:
                leaves += rollup.close(db, hour, at, self.terms)
        with self._write() as db:
            kept = facts.clock(db)
            facts.put_clock(db, replace(kept, closed=max(kept.closed, last)))
            self._all_dirty = True
        return leaves

    def close_open_hour(self, at: int) -> int:
        """Price what was used so far, too: what comes after it counts in the next hour. Once in an hour, at most;
        how many leaves it gave."""
        with self._lock, reading():
            hour = facts.clock(self._db).hour
        return self.close_hours(hour, at) if hour else 0

    # -- pausing

    def changed(self, owner: bytes) -> None:
        self._mark((owner,))

    def _mark(self, owners: Iterable[bytes]) -> None:
        with self._lock:
            self._dirty.update(owners)

    def _look_at_owners(self, at: int) -> None:
        with self._lock, reading():
            if self._all_dirty:
                rows = self._db.execute(
                    "SELECT owner FROM holdings UNION SELECT owner FROM open UNION SELECT owner FROM pauses"
                )
                self._dirty.update(owner for (owner,) in rows)
            owners, self._dirty, self._all_dirty = self._dirty, set(), False
        terms, waiting = self.terms, list(owners)
        try:
            while waiting:
                self._look_at(waiting[-1], at, terms)
                waiting.pop()
        finally:
            self._mark(waiting)  # on a full disk, say: they are looked at with the next tick

    def _look_at(self, owner: bytes, at: int, terms: Terms) -> None:
        with self._lock, reading():
            wanted, missing = _standing_of(self._db, owner, at, terms, self._removed)
            if not pauses.differ(self._db, owner, wanted):
                return  # as almost always: nothing is written
        with self._write() as db:
            changes = pauses.follow(db, owner, wanted, at)
        if any(c.reason == CREDIT for c in changes):
            with self._lock:
                self._outbox.depleted.append((owner, missing))
        self.announce(changes)

    def announce(self, changes: Sequence[pauses.Change]) -> None:
        if changes:
            with self._lock, reading():
                self._outbox.changes += changes
                self._unserved = pauses.unserved(self._db)

    def news(self) -> Outbox:
        """What has happened since this was last asked."""
        with self._lock:
            told, self._outbox = self._outbox, Outbox()
        return told

    def is_unserved(self, site: str) -> bool:
        """Whether visitors of a site get 402. Does not block."""
        return site in self._unserved

    def look_at_terms(self, taken: Mapping[str, tuple[bytes, int]], at: int) -> None:
        """Sites that were taken at this node (owner, when their newest version was made): have those end that
        nobody renewed, and warn before. Only while use is charged."""
        if not self.billing:
            return
        lifetime = self.config.billing.free_lifetime
        with self._lock, reading():
            listed = json.dumps(sorted(self._removed - taken.keys()))
            rows = self._db.execute(
                "SELECT site, owner FROM terms WHERE site IN (SELECT value FROM json_each(?))", (listed,)
            ).fetchall()
        for site, (owner, deployed) in {**taken, **{site: (owner, 0) for site, owner in rows}}.items():
            tier = self.tier(owner)
            with self._write() as db:
                pauses.seen(db, site, owner, min(deployed, at))
                changes, warning = pauses.look(db, site, owner, tier, lifetime, at)
            if warning:
                with self._lock:
                    self._outbox.warnings.append((owner, site, warning))
            self.announce(changes)

    def look_at_removals(self, at: int) -> removals.Removals:
        """Whose data goes soon, is gone, and is wanted again. Nothing goes while nothing is charged."""
        if not self.billing:
            return removals.Removals()
        with self._write() as db:
            found = removals.look(db, facts.clock(db).seconds, at, self.config.billing.grace)
        with self._lock, reading():
            self._removed = removals.removed(self._db)
        return found

    def is_removed(self, site: str) -> bool:
        """Whether nobody has paid for a site's data for so long that it is not kept. Does not block."""
        return site in self._removed

    # -- the chain

    def next_block(self) -> int:
        with self._lock, reading():
            return mirror.cursor(self._db)

    def take_events(self, answer: Mapping[str, Any]) -> list[mirror.News]:
        """What the hook `chain_events` gave, once; what it means. On disk when it returns."""
        with self._write() as db:
            news = mirror.take(db, answer, int(time.time()))
        self._mark(n.owner for n in news if n.owner is not None)
        return news

    def source(self) -> str | None:
        """Which contracts on which chain this ledger follows."""
        with self._lock, reading():
            return mirror.source(self._db)

    def site_events(self, from_block: int) -> mirror.SiteEvents:
        with self._lock, reading():
            return mirror.site_events(self._db, from_block)

    def site_owner(self, site: str) -> bytes | None:
        """As the registry says; None for a site that never came there."""
        with self._lock, reading():
            found = self._db.execute("SELECT owner FROM site_owners WHERE site = ?", (site,)).fetchone()
        return bytes(found[0]) if found else None

    def site_owners(self) -> dict[str, bytes]:
        """Of all sites that came to the registry."""
        with self._lock, reading():
            return dict(self._db.execute("SELECT site, owner FROM site_owners"))

    # -- settling

    def next_batch(self, at: int, *, hurry: bool = False) -> settlement.Batch | None:
        """The batch that is to be offered now: one that was offered before and has no answer yet, or a new one.
        It is written down as offered when it returns. `hurry`: however little it is."""
        if not self.billing or self._operator is None:
            return None
        billing = self.config.billing
        least = 1 if hurry else billing.settle_least
        when = settlement.When(least, billing.settle_every, billing.exposure)
        with self._write() as db:
            one = settlement.open_batch(db) or settlement.make(
                db, self._operator, at, when, PriceList.from_config(billing)
            )
            if one is not None:
                settlement.offering(db, one.root, at)
            return one

    def batch(self, root: bytes) -> settlement.Batch | None:
        """As it stands; None for one that was never made, or not taken."""
        with self._lock, reading():
            return settlement.batch(self._db, root)

    def answered(self, root: bytes, answers: Sequence[Mapping[str, Any]], at: int) -> None:
        """What `ledger_settle` answered to that batch. On disk when it returns."""
        with self._write() as db:
            settlement.answered(db, root, answers, at)
            one = settlement.batch(db, root)
        if one is not None:
            self._mark(charge.owner for charge in one.charges)


def _standing_of(
    db: sqlite3.Connection, owner: bytes, at: int, terms: Terms, removed: frozenset[str]
) -> tuple[dict[tuple[str, str], str], int]:
    """What is to be paused of an owner's, (site, service) -> why; and what is missing, in credits."""
    stored = {site for (site,) in db.execute("SELECT site FROM holdings WHERE owner = ?", (owner,))}
    found = db.execute(
        "SELECT site FROM open WHERE owner = ? AND site <> '' UNION SELECT site FROM pauses WHERE owner = ?",
        (owner, owner),
    )
    sites = stored | {site for (site,) in found}
    # What was sold is its new owner's, whatever the one before owes for it.
    sold = db.execute(
        "SELECT site FROM site_owners WHERE owner <> ? AND site IN (SELECT value FROM json_each(?))",
        (owner, json.dumps(sorted(sites))),
    )
    sites -= {site for (site,) in sold}
    out = rollup.outlook(db, owner, facts.clock(db), at, terms, sites)
    wanted = {
        (site, service): why
        for site in sites
        for service, why in paused_services(site, out.after, terms.asked).items()
        # What is not held here costs nothing, but for what would be if it were paid.
        if service != STORAGE or site in stored or site in removed
    }
    return wanted, max(1, sum(leaf.waived for leaf in out.leaves))


__all__ = ["Ledger", "Outbox", "Unbalanced"]
