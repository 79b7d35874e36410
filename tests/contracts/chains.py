"""Chains to try the contracts on, anvil and one in this process, and shorthands for using them."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from eth_tester import EthereumTester, PyEVMBackend
from eth_tester.exceptions import TransactionFailed
from web3 import EthereumTesterProvider, HTTPProvider, Web3
from web3.contract import Contract
from web3.contract.contract import ContractFunction
from web3.exceptions import ContractCustomError, ContractLogicError
from web3.types import TxReceipt

from tests.support import ROOT, free_port

CONTRACTS = ROOT / "contracts"
ZERO = "0x" + "00" * 20
DAY = 86_400
REFUSED = (ContractCustomError, ContractLogicError, TransactionFailed)  # as each of the chains says it


@contextmanager
def anvil(binary: Path, *options: str) -> Iterator[Web3]:
    """An anvil of its own; anybody's transactions are taken without a signature."""
    port = free_port()
    command = [str(binary), "--host", "127.0.0.1", "--port", str(port), "--silent", "--auto-impersonate"]
    process = subprocess.Popen([*command, *options])
    try:
        web3 = Web3(HTTPProvider(f"http://127.0.0.1:{port}", request_kwargs={"timeout": 60}))
        deadline = time.monotonic() + 30
        while not web3.is_connected():
            assert process.poll() is None, "anvil ended"
            assert time.monotonic() < deadline, "anvil does not answer"
            time.sleep(0.02)
        yield web3
    finally:
        process.terminate()
        process.wait(10)


def in_process() -> Web3:
    return Web3(EthereumTesterProvider(EthereumTester(PyEVMBackend())))


def is_anvil(web3: Web3) -> bool:
    return not isinstance(web3.provider, EthereumTesterProvider)


def later(web3: Web3, seconds: int) -> None:
    """The next block comes `seconds` after the last one."""
    when = web3.eth.get_block("latest")["timestamp"] + seconds
    if is_anvil(web3):
        web3.provider.make_request("evm_setNextBlockTimestamp", [when])
        web3.provider.make_request("evm_mine", [])
    else:
        web3.provider.ethereum_tester.time_travel(when)


def artifact(name: str) -> dict[str, Any]:
    """What is checked in: {"abi", "bytecode", "solc"}."""
    made: dict[str, Any] = json.loads((CONTRACTS / "artifacts" / f"{name}.json").read_text())
    return made


def deploy(web3: Web3, made: dict[str, Any], *arguments: Any) -> Contract:
    factory = web3.eth.contract(abi=made["abi"], bytecode=made["bytecode"])
    receipt = send(web3, factory.constructor(*arguments), web3.eth.accounts[0])
    return web3.eth.contract(address=receipt["contractAddress"], abi=made["abi"])


def send(web3: Web3, call: ContractFunction | Any, sender: str, **fields: Any) -> TxReceipt:
    transaction = call.transact({"from": sender, **fields})
    receipt = web3.eth.wait_for_transaction_receipt(transaction, timeout=60, poll_latency=0.02)
    assert receipt["status"] == 1
    return receipt


def events(contract: Contract, receipt: TxReceipt) -> list[tuple[str, dict[str, Any]]]:
    """(name, fields) of each event of `contract` in `receipt`, in their order."""
    by_topic = {bytes(Web3.keccak(text=event.signature)): event for event in contract.events}
    logs = [log for log in receipt["logs"] if log["address"] == contract.address]
    decoded = [by_topic[bytes(log["topics"][0])]().process_log(log) for log in logs]
    return [(event["event"], dict(event["args"])) for event in decoded]
