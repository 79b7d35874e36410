"""Brings the jobs of the outbox into final blocks, one nonce after the other.

Each step looks at the chain first, so that it does not matter when the last one was cut short: what was sent and
not written down is not possible, because a transaction is written down before it is sent. A new nonce for a job
takes proof that somebody else's transaction used the old one.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import trio

from decentraspace.errors import DecentraSpaceError, Unavailable
from decentraspace_billing_polygon import contracts
from decentraspace_billing_polygon.chain import Chain, Fees
from decentraspace_billing_polygon.forms import Block, Receipt, quantity
from decentraspace_billing_polygon.outbox import Attempt, Job, Outbox
from decentraspace_billing_polygon.rpc import Refused
from decentraspace_billing_polygon.settings import GWEI
from decentraspace_billing_polygon.signer import Signer

_RAISE = 9, 8  # a replacement must pay at least a tenth more; nodes refuse it otherwise
_IN_FLIGHT = 8  # nonces at once
_STEP_FIRST, _STEP = 0.25, 2.0  # seconds between looks while something is on its way
_PAUSE_MOST = 10.0
_OUT_OF_GAS_MOST = 3  # times that a job gets twice the gas
GOES_WRONG = (DecentraSpaceError, OSError, sqlite3.Error)


async def _nothing(_: Job) -> None: ...


class Sender:
    """`before`: what to do before a job gets a nonce. `trouble`: why something waits, or ""."""

    def __init__(self, chain: Chain, outbox: Outbox, signer: Signer, log: Any) -> None:
        self.chain, self.outbox, self.signer, self.log = chain, outbox, signer, log
        self.before: Callable[[Job], Awaitable[None]] = _nothing
        self.trouble = ""
        self._wake = trio.Event()
        self._taken: set[str] = set()  # hashes that an endpoint took since this process started

    async def put(self, job: Job) -> Job:
        """Written down when it returns; sent soon."""
        job = await trio.to_thread.run_sync(self.outbox.add, job)
        self._wake.set()
        return job

    async def run(self) -> None:
        """For ever."""
        pause = _STEP_FIRST
        while True:
            self._wake = trio.Event()
            try:
                busy = await self.step()
            except GOES_WRONG as error:
                reason = error.detail if isinstance(error, DecentraSpaceError) else str(error)
                if self.trouble != reason:
                    self.log.warning("transactions_wait", reason=reason)
                self.trouble, busy, most = reason, True, _PAUSE_MOST
            else:
                self.trouble, most = "", _STEP
            with trio.move_on_after(pause if busy else 600.0):
                await self._wake.wait()
            pause = _STEP_FIRST if self._wake.is_set() else min(2 * pause, most)

    async def step(self) -> bool:
        """Look at every open job once; whether any is left."""
        jobs = await trio.to_thread.run_sync(self.outbox.open_jobs)
        if not jobs:
            return False
        await self.chain.check()
        final = await self.chain.final_block()
        # Before receipts are read: a nonce used in this block by none of ours will never be ours.
        used = await self.chain.nonce(self.signer.address, final.number)
        error: DecentraSpaceError | None = None
        for job in jobs[:_IN_FLIGHT]:
            try:
                await self._look_at(job, final, used)
            except DecentraSpaceError as found:
                error = error or found  # what one waits for need not hold the others
        if error is not None:
            raise error
        return bool(await trio.to_thread.run_sync(self.outbox.open_jobs))

    async def _look_at(self, job: Job, final: Block, used: int) -> None:
        mined = await self._mined(job)
        if mined is not None:
            if mined.block <= final.number and await self._stands(mined):
                await self._conclude(job, mined)
            return
        if job.nonce is not None and job.nonce < used:
            if await self._is_ours(job, job.nonce, final):
                return  # mined, and the endpoints do not know its receipt yet
            self.log.warning("nonce_used_elsewhere", key=job.key, nonce=job.nonce)
            job = await self._change(job, nonce=None, attempts=(), state="written")
        last = job.attempts[-1] if job.attempts else None
        if last is None or time.time() - last.at >= self.chain.settings.replace_after:
            await self._send(job, final)
        elif last.hash not in self._taken:
            await self._tell(job)

    async def _is_ours(self, job: Job, nonce: int, final: Block) -> bool:
        """Whether it was one of the job's own attempts that used its nonce."""
        try:
            found = await self.chain.user_of(self.signer.address, nonce, job.attempts[0].after, final.number)
        except DecentraSpaceError as error:
            if not job.once:
                return False  # to send it again does no harm
            raise Unavailable(
                f"It cannot be told by which transaction nonce {nonce} was used: {error.detail}",
                hint="An endpoint that keeps old states (an archive node) in plugin.billing_polygon.rpc helps.",
            ) from error
        return found in {attempt.hash for attempt in job.attempts}

    async def _mined(self, job: Job) -> Receipt | None:
        for attempt in reversed(job.attempts):
            if (receipt := await self.chain.receipt(attempt.hash)) is not None:
                return receipt
        return None

    async def _stands(self, receipt: Receipt) -> bool:
        return (await self.chain.block(receipt.block)).hash == receipt.block_hash

    async def _conclude(self, job: Job, receipt: Receipt) -> None:
        result = {
            "transaction": receipt.transaction,
            "block": receipt.block,
            "gas": receipt.gas,
            "ok": receipt.ok,
            **outcome(receipt, self.chain.settings.vault),
        }
        self._taken -= {attempt.hash for attempt in job.attempts}
        times = job.about.get("times", 0)
        if not receipt.ok and receipt.gas * 64 >= job.gas * 63 and times < _OUT_OF_GAS_MOST:
            await self._anew(job, gas=2 * job.gas, about={**job.about, "times": times + 1})
            return
        if not receipt.ok and job.patient:
            await self._anew(job, gas=0)
            return
        state = "final" if receipt.ok else "failed"
        detail = "" if receipt.ok else "The transaction was reverted."
        await self._change(job, state=state, result=result, detail=detail)
        self.log.info("transaction_final", key=job.key, transaction=receipt.transaction, ok=receipt.ok)

    async def _anew(self, job: Job, **changes: Any) -> None:
        """A final block has undone the attempts: under a new nonce."""
        self.log.warning("transaction_reverted", key=job.key, transaction=job.reference)
        await self._change(job, nonce=None, attempts=(), state="written", **changes)

    async def _send(self, job: Job, final: Block) -> None:
        if job.nonce is None:
            await self.before(job)
        if job.gas == 0:
            try:
                gas = await self.chain.gas(self.signer.address, job.to, job.data, job.value)
            except Refused as refusal:
                if "insufficient funds" in refusal.detail.lower():
                    raise self._no_coins() from refusal
                why = f"It would be reverted: {contracts.in_words(refusal.detail, refusal.data)}"[:500]
                if not refusal.reverts:
                    raise Unavailable(
                        f"The endpoints do not say what it costs: {refusal.detail}"
                    ) from refusal
                if not job.patient:
                    await self._change(job, state="failed", detail=why)
                elif job.detail != why:
                    self.log.warning("transaction_waits", key=job.key, reason=why)
                    await self._change(job, detail=why)
                return
            job = await self._change(job, gas=gas)
        fees = await self._fees(job)
        if fees is not None:
            nonce = job.nonce if job.nonce is not None else await self._next_nonce()
            transaction = {
                "type": 2,
                "chainId": self.chain.settings.chain_id,
                "nonce": nonce,
                "to": contracts.address(job.to),
                "data": job.data,
                "value": job.value,
                "gas": job.gas,
                "maxFeePerGas": fees.most,
                "maxPriorityFeePerGas": fees.tip,
            }
            digest, raw = await self.signer.sign(transaction)
            attempt = Attempt(digest, raw, fees.most, fees.tip, int(time.time()), final.number)
            job = await self._change(
                job, state="sent", nonce=nonce, attempts=(*job.attempts, attempt), detail=""
            )
        elif job.attempts:
            # It pays the most that is allowed: once more, for those that have forgotten it.
            again = replace(job.attempts[-1], at=int(time.time()))
            job = await self._change(job, attempts=(*job.attempts[:-1], again))
        else:
            raise Unavailable(
                f"Gas costs more than plugin.billing_polygon.max_fee, {self.chain.settings.max_fee} gwei"
            )
        await self._tell(job)

    async def _tell(self, job: Job) -> None:
        newest = job.attempts[-1]
        try:
            await self.chain.endpoints.told("eth_sendRawTransaction", newest.raw)
        except Refused as refusal:
            said = refusal.detail.lower()
            if (
                "already known" in said
                or "nonce too low" in said
                or "underpriced" in said
                or "imported" in said
            ):
                self._taken.add(newest.hash)  # the next looks will tell
                return
            if "insufficient funds" in said:
                raise self._no_coins() from refusal
            raise Unavailable(f"The endpoints do not take a transaction: {refusal.detail}") from refusal
        self._taken.add(newest.hash)

    def _no_coins(self) -> Unavailable:
        return Unavailable(
            f"{self.signer.address} has too few coins for the fee of a transaction",
            hint="Send it some of the chain's own coin.",
        )

    async def _fees(self, job: Job) -> Fees | None:
        """None when the most that is allowed is not enough, or was tried."""
        most = self.chain.settings.max_fee * GWEI
        now = await self.chain.fees()
        if not job.attempts:
            return None if now.base + now.tip > most else replace(now, most=min(now.most, most))
        last = job.attempts[-1]
        up, down = _RAISE
        wanted = max(now.most, last.most * up // down + 1)
        tip = max(now.tip, last.tip * up // down + 1)
        return None if wanted > most else replace(now, most=wanted, tip=min(tip, wanted))

    async def _next_nonce(self) -> int:
        jobs = await trio.to_thread.run_sync(self.outbox.open_jobs)
        ours = [job.nonce + 1 for job in jobs if job.nonce is not None]
        mined = await self.chain.endpoints.least_known(
            "eth_getTransactionCount", self.signer.address, "latest", form=quantity
        )
        return max([mined, *ours])

    async def _change(self, job: Job, **changes: Any) -> Job:
        return await trio.to_thread.run_sync(lambda: self.outbox.change(job.key, **changes))


def outcome(receipt: Receipt, vault: str) -> dict[str, Any]:
    """What a receipt says of each charge: {"settled": {allocation: cumulative}, "skipped": {allocation: reason}}."""
    settled: dict[str, int] = {}
    skipped: dict[str, int] = {}
    for log in receipt.logs:
        found = contracts.event("CreditVault", log) if log.address == vault.lower() else None
        if found is None:
            continue
        name, a = found
        if name == "Settled":
            settled["0x" + bytes(a["allocation"]).hex()] = a["cumulative"]
        elif name == "ChargeSkipped":
            skipped["0x" + bytes(a["allocation"]).hex()] = a["reason"]
    return {"settled": settled, "skipped": skipped}
