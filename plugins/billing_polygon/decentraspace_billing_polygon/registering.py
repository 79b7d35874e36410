"""The operator's entry in OperatorRegistry, for the commands: sent by way of the same outbox as all else, so that
what is interrupted goes on when the node runs."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import base58
import structlog
import trio

from decentraspace.errors import BadInput, ConfigError, Conflict, Unavailable
from decentraspace_billing_polygon import contracts
from decentraspace_billing_polygon.chain import Chain
from decentraspace_billing_polygon.outbox import Job
from decentraspace_billing_polygon.parts import assemble
from decentraspace_billing_polygon.settings import Settings

STANDINGS = ("not registered", "active", "leaving", "slashed")
_ACTIVE, _LEAVING = 1, 2
_LOOK = 0.25


@dataclass(frozen=True)
class Plan:
    """What is to be sent, in words and as jobs, one after the other."""

    words: tuple[str, ...]
    jobs: tuple[Job, ...]


class Registrar:
    """Blocking to make. Conflict while the node has the plugin's memory open, ConfigError for a wrong key."""

    def __init__(self, settings: Settings, data_dir: Path) -> None:
        self._data_dir = data_dir
        log = structlog.get_logger("decentraspace.plugin")
        try:
            self._parts = assemble(settings, data_dir / "plugins" / "billing_polygon", log)
        except Conflict as error:
            raise Conflict("The node is running", hint="Stop it first; then try again.") from error
        self.settings, self.chain = settings, self._parts.chain
        self.operator = self._parts.signer.address
        self._registry, self._vault = (contracts.address(a) for a in (settings.operators, settings.vault))

    async def aclose(self) -> None:
        await self._parts.aclose()

    async def forget_final(self) -> str:
        store = self._parts.store
        known = await trio.to_thread.run_sync(store.fact, "final")
        await trio.to_thread.run_sync(store.put_fact, "final", "")
        return known

    async def status(self) -> dict[str, Any]:
        """{"operator", "standing", "stake", "leaves_at", "http", "peer_id", "prices", "least_stake", "credits",
        "tokens", "coins" (wei), "block"}."""
        await self.chain.check()
        block = (await self.chain.final_block()).number
        stake, leaves_at, standing, prices, peer_id, http = await self._registered("operatorOf", block)
        token = await self._parts.preparer.token()
        return {
            "operator": self.operator,
            "standing": STANDINGS[standing],
            "stake": stake,
            "leaves_at": leaves_at,
            "http": http,
            "peer_id": base58.b58encode(peer_id).decode(),
            "prices": "0x" + prices.hex(),
            "least_stake": await self._read("OperatorRegistry", self._registry, "MIN_STAKE", block=block),
            "credits": (await self._account(block))[2],
            "tokens": await self._read("Token", token, "balanceOf", self.operator, block=block),
            "coins": await self.chain.coins(self.operator),
            "block": block,
        }

    async def plan(
        self, stake: int | None, http: str, peer_id: str | None, prices: bytes, deposit: bool
    ) -> Plan:
        """To register, or to change what is told. BadInput or Conflict where that cannot be."""
        found = await self.status()
        described = [self._peer_id(peer_id), http, prices]
        if found["standing"] == "active":
            if stake not in (None, found["stake"]):
                raise Conflict(
                    f"{self.operator} is registered with {found['stake']} credits at stake already"
                )
            return self._plan([(f"Change what is told: {http}", "OperatorRegistry", "update", described)])
        if found["standing"] != STANDINGS[0]:
            raise Conflict(f"{self.operator} is {found['standing']}, and cannot be registered")
        stake = stake or found["least_stake"]
        if stake < found["least_stake"]:
            raise BadInput(f"The stake must be {found['least_stake']} credits at least")
        steps: list[tuple[str, str, str, list[Any]]] = []
        lacking = stake - found["credits"]
        if lacking > 0:
            if not deposit:
                raise Conflict(
                    f"{self.operator} has {found['credits']} credits of the {stake} for the stake",
                    hint="--deposit deposits the rest from its tokens.",
                )
            if found["tokens"] < lacking:
                raise Conflict(f"{self.operator} has {found['tokens']} tokens, and {lacking} are needed")
            words = f"Let the vault take {lacking} of the operator's tokens"
            steps.append((words, "Token", "approve", [self._vault, lacking]))
            steps.append((f"Deposit {lacking} tokens as credits", "CreditVault", "deposit", [lacking]))
        words = f"Let the registry take {stake} credits"
        steps.append((words, "CreditVault", "approve", [self._registry, stake]))
        words = f"Register {self.operator} as {http}, with {stake} credits at stake"
        steps.append((words, "OperatorRegistry", "register", [stake, *described]))
        return self._plan(steps, await self._parts.preparer.token())

    async def plan_to_leave(self) -> Plan:
        found = await self.status()
        if found["standing"] == "active":
            words = f"Leave the registry; {found['stake']} credits at stake may be taken back 14 days later"
            return self._plan([(words, "OperatorRegistry", "deregister", [])])
        if found["standing"] != "leaving":
            raise Conflict(f"{self.operator} is {found['standing']}")
        if found["leaves_at"] > (await self.chain.final_block()).time:
            raise Conflict(
                f"The stake may be taken back from {found['leaves_at']} on (Unix seconds)",
                hint="Run this again then.",
            )
        words = f"Take {found['stake']} credits at stake back"
        return self._plan([(words, "OperatorRegistry", "withdrawStake", [])])

    async def carry_out(self, plan: Plan, seconds: float) -> dict[str, Any]:
        """The status when all of it is final. Unavailable after `seconds`: the node goes on with it."""
        sender, refused = self._parts.sender, ""
        with trio.move_on_after(seconds):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(sender.run)
                for job in plan.jobs:
                    # One after the other: each must be there for the next to succeed.
                    ended = await self._ended(job)
                    if ended.state == "failed":
                        refused = ended.detail or "it was reverted"
                        break
                nursery.cancel_scope.cancel()
            if refused:
                raise Conflict(f"The chain refuses it: {refused}")
            return await self.status()
        raise Unavailable(
            f"It is not final after {seconds:g} s" + (f": {sender.trouble}" if sender.trouble else ""),
            hint="What was sent is written down; look again with `decentraspace operator status`.",
        )

    async def _ended(self, job: Job) -> Job:
        sender = self._parts.sender
        job = await sender.put(job)
        while job.open:
            await trio.sleep(_LOOK)
            job = await trio.to_thread.run_sync(sender.outbox.add, job)  # as it stands
        return job

    def _plan(self, steps: list[tuple[str, str, str, list[Any]]], token: str = "") -> Plan:
        targets = {"OperatorRegistry": self._registry, "CreditVault": self._vault, "Token": token}
        now = time.time_ns()
        jobs = tuple(
            Job(
                key=f"command:{now}:{number}",
                to=targets[contract],
                data=contracts.encode(contract, function, arguments),
                made=now // 10**9,
            )
            for number, (_, contract, function, arguments) in enumerate(steps)
        )
        return Plan(tuple(words for words, *_ in steps), jobs)

    def _peer_id(self, given: str | None) -> bytes:
        if not given:
            from decentraspace.cli.options import key_passphrase
            from decentraspace.identity.keys import NodeKey

            path = self._data_dir / "node.key"
            if not path.exists():
                raise ConfigError(f"There is no {path}", hint="Run the node once, or name its --peer-id.")
            given = NodeKey.load_or_create(path, key_passphrase()).peer_id
        try:
            found = bytes(base58.b58decode(given))
        except ValueError as error:
            raise BadInput(f"{given!r} is no peer id") from error
        if not 0 < len(found) <= 64:
            raise BadInput(f"{given!r} is no peer id")
        return found

    async def _registered(self, function: str, block: int) -> Any:
        return await self._read("OperatorRegistry", self._registry, function, self.operator, block=block)

    async def _account(self, block: int) -> Any:
        return await self._read("CreditVault", self._vault, "accountOf", self.operator, block=block)

    async def _read(self, contract: str, address: str, function: str, *arguments: Any, block: int) -> Any:
        chain: Chain = self.chain
        return await chain.read(contract, address, function, *arguments, block=block)
