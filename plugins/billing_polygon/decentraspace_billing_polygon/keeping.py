"""Allocations to this operator, as final events told them, and what may be done about them without being asked:
streams are settled when that pays, and what has expired is released, which anybody may."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import trio

from decentraspace.errors import DecentraSpaceError
from decentraspace_billing_polygon import contracts
from decentraspace_billing_polygon.chain import each
from decentraspace_billing_polygon.forms import Block
from decentraspace_billing_polygon.operating import streams_or_release
from decentraspace_billing_polygon.outbox import Job
from decentraspace_billing_polygon.sender import GOES_WRONG, Sender
from decentraspace_billing_polygon.settling import fee_in_credits
from decentraspace_billing_polygon.store import Store

KNOWN_MOST = 100_000
_AT_ONCE = 100
_GAS_BATCH, _GAS_STREAM = 60_000, 20_000  # on the safe side of contracts/snapshots
_OPEN = 1  # ICreditVault.Status


class Known(NamedTuple):
    """Amounts in credits, `rate` a second, times in Unix seconds."""

    allocation: str
    cap: int
    rate: int
    start: int
    expires: int
    metered: int
    streamed: int

    def due(self, now: int) -> int:
        """What the stream has earned and not got, as CreditVault counts it."""
        earned = self.rate * max(0, min(now, self.expires) - self.start)
        return max(0, min(earned, self.cap - self.metered) - self.streamed)


class Allocations:
    """Blocking; from any thread. `most` are remembered; of further ones only their owners and others take care."""

    def __init__(self, store: Store, operator: str, most: int = KNOWN_MOST) -> None:
        self._store, self._operator, self._most = store, operator.lower(), most

    def take(self, events: Sequence[dict[str, Any]]) -> None:
        """Events as the hook `chain_events` tells them, also again. On disk when it returns."""
        with self._store.write() as db:
            (count,) = db.execute("SELECT count(*) FROM allocations").fetchone()
            for event in events:
                if event.get("operator", "").lower() != self._operator or "allocation" not in event:
                    continue
                where = (event["allocation"], event["block"], event["index"])
                if event["kind"] == "allocated":
                    known = db.execute("SELECT 1 FROM allocations WHERE allocation = ?", where[:1])
                    if known.fetchone() is None:  # else it was raised
                        if count >= self._most:
                            continue
                        count += 1
                    db.execute(
                        "INSERT INTO allocations VALUES (?1, ?4, ?5, ?6, ?7, 0, 0, ?2, ?3) ON CONFLICT DO UPDATE "
                        "SET cap = ?4, expires = ?7, block = ?2, place = ?3 WHERE (block, place) < (?2, ?3)",
                        (*where, event["cap"], event["rate"], event["start"], event["expires"]),
                    )
                elif event["kind"] in ("settled", "stream_settled"):
                    column = "metered" if event["kind"] == "settled" else "streamed"
                    db.execute(
                        f"UPDATE allocations SET {column} = max({column}, ?) WHERE allocation = ?",  # noqa: S608
                        (event["cumulative"], event["allocation"]),
                    )
                elif event["kind"] == "released":
                    gone = db.execute("DELETE FROM allocations WHERE allocation = ?", where[:1])
                    count -= gone.rowcount

    def streaming(self, now: int, most: int) -> list[Known]:
        """Those whose streams are due, most first."""
        with self._store.read() as db:
            rows = db.execute(
                f"SELECT {', '.join(Known._fields)} FROM allocations WHERE rate > 0"  # noqa: S608
            ).fetchall()
        known = sorted((Known(*row) for row in rows), key=lambda one: one.due(now), reverse=True)
        return [one for one in known[:most] if one.due(now)]

    def expired(self, before: int, most: int) -> list[Known]:
        """Those that expired before `before`, the earliest first."""
        with self._store.read() as db:
            rows = db.execute(
                f"SELECT {', '.join(Known._fields)} FROM allocations WHERE expires < ? "  # noqa: S608
                "ORDER BY expires LIMIT ?",
                (before, most),
            ).fetchall()
        return [Known(*row) for row in rows]

    def forget(self, allocation: str) -> None:
        with self._store.write() as db:
            db.execute("DELETE FROM allocations WHERE allocation = ?", (allocation,))


class Keeper:
    def __init__(self, sender: Sender, known: Allocations) -> None:
        self.sender, self.chain, self.known = sender, sender.chain, known

    async def run(self) -> None:
        """For ever."""
        trouble = ""
        while True:
            try:
                await self.step()
            except GOES_WRONG as error:
                reason = error.detail if isinstance(error, DecentraSpaceError) else str(error)
                if reason != trouble:
                    self.sender.log.warning("upkeep_waits", reason=reason)
                trouble = reason
            else:
                trouble = ""
            await trio.sleep(self.chain.settings.upkeep)

    async def step(self) -> None:
        """Look once, and write down what is to be sent."""
        await self.chain.check()
        final = await self.chain.final_block()
        jobs = await trio.to_thread.run_sync(self.sender.outbox.open_jobs)
        under_way = {job.key.split(":")[0] for job in jobs}
        if "release" not in under_way:
            await self._release(final)
        if "streams" not in under_way:
            await self._settle_streams(final)

    async def _release(self, final: Block) -> None:
        vault = self.chain.settings.vault
        window = await self.chain.read("CreditVault", vault, "SETTLEMENT_WINDOW", block=final.number)
        found = await trio.to_thread.run_sync(self.known.expired, final.time - window, _AT_ONCE)
        if standing := await self._standing(found, final):
            await self._put("release", list(standing), final)

    async def _settle_streams(self, final: Block) -> None:
        settings = self.chain.settings
        last = int(await trio.to_thread.run_sync(self.sender.outbox.store.fact, "streams") or 0)
        if final.time - last < settings.streams_every:
            return
        found = await trio.to_thread.run_sync(self.known.streaming, final.time, _AT_ONCE)
        if not found:
            return
        fees = await self.chain.fees()
        wei = (_GAS_BATCH + _GAS_STREAM * len(found)) * (fees.base + fees.tip)
        fee = await fee_in_credits(self.chain, wei, final.number)
        if sum(one.due(final.time) for one in found) < settings.settle_margin * fee:
            return
        standing = await self._standing(found, final)
        due = {allocation: credits for allocation, credits in standing.items() if credits}
        if due and sum(due.values()) >= settings.settle_margin * fee:
            await self._put("streams", list(due), final)
            await trio.to_thread.run_sync(self.sender.outbox.store.put_fact, "streams", str(final.time))

    async def _standing(self, found: Sequence[Known], final: Block) -> dict[str, int]:
        """Those of them that are open, as the chain has it, with what their streams are due."""

        async def look(one: Known) -> tuple[str, int, int]:
            return one.allocation, *await self.chain.standing(one.allocation, final.number)

        due = {}
        for allocation, status, credits in await each(look, found):
            if status == _OPEN:
                due[allocation] = credits
            else:
                await trio.to_thread.run_sync(self.known.forget, allocation)
        return due

    async def _put(self, what: str, allocations: Sequence[str], final: Block) -> None:
        function = streams_or_release("settle_streams" if what == "streams" else what)
        ids = [bytes.fromhex(one[2:]) for one in allocations]
        data = contracts.encode("CreditVault", function, [ids])
        key = f"{what}:{final.number}"
        await self.sender.put(Job(key=key, to=self.chain.settings.vault, data=data, made=int(time.time())))
