"""The loops around the ledger: a plugin that fails in every way costs nobody anything, and is asked again."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import trio

from decentraspace.config import BillingConfig, Config, LimitsConfig, PluginsConfig
from decentraspace.errors import Unavailable
from decentraspace.ledger.clock import HOUR, Moment
from decentraspace.ledger.meters import Held
from decentraspace.ledger.service import Billing
from decentraspace.ledger.store import Ledger
from decentraspace.ledger.usage import UsageRow, UsageStore
from decentraspace.plugins import PluginManager
from tests.ledger.world import CHAIN, GIB, OPERATOR, VAULT, Vault, owner_of, site_of

ANN, HERS = owner_of(1), site_of(1)

PLUGIN = f'''
"""Fails in a new way each time it is asked to settle, and at last does it."""

from decentraspace import hookimpl
from decentraspace.errors import Unavailable

ASKED = []


@hookimpl
async def chain_status(node):
    return {{"chain": {CHAIN}, "operator": "{OPERATOR}", "vault": "{VAULT}"}}


@hookimpl
async def ledger_settle(charges, root, node):
    ASKED.append(root)
    with open("{{folder}}/asked", "a") as file:
        file.write(root + "\\n")
    turn = len(ASKED)
    answers = [
        {{"allocation": c["allocation"], "owner": c["owner"], "credits": c["credits"], "reference": "",
          "status": "pending" if turn < 6 else "final"}}
        for c in charges
    ]
    if turn == 1:
        raise RuntimeError("the endpoint is on fire")
    if turn == 2:
        raise Unavailable("No endpoint answers")
    if turn == 3:
        return [{{**answers[0], "status": "perhaps"}}]
    if turn == 4:
        return [{{**answers[0], "credits": answers[0]["credits"] + 1}}]
    return answers
'''


class World:
    """Billing over real stores and a real plugin; `flagged`: how often the gateway was told."""

    def __init__(self, folder: Path) -> None:
        (folder / "plugins").mkdir()
        (folder / "plugins" / "fails.py").write_text(PLUGIN.replace("{folder}", str(folder)))
        self.config = Config(
            plugins=PluginsConfig(directory=str(folder / "plugins"), enabled=("fails",), max_failures=100),
            billing=BillingConfig(egress_price=1_000_000, settle_least=1, tick=0.1, settle_check=0.1),
            limits=LimitsConfig(free_egress=0, paid_free_egress=0),
        )
        self.folder = folder
        self.usage = UsageStore(folder / "usage.sqlite")
        self.ledger = Ledger(folder / "ledger.sqlite", self.config)
        self.plugins = PluginManager(self.config.plugins)
        self.flagged = 0
        self.held: dict[str, Held] = {}
        self.billing = Billing(
            self.config,
            self.ledger,
            self.usage,
            self.plugins,
            owner_of={HERS: ANN}.get,
            held=lambda: self.held,
            taken=dict,
            reflag=self._reflag,
        )

    async def _reflag(self) -> None:
        self.flagged += 1

    def asked(self) -> list[str]:
        path = self.folder / "asked"
        return path.read_text().split() if path.exists() else []

    async def until(self, condition: Any) -> None:
        with trio.fail_after(60):
            while not condition():
                await trio.sleep(0.02)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = World(tmp_path)
    await made.plugins.load()
    yield made
    await made.plugins.close()
    made.usage.close()
    made.ledger.close()


async def test_a_plugin_that_fails_is_asked_again_for_the_same(world: World) -> None:
    ledger, vault = world.ledger, Vault()
    allocation = vault.allocate(ANN, 10_000_000, days=3000)
    ledger.bind(CHAIN, VAULT, OPERATOR)
    [event] = vault.events
    now = int(time.time())
    event |= {"start": now - 10, "expires": now + 10**6}
    ledger.take_events(vault.answer(0))
    then = now - 2 * HOUR
    ledger.tick(Moment(then, 1, "before"))
    world.usage.add_batch("w", 1, [UsageRow(HERS, then // HOUR, 2, 1, 3 * GIB)])
    async with trio.open_nursery() as nursery:
        await nursery.start(world.billing.run)
        assert world.flagged == 1
        for turn in range(1, 7):
            await world.until(lambda turn=turn: len(world.asked()) >= turn)
            # Failures are waited after, longer and longer: this does not.
            with trio.move_on_after(5), suppress(Unavailable):
                await world.billing.settle()
        await world.until(lambda: ledger.balances(f"settled:{allocation}"))
        nursery.cancel_scope.cancel()
    assert set(world.asked()) == {world.asked()[0]}
    assert ledger.balances(f"settled:{allocation}") == {f"settled:{allocation}": 3_000_000}
    assert ledger.check() == []
    assert world.usage.touched()[0] == []


async def test_pausing_tells_the_gateway_and_prices_are_announced(world: World) -> None:
    assert world.billing.prices == {}
    async with trio.open_nursery() as nursery:
        await nursery.start(world.billing.run)
        assert world.billing.prices["egress"] == 1_000_000
        before = world.flagged
        world.usage.add_batch("w", 1, [UsageRow(HERS, int(time.time()) // HOUR, 2, 1, 1)])
        await world.until(lambda: world.ledger.is_unserved(HERS))
        await world.until(lambda: world.flagged > before)
        world.usage.close()  # a store that breaks does not end the loops
        with trio.move_on_after(0.5):
            await trio.sleep_forever()
        nursery.cancel_scope.cancel()
    assert world.ledger.is_unserved(HERS)


async def test_hours_that_end_while_the_plugin_cannot_answer_are_charged(tmp_path: Path) -> None:
    """The node was stopped, and at its start the plugin has no key, no endpoint, no answer."""
    world = World(tmp_path)
    file, there = tmp_path / "plugins" / "fails.py", tmp_path / "there"
    silent = f"    from pathlib import Path\n    assert Path({str(there)!r}).exists()\n    return {{"
    file.write_text(file.read_text().replace("    return {", silent, 1))
    ledger, vault = world.ledger, Vault()
    vault.allocate(ANN, 10_000_000, days=3000)
    ledger.bind(CHAIN, VAULT, OPERATOR)
    now = int(time.time())
    vault.events[0] |= {"start": now - 3 * HOUR, "expires": now + 10**6}
    ledger.take_events(vault.answer(0))
    then = now - 2 * HOUR
    ledger.tick(Moment(then, 1, "before"))
    ledger.close()
    world.ledger = world.billing.ledger = Ledger(tmp_path / "ledger.sqlite", world.config)
    world.usage.add_batch("w", 1, [UsageRow(HERS, then // HOUR, 2, 1, 3 * GIB)])
    await world.plugins.load()
    async with trio.open_nursery() as nursery:
        await nursery.start(world.billing.run)
        await world.until(lambda: world.ledger.balances("income:egress"))
        there.touch()
        await world.until(world.asked)
        nursery.cancel_scope.cancel()
    [used] = [one for one in world.ledger.history(ANN) if one.service == "egress"]
    assert (used.credits, used.waived) == (3_000_000, 0)
    await world.plugins.close()
    world.usage.close()
    world.ledger.close()


async def test_books_of_another_contract_charge_nothing(world: World) -> None:
    world.ledger.bind(CHAIN, "0x" + 40 * "e", OPERATOR)
    async with trio.open_nursery() as nursery:
        await nursery.start(world.billing.run)
        assert not world.ledger.billing
        nursery.cancel_scope.cancel()
