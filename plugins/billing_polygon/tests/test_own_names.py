"""A label of SiteRegistry as the name of a site: bought at one node, shown by another, refused to a stranger, renewed,
and over when it is over. Real contracts, real nodes, the command line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from plugins.billing_polygon.tests.conftest import World, account, operator_settings
from plugins.billing_polygon.tests.test_on_chain import Mining
from plugins.billing_polygon.tests.test_ownership import Somebody, folder_of

from decentraspace.testing import RunningNode, until

PRICE, YEAR = 5_000_000, 365 * 86400
NAME, HOSTS = "garden.dsp", ("garden.dsp", "garden.dsp.localhost", "garden-dsp.localhost", "garden.localhost")


@pytest.fixture
def nodes(tmp_path: Path, world: World) -> Iterator[tuple[RunningNode, RunningNode]]:
    """Two of one operator's; only the first sells names."""
    with ExitStack() as stack:
        made: list[RunningNode] = []
        for folder in (tmp_path / "first", tmp_path / "second"):
            folder.mkdir()
            table = {**operator_settings(folder, world), "labels": "dsp"}
            lines = [f"{name} = {json.dumps(value)}" for name, value in table.items()]
            config = folder / "config.toml"
            config.write_text("\n".join(["[plugin.billing_polygon]", *lines]))
            settings = {
                "CONFIG": str(config),
                "NAMES_RESOLVERS": "dsp=billing_polygon",
                "NAMES_TIMEOUT": "20",
                "NAMES_CHECK_EVERY": "2",
                "NAMES_GRACE": "20",
                "GATEWAY_PLAIN_HOSTS": "dsp",
                "BILLING_TICK": "0.5",
                "NETWORK_SYNC_INTERVAL": "0.5",
            }
            if made:
                peer = httpx.get(f"{made[0].url}/readyz", trust_env=False).json()["peer_id"]
                listening = made[0].environment["DECENTRASPACE_NETWORK_LISTEN"]
                settings["NETWORK_BOOTSTRAP"] = f"{listening}/p2p/{peer}"
                settings["NETWORK_ALLOW_PRIVATE"] = "yes"
            made.append(stack.enter_context(RunningNode(folder, plugins=["billing_polygon"], **settings)))
        yield made[0], made[1]


def get(node: RunningNode, host: str) -> httpx.Response:
    url, headers = f"http://127.0.0.1:{node.gateway}/", {"host": f"{host}:{node.gateway}"}
    return httpx.get(url, headers=headers, trust_env=False, timeout=30)


async def shows(node: RunningNode, host: str, text: str, status: int = 200) -> None:
    async def so() -> bool:
        answer = get(node, host)
        return answer.status_code == status and text in answer.text

    try:
        await until(so, 60)
    except AssertionError:
        answer = get(node, host)
        raise AssertionError(f"{host}: {answer.status_code} {answer.text[:300]}\n{node.log()}") from None


async def paid(somebody: Somebody, what: str) -> dict[str, Any]:
    """What came of buying or renewing; the command itself waits for a minute only."""
    answer = somebody.run("domains", what, NAME, "--yes")

    async def over() -> Any:
        newest: dict[str, Any] = somebody.run("domains", "purchases")["purchases"][0]
        return newest if newest["status"] not in ("reserved", "pending") else None

    answer = await until(over, 120) if answer["status"] != "done" else answer
    assert (answer["status"], answer["credits"]) == ("done", PRICE), answer
    return answer


def certificate(node: RunningNode, domain: str) -> int:
    params = {"domain": domain}
    return httpx.get(f"{node.url}/domain/certificate/", params=params, trust_env=False).status_code


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_a_name_bought_at_one_node_works_at_another(
    world: World, nodes: tuple[RunningNode, RunningNode], tmp_path: Path
) -> None:
    first, second = nodes
    world.recharge(2 * PRICE, world.operator)
    world.recharge(3 * PRICE)
    world.allocate(3 * PRICE)
    owner = Somebody(tmp_path / "owner", world.owner, first)
    stranger = Somebody(tmp_path / "stranger", account(5), second)
    for somebody, text in ((owner, "the owner's"), (stranger, "a stranger's")):
        somebody.run("deploy", folder_of(somebody.home / "site", text), "--site", "site")

    async def covered() -> bool:
        return int(owner.run("credits", "balance")["room"]) >= 2 * PRICE

    await until(covered, 60)
    for host in HOSTS:
        await shows(second, host, "", 404)
    with Mining(world.chain):
        ends = (await paid(owner, "buy"))["expires"]
        assert world.sites.functions.ownerOfLabel("garden").call() == world.owner.address
        assert world.income() == PRICE
        assert owner.run("domains", "link", NAME, "site")["state"] == "linked"
        for node in nodes:
            for host in HOSTS:
                await shows(node, host, "the owner's")
        assert certificate(second, NAME) == 200
        assert certificate(second, "meadow.dsp") == 404

        assert stranger.problem("domains", "link", NAME, "site")["type"].endswith("name-not-yours")
        assert stranger.problem("domains", "buy", NAME, "--yes")["status"] == 409
        await shows(second, NAME, "the owner's")

        assert (await paid(owner, "renew"))["expires"] > ends
        assert world.income() == 0
        charged = 3 * PRICE - owner.run("credits", "balance")["room"]
        assert charged >= 2 * PRICE

    world.chain.ask("evm_increaseTime", YEAR)
    world.chain.finalize()
    await shows(second, NAME, "the owner's")
    world.chain.ask("evm_increaseTime", YEAR)
    world.chain.finalize()
    for host in HOSTS:
        await shows(second, host, "", 404)
