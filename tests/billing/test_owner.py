"""An owner, her money and a node, all real: a chain with the contracts, a node in a process, the command line.

She recharges, grants, publishes; visitors use it up and are told so; the node is killed; an hour later it settles,
the statement holds against the chain, and another grant has the site shown again.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from plugins.billing_polygon.tests.conftest import World

from decentraspace.ledger.inspect import inspect
from tests.billing.owner import Owner
from tests.node.running import RunningNode

_CAP = 50_000


def visit(node: RunningNode, host: str) -> httpx.Response:
    url = f"http://127.0.0.1:{node.gateway}/"
    return httpx.get(url, headers={"Host": host}, timeout=10, trust_env=False)


@pytest.mark.parametrize("world", ["anvil", "py-evm"], indirect=True)
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
