"""An owner, her money and a node, all real: anvil with the contracts, a node in a process, the command line.

She recharges, grants, publishes; visitors use it up and are told so; the node is killed; an hour later it settles,
the statement holds against the chain, and another grant has the site shown again.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from eth_account import Account
from plugins.billing_polygon.tests.conftest import Anvil, World, make_world

from decentraspace.ledger.inspect import inspect
from tests.node.running import RunningNode, command

_SHIFTED = '''
"""The computer's clock goes ahead by as many seconds as a file says."""

import os
import time

with open(os.environ["AHEAD"]) as file:
    _ahead = int(file.read())
_time, _gettime = time.time, time.clock_gettime
time.time = lambda: _time() + _ahead
time.clock_gettime = lambda which: _gettime(which) + (_ahead if which == time.CLOCK_BOOTTIME else 0)
'''
_REQUESTS = 10_000_000_000  # for a million: 10,000 credits each
_CAP = 50_000


@pytest.fixture
def world() -> Iterator[World]:
    chain = Anvil()
    yield make_world(chain)
    chain.close()


class Owner:
    def __init__(self, folder: Path, world: World) -> None:
        self.folder, self.world = folder, world
        self.ahead = folder / "ahead"
        self.ahead.write_text("0")
        (folder / "clock").mkdir()
        (folder / "clock" / "sitecustomize.py").write_text(_SHIFTED)
        self.clock = {"PYTHONPATH": str(folder / "clock"), "AHEAD": str(self.ahead)}
        self.key = "0x" + bytes(world.owner.key).hex().removeprefix("0x")

    def run(self, *words: object, code: int = 0, stdin: str = "") -> str:
        done = command(self.folder, *words, stdin=stdin, **self.clock)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout

    def refused(self, *words: object) -> str:
        done = command(self.folder, *words, **self.clock)
        assert done.returncode == 2, done.stdout + done.stderr
        return done.stderr

    def pay(self, *words: object) -> Any:
        """A command that sends transactions."""
        sent = self.run(
            "credits",
            *words,
            "--key-stdin",
            "--rpc",
            self.world.chain.url,
            "--no-wait",
            "--json",
            stdin=self.key,
        )
        self.world.chain.finalize()
        return json.loads(sent)

    def balance(self) -> Any:
        return json.loads(self.run("credits", "balance", "--json"))

    def later(self, seconds: int) -> None:
        self.ahead.write_text(str(int(self.ahead.read_text()) + seconds))
        self.world.chain.ask("evm_increaseTime", seconds)
        self.world.chain.finalize()


@pytest.fixture
def owner(tmp_path: Path, world: World) -> Owner:
    return Owner(tmp_path, world)


@pytest.fixture
def make_node(tmp_path: Path, owner: Owner) -> Callable[[], RunningNode]:
    world, password, key = owner.world, tmp_path / "password", tmp_path / "operator.json"
    password.write_text("correct horse\n")
    password.chmod(0o600)
    key.write_text(
        json.dumps(Account.encrypt(world.operator.key, "correct horse", kdf="pbkdf2", iterations=1000))
    )
    table = {
        "rpc": [world.chain.url], "chain_id": 31337, "vault": world.vault.address,
        "operators": world.operators.address, "sites": world.sites.address, "keystore": str(key),
        "password_file": str(password), "settle_margin": 0,
    }  # fmt: skip
    file = tmp_path / "config.toml"
    lines = [f"{name} = {json.dumps(value)}" for name, value in table.items()]
    file.write_text("\n".join(["[plugin.billing_polygon]", *lines]))
    settings = {
        "CONFIG": str(file), "PLUGINS_DISABLED": "billing_paystack,storage_ipfs",
        "BILLING_TICK": "0.2", "BILLING_SETTLE_CHECK": "0.5", "BILLING_SETTLE_LEAST": "1",
        "BILLING_REQUESTS_PRICE": str(_REQUESTS), "BILLING_PAID_LEAST": "1000", "BILLING_EGRESS_PRICE": "0",
        "BILLING_STORAGE_PRICE": "1", "LIMITS_PAID_FREE_REQUESTS": "0", "LIMITS_FREE_REQUESTS": "0",
        "LIMITS_PAID_FREE_STORAGE": "0", "LIMITS_FREE_STORAGE": "0",
    }  # fmt: skip

    def make() -> RunningNode:
        node = RunningNode(tmp_path / "node", **settings)
        node.environment.update(owner.clock)
        return node

    return make


def visit(node: RunningNode, host: str) -> httpx.Response:
    url = f"http://127.0.0.1:{node.gateway}/"
    return httpx.get(url, headers={"Host": host}, timeout=10, trust_env=False)


def test_credits_are_bought_used_up_settled_and_bought_again(
    owner: Owner, world: World, make_node: Callable[[], RunningNode], tmp_path: Path
) -> None:
    world.send(world.token.functions.mint(world.owner.address, 1_000_000), world.owner)
    folder = tmp_path / "blog"
    folder.mkdir()
    (folder / "index.html").write_text("<h1>for money</h1>")
    node = make_node()
    with node:
        owner.run("login", "--node", node.url, "--key-stdin", stdin=owner.key)
        node.until(lambda: owner.balance()["billing"])
        assert "credits are missing for storage" in owner.refused("deploy", folder)
        owner.pay("recharge", "0.5usd")
        owner.pay("grant", str(_CAP))
        node.until(lambda: owner.balance()["room"] == _CAP)
        site = json.loads(owner.run("deploy", folder, "--json"))
        host = f"blog--{site['site']}.localhost"
        assert visit(node, host).status_code == 200
        most = time.monotonic() + 60
        while (refused := visit(node, host)).status_code == 200:
            assert time.monotonic() < most
            time.sleep(0.3)
        assert refused.status_code == 402
        assert refused.headers["Cache-Control"] == "no-store"
        (folder / "more.html").write_text("<p>more</p>")
        assert "/billing/recharge/" in owner.refused("deploy", folder)
        assert node.process is not None
        node.process.kill()
        node.process.wait()
    before = world.income()
    owner.later(3700)
    node = make_node()
    with node:
        owner.run("login", "--node", node.url, "--key-stdin", stdin=owner.key)
        assert visit(node, host).status_code == 402

        def paid() -> bool:
            world.chain.finalize()
            return bool(world.income() - before == _CAP)

        node.until(paid)
        listed = node.until(
            lambda: [
                s for s in json.loads(owner.run("credits", "statements", "--json"))["statements"]
                if s["status"] == "final"
            ]
        )  # fmt: skip
        file = tmp_path / "statement.json"
        file.write_text(owner.run("credits", "statements", listed[0]["root"]))
        owner.run("verify-statement", file, "--rpc", world.chain.url)
        owner.pay("grant", "20000")
        node.until(lambda: visit(node, host).status_code == 200)
        owner.run("deploy", folder)
    assert inspect(tmp_path / "node" / "data" / "ledger.sqlite") == []
