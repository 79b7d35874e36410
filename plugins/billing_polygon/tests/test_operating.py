"""What the operator sends: `chain_send`, streams, expiries."""

from __future__ import annotations

import json
from typing import Any

import pytest
from eth_account import Account
from plugins.billing_polygon.tests.conftest import Managed, World, account
from plugins.billing_polygon.tests.test_faults import Make
from plugins.billing_polygon.tests.test_on_chain import Mining, ask, events, settled
from plugins.billing_polygon.tests.test_trouble import between

from decentraspace.errors import BadInput, Conflict
from decentraspace.plugins import PluginManager
from decentraspace.testing import until

__all__ = ["between"]


async def send(manager: PluginManager, action: str, key: str, **arguments: Any) -> Any:
    return await ask(manager, "chain_send", action=action, arguments=arguments, key=key)


async def sent(manager: PluginManager, action: str, key: str, **arguments: Any) -> Any:
    """Once it is not pending."""

    async def done() -> Any:
        answer = await send(manager, action, key, **arguments)
        return answer if answer["status"] != "pending" else None

    return await until(done)


def mint(world: World, amount: int) -> None:
    world.send(world.token.functions.mint(world.operator.address, amount), account(9))


def balance(world: World, owner: str) -> int:
    return int(world.vault.functions.accountOf(owner).call()[0])


async def test_deposits_once_for_each_key(world: World, managed: Managed) -> None:
    mint(world, 5000)
    manager, owner = await managed(), world.owner.address
    with Mining(world.chain):
        first = await sent(manager, "deposit_for", "card 1", owner=owner, amount=300)
        assert first["status"] == "final"
        assert await sent(manager, "deposit_for", "card 1", owner=owner, amount=300) == first
        manager = await managed()
        assert await sent(manager, "deposit_for", "card 1", owner=owner, amount=300) == first
        second = await sent(manager, "deposit_for", "card 2", owner=owner, amount=300)
    assert second["reference"] != first["reference"]
    assert balance(world, owner) == 600
    with pytest.raises(Conflict, match="something else"):
        await send(manager, "deposit_for", "card 1", owner=owner, amount=301)


async def test_several_deposits_at_once(world: World, managed: Managed) -> None:
    """None is approved yet; one approval does for all."""
    mint(world, 5000)
    manager = await managed()
    for number in range(6):
        answer = await send(manager, "deposit_for", f"card {number}", owner=account(3).address, amount=7)
        assert answer["status"] == "pending"
    with Mining(world.chain):
        for number in range(6):
            answer = await sent(manager, "deposit_for", f"card {number}", owner=account(3).address, amount=7)
            assert answer["status"] == "final"
    assert balance(world, account(3).address) == 42
    assert world.chain.web3.eth.get_transaction_count(world.operator.address) == 7


async def test_a_deposit_waits_for_tokens(world: World, managed: Managed) -> None:
    manager, owner = await managed(), world.owner.address
    with Mining(world.chain):

        async def told() -> Any:
            answer = await send(manager, "deposit_for", "k", owner=owner, amount=50)
            return "ERC20InsufficientBalance" in answer["detail"] or "revert" in answer["detail"]

        await until(told)
        mint(world, 50)
        answer = await sent(manager, "deposit_for", "k", owner=owner, amount=50)
    assert (answer["status"], balance(world, owner)) == ("final", 50)


async def test_a_receipt_that_comes_late_is_no_reason_to_pay_again(
    world: World, managed: Managed, between: Make
) -> None:
    """The endpoints know the block that it is in, and not yet its receipt."""
    asked: list[int] = []

    def late(method: str, answer: Any) -> Any:
        if method == "eth_getTransactionReceipt" and answer.get("result"):
            asked.append(int(answer["result"]["blockNumber"], 16))
            newest = world.chain.web3.eth.get_block_number()
            if asked[-1] + 40 > newest:
                return {**answer, "result": None}
        return answer

    mint(world, 5000)
    manager, owner = await managed(rpc=[between(late).url], replace_after=1), world.owner.address
    with Mining(world.chain):
        answer = await sent(manager, "deposit_for", "k", owner=owner, amount=50)
    assert answer["status"] == "final"
    assert len(asked) > 2
    assert balance(world, owner) == 50
    assert world.chain.web3.eth.get_transaction_count(world.operator.address) == 2  # approved, and paid


async def test_what_waits_for_tokens_holds_nothing_else(world: World, managed: Managed) -> None:
    """More deposits than are in flight at once, with neither tokens nor an approval."""
    world.recharge(5000)
    world.allocate(2000)
    manager, owner = await managed(), account(3).address
    for number in range(12):
        await send(manager, "deposit_for", f"card {number}", owner=owner, amount=5)
    with Mining(world.chain):
        (answer,) = await settled(manager, [world.charge(70)])
        assert (answer["status"], world.income()) == ("final", 70)
        mint(world, 60)
        for number in range(12):
            paid = await sent(manager, "deposit_for", f"card {number}", owner=owner, amount=5)
            assert paid["status"] == "final"
    assert balance(world, owner) == 60


