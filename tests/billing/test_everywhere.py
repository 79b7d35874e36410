"""A depleted owner's site at two nodes of two operators, all real but the card company: it is paused at both, and is
back at both after a recharge by token, and after one by card by a wallet that has no coins for gas."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from plugins.billing_paystack.tests.standin import SECRET, SOURCE, Paystack
from plugins.billing_polygon.tests.conftest import World, account

from decentraspace.ledger.inspect import inspect
from tests.billing.owner import Owner
from tests.node.running import RunningNode

_VISIT = 1000  # credits
# Visits between the last that was granted and the pause are charged to what is granted in the same hour, so each grant
# is for far more of them than there can be.
_FIRST, _SECOND, _THIRD = 10 * _VISIT, 80 * _VISIT, 400 * _VISIT
_SETTINGS = {
    "BILLING_REQUESTS_PRICE": str(_VISIT * 10**6),
    "BILLING_GRANT_LEAST": "1000",
    "LIMITS_PAID_FREE_STORAGE": str(10**9),
    "NETWORK_ALLOW_PRIVATE": "yes",
}
_PATIENCE = 120.0
Make = Callable[..., RunningNode]


def address(node: RunningNode) -> str:
    answer = node.get("/readyz")
    assert answer is not None
    return f"{node.environment['DECENTRASPACE_NETWORK_LISTEN']}/p2p/{answer.json()['peer_id']}"


def status(node: RunningNode, host: str) -> int:
    url = f"http://127.0.0.1:{node.gateway}/"
    return httpx.get(url, headers={"Host": host}, timeout=10, trust_env=False).status_code


def visited(node: RunningNode, host: str, code: int) -> None:
    """Until that is what visitors get."""
    end = time.monotonic() + _PATIENCE
    while status(node, host) != code:
        assert time.monotonic() < end, node.log()
        time.sleep(0.1)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_depleted_site_pauses_everywhere_and_comes_back(
    owner: Owner, world: World, make_node: Make, tmp_path: Path
) -> None:
    paystack, key, folder = Paystack(), tmp_path / "paystack.key", tmp_path / "blog"
    key.write_text(SECRET + "\n")
    key.chmod(0o600)
    cards = {
        "key_file": str(key), "test": True, "email": "cards+{owner}@node.example", "currency": "NGN",
        "rate": [160_000, 1_000_000], "api": paystack.url, "poll": 3600,
    }  # fmt: skip
    folder.mkdir()
    (folder / "index.html").write_text("<h1>everywhere</h1>")
    world.send(world.token.functions.mint(world.owner.address, 1_000_000), world.owner)
    world.send(world.token.functions.mint(world.operator.address, 1_000_000), world.operator)
    try:
        tables = {"billing_paystack": cards}
        with make_node("first", tables=tables, PLUGINS_DISABLED="storage_ipfs", **_SETTINGS) as first:
            known = {"NETWORK_BOOTSTRAP": address(first)}
            with make_node("second", account(3), **known, **_SETTINGS) as second:
                everywhere(owner, world, paystack, (first, second), folder)
    finally:
        paystack.close()
    for name in ("first", "second"):
        assert inspect(tmp_path / name / "data" / "ledger.sqlite") == []


def everywhere(
    owner: Owner, world: World, paystack: Paystack, nodes: tuple[RunningNode, RunningNode], folder: Path
) -> None:
    first = nodes[0]
    for node in reversed(nodes):
        owner.run("login", "--node", node.url, "--key-stdin", stdin=owner.key)
    first.until(lambda: owner.balance()["billing"])

    def all_visited(code: int) -> None:
        for node in nodes:
            visited(node, host, code)

    owner.pay("recharge", "0.1usd")
    for node in nodes:
        owner.pay("grant", str(_FIRST), "--node", node.url)
    first.until(lambda: owner.balance()["room"] == _FIRST)
    site = json.loads(owner.run("deploy", folder, "--json"))["site"]
    host = f"blog--{site}.localhost"
    all_visited(200)
    all_visited(402)

    # By token: credits, and what operators may take of them.
    owner.pay("recharge", "0.1usd")
    for node in nodes:
        owner.pay("grant", str(_SECOND), "--node", node.url)
    all_visited(200)
    all_visited(402)

    # By card, and without a coin: the operators bring the grants to the chain.
    world.chain.ask("anvil_setBalance", world.owner.address, "0x0")
    before = owner.balance()["chain"]["balance"]
    begun = json.loads(owner.run("credits", "recharge", "1usd", "--method", "paystack", "--json"))
    paystack.pay(begun["reference"])
    headers, body = paystack.charge_success(begun["reference"])
    told = httpx.post(
        f"{first.url}/billing/webhook/paystack/", content=body, timeout=10, trust_env=False,
        headers={**headers, "X-Forwarded-For": SOURCE},
    )  # fmt: skip
    assert told.status_code == 200, told.text

    def credited() -> bool:
        world.chain.finalize()
        return bool(owner.balance()["chain"]["balance"] == before + 1_000_000)

    first.until(credited)
    for node in nodes:
        assert status(node, host) == 402  # there is money; nobody may take of it yet
        made = owner.run(
            "credits", "grant", str(_THIRD), "--node", node.url, "--key-stdin", "--no-wait", "--json",
            stdin=owner.key,
        )  # fmt: skip
        assert json.loads(made)["handed_in"]["status"] in ("pending", "final")

    def served() -> bool:
        world.chain.finalize()
        return all(status(node, host) == 200 for node in nodes)

    first.until(served, _PATIENCE)
    assert world.chain.web3.eth.get_balance(world.owner.address) == 0
