"""What one endpoint, a crash or a chain that breaks its word must not be able to do."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
import trio
from plugins.billing_polygon.tests.conftest import Managed, World, account
from plugins.billing_polygon.tests.test_on_chain import ROOT_HASH, Mining, ask, events, settled
from plugins.billing_polygon.tests.test_trouble import Between, Change, between, honest

from decentraspace.errors import ConfigError, Unavailable
from decentraspace_billing_polygon.settings import GWEI, read

__all__ = ["between"]

Make = Callable[[Change], Between]


async def test_one_that_never_answers_holds_nobody(world: World, managed: Managed, between: Make) -> None:
    """Its time would be up only long after the test's."""
    over = threading.Event()

    def hang(_: str, answer: Any) -> Any:
        over.wait()
        return answer

    world.recharge(777)
    world.allocate(500)
    manager = await managed(rpc=[between(hang).url, world.chain.url, between(honest).url], timeout=3600)
    try:
        with trio.fail_after(60), Mining(world.chain):
            assert [e["credits"] for e in await events(manager) if e["kind"] == "recharged"] == [777]
            (answer,) = await settled(manager, [world.charge(5)])
        assert answer["status"] == "final"
    finally:
        over.set()


async def test_one_alone_does_not_end_a_settlement(world: World, managed: Managed, between: Make) -> None:
    def no(method: str, answer: Any) -> Any:
        if method != "eth_estimateGas":
            return answer
        return {"jsonrpc": "2.0", "id": answer["id"], "error": {"code": 3, "message": "execution reverted"}}

    world.recharge(5000)
    world.allocate(2000)
    manager = await managed(rpc=[between(no).url, world.chain.url, between(honest).url])
    with Mining(world.chain):
        (answer,) = await settled(manager, [world.charge(30)])
    assert (answer["status"], world.income()) == ("final", 30)


@pytest.mark.parametrize("where", ["eth_maxPriorityFeePerGas", "eth_getBlockByNumber"])
async def test_one_alone_does_not_set_the_fees(
    world: World, managed: Managed, between: Make, where: str
) -> None:
    def dear(method: str, answer: Any) -> Any:
        if method == where == "eth_maxPriorityFeePerGas":
            answer["result"] = hex(300 * GWEI)
        elif method == where and answer.get("result"):
            answer["result"]["baseFeePerGas"] = hex(200 * GWEI)
        return answer

    world.recharge(5000)
    world.allocate(2000)
    manager = await managed(rpc=[between(dear).url, world.chain.url, between(honest).url])
    with Mining(world.chain):
        (answer,) = await settled(manager, [world.charge(30)])
    sent = world.chain.web3.eth.get_transaction(answer["reference"])
    assert sent["maxPriorityFeePerGas"] < 200 * GWEI
    assert sent["maxFeePerGas"] < 200 * GWEI


async def test_a_final_block_that_changed_stops_everything(world: World, managed: Managed) -> None:
    world.recharge(5000)
    world.allocate(2000)
    manager = await managed()
    page = await ask(manager, "chain_events", from_block=0)
    # Deeper than what was final, which no honest chain does.
    world.chain.ask("anvil_reorg", 6, [])
    manager = await managed()  # also after a restart
    with pytest.raises(Unavailable, match=r"was final as .* nothing goes on"):
        await ask(manager, "chain_events", from_block=page["next_block"])
    status = await ask(manager, "chain_status")
    assert not status["reachable"]
    assert f"Block {page['final_block']} was final" in status["detail"]
    with pytest.raises(Unavailable, match="nothing goes on"):
        await ask(manager, "ledger_settle", charges=[world.charge(5)], root=ROOT_HASH)
    with pytest.raises(Unavailable, match="nothing goes on"):
        await ask(manager, "chain_account", owner=world.owner.address)


async def test_an_account_that_cannot_be_read_in_full_is_not_told(
    world: World, managed: Managed, between: Make
) -> None:
    """And it is refused in one word, not taken for a failure of the plugin."""
    asked: list[str] = []

    def broken(method: str, answer: Any) -> Any:
        if method == "eth_call":
            asked.append(method)
            if len(asked) > 3:
                return b"no"
        return answer

    world.recharge(5000)
    for number in range(4):
        world.allocate(100, number=number)
    manager = await managed(rpc=[between(broken).url])
    with pytest.raises(Unavailable):
        await ask(manager, "chain_account", owner=world.owner.address)


async def test_events_of_many_blocks(world: World, managed: Managed) -> None:
    world.recharge(50_000)
    for credits in range(1, 151):
        world.vault.functions.transfer(account(3).address, credits).transact({"from": world.owner.address})
    world.chain.finalize()
    told = await events(await managed())
    assert [e["credits"] for e in told if e["kind"] == "spent"] == list(range(1, 151))
    assert len({e["block"] for e in told if e["kind"] == "spent"}) == 150


async def test_a_batch_that_ran_out_of_gas_gets_more(world: World, managed: Managed, between: Make) -> None:
    def little(method: str, answer: Any) -> Any:
        if method == "eth_estimateGas" and "result" in answer:
            answer["result"] = hex(40_000)
        return answer

    world.recharge(5000)
    world.allocate(2000)
    manager = await managed(rpc=[between(little).url])
    with Mining(world.chain):
        (answer,) = await settled(manager, [world.charge(30)])
    assert (answer["status"], world.income()) == ("final", 30)
    assert world.chain.web3.eth.get_transaction_count(world.operator.address) > 1


@pytest.mark.parametrize("rpc", [["http://a.example", "http://a.example"], 5, [5], [["http://a.example"]]])
def test_endpoints_that_cannot_be(rpc: Any) -> None:
    with pytest.raises(ConfigError, match="rpc"):
        read({"rpc": rpc, "vault": "0x" + 40 * "1", "keystore": "/k"})
