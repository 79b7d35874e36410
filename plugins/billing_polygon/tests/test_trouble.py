"""Endpoints that fail, lie or lag; transactions that stick, vanish or meet another's; crashes in between."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest
from plugins.billing_polygon.tests.conftest import Managed, World, account
from plugins.billing_polygon.tests.test_on_chain import ROOT_HASH, Mining, ask, events, settled

from decentraspace.errors import Unavailable
from decentraspace.testing import until

Change = Callable[[str, Any], Any]


class Between:
    """An endpoint that passes questions on and may change the answers: `change(method, answer)`."""

    def __init__(self, url: str, change: Change) -> None:
        self.change, self.asked = change, list[str]()
        between = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                method = json.loads(body)["method"]
                between.asked.append(method)
                answer = between.change(method, httpx.post(url, json=json.loads(body), timeout=10).json())
                data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: Any) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def between(world: World) -> Iterator[Callable[[Change], Between]]:
    opened: list[Between] = []

    def make(change: Change) -> Between:
        opened.append(Between(world.chain.url, change))
        return opened[-1]

    yield make
    for one in opened:
        one.close()


def honest(_: str, answer: Any) -> Any:
    return answer


def richer(method: str, answer: Any) -> Any:
    """Ten times what was paid."""
    if method == "eth_getLogs":
        for log in answer["result"]:
            log["data"] = "0x" + f"{int(log['data'][:66], 16) * 10:064x}" + log["data"][66:]
    return answer


@pytest.mark.parametrize(
    "change",
    [
        lambda _, a: b"<html>503</html>",
        lambda _, a: b"[]",
        lambda _, a: {"jsonrpc": "2.0", "id": a["id"], "error": {"code": -32005, "message": "daily limit"}},
        lambda m, a: {**a, "result": {"number": "0x", "hash": 7}} if m == "eth_getBlockByNumber" else a,
        lambda _, a: {**a, "result": "0xzz"},
        lambda _, a: b"[" * 100_000,
        richer,
    ],
)
async def test_one_of_three_is_no_matter(
    world: World, managed: Managed, between: Callable[[Change], Between], change: Change
) -> None:
    world.recharge(777)
    bad = between(change)
    manager = await managed(rpc=[bad.url, between(honest).url, world.chain.url])
    assert [e["credits"] for e in await events(manager) if e["kind"] == "recharged"] == [777]
    world.allocate(700)
    with Mining(world.chain):
        (answer,) = await settled(manager, [world.charge(700)])
    assert answer["status"] == "final"
    assert bad.asked


async def test_two_that_disagree_credit_nobody(
    world: World, managed: Managed, between: Callable[[Change], Between]
) -> None:
    world.recharge(777)
    manager = await managed(rpc=[between(richer).url, world.chain.url])
    with pytest.raises(Unavailable, match="must agree"):
        await ask(manager, "chain_events", from_block=0)


async def test_one_that_lags_does_not_hold_the_others(
    world: World, managed: Managed, between: Callable[[Change], Between]
) -> None:
    def lag(method: str, answer: Any) -> Any:
        if method == "eth_getBlockByNumber" and answer.get("result"):
            answer["result"]["number"] = hex(max(0, int(answer["result"]["number"], 16) - 3))
        return answer

    world.recharge(777)
    manager = await managed(rpc=[between(lag).url, world.chain.url, between(honest).url])
    assert [e["credits"] for e in await events(manager) if e["kind"] == "recharged"] == [777]


async def test_ranges_that_are_too_large_are_asked_in_parts(
    world: World, managed: Managed, between: Callable[[Change], Between]
) -> None:
    questions: list[int] = []

    def limited(method: str, answer: Any) -> Any:
        if method == "eth_getLogs" and len(answer.get("result", ())) > 1:
            questions.append(len(answer["result"]))
            return {"jsonrpc": "2.0", "id": answer["id"], "error": {"code": -32005, "message": "too many"}}
        return answer

    world.recharge(1)
    world.recharge(2)
    manager = await managed(rpc=[between(limited).url])
    assert [e["credits"] for e in await events(manager) if e["kind"] == "recharged"] == [1, 2]
    assert questions


async def test_another_chain_is_refused(world: World, managed: Managed) -> None:
    manager = await managed(chain_id=137)
    with pytest.raises(Unavailable, match="of chain 31337, not 137"):
        await ask(manager, "chain_events", from_block=0)


async def test_no_contract_there(world: World, managed: Managed) -> None:
    manager = await managed(vault="0x" + 40 * "5")
    with pytest.raises(Unavailable, match="no contract"):
        await ask(manager, "chain_events", from_block=0)


async def test_a_stuck_transaction_is_sent_again_for_more(world: World, managed: Managed) -> None:
    world.recharge(5_000_000)
    world.allocate(2_000_000)
    manager = await managed(replace_after=1)
    world.chain.ask("evm_setAutomine", False)
    (first,) = await ask(manager, "ledger_settle", charges=[world.charge(99)], root=ROOT_HASH)
    assert first["status"] == "pending"

    async def replaced() -> Any:
        (now,) = await ask(manager, "ledger_settle", charges=[world.charge(99)], root=ROOT_HASH)
        return seen.add(now["reference"]) or len(seen - {""}) >= 3

    seen: set[str] = set()
    await until(replaced)
    pool = world.chain.ask("txpool_content")["pending"]
    (queue,) = pool.values()
    assert len(queue) == 1  # one nonce, whatever was sent under it
    with Mining(world.chain):
        (answer,) = await settled(manager, [world.charge(99)])
    assert (answer["status"], world.income()) == ("final", 99)


async def test_a_crash_between_writing_and_sending(world: World, managed: Managed) -> None:
    world.recharge(5_000_000)
    world.allocate(2_000_000)
    # Nobody answers, so that it is written down and not sent.
    manager = await managed(rpc=[world.chain.url], final=0)
    world.chain.ask("evm_setAutomine", False)
    (first,) = await ask(manager, "ledger_settle", charges=[world.charge(50)], root=ROOT_HASH)
    assert first["status"] == "pending"
    manager = await managed(final=0)
    (again,) = await ask(manager, "ledger_settle", charges=[world.charge(50)], root=ROOT_HASH)
    assert again["status"] == "pending"
    with Mining(world.chain):
        (answer,) = await settled(manager, [world.charge(50)])
    assert (answer["status"], world.income()) == ("final", 50)
    assert world.chain.web3.eth.get_transaction_count(world.operator.address) == 1


async def test_a_transaction_that_a_reorganisation_took_back_comes_again(
    world: World, managed: Managed
) -> None:
    world.recharge(5_000_000)
    world.allocate(2_000_000)
    manager = await managed(replace_after=1)
    await ask(manager, "ledger_settle", charges=[world.charge(60)], root=ROOT_HASH)

    async def mined() -> bool:
        return world.income() == 60

    await until(mined)
    (answer,) = await ask(manager, "ledger_settle", charges=[world.charge(60)], root=ROOT_HASH)
    assert answer["status"] == "pending"  # not final
    world.chain.ask("anvil_reorg", 1, [])
    assert world.income() == 0
    assert not [e for e in await events(manager) if e["kind"] == "settled"]
    with Mining(world.chain):
        (answer,) = await settled(manager, [world.charge(60)])
    assert (answer["status"], world.income()) == ("final", 60)
    assert [e["credits"] for e in await events(manager) if e["kind"] == "settled"] == [60]


async def test_a_nonce_that_another_program_used(world: World, managed: Managed) -> None:
    world.recharge(5_000_000)
    world.allocate(2_000_000)
    manager = await managed(replace_after=2)
    world.chain.ask("evm_setAutomine", False)
    await ask(manager, "ledger_settle", charges=[world.charge(70)], root=ROOT_HASH)

    async def sent() -> bool:
        return bool(world.chain.ask("txpool_content")["pending"])

    await until(sent)
    # The operator sends something by hand, under the same number and for far more.
    world.chain.web3.eth.send_transaction(
        {"from": world.operator.address, "to": account(5).address, "value": 1, "nonce": 0, "gas": 21000,
         "maxFeePerGas": 10**12, "maxPriorityFeePerGas": 10**11}
    )  # fmt: skip
    with Mining(world.chain):
        (answer,) = await settled(manager, [world.charge(70)])
    assert (answer["status"], world.income()) == ("final", 70)
    assert world.chain.web3.eth.get_transaction_count(world.operator.address) == 2


async def test_gas_above_the_limit_waits(world: World, managed: Managed) -> None:
    world.recharge(5_000_000)
    world.allocate(2_000_000)
    manager = await managed(max_fee=1)
    world.chain.ask("anvil_setNextBlockBaseFeePerGas", hex(50 * 10**9))
    world.chain.ask("evm_mine")
    await ask(manager, "ledger_settle", charges=[world.charge(10)], root=ROOT_HASH)

    async def said() -> Any:
        status = await ask(manager, "chain_status")
        return "max_fee" in status.get("detail", "")

    await until(said)
    assert world.income() == 0
    assert world.chain.web3.eth.get_transaction_count(world.operator.address) == 0


async def test_an_operator_without_coins_is_told(world: World, managed: Managed) -> None:
    world.recharge(5_000_000)
    world.allocate(2_000_000)
    world.chain.ask("anvil_setBalance", world.operator.address, "0x0")
    manager = await managed()
    await ask(manager, "ledger_settle", charges=[world.charge(10)], root=ROOT_HASH)

    async def said() -> Any:
        status = await ask(manager, "chain_status")
        return "too few coins" in status.get("detail", "")

    await until(said)
    world.chain.ask("anvil_setBalance", world.operator.address, hex(10**18))
    with Mining(world.chain):
        (answer,) = await settled(manager, [world.charge(10)])
    assert answer["status"] == "final"
