"""From a payment plugin to the plugin that sends: nothing lost or doubled, whatever fails and wherever it ends."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio

from decentraspace.config import Config, PluginsConfig
from decentraspace.ledger.crediting import Crediting
from decentraspace.ledger.rollup import address
from decentraspace.plugins import PluginManager
from tests.ledger.world import World, owner_of

ANN = owner_of(1)

PLUGIN = '''
"""Payments out of a file; a chain, a file as well, to which each key sends once, and every other time unheard."""

import json
from pathlib import Path

from decentraspace import hookimpl
from decentraspace.errors import BadInput, Unavailable

FOLDER = Path("{folder}")
TURNS = []


@hookimpl
async def payment_events(after, node):
    events = [e for e in json.loads((FOLDER / "events").read_text()) if e["number"] > after][:2]
    return {{"next": max([after, *(e["number"] for e in events)]), "events": events}}


@hookimpl
async def payment_webhook(method, body, node):
    return {{"status": "done", "reference": "r1"}} if method == "cards" else None


@hookimpl
async def chain_send(action, arguments, key, node):
    if action != "deposit_for":
        return None
    if arguments["owner"] == "0x" + 40 * "0":
        raise BadInput("Nobody can have credits there")
    file = FOLDER / "chain"
    sent = json.loads(file.read_text()) if file.exists() else {{}}
    TURNS.append(key)
    if key not in sent:
        sent[key] = arguments
        file.write_text(json.dumps(sent))
        if len(TURNS) % 2:
            raise Unavailable("It was sent, and nobody heard")
        return {{"status": "pending", "reference": "0x" + 64 * "1"}}
    if sent[key] != arguments:
        raise Exception("the key was used for something else")
    return {{"status": "final", "reference": "0x" + 64 * "1"}}
'''


def payment(number: int, status: str = "done", **fields: Any) -> dict[str, Any]:
    paid = {"owner": address(ANN), "credits": 1000 + number, "held_until": 2**33}
    return {"status": status, "reference": f"r{number}", "number": number, "time": 1, **paid, **fields}


class Desk:
    def __init__(self, folder: Path) -> None:
        (folder / "plugins").mkdir()
        (folder / "plugins" / "cards.py").write_text(PLUGIN.format(folder=folder))
        self.folder, self.world = folder, World(folder)
        self.world.config = replace(self.world.config, plugins=self.plugins_config())
        self.plugins = PluginManager(self.plugins_config())
        self.report([])
        self.again()

    def plugins_config(self) -> PluginsConfig:
        return replace(
            Config().plugins, directory=str(self.folder / "plugins"), enabled=("cards",), max_failures=100
        )

    def again(self) -> None:
        """As after a crash: what was not on disk is gone."""
        self.world.reopen()
        self.crediting = Crediting(self.world.ledger, self.plugins)

    def report(self, events: list[dict[str, Any]]) -> None:
        (self.folder / "events").write_text(json.dumps(events))

    def chain(self) -> dict[str, int]:
        file = self.folder / "chain"
        sent = json.loads(file.read_text()) if file.exists() else {}
        return {key: asked["amount"] for key, asked in sent.items()}

    def statuses(self) -> dict[str, str]:
        return {c.reference: d.status for c, d in self.world.ledger.card_payments(ANN) if d is not None}


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    made = Desk(tmp_path)
    await made.plugins.load()
    yield made
    await made.plugins.close()
    made.world.sound()
    made.world.ledger.close()


async def test_each_payment_is_deposited_once_whatever_fails(desk: Desk) -> None:
    desk.report([payment(n) for n in range(1, 6)])
    assert desk.crediting.wanted
    with trio.fail_after(30):
        while set(desk.statuses().values()) != {"final"}:
            await desk.crediting.look()
            desk.again()
    assert desk.chain() == {f"cards/r{n}": 1000 + n for n in range(1, 6)}


async def test_a_reversal_is_taken_over_and_nothing_is_sent_again(desk: Desk) -> None:
    desk.report([payment(1)])
    for _ in range(4):
        await desk.crediting.look()
    desk.report([payment(2, "reversed", reference="r1", credits=1001, reversed=1001)])
    await desk.crediting.look()
    [(card, deposit)] = desk.world.ledger.card_payments(ANN)
    assert deposit is not None
    assert (card.state, card.reversed, deposit.status) == ("reversed", 1001, "final")
    assert desk.chain() == {"cards/r1": 1001}
    assert desk.world.balance(f"chargeback:{address(ANN)}") == 1001


async def test_a_call_is_no_reason_to_pass_over_what_came_before(desk: Desk) -> None:
    desk.report([payment(1)])
    found = await desk.plugins.first("payment_webhook", method="cards", headers={}, body=b"", source="")
    assert found is not None
    await desk.crediting.called(found.plugin, found.value)
    assert desk.crediting.hurry.is_set()
    assert desk.world.ledger.card_payments(ANN) == []
    await desk.crediting.look()
    assert desk.statuses() == {"cards/r1": "pending"}


async def test_what_can_never_be_sent_is_refused_and_the_rest_is_not_kept_waiting(desk: Desk) -> None:
    nobody = bytes(20)
    desk.report([payment(1, owner=address(nobody)), payment(2)])
    for _ in range(4):
        await desk.crediting.look()
    [(_, deposit)] = desk.world.ledger.card_payments(nobody)
    assert deposit is not None
    assert (deposit.status, "Nobody" in deposit.detail) == ("refused", True)
    assert desk.statuses() == {"cards/r2": "final"}


async def test_nothing_is_sent_while_the_books_are_not_sound(desk: Desk) -> None:
    desk.report([payment(1)])
    desk.world.ledger.distrust(["something"])
    await desk.crediting.look()
    assert desk.statuses() == {"cards/r1": "waiting"}
    assert desk.chain() == {}
