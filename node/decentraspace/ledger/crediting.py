"""Card payments as they come in: take over what payment plugins report, and have the operator deposit for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import structlog
import trio

from decentraspace.errors import BadInput, Conflict, DecentraSpaceError
from decentraspace.ledger.deposits import REFUSED, Deposit, Told
from decentraspace.ledger.rollup import address

if TYPE_CHECKING:
    from decentraspace.ledger.service import Hooks
    from decentraspace.ledger.store import Ledger

log = structlog.get_logger(__name__)

_PAGES_MOST = 100  # answers of a plugin in a row


class Crediting:
    """`look` now and then; `called` when a payment service has called. Each may end at any instant, and goes on
    from there."""

    def __init__(self, ledger: Ledger, hooks: Hooks) -> None:
        self.ledger, self._hooks = ledger, hooks
        self._turn = trio.Lock()
        self.hurry = trio.Event()

    @property
    def wanted(self) -> bool:
        """Whether any plugin takes payments."""
        return bool(self._hooks.having("payment_events") or self._hooks.having("payment_webhook"))

    async def called(self, plugin: str, answer: dict[str, Any]) -> None:
        """A plugin took a call. What it reports by itself later is awaited from there, in its order."""
        if plugin not in self._hooks.having("payment_events"):
            told = await trio.to_thread.run_sync(self.ledger.take_payment, plugin, answer)
            self._tell(told)
        self.hurry.set()

    async def look(self) -> None:
        """What is new of payments, and deposits that are due."""
        async with self._turn:
            self.hurry = trio.Event()
            for plugin in self._hooks.having("payment_events"):
                await self._take(plugin)
            if self.ledger.billing:
                await self._deposit()

    async def _take(self, plugin: str) -> None:
        for _ in range(_PAGES_MOST):
            after = await trio.to_thread.run_sync(self.ledger.payments_cursor, plugin)
            well, found = await self._hooks.ask(plugin, "payment_events", after=after)
            if not well or found is None or found["next"] <= after:
                return
            told = await trio.to_thread.run_sync(self.ledger.take_payments, plugin, found)
            self._tell(told)

    def _tell(self, told: list[Told]) -> None:
        for one in told:
            card = one.card
            say = log.warning if one.what in ("disputed", "reversed") else log.info
            say(f"card_payment_{one.what}", reference=card.reference, owner=address(card.owner),
                credits=card.credits, reversed=card.reversed, until=card.until)  # fmt: skip

    async def _deposit(self) -> None:
        after = ""
        while due := await trio.to_thread.run_sync(self.ledger.deposits_due, after):
            for one in due:
                await self._send(one)
            after = due[-1].reference

    async def _send(self, one: Deposit) -> None:
        asked = {"owner": address(one.owner), "amount": one.credits}
        try:
            found = await self._hooks.first(
                "chain_send", action="deposit_for", arguments=asked, key=one.reference
            )
        except (BadInput, Conflict) as error:
            answer = {"status": REFUSED, "reference": "", "detail": str(error)}
        except DecentraSpaceError as error:
            log.warning("card_deposit_waits", reference=one.reference, reason=str(error))
            return
        else:
            if found is None:
                return  # asked again, with the same key
            answer = found.value
        if (answer["status"], answer["reference"]) != (one.status, one.transaction):
            say = log.error if answer["status"] == REFUSED else log.info
            say("card_deposit", reference=one.reference, owner=address(one.owner), credits=one.credits,
                status=answer["status"], transaction=answer["reference"], detail=answer.get("detail", ""))  # fmt: skip
        await trio.to_thread.run_sync(self.ledger.deposit_answered, one.reference, answer)
