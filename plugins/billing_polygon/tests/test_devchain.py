"""The plugin's main path on both development chains, each started as `make demo` would."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from eth_account import Account
from eth_account.signers.local import LocalAccount
from plugins.billing_polygon.tests.conftest import artifact, keystore, require_anvil
from plugins.billing_polygon.tests.test_on_chain import ask, settled
from plugins.billing_polygon.tests.test_operating import sent
from web3 import HTTPProvider, Web3

from decentraspace.plugins import PluginManager
from decentraspace.testing import Workbench, until

PROGRAM = [sys.executable, "-m", "decentraspace_billing_polygon.devchain", "--block-time", "0.2"]
Started = dict[str, Any]


@pytest.fixture(params=["anvil", "py-evm"])
def devchain(request: pytest.FixtureRequest) -> Iterator[Started]:
    if request.param == "anvil":
        require_anvil()
    elif importlib.util.find_spec("eth_tester") is None:
        pytest.skip("eth-tester is not installed")
    process = subprocess.Popen(
        [*PROGRAM, "--engine", request.param], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdin is not None
    line = process.stdout.readline()
    assert line, f"it ended with {process.wait(10)}"
    yield json.loads(line)
    process.stdin.close()  # it ends with who started it
    assert process.wait(30) == 0


@pytest.fixture
async def manager(devchain: Started, tmp_path: Path) -> AsyncIterator[PluginManager]:
    settings = {
        **{name: devchain[name] for name in ("chain_id", "vault", "operators", "sites", "first_block")},
        **keystore(tmp_path, devchain["keys"][1]),
        "rpc": [devchain["rpc"]],
        "settle_margin": 0,
    }
    with Workbench(tmp_path, "billing_polygon", settings) as bench:
        yield await bench.start()
        await bench.stop()


def send(web3: Web3, call: Any, sender: LocalAccount) -> None:
    made = call.build_transaction(
        {"from": sender.address, "nonce": web3.eth.get_transaction_count(sender.address)}
    )
    digest = web3.eth.send_raw_transaction(sender.sign_transaction(made).raw_transaction)
    assert web3.eth.wait_for_transaction_receipt(digest, poll_latency=0.05)["status"] == 1


async def test_the_main_path(devchain: Started, manager: PluginManager) -> None:
    web3 = Web3(HTTPProvider(devchain["rpc"]))
    token = web3.eth.contract(address=devchain["token"], abi=artifact("DevDollar")["abi"])
    vault = web3.eth.contract(address=devchain["vault"], abi=artifact("CreditVault")["abi"])
    operator, owner = (Account.from_key(devchain["keys"][n]) for n in (1, 2))
    status = await ask(manager, "chain_status")
    assert (status["reachable"], status["token"], status["operator"]) == (
        True, devchain["token"], operator.address,
    )  # fmt: skip
    send(web3, token.functions.mint(owner.address, 5000), owner)
    send(web3, token.functions.approve(vault.address, 5000), owner)
    send(web3, vault.functions.deposit(5000), owner)
    now = web3.eth.get_block("latest")["timestamp"]
    send(web3, vault.functions.allocate(operator.address, 1, 2000, 0, now, now + 90_000), owner)
    told: list[Any] = []

    async def seen() -> bool:
        page = await ask(manager, "chain_events", from_block=seen_to[0])
        seen_to[0] = page["next_block"]
        told.extend((e["kind"], e.get("credits")) for e in page["events"])
        return ("allocated", None) in told

    seen_to = [devchain["first_block"]]
    await until(seen)
    assert told == [("recharged", 5000), ("allocated", None)]
    allocation = "0x" + bytes(vault.functions.allocationId(owner.address, operator.address, 1).call()).hex()
    charge = {
        "allocation": allocation,
        "owner": owner.address,
        "id": 1,
        "credits": 700,
        "leaf": "0x" + 64 * "1",
    }
    (answer,) = await settled(manager, [charge])
    assert answer["status"] == "final", answer
    send(web3, token.functions.mint(operator.address, 60), operator)
    paid = await sent(manager, "deposit_for", "card", owner=owner.address, amount=60)
    assert paid["status"] == "final", paid

    async def there() -> bool:
        found = await ask(manager, "chain_account", owner=owner.address)
        return bool(found["balance"] == 5000 - 700 + 60)

    await until(there)
    assert vault.functions.accountOf(operator.address).call()[0] == 700


def test_questions_that_make_no_sense(devchain: Started) -> None:
    """Are answered with an error, and hurt nobody."""

    def said(body: Any) -> Any:
        return httpx.post(devchain["rpc"], json=body, timeout=10).json()

    for method, params in (("eth_nothing", []), ("eth_call", [5]), ("eth_getBalance", []),
                           ("eth_sendRawTransaction", ["0x00"])):  # fmt: skip
        assert "error" in said({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}), method
    chain = said({"jsonrpc": "2.0", "id": 1, "method": "eth_chainId", "params": []})
    assert int(chain["result"], 16) == devchain["chain_id"]
