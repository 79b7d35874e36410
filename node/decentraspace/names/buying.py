"""Names bought and renewed with credits: set aside before, charged when it is done, free again when it is refused.

    reserved   the credits are set aside; the plugin is about to be asked, or could not be
    pending    the plugin has begun; it is asked again, with the same key
    done       charged        refused   nothing was bought, and nothing is charged

Written down before each step. A key buys once: after a crash the plugin is asked again with the same one, and knows
whether it has bought. What a registrar wants to know of a person goes to the plugin and is never written down.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import structlog
import trio

from decentraspace.carrying_on import carrying_on
from decentraspace.errors import BadInput, Conflict, DecentraSpaceError, NotFound, Unavailable
from decentraspace.identity.ethereum import checksum_address
from decentraspace.ledger.prices import NAMES
from decentraspace.names.book import Book
from decentraspace.names.claims import Claims, Plugins

if TYPE_CHECKING:
    from trio_typing import TaskStatus

log = structlog.get_logger(__name__)

_AGAIN = 10.0  # seconds between questions how a purchase stands
_REFUSED_KEPT = 100  # refused purchases of one owner, the newest
_LASTING = 43200
"""Seconds that what pays must be granted for still. It is charged when the name is bought, minutes or hours later: by
a grant that had ended meanwhile the operator would have bought it for nothing."""
_OPEN = ("reserved", "pending")
_COLUMNS = "key, owner, name, years, plugin, credits, status, reference, detail, expires, at"


class Ledger(Protocol):
    """What is used of it. Blocking."""

    @property
    def billing(self) -> bool: ...
    def require(
        self, owner: bytes, service: str, quantity: int = 0, *, credits: int = 0, lasting: int = 0
    ) -> Any: ...
    def settle_aside(self, key: str, owner: bytes, service: str, credits: int) -> Any: ...


class Quote(NamedTuple):
    """`credits` for `years`; `available`: whether it can be had; `valid_until`: Unix seconds or None."""

    name: str
    years: int
    available: bool
    credits: int
    plugin: str
    valid_until: int | None = None
    detail: str = ""


class Purchase(NamedTuple):
    """`key`: unique to it at this node, made of the owner's; `expires`: when the name ends; `at`: when it was begun."""

    key: str
    owner: bytes
    name: str
    years: int
    plugin: str
    credits: int
    status: str
    reference: str = ""
    detail: str = ""
    expires: int | None = None
    at: int = 0


