"""A month of three operators and their owners: books, chain and a second reckoning are equal to the last credit.

DECENTRASPACE_MONTH_OWNERS (20), DECENTRASPACE_MONTH_DAYS (5), DECENTRASPACE_MONTH_SEED (always the same).
`make month`: 200 owners, 30 days.
"""

from __future__ import annotations

import base64
import json
import os
import random
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from eth_abi.abi import encode
from eth_utils.address import to_checksum_address

from decentraspace import config as configuration
from decentraspace.identity.ethereum import keccak256
from decentraspace.ledger import statements, verify
from decentraspace.ledger.store import Ledger
from tests.billing.faulty import FAULTS
from tests.billing.reference import DAY, GIB, HOUR, PRICES, Grant, Reference
from tests.billing.stage import CHEAP, DEAR, Call, Nursery, Process, Stage
from tests.support import find_anvil, require_real

OWNERS = int(os.environ.get("DECENTRASPACE_MONTH_OWNERS", "20"))
DAYS = int(os.environ.get("DECENTRASPACE_MONTH_DAYS", "5"))
OPERATORS, STEP = 3, 6 * HOUR
START = 1_798_502_400  # 2026-12-29: the month of the caps changes on the way
CLOSED = 31  # seconds after its end that an hour is closed
SITE_CAP = 15_000_000
BILLING = {
    **{f"{service}_price": price for service, price in PRICES.items()},
    "site_monthly_cap": SITE_CAP,
    "exposure": 10**12,  # what is owed depends on when batches come through, and so would what is charged
    "settle_least": 5_000_000,
    "settle_every": DAY // 2,
}