async def granted(world: World, manager: PluginManager, cap: int, number: int = 4) -> dict[str, Any]:
    """What an owner signed, as `chain_send` takes it."""
    now = world.chain.web3.eth.get_block("latest")["timestamp"]
    asked = {"operator": world.operator.address, "id": number, "cap": cap, "rate": 0, "start": now,
             "expires": now + 50_000}  # fmt: skip
    made = await ask(
        manager, "chain_transaction", action="allocate", owner=world.owner.address, arguments=asked
    )
    signed = Account.sign_typed_data(world.owner.key, full_message=json.loads(made["typed_data"]))
    return {"owner": world.owner.address, **asked, "signature": "0x" + bytes(signed.signature).hex()}


async def test_the_operator_pays_for_an_owners_allocation(world: World, managed: Managed) -> None:
    manager = await managed()
    world.recharge(5000)
    given = await granted(world, manager, 2000)
    with Mining(world.chain):
        answer = await sent(manager, "allocate_by_signature", "a", **given)
        assert answer["status"] == "final"
        # Under another key it is there already, and that is said instead of a refusal.
        again = await sent(manager, "allocate_by_signature", "b", **given)
        assert (again["status"], again["reference"]) == ("final", "")
        wrong = await granted(world, manager, 100, number=5)
        wrong["cap"] = 101
        refused = await sent(manager, "allocate_by_signature", "c", **wrong)
        assert refused["status"] == "refused"
        assert "InvalidSignature" in refused["detail"]
    assert world.vault.functions.accountOf(world.owner.address).call()[1] == 2000


@pytest.mark.parametrize(
    ("action", "arguments"),
    [
        ("deposit_for", {"owner": "0x" + 40 * "0", "amount": 1}),
        ("deposit_for", {"owner": "0x" + 40 * "1", "amount": 0}),
        ("deposit_for", {"owner": "0x" + 40 * "1", "amount": 1, "to": 1}),
        ("deposit_for", {"owner": "0x" + 40 * "1"}),
        ("release", {"allocations": []}),
        ("release", {"allocations": ["0x12"]}),
        ("settle_streams", {"allocations": ["0x" + 64 * "1"] * 201}),
        ("allocate_by_signature", {"owner": "0x" + 40 * "1", "operator": "0x" + 40 * "2"}),
    ],
)
async def test_refuses_what_cannot_be(managed: Managed, action: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(BadInput):
        await send(await managed(), action, "k", **arguments)


async def test_an_action_of_nobody(managed: Managed) -> None:
    assert await send(await managed(), "fly", "k") is None


async def test_streams_are_settled_by_themselves(world: World, managed: Managed) -> None:
    world.recharge(5_000_000)
    world.allocate(2_000_000, rate=10)
    world.allocate(1_000_000, number=2)  # no stream
    manager = await managed(upkeep=0.2, streams_every=3600)
    await events(manager)
    world.chain.mine(3, 5000)
    with Mining(world.chain):

        async def paid() -> bool:
            return world.income() >= 100_000

        await until(paid)

        async def told() -> Any:
            return [e for e in await events(manager) if e["kind"] == "stream_settled"]

        (one,) = await until(told)
    assert one["credits"] == world.income()


async def test_streams_wait_until_they_pay(world: World, managed: Managed) -> None:
    world.recharge(5_000_000)
    world.allocate(2_000_000, rate=1)
    # A coin of 10,000 dollars.
    manager = await managed(upkeep=0.2, streams_every=0, settle_margin=20, coin_credits=10**10)
    await events(manager)
    world.chain.mine(5, 10)
    before = world.income()
    other = account(3)
    world.recharge(9_000_000_000, other)
    world.allocate(9_000_000_000, owner=other, rate=100_000)
    world.chain.mine(3, 20_000)
    await events(manager)
    with Mining(world.chain):

        async def paid() -> bool:
            return world.income() > before

        await until(paid)
    assert before == 0


async def test_what_has_expired_is_released(world: World, managed: Managed) -> None:
    world.recharge(5_000_000)
    world.allocate(2_000_000, rate=1, days=2)
    world.allocate(1_000_000, number=2, days=100)
    manager = await managed(upkeep=0.2)
    await events(manager)
    world.chain.mine(3, 6 * 86400)
    with Mining(world.chain):

        async def released() -> bool:
            return bool(world.vault.functions.accountOf(world.owner.address).call()[1] == 1_000_000)

        await until(released)

        async def told() -> Any:
            return [e for e in await events(manager) if e["kind"] == "released"]

        assert len(await until(told)) == 1
    assert world.income() == 2 * 86400  # the stream, up to its end
    assert (await send(manager, "release", "k", allocations=["0x" + 64 * "1"]))["status"] == "pending"
