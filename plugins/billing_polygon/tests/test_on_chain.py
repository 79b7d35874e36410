"""The plugin against the real contracts on a real chain."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from eth_account import Account
from plugins.billing_polygon.tests.conftest import (
    CHAIN,
    ROOT,
    Anvil,
    Managed,
    World,
    account,
    artifact,
)

from decentraspace.plugins import PluginManager
from decentraspace.testing import until

ROOT_HASH = "0x" + 64 * "a"


async def ask(manager: PluginManager, hook: str, **arguments: Any) -> Any:
    found = await manager.first(hook, **arguments)
    return None if found is None else found.value


async def settled(manager: PluginManager, charges: list[dict[str, Any]], root: str = ROOT_HASH) -> Any:
    """Once nothing is pending."""

    async def done() -> Any:
        answers = await ask(manager, "ledger_settle", charges=charges, root=root)
        assert answers is not None
        return None if any(a["status"] == "pending" for a in answers) else answers

    return await until(done)


async def events(manager: PluginManager, start: int = 0) -> list[dict[str, Any]]:
    """All of them, by as many calls as it takes."""
    told: list[dict[str, Any]] = []
    while True:
        page = await ask(manager, "chain_events", from_block=start)
        told += page["events"]
        if page["next_block"] > page["final_block"]:
            return told
        assert page["next_block"] > start
        start = page["next_block"]


class Mining:
    """Blocks come while the plugin waits for them, as they do on a real chain."""

    def __init__(self, chain: Anvil, every: float = 0.1) -> None:
        program = (
            "import sys,time,httpx\n"
            "for _ in range(3000):\n"
            " httpx.post(sys.argv[1],json={'jsonrpc':'2.0','id':1,'method':'anvil_mine','params':['0x1','0x1']})\n"
            " time.sleep(float(sys.argv[2]))\n"
        )
        self._process = subprocess.Popen([sys.executable, "-c", program, chain.url, str(every)])

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()


def test_interfaces_are_those_of_the_contracts() -> None:
    folder = ROOT / "plugins" / "billing_polygon" / "decentraspace_billing_polygon" / "abi"
    for name in ("CreditVault", "OperatorRegistry", "SiteRegistry"):
        assert json.loads((folder / f"{name}.json").read_text()) == artifact(name)["abi"]


async def test_tells_what_is_final_and_nothing_else(world: World, managed: Managed) -> None:
    manager = await managed()
    world.recharge(5_000_000)
    allocation = world.allocate(2_000_000, rate=3)
    told = [e for e in await events(manager) if e["owner"] == world.owner.address]
    assert [(e["kind"], e.get("credits"), e.get("cap")) for e in told] == [
        ("recharged", 5_000_000, None),
        ("allocated", None, 2_000_000),
    ]
    assert told[1]["allocation"] == allocation
    assert (told[1]["id"], told[1]["rate"]) == (1, 3)
    assert told[1]["expires"] - told[1]["start"] == 30 * 86400
    last = told[1]["block"]

    # One more, in a block that is not final yet.
    world.chain.ask("evm_setAutomine", True)
    digest = world.vault.functions.requestWithdrawal(1).transact({"from": world.owner.address})
    assert world.chain.web3.eth.get_transaction_receipt(digest)["status"] == 1
    transfer = world.vault.functions.transfer(account(3).address, 7).transact({"from": world.owner.address})
    block = world.chain.web3.eth.get_transaction_receipt(transfer)["blockNumber"]
    page = await ask(manager, "chain_events", from_block=last + 1)
    assert page["events"] == []
    assert page["final_block"] < block
    world.chain.finalize()
    (moved,) = await events(manager, page["next_block"])
    assert (moved["kind"], moved["owner"], moved["to"], moved["credits"]) == (
        "spent", world.owner.address, account(3).address, 7,
    )  # fmt: skip


async def test_small_ranges_tell_the_same(world: World, managed: Managed) -> None:
    world.recharge(1000)
    world.recharge(2000)
    whole = await events(await managed())
    pieces = await events(await managed(range=1))
    assert len(whole) >= 2
    assert whole == pieces


async def test_settles_once(world: World, managed: Managed) -> None:
    world.recharge(5_000_000)
    world.allocate(2_000_000)
    manager = await managed()
    with Mining(world.chain):
        (answer,) = await settled(manager, [world.charge(300_000)])
        assert answer["status"] == "final"
        assert world.income() == 300_000
        again = await settled(manager, [world.charge(300_000)])
        assert again == [answer]
        (more,) = await settled(manager, [world.charge(450_000)], "0x" + 64 * "b")
        assert more["reference"] != answer["reference"]
    assert world.income() == 450_000
    kinds = [e["kind"] for e in await events(manager)]
    assert kinds.count("settled") == kinds.count("batch") == 2


async def test_says_which_charges_the_contract_did_not_pay(world: World, managed: Managed) -> None:
    world.recharge(5_000_000)
    world.allocate(1000)
    other = account(3)
    world.recharge(5_000_000, other)
    world.allocate(1_000_000, owner=other)
    manager = await managed()
    charges = [
        world.charge(1001),
        world.charge(400, owner=other),
        world.charge(5, number=9),
        {**world.charge(5), "allocation": "0x" + 64 * "2"},
    ]
    with Mining(world.chain):
        answers = await settled(manager, charges)
    said = {(a["owner"], a["allocation"]): (a["status"], a["detail"]) for a in answers}
    assert said[world.owner.address, charges[0]["allocation"]][0] == "refused"
    assert "left of its cap" in said[world.owner.address, charges[0]["allocation"]][1]
    assert said[other.address, charges[1]["allocation"]] == ("final", "")
    assert said[world.owner.address, charges[2]["allocation"]][0] == "refused"
    assert "not an allocation to" in said[world.owner.address, charges[3]["allocation"]][1]
    assert world.income() == 400


async def test_waits_until_it_pays(world: World, managed: Managed) -> None:
    world.recharge(5_000_000)
    world.allocate(2_000_000)
    # A coin of 1,000 dollars: any fee is more than a hundredth of a cent.
    dear = {"coin_credits": 1000 * 10**6, "settle_margin": 20}
    manager = await managed(**dear)
    (answer,) = await ask(manager, "ledger_settle", charges=[world.charge(100)], root=ROOT_HASH)
    assert (answer["status"], answer["reference"]) == ("later", "")
    assert "settle_margin" in answer["detail"]
    # The last chance to collect: the allocation is over, and its window nearly is.
    world.chain.ask("evm_increaseTime", 32 * 86400 + 43200)
    world.chain.finalize()
    with Mining(world.chain):
        (answer,) = await settled(manager, [world.charge(100)])
    assert answer["status"] == "final"
    assert world.income() == 100


async def test_account_is_that_of_the_chain(world: World, managed: Managed) -> None:
    world.recharge(5_000_000)
    allocation = world.allocate(2_000_000, number=77)
    world.send(world.vault.functions.requestWithdrawal(250), world.owner)
    found = await ask(await managed(), "chain_account", owner=world.owner.address)
    assert (found["balance"], found["reserved"], found["available"], found["withdrawing"]) == (
        5_000_000, 2_000_250, 2_999_750, 250,
    )  # fmt: skip
    (one,) = found["allocations"]
    assert (one["allocation"], one["id"], one["cap"], one["operator"]) == (
        allocation, 77, 2_000_000, world.operator.address,
    )  # fmt: skip


async def test_status(world: World, managed: Managed) -> None:
    found = await ask(await managed(), "chain_status")
    assert found["chain"] == CHAIN
    assert found["operator"] == world.operator.address
    assert found["token"] == world.token.address
    assert found["reachable"]


async def test_prepared_transactions_do_what_they_say(world: World, managed: Managed) -> None:
    manager = await managed()
    owner = world.owner
    world.send(world.token.functions.mint(owner.address, 10_000), owner)

    async def do(action: str, **arguments: Any) -> None:
        made = await ask(
            manager, "chain_transaction", action=action, owner=owner.address, arguments=arguments
        )
        assert made["chain_id"] == CHAIN
        sent = world.chain.web3.eth.send_transaction(
            {"from": owner.address, "to": made["to"], "data": made["data"], "value": made["value"]}
        )
        assert world.chain.web3.eth.wait_for_transaction_receipt(sent)["status"] == 1
        world.chain.finalize()

    now = world.chain.web3.eth.get_block("latest")["timestamp"]
    await do("approve", amount=6000)
    await do("deposit", amount="6000")
    await do(
        "allocate", operator=world.operator.address, id=1, cap=3000, rate=0, start=now, expires=now + 90_000
    )
    await do("raise_allocation", operator=world.operator.address, id=1, cap=4000, expires=now + 95_000)
    await do("request_withdrawal", amount=500)
    await do("register_site", label="blog")
    found = await ask(manager, "chain_account", owner=owner.address)
    assert (found["balance"], found["reserved"], found["withdrawing"]) == (6000, 4500, 500)
    await do("cancel_withdrawal")
    await do("end_allocation", operator=world.operator.address, id=1)
    site = next(e["site"] for e in await events(manager) if e["kind"] == "site_transferred")
    await do("revoke_delegations", site=site, before=now)
    assert any(e["kind"] == "delegations_revoked" and e["site"] == site for e in await events(manager))


async def test_deposits_by_permit(world: World, managed: Managed) -> None:
    manager = await managed()
    owner = world.owner
    world.send(world.token.functions.mint(owner.address, 900), owner)
    asked = {"amount": 900, "deadline": 2**40}
    to_sign = await ask(
        manager, "chain_transaction", action="deposit_permit", owner=owner.address, arguments=asked
    )
    signed = Account.sign_typed_data(owner.key, full_message=json.loads(to_sign["typed_data"]))
    parts = {"v": signed.v, "r": f"{signed.r:#066x}", "s": f"{signed.s:#066x}"}
    made = await ask(
        manager,
        "chain_transaction",
        action="deposit_permit",
        owner=owner.address,
        arguments={**asked, **parts},
    )
    world.chain.web3.eth.wait_for_transaction_receipt(
        world.chain.web3.eth.send_transaction({"from": owner.address, "to": made["to"], "data": made["data"]})
    )
    world.chain.finalize()
    assert (await ask(manager, "chain_account", owner=owner.address))["balance"] == 900


async def test_allocates_by_signature(world: World, managed: Managed) -> None:
    manager = await managed()
    world.recharge(5000)
    now = world.chain.web3.eth.get_block("latest")["timestamp"]
    asked = {"operator": world.operator.address, "id": 4, "cap": 2000, "rate": 0, "start": now,
             "expires": now + 5000}  # fmt: skip
    made = await ask(
        manager, "chain_transaction", action="allocate", owner=world.owner.address, arguments=asked
    )
    signed = Account.sign_typed_data(world.owner.key, full_message=json.loads(made["typed_data"]))
    grant = (world.owner.address, *asked.values())
    world.send(world.vault.functions.allocateBySignature(grant, signed.signature), world.operator)
    assert world.vault.functions.accountOf(world.owner.address).call()[1] == 2000


@pytest.mark.parametrize(
    ("action", "arguments"),
    [
        ("deposit", {}),
        ("deposit", {"amount": -1}),
        ("deposit", {"amount": "1e3"}),
        ("deposit", {"amount": 1, "amout": 2}),
        ("allocate", {"operator": "nobody", "id": 1, "cap": 1, "rate": 0, "start": 0, "expires": 1}),
        (
            "allocate",
            {"operator": "0x" + 40 * "1", "id": 1, "cap": 2**96, "rate": 0, "start": 0, "expires": 1},
        ),
        ("revoke_delegations", {"site": "x", "before": 1}),
        ("register_site", {"label": 5}),
    ],
)
async def test_refuses_what_cannot_be(managed: Managed, action: str, arguments: dict[str, Any]) -> None:
    from decentraspace.errors import BadInput

    manager = await managed()
    with pytest.raises(BadInput):
        await ask(manager, "chain_transaction", action=action, owner="0x" + 40 * "3", arguments=arguments)


async def test_an_external_signer_signs(world: World, managed: Managed) -> None:
    """anvil itself is one, for the accounts it knows."""
    world.recharge(5_000_000)
    world.allocate(2_000_000)
    manager = await managed(
        keystore="", password_file="", signer=world.chain.url, operator=world.operator.address
    )
    with Mining(world.chain):
        (answer,) = await settled(manager, [world.charge(1234)])
    assert answer["status"] == "final"
    assert world.income() == 1234
