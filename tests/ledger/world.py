"""A ledger and a chain to go with it: final events as a plugin gives them, from a plain model of the vault."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

from decentraspace.config import BillingConfig, Config, LimitsConfig
from decentraspace.ledger.clock import CLOSE_AFTER, HOUR, Moment
from decentraspace.ledger.meters import Held
from decentraspace.ledger.settlement import Batch
from decentraspace.ledger.store import Ledger
from decentraspace.ledger.usage import Total

CHAIN, VAULT = 31337, "0x" + "fa" * 20
OPERATOR = "0x" + "0b" * 20
GIB = 2**30
START = 1_800_000_000 // HOUR * HOUR


def hash_of(*parts: object) -> str:
    return "0x" + hashlib.sha256(repr(parts).encode()).hexdigest()


def owner_of(number: int) -> bytes:
    return number.to_bytes(20, "big")


def site_of(number: int) -> str:
    return base64.b32encode(number.to_bytes(10, "big")).decode().lower()


class Vault:
    """What CreditVault would do with charges, and the events it would emit, as `chain_events` gives them."""

    def __init__(self) -> None:
        self.block = 0
        self.events: list[dict[str, Any]] = []
        self.paid: dict[str, int] = {}
        self.grants: dict[str, dict[str, Any]] = {}

    def emit(self, kind: str, transaction: str = "", **fields: Any) -> None:
        self.block += 1
        self.events.append(
            {
                "block": self.block,
                "block_hash": hash_of("block", self.block),
                "time": START,
                "transaction": transaction or hash_of("transaction", self.block),
                "index": self.block,
                "kind": kind,
                **fields,
            }
        )

    def allocate(self, owner: bytes, cap: int, *, rate: int = 0, days: int = 30, number: int = 0) -> str:
        allocation = hash_of(owner, number)
        fields = {"cap": cap, "rate": rate, "start": START, "expires": START + days * 86400}
        whose = {"owner": "0x" + owner.hex(), "operator": OPERATOR, "allocation": allocation}
        self.grants[allocation] = {**whose, **fields}
        self.paid.setdefault(allocation, 0)
        self.emit("allocated", **whose, id=number, **fields)
        return allocation

    def settle(self, batch: Batch) -> str:
        """One transaction; its hash."""
        transaction = hash_of("settle", batch.root, self.block)
        for charge in batch.charges:
            allocation = "0x" + charge.allocation.hex()
            grant, paid = self.grants[allocation], self.paid[allocation]
            whose = {name: grant[name] for name in ("owner", "operator", "allocation")}
            amount = charge.cumulative - paid
            if amount <= 0 or charge.cumulative > grant["cap"]:
                reason = "nothing due" if amount <= 0 else "over the cap"
                self.emit("skipped", transaction, allocation=allocation, reason=reason)
                continue
            self.paid[allocation] = charge.cumulative
            self.emit("settled", transaction, **whose, credits=amount, cumulative=charge.cumulative)
        self.emit("batch", transaction, operator=OPERATOR, root="0x" + batch.root.hex(), credits=0)
        return transaction

    def release(self, allocation: str) -> None:
        grant = self.grants[allocation]
        self.emit("released", owner=grant["owner"], allocation=allocation, credits=0)

    def answer(self, from_block: int) -> dict[str, Any]:
        return {
            "chain": CHAIN,
            "next_block": self.block + 1,
            "events": [event for event in self.events if event["block"] >= from_block],
        }


class World:
    """A ledger at a time of its own; prices of one credit for a GiB, a thousand requests, and a GiB-month."""

    def __init__(self, folder: Path, **billing: Any) -> None:
        self.folder, self.now = folder, Moment(START + 60, 60, "boot")
        defaults: dict[str, Any] = {
            "storage_price": 730_000,
            "egress_price": 1_000_000,
            "requests_price": 1_000_000,
            "settle_least": 1,
        }
        self.config = Config(
            billing=BillingConfig(**{**defaults, **billing}),
            limits=LimitsConfig(
                free_storage=0,
                free_egress=GIB,
                free_requests=1000,
                paid_free_storage=0,
                paid_free_egress=0,
                paid_free_requests=0,
            ),
        )
        self.vault = Vault()
        self.totals: dict[tuple[str, int], list[int]] = {}
        self.owners: dict[str, bytes] = {}
        self.ledger = self.opened()

    def opened(self) -> Ledger:
        self.ledger = Ledger(self.folder / "ledger.sqlite", self.config)
        self.ledger.bind(CHAIN, VAULT, OPERATOR)
        return self.ledger

    def reopen(self) -> None:
        self.ledger.close()
        self.opened()

    def use(self, site: str, owner: bytes, *, requests: int = 0, size: int = 0) -> None:
        """Visitors come, and the gateway's counts reach the ledger."""
        hour = self.now.wall // HOUR
        self.owners[site] = owner
        total = self.totals.setdefault((site, hour), [0, 0])
        total[0] += requests
        total[1] += size
        self.send()

    def send(self) -> None:
        """All counts of all hours, again: what was counted before counts for nothing."""
        totals = [Total(site, hour, *counts) for (site, hour), counts in self.totals.items()]
        self.ledger.take_usage(totals, self.owners)

    def tick(self, seconds: int = 10, held: dict[str, Held] | None = None) -> None:
        self.now = replace(self.now, wall=self.now.wall + seconds, up=self.now.up + seconds)
        self.ledger.tick(self.now, held)

    def hour(self) -> None:
        """Until the hour is over and closed."""
        end = (self.now.wall // HOUR + 1) * HOUR
        self.tick(end - self.now.wall)
        self.tick(CLOSE_AFTER + 1)

    def follow(self) -> None:
        self.ledger.take_events(self.vault.answer(self.ledger.next_block()))
        self.tick(0)

    def answers(self, batch: Batch, status: str, reference: str = "") -> list[dict[str, Any]]:
        return [
            {
                "allocation": "0x" + charge.allocation.hex(),
                "owner": "0x" + charge.owner.hex(),
                "credits": charge.cumulative,
                "reference": reference,
                "status": status,
            }
            for charge in batch.charges
        ]

    def balance(self, account: str) -> int:
        return self.ledger.balances(account).get(account, 0)

    def sound(self) -> None:
        assert self.ledger.check() == []