class Buying:
    """Use while `run` runs, which goes on with what is pending."""

    def __init__(self, book: Book, claims: Claims, plugins: Plugins, ledger: Ledger) -> None:
        self._book, self._claims, self._plugins, self._ledger = book, claims, plugins, ledger
        self._locks: dict[str, trio.Lock] = {}  # of the keys that somebody holds or waits for

    @asynccontextmanager
    async def _alone(self, key: str) -> AsyncIterator[None]:
        """One at a time for one purchase."""
        lock = self._locks.setdefault(key, trio.Lock())
        try:
            async with lock:
                yield
        finally:
            found = lock.statistics()
            if not found.locked and not found.tasks_waiting and self._locks.get(key) is lock:
                del self._locks[key]

    def reserved(self, owner: bytes) -> int:
        """Credits that are set aside for the owner's purchases. Blocking."""
        with self._book.looking() as db:
            [found] = db.execute(
                "SELECT COALESCE(SUM(credits), 0) FROM purchases WHERE owner = ? AND status IN ('reserved', 'pending')",
                (owner,),
            ).fetchone()
        return int(found)

    async def quote(self, name: str, years: int) -> Quote:
        """NotFound where nobody sells such names; Unavailable."""
        plugin = self._seller(name)
        value = await self._plugins.one(plugin, "name_quote", name=name, years=years)
        if value is None:
            raise _unsold(name)
        return Quote(
            name, value["years"], value["available"], value["credits"], plugin,
            value.get("valid_until"), value.get("detail", ""),
        )  # fmt: skip

    def _seller(self, name: str) -> str:
        plugin = self._claims.plugin_of(name) or self._claims.registrar
        if plugin not in self._plugins.having("name_quote"):
            raise _unsold(name)
        return plugin

    async def buy(
        self,
        owner: bytes,
        name: str,
        years: int,
        key: str,
        *,
        most: int | None = None,
        renew: bool = False,
        contact: Mapping[str, str] | None = None,
    ) -> Purchase:
        """Buy or renew a name, or say how the purchase of that key stands. `most`: credits that it may cost.

        PaymentRequired; Conflict (`name-taken`, `price-changed`, `purchase-key-reused`); NotFound; Unavailable.
        """
        if not 0 < len(key) <= 200:
            raise BadInput("A purchase has a key of 1 to 200 characters")
        own = hashlib.sha256(owner + key.encode()).hexdigest()
        async with self._alone(own):
            before = await trio.to_thread.run_sync(self.get, own)
            if before is None:
                before = await self._reserve(owner, name, years, own, most, renew)
            elif (before.name, before.years) != (name, years):
                raise Conflict(
                    "This key was used for another purchase",
                    hint="Use a new key for each.",
                    slug="purchase-key-reused",
                )
            return await self._go_on(before, dict(contact) if contact else None)

    async def _reserve(
        self, owner: bytes, name: str, years: int, key: str, most: int | None, renew: bool
    ) -> Purchase:
        quote = await self.quote(name, years)
        if quote.years != years:
            raise Conflict(
                f"{name} is to be had for {quote.years} year(s), not {years}", slug="price-changed"
            )
        if not quote.available and not renew:
            raise Conflict(
                f"{name} is not to be had. {quote.detail}".strip(),
                hint="If it is yours, renew it.",
                slug="name-taken",
            )
        if most is not None and quote.credits > most:
            raise Conflict(
                f"{name} costs {quote.credits} credits by now",
                hint="Ask for the price again, and agree to it.",
                slug="price-changed",
                credits=quote.credits,
            )
        made = Purchase(key, owner, name, years, quote.plugin, quote.credits, "reserved", at=int(time.time()))
        await trio.to_thread.run_sync(self._set_aside, made)
        return made

    def _set_aside(self, made: Purchase) -> None:
        """Look whether it is covered and write down that it is reserved, with nobody in between. Blocking."""
        if made.credits and not self._ledger.billing:
            # Nobody pays for anything here; sellers of names want money of the operator all the same.
            raise NotFound(
                "This node takes no credits just now, so it buys no names",
                hint="Buy it elsewhere and link it, or ask a node that has a plugin for billing.",
                slug="name-not-sold",
            )
        with self._book.buying:
            self._ledger.require(made.owner, NAMES, credits=made.credits, lasting=_LASTING)
            with self._book.writing() as db:
                # What was refused cost nothing, so it could be had without end.
                db.execute(
                    "DELETE FROM purchases WHERE key IN (SELECT key FROM purchases WHERE owner = ? AND "
                    "status = 'refused' ORDER BY at DESC, key LIMIT -1 OFFSET ?)",
                    (made.owner, _REFUSED_KEPT - 1),
                )
                db.execute("INSERT INTO purchases VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", made)

    async def _go_on(self, known: Purchase, contact: dict[str, str] | None) -> Purchase:
        if known.status not in _OPEN:
            return known
        try:
            value = await self._plugins.one(
                known.plugin,
                "name_purchase",
                name=known.name,
                years=known.years,
                owner=checksum_address(known.owner),
                key=known.key,
                contact=contact,
            )
        except Unavailable as error:
            # Whether it has bought, nobody knows: it is asked again.
            return await self._note(known._replace(detail=str(error)))
        except DecentraSpaceError as error:
            if known.status == "pending":
                return await self._note(known._replace(detail=str(error)))
            return await self._note(known._replace(status="refused", detail=str(error)))
        if value is None and known.status == "pending":
            # It had begun; its settings have gone since. Whether it has bought, nobody knows.
            return await self._note(known._replace(detail=f"The plugin {known.plugin} sells no names now."))
        if value is None:
            return await self._note(known._replace(status="refused", detail="Nobody sells it."))
        now = known._replace(
            status=value["status"],
            reference=value["reference"],
            detail=value.get("detail", ""),
            expires=value.get("expires"),
        )
        if now.status == "done":
            # Before it is written down as done: once for its key, however often it comes to this.
            await trio.to_thread.run_sync(
                self._ledger.settle_aside, f"name:{now.key}", now.owner, NAMES, now.credits
            )
        return await self._note(now)

    async def _note(self, now: Purchase) -> Purchase:
        await trio.to_thread.run_sync(self._put, now)
        log.info("name_purchase", name=now.name, status=now.status, credits=now.credits, detail=now.detail)
        return now

    def _put(self, now: Purchase) -> None:
        with self._book.writing() as db:
            db.execute("INSERT OR REPLACE INTO purchases VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", now)

    def get(self, key: str) -> Purchase | None:
        """Blocking."""
        with self._book.looking() as db:
            row = db.execute(f"SELECT {_COLUMNS} FROM purchases WHERE key = ?", (key,)).fetchone()  # noqa: S608
        return Purchase(*row) if row else None

    def of(self, owner: bytes, limit: int = 100) -> list[Purchase]:
        """The newest first. Blocking."""
        with self._book.looking() as db:
            rows = db.execute(
                f"SELECT {_COLUMNS} FROM purchases WHERE owner = ? ORDER BY at DESC, key LIMIT ?",  # noqa: S608
                (owner, limit),
            ).fetchall()
        return [Purchase(*row) for row in rows]

    async def run(self, *, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Ask again how open purchases stand, until cancelled."""
        task_status.started()
        while True:
            with carrying_on(log, "name_purchases_not_continued"):
                for key, plugin in await trio.to_thread.run_sync(self._open):
                    if plugin not in self._plugins.having("name_purchase"):
                        continue  # it may come back; others need not wait for that
                    async with self._alone(key):
                        known = await trio.to_thread.run_sync(self.get, key)
                        if known is not None:
                            with carrying_on(log, "name_purchase_not_continued"):
                                await self._go_on(known, None)
            await trio.sleep(_AGAIN)

    def _open(self) -> list[tuple[str, str]]:
        """(key, plugin); as many as credits were set aside for."""
        with self._book.looking() as db:
            return db.execute(
                "SELECT key, plugin FROM purchases WHERE status IN ('reserved', 'pending') ORDER BY at"
            ).fetchall()


def _unsold(name: str) -> NotFound:
    return NotFound(
        f"Nobody sells {name} at this node",
        hint="Buy it elsewhere and link it, or ask a node whose operator has a plugin for it.",
        slug="name-not-sold",
    )
