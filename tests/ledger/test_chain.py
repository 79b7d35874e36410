"""Batches and statements against the contract itself, on a chain of one's own (anvil)."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from eth_abi.abi import decode, encode

from decentraspace.config import BillingConfig, Config, LimitsConfig
from decentraspace.identity.ethereum import keccak256
from decentraspace.ledger.clock import HOUR, Moment
from decentraspace.ledger.settlement import Batch
from decentraspace.ledger.store import Ledger
from decentraspace.ledger.usage import Total
from tests.ledger.world import GIB, site_of
from tests.support import ROOT, find_anvil, free_port, require_real

CHAIN, ZERO = 31337, "0x" + "00" * 20
CHARGE = "(address,uint256,uint96)"


class Anvil:
    """Mines a block for each transaction; accounts are unlocked; final is what is two blocks old."""

    def __init__(self, program: Path) -> None:
        self.url = f"http://127.0.0.1:{free_port()}"
        port = self.url.rpartition(":")[2]
        command = [program, "--port", port, "--silent", "--slots-in-an-epoch", "1", "--chain-id", str(CHAIN)]
        self.process = subprocess.Popen(command)
        end = time.monotonic() + 20
        while True:
            try:
                self.accounts = self.ask("eth_accounts")
                return
            except httpx.TransportError:
                assert time.monotonic() < end, "anvil does not start"
                time.sleep(0.02)

    def ask(self, method: str, *params: Any) -> Any:
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)}
        answer = httpx.post(self.url, json=body, timeout=20, trust_env=False).json()
        assert "error" not in answer, answer
        return answer["result"]

    def send(self, sender: str, to: str | None, data: bytes) -> Any:
        """The receipt of a transaction that succeeded."""
        transaction = {"from": sender, "data": "0x" + data.hex(), "gas": hex(10_000_000)}
        found = self.ask("eth_sendTransaction", {**transaction, **({"to": to} if to else {})})
        receipt = self.ask("eth_getTransactionReceipt", found)
        assert receipt["status"] == "0x1"
        return receipt

    def deploy(self, name: str, types: list[str], values: list[Any]) -> str:
        artifact = json.loads((ROOT / "contracts/artifacts" / f"{name}.json").read_text())
        code = bytes.fromhex(artifact["bytecode"][2:]) + encode(types, values)
        return str(self.send(self.accounts[0], None, code)["contractAddress"])

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


def call(signature: str, *values: Any) -> bytes:
    inner = signature[signature.index("(") + 1 : -1]
    types = [inner] if inner.startswith("(") else inner.split(",")
    if inner.startswith("("):
        types = [f"{CHARGE}[]", "bytes32"]
    return keccak256(signature.encode())[:4] + encode(types, values)


@pytest.fixture
def chain() -> Iterator[Anvil]:
    program = find_anvil()
    require_real("anvil", program)
    assert program is not None
    anvil = Anvil(program)
    yield anvil
    anvil.close()


def settle(chain: Anvil, vault: str, operator: str, batch: Batch) -> Any:
    charges = [(c.offer()["owner"], int(c.chosen), c.cumulative) for c in batch.charges]
    return chain.send(operator, vault, call(f"settle({CHARGE}[],bytes32)", charges, batch.root))


def verify(*arguments: object) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "decentraspace", "verify-statement", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def test_a_statement_is_what_the_contract_has_seen(chain: Anvil, tmp_path: Path) -> None:
    operator, *owners = chain.accounts[1:4]
    token = chain.deploy("DevDollar", [], [])
    vault = chain.deploy(
        "CreditVault",
        ["(address,address,address,uint256,address,uint256,address)"],
        [(token, ZERO, ZERO, 0, ZERO, 0, chain.accounts[0])],
    )
    now = int(chain.ask("eth_getBlockByNumber", "latest", False)["timestamp"], 16)
    events = []
    for number, owner in enumerate(owners):
        chain.send(owner, token, call("mint(address,uint256)", owner, 50_000_000))
        chain.send(owner, token, call("approve(address,uint256)", vault, 50_000_000))
        chain.send(owner, vault, call("deposit(uint256)", 50_000_000))
        terms = (number + 7, 20_000_000, 0, now, now + 30 * 86400)
        signature = "allocate(address,uint256,uint96,uint96,uint40,uint40)"
        receipt = chain.send(owner, vault, call(signature, operator, *terms))
        # The event as the contract has it: what the ledger takes the allocation to be.
        [log] = [entry for entry in receipt["logs"] if len(entry["topics"]) == 4]
        types = ["uint96", "uint96", "uint40", "uint40", "uint256"]
        cap, rate, start, expires, chosen = decode(types, bytes.fromhex(log["data"][2:]))
        expected = keccak256(encode(["address", "address", "uint256"], [owner, operator, number + 7]))
        assert log["topics"][3] == "0x" + expected.hex()
        events.append(
            {
                "block": int(receipt["blockNumber"], 16),
                "block_hash": receipt["blockHash"],
                "time": now,
                "transaction": receipt["transactionHash"],
                "index": int(log["logIndex"], 16),
                "kind": "allocated",
                "owner": owner,
                "operator": operator,
                "allocation": log["topics"][3],
                "id": chosen,
                "cap": cap,
                "rate": rate,
                "start": start,
                "expires": expires,
            }
        )

    limits = LimitsConfig(paid_free_storage=0, paid_free_egress=0, paid_free_requests=0)
    config = Config(billing=BillingConfig(egress_price=1_000_000, settle_least=1), limits=limits)
    ledger = Ledger(tmp_path / "ledger.sqlite", config)
    ledger.bind(CHAIN, vault, operator)
    ledger.take_events({"chain": CHAIN, "next_block": 100, "events": events})
    ledger.tick(Moment(now, 1, "boot"))
    who = {site_of(n): bytes.fromhex(owner[2:]) for n, owner in enumerate(owners)}
    ledger.take_usage([Total(site, now // HOUR, 1, (n + 1) * GIB) for n, site in enumerate(who)], who)
    ledger.close_hours(now // HOUR, now + 1)
    batch = ledger.next_batch(now)
    assert batch is not None

    receipt = settle(chain, vault, operator, batch)
    answers = [
        {**charge.offer(), "reference": receipt["transactionHash"], "status": "final"}
        for charge in batch.charges
    ]
    ledger.answered(batch.root, answers, now)
    again = settle(chain, vault, operator, batch)  # sent twice, paid once
    assert {int(c["credits"]) for c in answers} == {1_000_000, 2_000_000}

    statement = ledger.statement(batch.root, batch.charges[0].allocation)
    ledger.close()
    file, saved, twice = (tmp_path / name for name in ("statement", "receipt", "twice"))
    file.write_text(json.dumps(statement))
    saved.write_text(json.dumps(receipt))
    twice.write_text(json.dumps({"jsonrpc": "2.0", "id": 1, "result": again}))

    code, said = verify(file, "--json")
    assert (code, json.loads(said)["paid"]) == (0, None), said
    code, said = verify(file, "--receipt", saved, "--json")
    assert (code, json.loads(said)["paid"]) == (0, statement["cumulative"]), said
    code, said = verify(file, "--receipt", twice, "--json")
    assert (code, json.loads(said)["paid"]) == (0, 0), said

    chain.ask("anvil_mine", "0x3")
    code, said = verify(file, "--rpc", chain.url)
    assert code == 0, said
    assert f"paid {statement['cumulative']} credits" in said

    for name, change in (("cumulative", 1), ("previous", 1)):
        file.write_text(json.dumps({**statement, name: statement[name] + change}))
        code, said = verify(file, "--rpc", chain.url)
        assert code == 2, said
        assert said.startswith("error: ")
    file.write_text(json.dumps({**statement, "chain": 1}))
    assert "is of chain 31337" in verify(file, "--rpc", chain.url)[1]
    file.write_text(json.dumps({**statement, "transaction": "0x" + "ab" * 32}))
    assert "knows no transaction" in verify(file, "--rpc", chain.url)[1]
    file.write_text(json.dumps({**statement, "transaction": ""}))
    assert "not settled yet" in verify(file, "--rpc", chain.url)[1]
    file.write_text("[" * 100_000)
    assert verify(file)[0] == 2
