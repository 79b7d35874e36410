"""Billing as it runs in a node: counts, looks at the chain, has charges settled, tells who is paused.

Loops, each of which goes on after any failure: `tick` counts and pauses, `follow` takes over final events of the
chain, `settle` offers what is due, `crediting.look` takes over card payments. `follow` and `settle` run only where a
plugin settles (`ledger_settle`); without one, use is counted and nothing is charged.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import structlog
import trio

from decentraspace.config import Config
from decentraspace.errors import DecentraSpaceError
from decentraspace.ledger.clock import Moment
from decentraspace.ledger.crediting import Crediting
from decentraspace.ledger.meters import Held
from decentraspace.ledger.prices import PriceList
from decentraspace.ledger.rollup import address
from decentraspace.ledger.settlement import Batch
from decentraspace.ledger.store import Ledger
from decentraspace.ledger.usage import UsageStore

if TYPE_CHECKING:
    from trio_typing import TaskStatus

    from decentraspace.plugins import HookResult

log = structlog.get_logger(__name__)

_HOLDINGS_EVERY = 60.0  # seconds between looks at what is held
_TERMS_EVERY = 3600.0
_RETRY_MOST = 600.0
_OWNERS_MOST = 100_000  # sites whose owner is remembered
_PAGES_MOST = 100  # answers of the chain in a row, before others get their turn


class Hooks(Protocol):
    """What is used of the plugin manager."""

    def having(self, hook: str) -> list[str]: ...
    async def call(self, hook: str, **arguments: Any) -> list[HookResult]: ...
    async def first(self, hook: str, **arguments: Any) -> HookResult | None: ...
    async def ask(self, plugin: str, hook: str, **arguments: Any) -> tuple[bool, Any]: ...


class Billing:
    """`owner_of` a site as its records say (blocking); `held`: what this node holds now (blocking); `taken`: the
    sites taken at this node, with owner and time of the newest version (blocking); `reflag` has the gateway
    follow `ledger.is_unserved`."""

    def __init__(
        self,
        config: Config,
        ledger: Ledger,
        usage: UsageStore,
        hooks: Hooks,
        *,
        owner_of: Callable[[str], bytes | None],
        held: Callable[[], Mapping[str, Held]],
        taken: Callable[[], Mapping[str, tuple[bytes, int]]],
        reflag: Callable[[], Awaitable[None]],
    ) -> None:
        self.config, self.ledger, self.usage, self._hooks = config, ledger, usage, hooks
        self._owner_of, self._held, self._taken, self._reflag = owner_of, held, taken, reflag
        self.crediting = Crediting(ledger, hooks)
        self._owners: dict[str, bytes] = {}
        self.handed_in: dict[bytes, tuple[str, dict[str, str]]] = {}
        """The grant that each owner handed in last: its key, and what of it goes to the chain."""
        self._bound = False  # the plugin has said where it settles
        self._held_due = self._terms_due = 0.0
        self._wake, self._settling = trio.Event(), trio.Lock()
        self.on_chain: Callable[[], Awaitable[None]] | None = None  # something may have become final
        self.on_terms: Callable[[], Awaitable[None]] | None = None  # sites were looked at: some may be over

    @property
    def prices(self) -> dict[str, int]:
        """What the node announces; nothing while it charges nothing."""
        return dict(PriceList.from_config(self.config.billing).credits) if self.ledger.billing else {}

    async def run(self, *, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until cancelled. Started when all that was paused is flagged."""
        settles = bool(self._hooks.having("ledger_settle"))
        if settles:
            # Hours may end before the plugin answers, and are not to be free for that.
            await trio.to_thread.run_sync(self.ledger.bind_again)
            await self._carrying_on(self._bind)
        elif await trio.to_thread.run_sync(self.ledger.source) is not None:
            log.warning(
                "billing_off", hint="No plugin settles charges, as one did before: what is used is free now."
            )
        await self._carrying_on(self.tick)
        await self._carrying_on(self._reflag)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._flag)
            nursery.start_soon(self._carrying_on, self._audit)
            nursery.start_soon(self._again, self.tick, lambda: self.config.billing.tick)
            if settles:
                nursery.start_soon(self._again, self.follow, lambda: self.config.billing.settle_check)
                nursery.start_soon(self._again, self.settle, lambda: self.config.billing.settle_check)
            if self.crediting.wanted:
                nursery.start_soon(self._credit)
            task_status.started()

    async def _credit(self) -> None:
        """Soon after a payment service called, and now and then without that."""
        while True:
            with trio.move_on_after(self.config.billing.settle_check):
                await self.crediting.hurry.wait()
            if not await self._carrying_on(self.crediting.look):
                await trio.sleep(1.0)

    async def _again(self, work: Callable[[], Awaitable[None]], every: Callable[[], float]) -> None:
        delay = every()
        while True:
            await trio.sleep(delay)
            done = await self._carrying_on(work)
            delay = every() if done else min(max(delay, 1.0) * 2, max(every(), _RETRY_MOST))

    async def _carrying_on(self, work: Callable[[], Awaitable[None]]) -> bool:
        """What goes wrong once, as on a full disk, must not end what is done now and then for ever."""
        name = work.__name__.strip("_")
        try:
            await work()
        except DecentraSpaceError as error:
            log.warning("billing_failed", step=name, reason=str(error))
        except Exception:
            log.exception("billing_failed", step=name)
        else:
            return True
        return False

    # -- counting and pausing

    async def tick(self) -> None:
        """Count what was used until now, close hours, pause and resume."""
        while True:
            totals, turn = await trio.to_thread.run_sync(self.usage.touched)
            if not totals:
                break
            owners = await trio.to_thread.run_sync(self._owners_of, {total.site for total in totals})
            await trio.to_thread.run_sync(self.ledger.take_usage, totals, owners)
            await trio.to_thread.run_sync(self.usage.forget, turn)
        now = trio.current_time()
        held = None
        if now >= self._held_due:
            held = await trio.to_thread.run_sync(self._paid_for)
            self._held_due = now + min(_HOLDINGS_EVERY, 6 * self.config.billing.tick)
        await trio.to_thread.run_sync(self.ledger.tick, Moment.now(), held)
        if self.ledger.billing and now >= self._terms_due:
            taken = await trio.to_thread.run_sync(self._taken_here)
            await trio.to_thread.run_sync(self.ledger.look_at_terms, taken, int(time.time()))
            self._terms_due = now + min(_TERMS_EVERY, 360 * self.config.billing.tick)
            if self.on_terms is not None:
                await self._carrying_on(self.on_terms)
        await self._tell()

    def _paid_for(self) -> dict[str, Held]:
        """What is held, by who has to pay for it now. Blocking."""
        owners = self.ledger.site_owners()
        return {
            site: held._replace(owner=owners.get(site, held.owner)) for site, held in self._held().items()
        }

    def _taken_here(self) -> dict[str, tuple[bytes, int]]:
        owners = self.ledger.site_owners()
        return {site: (owners.get(site, owner), made) for site, (owner, made) in self._taken().items()}

    def owner_of(self, site: str) -> bytes | None:
        """As the registry says, and else as the site's records do; None for one that is not known. Blocking."""
        return self.ledger.site_owner(site) or self._owner_of(site)

    def _owners_of(self, sites: Iterable[str]) -> dict[str, bytes]:
        """As the registry says, and else as the site's records do, which never changes. Blocking."""
        if len(self._owners) > _OWNERS_MOST:
            self._owners.clear()
        found = {}
        for site in sites:
            owner = self.ledger.site_owner(site) or self._owners.get(site)
            if owner is None and (owner := self._owner_of(site)) is not None:
                self._owners[site] = owner
            if owner is not None:
                found[site] = owner
        return found

    async def _tell(self) -> None:
        news = self.ledger.news()
        if news.changes:
            self._wake.set()
        for change in news.changes:
            what = "service_paused" if change.reason else "service_resumed"
            log.info(what, owner=address(change.owner), site=change.site, service=change.service,
                     **({"reason": change.reason} if change.reason else {}))  # fmt: skip
            if change.reason:
                await self._hooks.call(
                    "service_paused", owner=address(change.owner), service=change.service, site=change.site
                )
        for owner, needed in news.depleted:
            log.info("credit_depleted", owner=address(owner), needed=needed)
            await self._hooks.call("credit_depleted", owner=address(owner), needed=needed)
        for owner, site, seconds in news.warnings:
            log.info("site_ends_soon", owner=address(owner), site=site, seconds=seconds)

    async def _flag(self) -> None:
        """Have the gateway follow, beside everything else: an owner's long deploy keeps its sites as they are."""
        while True:
            await self._wake.wait()
            self._wake = trio.Event()
            if not await self._carrying_on(self._reflag):
                await trio.sleep(1.0)
                self._wake.set()

    async def _audit(self) -> None:
        """The whole of the books, once at the start."""
        wrong = await trio.to_thread.run_sync(self.ledger.check)
        self.ledger.distrust(wrong)

    # -- the chain

    async def _bind(self) -> None:
        found = await self._hooks.first("chain_status")
        if found is None:
            hint = "A plugin settles charges, but does not say with which contract."
            log.warning("settling_waits" if self.ledger.billing else "billing_off", hint=hint)
            return
        status = found.value
        await trio.to_thread.run_sync(self.ledger.bind, status["chain"], status["vault"], status["operator"])
        self._bound = True
        log.info("billing_on", chain=status["chain"], vault=status["vault"], operator=status["operator"])

    async def follow(self) -> None:
        """Take over what has become final since."""
        if not self._bound:
            await self._bind()
        for _ in range(_PAGES_MOST):
            before = await trio.to_thread.run_sync(self.ledger.next_block)
            found = await self._hooks.first("chain_events", from_block=before)
            if found is None:
                return
            news = await trio.to_thread.run_sync(self.ledger.take_events, found.value)
            if self.on_chain is not None:
                await self.on_chain()
            for one in news:
                if one.kind == "depleted" and one.owner is not None:
                    await self._hooks.call("credit_depleted", owner=address(one.owner), needed=1)
            if news:
                # Who has recharged need not wait for the next look.
                await self.tick()
            if await trio.to_thread.run_sync(self.ledger.next_block) == before or not found.value["events"]:
                return

    async def settle(self) -> None:
        """Offer what is due, or ask again for what was offered."""
        await self._settle(hurry=False)

    async def settle_now(self) -> bytes | None:
        """Price what was used until now, and offer all that is due; the root of the batch, None where there is
        nothing due."""
        await self.tick()
        await trio.to_thread.run_sync(self.ledger.close_open_hour, int(time.time()))
        return await self._settle(hurry=True)

    async def _settle(self, hurry: bool) -> bytes | None:
        async with self._settling:
            look = partial(self.ledger.next_batch, int(time.time()), hurry=hurry)
            batch = await trio.to_thread.run_sync(look)
            if batch is None:
                return None
            await self._offer(batch)
            return batch.root

    async def _offer(self, batch: Batch) -> None:
        root = "0x" + batch.root.hex()
        waiting = [charge for charge in batch.charges if charge.status in ("offered", "pending")]
        log.info("settlement_offered", root=root, charges=len(waiting), again=batch.offered > 0)
        found = await self._hooks.first(
            "ledger_settle", charges=[charge.offer() for charge in batch.charges], root=root
        )
        if found is None:
            return  # it did not come back in time, or failed: the same batch is offered again
        await trio.to_thread.run_sync(self.ledger.answered, batch.root, found.value, int(time.time()))
        states = sorted({answer["status"] for answer in found.value})
        log.info("settlement_answered", root=root, states=states)
