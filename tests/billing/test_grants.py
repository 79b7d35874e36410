"""Granting, ending and withdrawing by the command line, at a real node and on a real chain."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import httpx
from eth_account import Account
from plugins.billing_polygon.tests.conftest import World

from decentraspace.cli import granting
from tests.billing.owner import Owner
from tests.node.running import RunningNode

_DAY = 86400
Make = Callable[..., RunningNode]


def log_in(owner: Owner, node: RunningNode) -> None:
    owner.run("login", "--node", node.url, "--key-stdin", stdin=owner.key)
    node.until(lambda: owner.balance()["billing"])


def test_a_wallet_without_coins_grants_by_a_signature(owner: Owner, world: World, make_node: Make) -> None:
    world.recharge(5_000_000)
    world.chain.ask("anvil_setBalance", world.owner.address, "0x0")
    with make_node() as node:
        log_in(owner, node)
        # Without coins, though there is an endpoint; and without any endpoint.
        rpc = ("--rpc", world.chain.url)
        for words in (("2000000", *rpc), ("1000000",)):
            said = owner.run(
                "credits", "grant", *words, "--key-stdin", "--no-wait", "--json", stdin=owner.key
            )
            made = json.loads(said)
            assert made["handed_in"]["status"] in ("pending", "final")
            terms, chain = made["grant"], {"chain": 31337, "vault": world.vault.address}
            body = {n: terms[n] for n in ("id", "cap", "rate", "start", "expires")}
            body["signature"] = granting.sign(world.owner, chain, terms)

            def final(body: dict[str, Any] = body) -> bool:
                world.chain.finalize()
                return bool(owner.put("/blockchain/credit/", body)["status"] == "final")

            node.until(final)
            # Handing it in again does nothing more, and says the same.
            assert owner.put("/blockchain/credit/", body)["status"] == "final"
        node.until(lambda: {one["cap"] for one in owner.balance()["allocations"]} == {2_000_000, 1_000_000})
        assert owner.balance()["room"] == 2_000_000
        spent = world.chain.web3.eth.get_balance(world.owner.address)
        assert spent == 0
        sent = world.chain.web3.eth.get_transaction_count(world.operator.address)
        assert sent == 2

        def signed(by: Any = world.owner, **changes: str) -> dict[str, Any]:
            other = {**terms, **changes}
            return {n: other[n] for n in body if n != "signature"} | {
                "signature": granting.sign(by, chain, other)
            }

        def hand_in(body: dict[str, Any]) -> dict[str, Any]:
            return owner.put("/blockchain/credit/", body)

        small = hand_in(signed(cap="999999"))
        assert (small["status"], small["type"].rpartition(":")[2]) == (400, "small-grant")
        beyond = hand_in(signed(id="9", cap="3000000"))
        assert (beyond["status"], beyond["missing"], beyond["reason"]) == (402, 1_000_000, "credit")
        # Signed by somebody else, or for something else; and signatures that are none.
        assert hand_in(signed(Account.create(), id="10"))["status"] == 400
        assert hand_in({**signed(id="10"), "id": "11"})["status"] == 400
        for bad in ("0x" + 130 * "0", "0x" + 130 * "f", "0x" + 128 * "1" + "1b"):
            assert hand_in({**body, "signature": bad})["status"] == 400
        # However it is spelled, it is the same grant; and one that is there is not sent again.
        again = {n: "00" + v if isinstance(v, str) else v for n, v in body.items()}
        again["signature"] = "0x" + body["signature"][2:].upper()
        assert hand_in(again) == hand_in(body)
        assert hand_in(signed(cap="1000001"))["status"] == "final"
        # One at a time: all of these would be paid for by the same credits, and all but one be reverted.
        world.chain.ask("evm_setAutomine", False)
        first, second = signed(id="20", cap="1500000"), signed(id="21", cap="1500000")
        assert hand_in(first)["status"] == "pending"
        assert hand_in(second)["status"] == 409
        assert hand_in(first)["status"] == "pending"
        world.chain.ask("evm_setAutomine", True)
        world.chain.ask("evm_mine")
        node.until(lambda: final(first))
        assert hand_in(second)["status"] == 402
        assert world.chain.web3.eth.get_transaction_count(world.operator.address) == sent + 1
        answer = httpx.put(f"{node.url}/blockchain/credit/", json=body, timeout=10, trust_env=False)
        assert answer.status_code == 401


def test_credits_come_in_are_granted_and_leave(owner: Owner, world: World, make_node: Make) -> None:
    world.send(world.token.functions.mint(world.owner.address, 3_000_000), world.owner)
    with make_node() as node:
        log_in(owner, node)
        recharge_and_wait(owner, world)
        grant = owner.pay("grant", "1000000")["grant"]
        node.until(lambda: owner.balance()["room"] == 1_000_000)
        before = datetime.fromisoformat(owner.balance()["allocations"][0]["expires"])
        owner.pay("end", grant["id"])
        notice = timedelta(days=2)
        node.until(
            lambda: datetime.fromisoformat(owner.balance()["allocations"][0]["expires"]) < before - notice
        )

        def vault() -> dict[str, Any]:
            found: dict[str, Any] = owner.balance()["chain"]
            return found

        owner.pay("withdraw", "2usd")
        assert vault()["withdrawing"] == 2_000_000
        early = owner.refused("credits", "withdraw", "--key-stdin", "--rpc", world.chain.url, stdin=owner.key)
        assert early.startswith("error:")
        owner.pay("withdraw", "--cancel")
        assert vault()["withdrawing"] == 0
        owner.pay("withdraw", "1.5usd")
        world.chain.ask("evm_increaseTime", 4 * _DAY + 60)
        world.chain.finalize()
        friend = Account.create().address
        owner.pay("withdraw", "--to", friend)
        assert world.token.functions.balanceOf(friend).call() == 1_500_000
        assert (vault()["withdrawing"], vault()["balance"]) == (0, 1_500_000)


def recharge_and_wait(owner: Owner, world: World) -> None:
    """The command ends when what it sent is in a final block, and not before."""
    command = owner.begin(
        "credits", "recharge", "3usd", "--key-stdin", "--rpc", world.chain.url, stdin=owner.key
    )
    try:
        assert command.stderr is not None
        assert command.stdout is not None
        said = command.stderr.readline()
        assert "as final" in said, said + command.stderr.read()
        assert command.poll() is None
        world.chain.finalize()
        assert command.wait(60) == 0, command.stderr.read()
        assert "Sent 0x" in command.stdout.read()
    finally:
        command.kill()
        command.wait()
    assert owner.balance()["chain"]["balance"] == 3_000_000
