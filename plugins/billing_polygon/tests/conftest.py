"""A real chain of one's own (anvil) with the contracts on it, and the plugin in a plugin manager."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from eth_account import Account
from eth_account.signers.local import LocalAccount
from web3 import HTTPProvider, Web3

from decentraspace.plugins import PluginManager
from decentraspace.testing import Workbench, free_port, require_real

# web3 raises it (py_ecc does), and then something nested deeply enough overflows the stack.
sys.setrecursionlimit(1000)

ROOT = Path(__file__).resolve().parents[3]
CHAIN = 31337
_MNEMONIC = "test test test test test test test test test test test junk"  # anvil's own, known to everybody


def account(number: int) -> LocalAccount:
    """One of anvil's accounts, which have coins."""
    Account.enable_unaudited_hdwallet_features()
    found: LocalAccount = Account.from_mnemonic(_MNEMONIC, account_path=f"m/44'/60'/0'/0/{number}")
    return found


def require_anvil() -> str:
    built = ROOT / "contracts" / "node_modules" / ".bin" / "anvil"
    return require_real("anvil (npm ci in contracts/)", shutil.which("anvil") or shutil.which(str(built)))


class Anvil:
    """Blocks are mined when a transaction comes, or by `mine`; all but the newest two are final."""

    def __init__(self, *arguments: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.process = subprocess.Popen(
            [require_anvil(), "--port", str(self.port), "--silent", "--chain-id", str(CHAIN),
             "--slots-in-an-epoch", "1", "--mnemonic", _MNEMONIC, *arguments],
        )  # fmt: skip
        self.web3 = Web3(HTTPProvider(self.url))
        until_then = time.monotonic() + 20
        while not self.web3.is_connected():
            if time.monotonic() > until_then or self.process.poll() is not None:
                raise AssertionError("anvil does not start")
            time.sleep(0.02)

    def ask(self, method: str, *params: Any) -> Any:
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)}
        answer = httpx.post(self.url, json=body, timeout=10).json()
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer["result"]

    def mine(self, blocks: int = 1, seconds: int = 1) -> None:
        self.ask("anvil_mine", hex(blocks), hex(seconds))

    def finalize(self) -> None:
        self.mine(3)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture(scope="module")
def anvil() -> Iterator[Anvil]:
    chain = Anvil()
    yield chain
    chain.close()


def artifact(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((ROOT / "contracts" / "artifacts" / f"{name}.json").read_text())
    return found


@dataclass
class World:
    """The contracts on a chain; what somebody does there is final at once."""

    chain: Anvil
    token: Any
    vault: Any
    operators: Any
    sites: Any
    operator: LocalAccount
    owner: LocalAccount

    def send(self, call: Any, sender: LocalAccount, value: int = 0) -> Any:
        digest = call.transact({"from": sender.address, "value": value})
        receipt = self.chain.web3.eth.wait_for_transaction_receipt(digest)
        assert receipt["status"] == 1
        self.chain.finalize()
        return receipt

    def recharge(self, amount: int, owner: LocalAccount | None = None) -> None:
        owner = owner or self.owner
        self.send(self.token.functions.mint(owner.address, amount), owner)
        self.send(self.token.functions.approve(self.vault.address, amount), owner)
        self.send(self.vault.functions.deposit(amount), owner)

    def allocate(self, cap: int, *, number: int = 1, rate: int = 0, days: int = 30,
                 owner: LocalAccount | None = None) -> str:  # fmt: skip
        """The allocation's id."""
        owner = owner or self.owner
        now = self.chain.web3.eth.get_block("latest")["timestamp"]
        call = self.vault.functions.allocate(
            self.operator.address, number, cap, rate, now, now + days * 86400
        )
        self.send(call, owner)
        found = self.vault.functions.allocationId(owner.address, self.operator.address, number).call()
        return "0x" + bytes(found).hex()

    def charge(self, credits: int, *, number: int = 1, owner: LocalAccount | None = None) -> dict[str, Any]:
        """As the ledger offers it."""
        owner = owner or self.owner
        found = self.vault.functions.allocationId(owner.address, self.operator.address, number).call()
        return {
            "allocation": "0x" + bytes(found).hex(),
            "owner": owner.address,
            "id": number,
            "credits": credits,
            "leaf": "0x" + 64 * "1",
        }

    def income(self) -> int:
        return int(self.vault.functions.accountOf(self.operator.address).call()[0])


def deploy(chain: Anvil, name: str, *arguments: Any) -> Any:
    made = artifact(name)
    contract = chain.web3.eth.contract(abi=made["abi"], bytecode=made["bytecode"])
    sender = account(9)
    digest = contract.constructor(*arguments).transact({"from": sender.address})
    receipt = chain.web3.eth.wait_for_transaction_receipt(digest)
    return chain.web3.eth.contract(address=receipt["contractAddress"], abi=made["abi"])


@pytest.fixture(scope="module")
def contracts(anvil: Anvil) -> World:
    return make_world(anvil)


@pytest.fixture
def world(contracts: World) -> Iterator[World]:
    """The contracts as they were deployed: what a test does to the chain is taken back after it."""
    before = contracts.chain.ask("evm_snapshot")
    yield contracts
    contracts.chain.ask("evm_setAutomine", True)
    contracts.chain.ask("anvil_dropAllTransactions")
    contracts.chain.ask("evm_revert", before)


def make_world(chain: Anvil) -> World:
    zero = "0x" + 40 * "0"
    deployer, operator, owner = account(9), account(1), account(2)
    token = deploy(chain, "DevDollar")
    vault = deploy(chain, "CreditVault", (token.address, zero, zero, 0, zero, 0, deployer.address))
    operators = deploy(chain, "OperatorRegistry", vault.address, deployer.address, 1_000_000)
    sites = deploy(chain, "SiteRegistry", vault.address, deployer.address, 5_000_000, 250_000, bytes(32))
    chain.finalize()
    return World(chain, token, vault, operators, sites, operator, owner)


Managed = Callable[..., Awaitable[PluginManager]]


def operator_settings(folder: Path, world: World) -> dict[str, Any]:
    """Of the plugin, for an operator whose keystore is written to `folder`."""
    return {
        "rpc": [world.chain.url],
        "chain_id": CHAIN,
        "vault": world.vault.address,
        "operators": world.operators.address,
        "sites": world.sites.address,
        **keystore(folder, world.operator.key),
    }


def keystore(folder: Path, key: bytes | str) -> dict[str, str]:
    """Settings that name a keystore of this key and its password, both written to `folder`."""
    password, file = folder / "password", folder / "key.json"
    password.write_text("correct horse\n")
    password.chmod(0o600)
    # Few rounds: tests are not to wait for what is slow on purpose.
    file.write_text(json.dumps(Account.encrypt(key, "correct horse", kdf="pbkdf2", iterations=1000)))
    return {"keystore": str(file), "password_file": str(password)}


@pytest.fixture
def workbench(tmp_path: Path, world: World) -> Iterator[Workbench]:
    settings = {**operator_settings(tmp_path, world), "settle_margin": 0}
    with Workbench(tmp_path, "billing_polygon", settings) as bench:
        yield bench


@pytest.fixture
async def managed(workbench: Workbench) -> AsyncIterator[Managed]:
    """await managed(**settings): a plugin manager with the plugin loaded and started, instead of the last one."""

    async def make(**settings: Any) -> PluginManager:
        return await workbench.start(**settings)

    yield make
    await workbench.stop()