class Month:
    def __init__(self, folder: Path, seed: int) -> None:
        self.dice, self.folder = random.Random(seed), folder
        self.stage = Stage(START, self.dice)
        self.model = Reference(OPERATORS, SITE_CAP)
        self.owners = [str(to_checksum_address(self.dice.randbytes(20))) for _ in range(OWNERS)]
        self.sites: dict[str, str] = {}
        for number in range(OWNERS + OWNERS // 2):
            site = base64.b32encode(self.dice.randbytes(10)).decode().lower()
            self.sites[site] = self.owners[number % OWNERS]
        self.held: list[dict[str, int]] = [{} for _ in range(OPERATORS)]
        self.before: list[dict[str, int]] = [{} for _ in range(OPERATORS)]
        self.batch, self.counted = 0, START
        self.withdrawable: dict[str, int] = {}
        self.grants_of: dict[str, int] = dict.fromkeys(self.owners, 0)
        self.nursery = Nursery()
        self.addresses, self.processes = list[str](), list[Process]()
        for number in range(OPERATORS):
            place = folder / str(number)
            self.addresses.append(self.stage.settings(place, number, BILLING))
            (place / "sites.json").write_text(json.dumps(self.sites))
            self.processes.append(Process(self.nursery, place))
        self.pool = ThreadPoolExecutor(OPERATORS)

    def close(self) -> None:
        with ExitStack() as stack:
            stack.callback(self.stage.close)
            stack.callback(self.pool.shutdown)
            stack.callback(self.nursery.close)
            for process in self.processes:
                stack.callback(process.close)

    # -- what operators do

    def all(self, what: str, deadly: float = 0.0, **more: list[Any]) -> list[dict[str, Any]]:
        """Each operator does it; `deadly`: how likely each is killed at it, perhaps twice."""
        waiting, dice = [], self.dice
        for number, process in enumerate(self.processes):
            command = {"do": what, "now": self.stage.now, "counted": self.counted}
            command["held"] = self.held[number]
            command |= {name: values[number] for name, values in more.items()}
            # No throw where nobody dies: how often it is asked depends on how fast things go.
            kills = [dice.uniform(0, 0.4) for _ in range(2 if deadly else 0) if dice.random() < deadly]
            waiting.append(self.pool.submit(process.do, command, kills))
        return [one.result() for one in waiting]

    def follow(self, deadly: float = 0.0) -> None:
        """Until each knows all that is final."""
        final = self.stage.final()
        for turn in range(30):
            states = self.all("follow", deadly if turn == 0 else 0.0)
            if all(state["next_block"] > final for state in states):
                assert all(state["sound"] for state in states)
                return
            for endpoint in self.stage.endpoints:
                endpoint.fault = ""  # an outage has passed
        raise AssertionError(f"they do not come to block {final}: {self.processes[0].log()}")

    def faults(self) -> None:
        """One endpoint of three is at fault for a while; now and then two are, and nothing goes on."""
        first, second = self.stage.endpoints
        if self.dice.random() < 0.4:
            first.fault, second.fault = self.dice.choice(FAULTS), ""
            if self.dice.random() < 0.5:
                first.fault, second.fault = "", first.fault
            elif self.dice.random() < 0.2:
                second.fault = self.dice.choice(("down", "gone", "limited"))
        elif self.dice.random() < 0.5:
            first.fault = second.fault = ""

    def hours(self, step: int, deadly: float) -> None:
        """Use of the hours of a step: by visitors and by what is held; reckoned here and counted there."""
        dice, moments = self.dice, list[Any]()
        for number in range(OPERATORS):
            mine = []
            if step == 0:
                self._rearrange(number, 0.7)
                self.before[number] = self.held[number]
                mine.append({"now": START, "held": self.held[number], "number": 0, "rows": []})
            for n in range(STEP // HOUR):
                hour = (START + step * STEP) // HOUR + n
                uses: dict[str, dict[tuple[str, str], int]] = {}
                rows = []
                for site, owner in self.sites.items():
                    used = uses.setdefault(owner, {})
                    seconds = self.before[number].get(site, 0) * CLOSED
                    used[site, "storage"] = seconds + self.held[number].get(site, 0) * (HOUR - CLOSED)
                    if dice.random() < 0.3:
                        requests, size = dice.randrange(20_000), dice.randrange(400 * 2**20)
                        rows.append((site, hour, requests, size))
                        used |= {(site, "requests"): requests, (site, "egress"): size}
                self.batch += 1
                end = (hour + 1) * HOUR
                mine.append({"now": end, "held": self.held[number], "number": self.batch, "rows": rows})
                for owner, used in uses.items():
                    self.model.hour(number, hour, end + CLOSED, owner, used)
                self.before[number] = self.held[number]
                self._rearrange(number, 0.02)
                mine.append({"now": end + CLOSED, "held": self.held[number], "number": 0, "rows": []})
            moments.append(mine)
        self.stage.now = START + (step + 1) * STEP + CLOSED
        states = self.all("hours", deadly, moments=moments)
        self.counted = self.stage.now
        assert all(state["last"] == self.counted and state["sound"] for state in states)

    def _rearrange(self, number: int, chance: float) -> None:
        held = dict(self.held[number])
        for site in self.sites:
            if self.dice.random() < chance:
                held[site] = self.dice.choice((0, self.dice.randrange(20 * GIB), self.dice.randrange(2**20)))
        self.held[number] = {site: size for site, size in held.items() if size}

    # -- what owners do

    def act(self, chance: float, shaken: bool) -> None:
        calls, then = list[Call](), list[Any]()
        for owner in self.owners:
            if self.dice.random() < chance:
                self._one(owner, calls, then)
        for at, done in zip(self.stage.send(calls, shaken=shaken), then, strict=True):
            done(at)

    def _one(self, owner: str, calls: list[Call], then: list[Any]) -> None:
        """One thing that the vault certainly lets the owner do."""
        dice, model, now = self.dice, self.model, self.counted  # not later than the chain's time
        mine = [g for g in model.grants.values() if g.owner == owner and g.expires > now + 2 * DAY]
        what = dice.choice(("recharge", "grant", "grant", "raise", "raise", "end", "request", "withdraw"))
        if owner in self.withdrawable and now > self.withdrawable[owner] and dice.random() < 0.5:
            what = "withdraw"
        if what == "recharge" or model.free(owner) < 20_000_000:
            amount = dice.randrange(20_000_000, 90_000_000)
            calls.append((self.stage.payer, "depositFor", [owner, amount]))

            def recharged(at: int) -> None:
                model.deposited[owner] += amount

            then.append(recharged)
        elif what == "grant":
            self._grant(owner, calls, then)
        elif what == "raise" and mine:
            grant = dice.choice(mine)
            cap = grant.cap + dice.choice((0, dice.randrange(1, 10_000_000)))
            expires = grant.expires + (DAY if cap == grant.cap else 0)
            arguments = [self.addresses[grant.operator], grant.number, cap, expires]
            calls.append((owner, "raiseAllocation", arguments))

            def raised(at: int) -> None:
                model.promised[owner] += cap - grant.cap
                grant.cap, grant.expires = cap, expires

            then.append(raised)
        elif what == "end" and mine:
            grant = dice.choice(mine)
            calls.append((owner, "endAllocation", [self.addresses[grant.operator], grant.number]))

            def ended(at: int) -> None:
                grant.expires = at + DAY

            then.append(ended)
        elif what == "request" and owner not in self.withdrawable:
            wanted = dice.randrange(1, model.free(owner) // 4)
            calls.append((owner, "requestWithdrawal", [wanted]))

            def requested(at: int) -> None:
                model.withdrawing[owner] = wanted
                self.withdrawable[owner] = at + 4 * DAY

            then.append(requested)
        elif what == "withdraw" and owner in self.withdrawable:
            cancels = now <= self.withdrawable[owner]
            calls.append((owner, "cancelWithdrawal", []) if cancels else (owner, "withdraw", [owner]))

            def withdrawn(at: int) -> None:
                got = model.withdrawing.pop(owner)
                model.withdrawn[owner] += 0 if cancels else got
                del self.withdrawable[owner]

            then.append(withdrawn)

    def _grant(self, owner: str, calls: list[Call], then: list[Any]) -> None:
        dice, now = self.dice, self.counted
        self.grants_of[owner] += 1
        operator, number = dice.randrange(OPERATORS), self.grants_of[owner]
        cap = min(self.model.free(owner) // 2, dice.choice((2_000_000, 8_000_000, 20_000_000, 60_000_000)))
        start = (now // HOUR + dice.choice((0, 0, 0, 3))) * HOUR
        expires = start + dice.choice((1, 3, 9, 20, 45)) * DAY + dice.randrange(HOUR)
        # Some earn less than the cap in their time, some would earn more.
        rate = dice.choice((0, 0, 1, 3, dice.randrange(1, 1 + cap // (expires - start) * 2 + 1)))
        grant = Grant(owner, operator, number, cap, rate, start, expires, 0)
        self.model.promised[owner] += cap
        calls.append((owner, "allocate", [self.addresses[operator], number, cap, rate, start, expires]))

        def granted(at: int) -> None:
            grant.place = len(self.model.grants)
            self.model.grants[owner, operator, number] = grant

        then.append(granted)

    # -- the month

    def run(self) -> None:
        self.stage.fund(self.owners)
        token, vault = self.stage.world.token, self.stage.world.vault
        payer = self.stage.payer
        self.stage.send([(payer, "mint", [payer, 10**15]), (payer, "approve", [vault.address, 2**256 - 1])],
                        to=token)  # fmt: skip
        self.act(1.0, False)
        calls, then = list[Call](), list[Any]()
        for owner in self.owners:
            for _ in range(2):
                self._grant(owner, calls, then)
        for at, done in zip(self.stage.send(calls), then, strict=True):
            done(at)
        dear, began = 0, time.monotonic()
        for step in range(DAYS * DAY // STEP):
            if step * STEP % (5 * DAY) == 0:
                print(f"day {step * STEP // DAY} of {DAYS} after {time.monotonic() - began:.0f} s")
            self.faults()
            self.act(0.1, self.dice.random() < 0.3)
            self.follow(0.05)
            self.hours(step, 0.08)
            dear = dear - 1 if dear else self.dice.choice((0,) * 12 + (1, 2))
            self.stage.gas(DEAR if dear else CHEAP)
            states = self.all("settle", 0.08)
            self.stage.gas(DEAR if dear else CHEAP)
            self.stage.mine()
            if self.dice.random() < 0.1:
                self.stage.reorganise(1)
            # Six hours are a second here. What has that long to come through on a real chain gets it here, too.
            deadline = time.monotonic() + 300
            while not dear and any(state["open"] for state in states):
                assert time.monotonic() < deadline, [p.log() for p in self.processes]
                for endpoint in self.stage.endpoints[1:]:
                    endpoint.fault = ""
                self.stage.now += 61  # seconds after which a transaction is sent again
                self.stage.mine()
                time.sleep(0.1)
                states = self.all("settle")

    def finish(self) -> int:
        """All that is due is paid, and all that is over released; the time when the streams were settled."""
        for endpoint in self.stage.endpoints:
            endpoint.fault = ""
        self.stage.gas(CHEAP)
        self.stage.now += BILLING["settle_every"]
        deadline = time.monotonic() + 600
        while True:
            self.stage.mine(3)
            self.follow()
            states = self.all("settle")
            if not any(state["due"] or state["open"] for state in states):
                break
            assert time.monotonic() < deadline, (states, [p.log() for p in self.processes])
            if any(state["open"] for state in states):
                time.sleep(0.1)  # its transaction is under way
            else:
                self.stage.now += BILLING["settle_every"] // 4  # it is too little yet
        ids = list(self.ids())
        # In one block, so that all is of one time.
        parts = [ids[place : place + 100] for place in range(0, len(ids), 100)]
        payer = self.stage.payer
        # They settle streams by themselves, too, and would do so a block later.
        for process in self.processes:
            process.kill()
        self.stage.ask("anvil_dropAllTransactions")
        times = self.stage.send(
            [(payer, what, [part]) for what in ("settleStreams", "release") for part in parts], gas=15_000_000
        )
        for process in self.processes:
            process.start()
        [at] = set(times)
        self.follow()
        return at

    def ids(self) -> dict[bytes, Grant]:
        return {
            keccak256(encode(["address", "address", "uint256"], [owner, self.addresses[op], number])): grant
            for (owner, op, number), grant in self.model.grants.items()
        }


@pytest.fixture
def seed() -> int:
    found = int(os.environ.get("DECENTRASPACE_MONTH_SEED", "2495472027"))
    print(f"DECENTRASPACE_MONTH_SEED={found}")
    return found


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_month_ends_equal_to_the_last_credit(tmp_path: Path, seed: int) -> None:
    require_real("anvil", find_anvil())
    month = Month(tmp_path, seed)
    try:
        month.run()
        at = month.finish()
        for process in month.processes:
            process.kill()
        print(
            f"{OWNERS} owners, {len(month.model.grants)} allocations, "
            f"{sum(p.kills for p in month.processes)} kills, {month.stage.reorganised} reorganisations, "
            f"{sum(e.spoilt for e in month.stage.endpoints)} answers spoilt"
        )
        chain_is_as_reckoned(month, at)
        for number in range(OPERATORS):
            books_are_as_reckoned(month, number, at)
    finally:
        month.close()


def chain_is_as_reckoned(month: Month, at: int) -> None:
    vault, token = month.stage.world.vault.functions, month.stage.world.token.functions
    model, total = month.model, 0
    for id_, grant in month.ids().items():
        found = vault.allocationOf(id_).call()
        _, _, _, cap, rate, start, expires, status, metered, streamed, due = found
        assert (cap, rate, start, expires) == (grant.cap, grant.rate, grant.start, grant.expires)
        assert metered + streamed <= cap
        assert metered == grant.metered, grant
        closed = at > grant.expires + 3 * DAY
        assert status == (2 if closed else 1), grant
        assert streamed + (0 if closed else due) >= grant.streamed(at)
        assert streamed == grant.streamed(at), (grant, streamed, due, at)
    for owner in month.owners:
        balance, reserved, available, withdrawing, _ = vault.accountOf(owner).call()
        assert withdrawing == model.withdrawing.get(owner, 0)
        assert (balance, reserved) == (model.balance(owner, at), model.reserved(owner, at)), owner
        assert available == balance - reserved
        total += balance
    for number, address in enumerate(month.addresses):
        income = vault.accountOf(address).call()[0]
        assert income == model.earnings(number, at)
        total += income
    held = token.balanceOf(month.stage.world.vault.address).call()
    assert total == held == vault.totalCredits().call()
    assert held == sum(model.deposited.values()) - sum(model.withdrawn.values())


def books_are_as_reckoned(month: Month, number: int, at: int) -> None:
    folder, books = month.processes[number].folder, month.model.books[number]
    ledger = Ledger(folder / "data" / "ledger.sqlite", configuration.load(folder / "config.toml", environ={}))
    try:
        assert ledger.check() == []
        balances = ledger.balances()
        assert sum(balances.values()) == 0
        income = {
            name.removeprefix("income:"): -v for name, v in balances.items() if name.startswith("income:")
        }
        assert income == {service: worth for service, worth in books.income.items() if worth}
        for owner in month.owners:
            assert balances.get(f"waived:{owner.lower()}", 0) == books.waived[owner], owner
            assert balances.get(f"owner:{owner.lower()}", 0) == 0
        for id_, grant in month.ids().items():
            if grant.operator != number:
                continue
            name = "0x" + id_.hex()
            assert balances.get(f"settled:{name}", 0) == grant.metered + grant.streamed(at)
            assert balances.get(f"stream:{name}", 0) == grant.used - grant.streamed(at)
            assert balances.get(f"receivable:{name}", 0) == 0
        assert not [name for name in balances if name.startswith(("lost:", "unexplained:"))
                    and balances[name]]  # fmt: skip
        wallets = dict(ledger._db.execute("SELECT owner, balance FROM wallets"))
        for owner in month.owners:
            assert wallets[bytes.fromhex(owner[2:])] == month.model.balance(owner, at)
        assert statements_hold(month, ledger) == {
            id_: grant.metered
            for id_, grant in month.ids().items()
            if grant.operator == number and grant.metered
        }
    finally:
        ledger.close()


def statements_hold(month: Month, ledger: Ledger) -> dict[bytes, int]:
    """Allocation -> what the chain has paid by the receipts of the statements' transactions."""
    paid: dict[bytes, int] = {}
    seen: set[tuple[bytes, str]] = set()
    receipts: dict[str, Any] = {}
    for (root,) in ledger._db.execute("SELECT root FROM batches").fetchall():
        for document in statements.of_batch(ledger._db, root):
            if document["status"] != "final":
                continue
            document = json.loads(json.dumps(document))
            allocation, transaction = bytes.fromhex(document["allocation"][2:]), document["transaction"]
            if transaction not in receipts:
                receipts[transaction] = month.stage.ask("eth_getTransactionReceipt", transaction)
            amount = verify.check_receipt(document, verify.check(document), receipts[transaction])
            if (allocation, transaction) not in seen:
                seen.add((allocation, transaction))
                paid[allocation] = paid.get(allocation, 0) + amount
    return {allocation: amount for allocation, amount in paid.items() if amount}
