"""Where payments are begun, looked at and told of."""

from __future__ import annotations

import hashlib
import json
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import trio

from decentraspace.errors import (
    BadInput,
    Conflict,
    DecentraSpaceError,
    Forbidden,
    TooLarge,
    TooMany,
    Unavailable,
)
from decentraspace.public import NodeAPI
from decentraspace_billing_paystack import answers, judging, sources
from decentraspace_billing_paystack.amounts import price
from decentraspace_billing_paystack.client import Paystack, Refused
from decentraspace_billing_paystack.payments import Payment, Payments, reference_of
from decentraspace_billing_paystack.secret import SecretKey
from decentraspace_billing_paystack.settings import Settings

_RECHARGE_SECONDS = 50.0  # within the hook's 60
_WEBHOOK_SECONDS = 20.0
_BODY_MOST = 256 * 1024
_ATTEMPTS = 3
_SEEN_MOST = 1000
_EVENTS_MOST = 500
_FAILED_MOST = 3600  # seconds between looks while Paystack is away, at most
_IDLE_MOST = 60.0
_DAY = 86_400
_KINDS = ("charge.", "refund.")


class Desk:
    """`clock`: Unix seconds."""

    def __init__(
        self,
        node: NodeAPI,
        settings: Settings,
        key: SecretKey,
        paystack: Paystack,
        payments: Payments,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.payments = payments
        self._node, self._settings, self._key, self._paystack = node, settings, key, paystack
        self._clock = clock
        self._locks: dict[str, tuple[trio.Lock, int]] = {}
        self._seen: OrderedDict[bytes, None] = OrderedDict()
        self._wake = trio.Event()

    @property
    def _now(self) -> int:
        return int(self._clock())

    # -- beginning a payment

    async def recharge(self, owner: str, credits: int, key: str) -> dict[str, Any]:
        """BadInput, TooMany for what the limits forbid, Conflict for the key of another payment, Unavailable."""
        async with self._alone(f"key {owner.lower()} {key}"):
            payment = self.payments.of_key(owner, key)
            if payment is None:
                self._within_limits(owner, credits)
                payment = await self._written(owner, credits, key, 1)
            elif payment.credits != credits:
                raise Conflict("This key is of a payment of another sum", hint="Use a new key.")
            if not payment.url and payment.state == "pending":
                with trio.move_on_after(_RECHARGE_SECONDS) as scope:
                    payment = await self._begun(payment)
                if scope.cancelled_caught:
                    raise Unavailable("Paystack takes too long", hint="Try again with the same key.")
        answer = payment.answer()
        return {name: answer[name] for name in ("status", "reference", "detail")} | (
            {"url": payment.url} if payment.state == "pending" else {}
        )

    def _within_limits(self, owner: str, credits: int) -> None:
        settings, now = self._settings, self._now
        if not settings.least <= credits <= settings.most:
            raise BadInput(f"A card payment is of {settings.least} to {settings.most} credits")
        everything = self.payments.all()
        own = [p for p in everything if p.owner.lower() == owner.lower()]
        if len({p.key for p in own if p.state == "pending" and p.due}) >= settings.most_open:
            raise TooMany(
                f"{settings.most_open} payments of this wallet have begun and not ended",
                hint="Pay one of them, or wait until they lapse.",
            )
        # Of several attempts at one payment, one counts.
        recent = {p.key: p.credits for p in own if p.made > now - _DAY and (p.given or p.state != "refused")}
        if sum(recent.values()) + credits > settings.most_daily:
            raise TooMany(f"A wallet may pay {settings.most_daily} credits by card within 24 hours")
        held = sum(p.given - p.reversed for p in everything if p.held_until > now or p.state == "disputed")
        if held + credits > settings.most_held:
            raise Unavailable("No more card payments are taken for now", hint="Pay by token, or try later.")

    async def _written(self, owner: str, credits: int, key: str, attempt: int) -> Payment:
        settings, now = self._settings, self._now
        payment = Payment(
            reference_of(self._node.peer_id, owner, key, attempt),
            key,
            owner,
            credits,
            price(credits, settings.rate, settings.fee_bps, settings.fee_fixed),
            settings.currency,
            now,
            attempt,
            due=now + settings.poll,
        )
        written = await trio.to_thread.run_sync(self.payments.add, payment, now)
        self._wake.set()
        return written

    async def _begun(self, payment: Payment) -> Payment:
        """With a URL to pay at. What was cut off between asking Paystack and writing its answer down begins anew
        under another reference, for nobody was ever told the first one's URL."""
        for _ in range(_ATTEMPTS):
            try:
                begun = await self._paystack.initialize(self._asked(payment))
            except Refused as error:
                if not error.duplicate:
                    self._node.log.warning("paystack_refuses", detail=error.detail, code=error.code)
                    detail = f"Paystack does not take it: {error.detail}"[:500]
                    return await self._changed(payment, state="refused", detail=detail, due=0)
                payment = await self._written(
                    payment.owner, payment.credits, payment.key, payment.attempt + 1
                )
                continue
            if begun.reference != payment.reference:
                raise Unavailable("Paystack answers about another payment than was begun")
            detail = f"{payment.amount} subunits of {payment.currency} to pay"
            return await self._changed(payment, url=begun.url, detail=detail)
        raise Unavailable("Paystack knows the payment, but does not say where to pay it")

    def _asked(self, payment: Payment) -> dict[str, Any]:
        settings = self._settings
        asked: dict[str, Any] = {
            "amount": str(payment.amount),
            "email": settings.email.replace("{owner}", payment.owner.lower()),
            "currency": payment.currency,
            "reference": payment.reference,
            "channels": list(settings.channels),
            # Published as a text of JSON.
            "metadata": json.dumps(
                {"owner": payment.owner, "credits": str(payment.credits), "node": self._node.peer_id}
            ),
        }
        if settings.callback_url:
            asked["callback_url"] = settings.callback_url
        return asked

    # -- looking at payments

    async def look(self, reference: str) -> Payment:
        """Ask Paystack how it stands, and write that down. Unavailable, and nothing has changed."""
        async with self._alone(f"reference {reference}"):
            payment = self.payments.get(reference)
            if payment is None:
                raise BadInput("No such payment")
            judged = await self._judged(payment)
            now = self._now
            due = judging.next_look(
                judged,
                poll=self._settings.poll,
                recheck=self._settings.recheck,
                expire=self._settings.expire,
                now=now,
            )
            if judged.state == "pending" and not due:
                judged = replace(judged, state="refused", detail="It was not paid in time")
            if judged.state != payment.state:
                self._tell(judged)
            return await trio.to_thread.run_sync(
                partial(
                    self.payments.change,
                    reference,
                    now,
                    state=judged.state,
                    transaction=judged.transaction,
                    given=judged.given,
                    reversed=judged.reversed,
                    held_until=judged.held_until,
                    detail=judged.detail,
                    due=due,
                    failures=0,
                )
            )

    async def _judged(self, payment: Payment) -> Payment:
        try:
            found = await self._paystack.verify(payment.reference)
            paid = found.status in ("success", "reversed")
            refunds = await self._paystack.refunds(found.number) if paid else []
            disputes = await self._paystack.disputes(found.number) if paid else []
        except Refused as error:
            if error.unknown and not payment.given:
                return payment  # `initialize` never got there
            raise Unavailable(f"Paystack does not say how a payment stands: {error.detail}") from None
        return judging.judge(
            payment,
            found,
            refunds,
            disputes,
            domain=self._key.domain,
            hold=self._settings.hold,
            now=self._now,
        )

    def _tell(self, payment: Payment) -> None:
        wrong = payment.state in ("disputed", "reversed") or payment.detail.startswith(judging.NOT_OURS[:20])
        say = self._node.log.warning if wrong else self._node.log.info
        say(
            "card_payment",
            reference=payment.reference,
            state=payment.state,
            owner=payment.owner,
            credits=payment.given or payment.credits,
            reversed=payment.reversed,
            detail=payment.detail,
        )

    async def run(self) -> None:
        """Look at what is due, until cancelled: no webhook that is lost, and no restart, loses a payment."""
        # Webhooks that came while the node was down are not waited for.
        waiting = [p for p in self.payments.all() if p.due and not p.given]
        try:
            while True:
                self._wake = trio.Event()
                try:
                    await self._round(waiting or self.payments.due(self._now))
                    waiting = []
                except (OSError, DecentraSpaceError) as error:  # the disk: it may have room again later
                    self._node.log.error("card_payments_not_written", detail=str(error))
                    await trio.sleep(_IDLE_MOST)
                due = self.payments.next_due()
                pause = _IDLE_MOST if due is None else min(_IDLE_MOST, max(0.2, due - self._clock()))
                with trio.move_on_after(pause):
                    await self._wake.wait()
        finally:
            with trio.CancelScope(shield=True), trio.move_on_after(1):
                await self._paystack.aclose()
            self.payments.close()

    async def _round(self, payments: list[Payment]) -> None:
        for payment in payments:
            try:
                await self.look(payment.reference)
            except Unavailable as error:
                failures = payment.failures + 1
                pause = min(self._settings.poll * 2 ** min(failures, 12), _FAILED_MOST)
                await self._changed(payment, failures=failures, due=self._now + pause)
                if failures in (1, 5, 20):
                    self._node.log.warning(
                        "paystack_away", detail=error.detail, reference=payment.reference, failures=failures
                    )

    async def _changed(self, payment: Payment, **changes: Any) -> Payment:
        return await trio.to_thread.run_sync(
            partial(self.payments.change, payment.reference, self._now, **changes)
        )

    # -- webhooks, and what the node is told

    async def webhook(self, headers: Mapping[str, str], body: bytes, source: str) -> dict[str, Any]:
        """Forbidden, TooLarge or BadInput for what is not a call of Paystack. The call only says where to look:
        no sum, state or owner is taken from it."""
        lower = {name.lower(): value for name, value in headers.items()}
        settings = self._settings
        if settings.sources:
            who = sources.caller(source, lower.get("x-forwarded-for", ""), settings.proxies)
            if not sources.within(who, settings.sources):
                raise Forbidden(
                    "Webhooks are not taken from this address",
                    hint="Look at plugin.billing_paystack.sources and proxies.",
                )
        if len(body) > _BODY_MOST:
            raise TooLarge(f"A webhook has at most {_BODY_MOST} bytes")
        if not self._key.signed(body, lower.get("x-paystack-signature", "").strip().lower()):
            raise Forbidden("The signature is not Paystack's")
        try:
            kind, reference = answers.event(json.loads(body))
        except (ValueError, RecursionError):
            raise BadInput("This is no event of Paystack") from None
        payment = self.payments.get(reference) if kind.startswith(_KINDS) else None
        if payment is None:
            return {"status": "ignored", "reference": reference}
        # The state was read after this very event once: reading it again would tell nothing new.
        digest = hashlib.sha256(body).digest()
        if digest in self._seen:
            return payment.answer()
        before = payment.number
        try:
            with trio.fail_after(_WEBHOOK_SECONDS):
                payment = await self.look(reference)
        except (Unavailable, trio.TooSlowError):
            # Written down, so it is taken; the poll does the rest.
            payment = await self._changed(payment, due=self._now)
        else:
            if payment.number == before:
                # Paystack's lists may lag behind its calls.
                payment = await self._changed(payment, due=self._now + 2 * settings.poll)
            self._seen[digest] = None
            while len(self._seen) > _SEEN_MOST:
                self._seen.popitem(last=False)
        self._wake.set()
        return payment.answer()

    def events(self, after: int) -> dict[str, Any]:
        following, found = self.payments.since(after, _EVENTS_MOST)
        return {
            "next": following,
            "events": [{**p.answer(), "number": p.number, "time": p.changed} for p in found],
        }

    @asynccontextmanager
    async def _alone(self, name: str) -> AsyncIterator[None]:
        """One at a time for each `name`."""
        lock, users = self._locks.get(name) or (trio.Lock(), 0)
        self._locks[name] = (lock, users + 1)
        try:
            async with lock:
                yield
        finally:
            lock, users = self._locks[name]
            if users > 1:
                self._locks[name] = (lock, users - 1)
            else:
                del self._locks[name]
