"""Gas per charge when an operator settles with 200 owners at once, beside the other ways of being paid by 200.

Every figure is what receipts of an anvil say: base fee of the transaction and its data included, nothing warm
before it (EIP-2929), and each account used before, as it is in every month but the first. The peers: the owners
send 200 ERC-20 transfers; a contract that checks nothing collects the same 200 by `transferFrom` in one
transaction; and the operator cashes one cheque per owner, as in Swarm's SWAP (contracts/test/bench).
The vault does more in it: caps, expiry, the reserve, a total per allocation, and the root of the usage records.
"""

from __future__ import annotations

import json
import subprocess
from typing import Any

from eth_account import Account
from tests.contracts.chains import CONTRACTS, DAY, ZERO, anvil, artifact, deploy, events, send
from tests.support import find_anvil, find_forge
from web3 import Web3
from web3.contract import Contract

from bench import Missing

_GOAL = 12_000  # gas per charge
_AMOUNT = 1_000_000  # credits, or tokens, of each payment


def run(quick: bool = False) -> list[dict[str, Any]]:
    binary, forge = find_anvil(), find_forge()
    if binary is None or forge is None:
        raise Missing("forge and anvil are not here: make contracts")
    subprocess.run([str(forge), "build", "--quiet"], cwd=CONTRACTS, check=True, timeout=300)
    owners = [Account.from_key(number.to_bytes(32, "big")) for number in range(1, 51 if quick else 201)]
    with anvil(binary) as web3:
        for owner in owners:
            web3.provider.make_request("anvil_setBalance", [owner.address, hex(10**20)])
        dollar = deploy(web3, artifact("DevDollar"))
        ours = _settle(web3, dollar, [owner.address for owner in owners])
        transfers = _transfers(web3, dollar, [owner.address for owner in owners])
        collected = _collected(web3, dollar, [owner.address for owner in owners])
        cheques = _cheques(web3, dollar, owners)
    version = json.loads((CONTRACTS / "package.json").read_text())["dependencies"]["@openzeppelin/contracts"]
    name = f"gas per charge, batch of {len(owners)}"
    peers = [
        (name, _GOAL, "the goal of 12,000", ""),
        (f"{name}, beside ERC-20 transfers", transfers, "ERC-20 transfers, OpenZeppelin", version),
        (
            f"{name}, beside one transferFrom each",
            collected,
            "transferFrom in a batch, OpenZeppelin",
            version,
        ),
        (f"{name}, beside SWAP-style cheques", cheques, "a cheque cashed per owner", ""),
    ]
    return [
        {
            "name": what,
            "ratio": round(ours / theirs, 4),
            "goal": "<= 1",
            "peer": peer,
            "version": of,
            "command": "python -m bench gas",
            "ours_gas": round(ours),
            "peer_gas": round(theirs),
        }
        for what, theirs, peer, of in peers
    ]


def _settle(web3: Web3, dollar: Contract, owners: list[str]) -> float:
    operator = web3.eth.accounts[1]
    vault = deploy(
        web3, artifact("CreditVault"), (dollar.address, ZERO, ZERO, 0, ZERO, 0, web3.eth.accounts[0])
    )
    start = web3.eth.get_block("latest")["timestamp"]
    for owner in [*owners, operator]:
        send(web3, dollar.functions.mint(owner, 10 * _AMOUNT), owner)
        send(web3, dollar.functions.approve(vault.address, 5 * _AMOUNT), owner)
        send(web3, vault.functions.deposit(5 * _AMOUNT), owner)
    for owner in owners:
        terms = (operator, 1, 4 * _AMOUNT, 1, start, start + 30 * DAY)
        send(web3, vault.functions.allocate(*terms), owner)
    for month in (1, 2):
        charges = [(owner, 1, month * _AMOUNT) for owner in owners]
        receipt = send(web3, vault.functions.settle(charges, b"\x01" * 32), operator)
        _, batch = events(vault, receipt)[-1]
        if batch["charges"] != len(owners) or batch["amount"] != len(owners) * _AMOUNT:
            raise RuntimeError(f"not all was settled: {batch}")
    return float(receipt["gasUsed"]) / len(owners)


def _transfers(web3: Web3, dollar: Contract, owners: list[str]) -> float:
    operator = web3.eth.accounts[1]
    receipts = [send(web3, dollar.functions.transfer(operator, _AMOUNT), owner) for owner in owners]
    return sum(receipt["gasUsed"] for receipt in receipts) / len(owners)


def _collected(web3: Web3, dollar: Contract, owners: list[str]) -> float:
    collector = deploy(web3, _bench("Collector"))
    for owner in owners:
        send(web3, dollar.functions.approve(collector.address, 3 * _AMOUNT), owner)
    call = collector.functions.collect(dollar.address, owners, _AMOUNT)
    return float(send(web3, call, web3.eth.accounts[1])["gasUsed"]) / len(owners)


def _cheques(web3: Web3, dollar: Contract, owners: list[Any]) -> float:
    operator = web3.eth.accounts[1]
    gas = 0
    for owner in owners:
        book = deploy(web3, _bench("Chequebook"), dollar.address, owner.address)
        send(web3, dollar.functions.transfer(book.address, 3 * _AMOUNT), owner.address)
        for month in (1, 2):
            digest = book.functions.chequeDigest(operator, month * _AMOUNT).call()
            signature = owner.unsafe_sign_hash(digest).signature
            call = book.functions.cash(operator, month * _AMOUNT, signature)
            receipt = send(web3, call, operator)
        gas += receipt["gasUsed"]
    return float(gas / len(owners))


def _bench(name: str) -> dict[str, Any]:
    built = json.loads((CONTRACTS / "out" / f"{name}.sol" / f"{name}.json").read_text())
    return {"abi": built["abi"], "bytecode": built["bytecode"]["object"]}
