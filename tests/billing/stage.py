"""The chain on which the month takes place, and the processes of its operators."""

from __future__ import annotations

import json
import os
import random
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
from eth_account import Account
from plugins.billing_polygon.tests.conftest import CHAIN, Anvil, World, account, make_world

from decentraspace.config import PluginsConfig
from decentraspace.plugins.loading import candidates
from tests.billing.faulty import Endpoint

PROGRAM = Path(__file__).with_name("operators.py")
DEAR, CHEAP = 900 * 10**9, 10**9  # wei for a unit of gas; operators pay up to 500 gwei
Call = tuple[str, str, list[Any]]
"""Sender, function of the vault, arguments."""


class Stage:
    """A chain whose blocks come when they are mined here; `now` is the time of the next one, at least. What is
    two blocks old is final."""

    def __init__(self, start: int, dice: random.Random) -> None:
        self.anvil = Anvil("--timestamp", str(start), "--gas-limit", "1000000000", "--auto-impersonate",
                           "--balance", "1000000")  # fmt: skip
        self.now, self._dice = start, dice
        self._client = httpx.Client(timeout=300, trust_env=False)
        self._nonces: dict[str, int] = {}
        self.reorganised = 0
        self.world: World = make_world(self.anvil)
        self.payer = account(8).address
        self.ask("evm_setAutomine", False)
        self.endpoints = [Endpoint(self.anvil.port), Endpoint(self.anvil.port)]

    def close(self) -> None:
        for endpoint in self.endpoints:
            endpoint.close()
        self._client.close()
        self.anvil.close()

    def ask(self, method: str, *params: Any) -> Any:
        [found] = self.ask_all([(method, params)])
        return found

    def ask_all(self, questions: Sequence[tuple[str, Sequence[Any]]]) -> list[Any]:
        body = [
            {"jsonrpc": "2.0", "id": n, "method": method, "params": list(params)}
            for n, (method, params) in enumerate(questions)
        ]
        answers = self._client.post(self.anvil.url, json=body).json()
        for answer in answers:
            if "error" in answer:
                raise RuntimeError(f"{questions[answer['id']]}: {answer['error']}")
        return [answer["result"] for answer in sorted(answers, key=lambda answer: answer["id"])]

    # -- blocks

    def newest(self) -> dict[str, int]:
        block = self.ask("eth_getBlockByNumber", "latest", False)
        return {name: int(block[name], 16) for name in ("number", "timestamp")}

    def mine(self, blocks: int = 1) -> None:
        for _ in range(blocks):
            self.ask("evm_setNextBlockTimestamp", max(self.now, self.newest()["timestamp"] + 1))
            self.ask("evm_mine")

    def gas(self, price: int) -> None:
        self.ask("anvil_setNextBlockBaseFeePerGas", hex(price))

    def reorganise(self, depth: int) -> None:
        """The newest blocks come again, empty."""
        self.ask("anvil_reorg", depth, [])
        self.reorganised += 1

    def final(self) -> int:
        return int(self.ask("eth_getBlockByNumber", "finalized", False)["number"], 16)

    # -- owners

    def fund(self, owners: Sequence[str]) -> None:
        self.ask_all([("anvil_setBalance", (owner, hex(10**24))) for owner in owners])

    def send(
        self, calls: Sequence[Call], *, shaken: bool = False, to: Any = None, gas: int = 1_000_000
    ) -> list[int]:
        """All in final blocks when it returns; the times of those. `shaken`: reorganisations take them back first.
        `gas`: that each may use."""
        if not calls:
            return []
        contract = to or self.world.vault
        made = []
        for sender, function, arguments in calls:
            if sender not in self._nonces:
                self._nonces[sender] = int(self.ask("eth_getTransactionCount", sender, "latest"), 16)
            made.append(
                {
                    "from": sender,
                    "to": contract.address,
                    "data": contract.encode_abi(function, args=arguments),
                    "gas": hex(gas),
                    "nonce": hex(self._nonces[sender]),
                    "maxFeePerGas": hex(2 * DEAR),
                    "maxPriorityFeePerGas": hex(10**9),
                }
            )
            self._nonces[sender] += 1
        hashes = self.ask_all([("eth_sendTransaction", (one,)) for one in made])
        self.mine()
        if shaken:
            self.reorganise(self._dice.choice((1, 2)))
        deadline = time.monotonic() + 300
        while True:
            receipts = self.ask_all([("eth_getTransactionReceipt", (digest,)) for digest in hashes])
            lost = [n for n, receipt in enumerate(receipts) if receipt is None]
            if not lost:
                break
            assert time.monotonic() < deadline, "a transaction is not mined"
            for n in lost:
                try:
                    hashes[n] = self.ask("eth_sendTransaction", made[n])
                except RuntimeError as error:
                    if "already imported" not in str(error) and "nonce too low" not in str(error):
                        raise
            self.mine()
        self.mine(3)
        receipts = self.ask_all([("eth_getTransactionReceipt", (digest,)) for digest in hashes])
        for receipt, (sender, function, arguments) in zip(receipts, calls, strict=True):
            assert receipt["status"] == "0x1", (sender, function, str(arguments)[:200], receipt["gasUsed"])
        blocks = sorted({receipt["blockNumber"] for receipt in receipts})
        found = self.ask_all([("eth_getBlockByNumber", (number, False)) for number in blocks])
        times = {block["number"]: int(block["timestamp"], 16) for block in found}
        return [times[receipt["blockNumber"]] for receipt in receipts]

    # -- operators

    def settings(self, folder: Path, number: int, billing: dict[str, int]) -> str:
        """Writes an operator's configuration; the operator's address."""
        folder.mkdir()
        (folder / "data").mkdir()
        key = account((1, 3, 4, 5, 6)[number])
        (folder / "key.json").write_text(
            json.dumps(Account.encrypt(key.key, "correct horse", kdf="pbkdf2", iterations=1000))
        )
        (folder / "password").write_text("correct horse\n")
        (folder / "password").chmod(0o600)
        nothing = ("free_storage", "free_egress", "free_requests", "paid_free_storage", "paid_free_egress",
                   "paid_free_requests")  # fmt: skip
        plugin = {
            "rpc": [self.anvil.url, *(endpoint.url for endpoint in self.endpoints)],
            "chain_id": CHAIN,
            "vault": self.world.vault.address,
            "keystore": str(folder / "key.json"),
            "password_file": str(folder / "password"),
            "settle_margin": 0,
            "max_fee": 500,
            "upkeep": 2.0,
            "timeout": 20.0,
        }
        others = [found.name for found in candidates(PluginsConfig()) if found.name != "billing_polygon"]
        tables: dict[str, dict[str, Any]] = {
            "billing": billing,
            "limits": dict.fromkeys(nothing, 0),
            "plugins": {"disabled": others},
            "plugin.billing_polygon": plugin,
        }
        lines = []
        for table, values in tables.items():
            lines += [f"[{table}]", *(f"{name} = {json.dumps(value)}" for name, value in values.items())]
        (folder / "config.toml").write_text("\n".join(lines))
        return str(key.address)


class Nursery:
    """Where operators are forked from, by any thread."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self.process = subprocess.Popen(
            [sys.executable, str(PROGRAM)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def fork(self, asked: dict[str, str]) -> int:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with self._turn:  # or one might get the other's answer, and the other none
            self.process.stdin.write(json.dumps(asked) + "\n")
            self.process.stdin.flush()
            return int(self.process.stdout.readline())

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            self.process.wait(10)
        finally:
            self.process.kill()


class Process:
    """One operator's process, started again when it was killed."""

    def __init__(self, nursery: Nursery, folder: Path) -> None:
        self._nursery, self.folder, self.kills = nursery, folder, 0
        self._listener = socket.socket(socket.AF_UNIX)
        self._path = str(folder / "s")
        self._listener.bind(self._path)
        self._listener.listen(1)
        self._listener.settimeout(300)
        self.start()

    def start(self) -> None:
        asked = {"socket": self._path, "config": str(self.folder / "config.toml"),
                 "data": str(self.folder / "data")}  # fmt: skip
        self.pid = self._nursery.fork(asked)
        self._link, _ = self._listener.accept()
        self._link.settimeout(600)
        self._rest = b""

    def do(self, command: dict[str, Any], kills: Sequence[float] = ()) -> dict[str, Any]:
        """What it answers. `kills`: it dies so many seconds after it got the command, if it is at work on it still;
        and gets it again."""
        for delay in kills:
            self._link.sendall(json.dumps(command).encode() + b"\n")
            if select.select([self._link], [], [], delay)[0]:
                return self._answer()
            self.kill()
            self.kills += 1
            self.start()
        self._link.sendall(json.dumps(command).encode() + b"\n")
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        while b"\n" not in self._rest:
            chunk = self._link.recv(65536)
            assert chunk, "it ended: " + self.log()
            self._rest += chunk
        line, _, self._rest = self._rest.partition(b"\n")
        found: dict[str, Any] = json.loads(line)
        return found

    def log(self) -> str:
        return self.folder.joinpath("data.log").read_text()[-3000:]

    def kill(self) -> None:
        if self.pid:
            with suppress(ProcessLookupError):  # it may have ended by itself
                os.kill(self.pid, signal.SIGKILL)
            self._gone()
            self.pid = 0

    def _gone(self) -> None:
        self._link.close()
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                os.kill(self.pid, 0)
            except ProcessLookupError:
                return
            time.sleep(0.005)
        raise AssertionError(f"process {self.pid} does not end")

    def close(self) -> None:
        self.kill()
        self._listener.close()
