"""A running node with a plugin that settles: use is charged and settled, a depleted owner's site answers 402, and comes
back after a recharge; without the plugin nothing of that happens."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from eth_account import Account

from decentraspace.config import Config
from decentraspace.ledger import verify
from decentraspace.ledger.clock import HOUR, Moment
from decentraspace.ledger.inspect import inspect
from decentraspace.ledger.store import Ledger
from decentraspace.ledger.usage import Total
from tests.ledger.world import OPERATOR, VAULT, hash_of, owner_of, site_of
from tests.node.running import RunningNode
from tests.node.test_announcing import announced

PLUGIN = '''
"""A chain in a folder: `events.json` is what is final there, `settled.json` what was offered."""

import json

from decentraspace import hookimpl

CHAIN, VAULT, OPERATOR = 31337, "0x" + "fa" * 20, "0x" + "0b" * 20


def read(path, default):
    return json.loads(path.read_text()) if path.exists() else default


def write(path, value):
    path.with_suffix(".new").write_text(json.dumps(value))
    path.with_suffix(".new").replace(path)


@hookimpl
async def chain_status(node):
    return {"chain": CHAIN, "operator": OPERATOR, "vault": VAULT}


@hookimpl
async def chain_events(from_block, node):
    events = [e for e in read(node.data_dir / "events.json", []) if e["block"] >= from_block]
    return {"chain": CHAIN, "next_block": max([from_block, *(e["block"] + 1 for e in events)]), "events": events}


@hookimpl
async def ledger_settle(charges, root, node):
    settled = read(node.data_dir / "settled.json", {})
    settled.setdefault(root, charges)
    write(node.data_dir / "settled.json", settled)
    return [
        {"allocation": c["allocation"], "owner": c["owner"], "credits": c["credits"], "reference": root,
         "status": "final"}
        for c in charges
    ]


@hookimpl
def credit_depleted(owner, needed, node):
    node.log.info("told_of_depletion", owner=owner)


@hookimpl
def service_paused(owner, service, site, node):
    node.log.info("told_of_pause", owner=owner, service=service, site=site)
'''

ANN = owner_of(1)


def allocation(owner: str, number: int) -> dict[str, Any]:
    now = int(time.time())
    return {
        "block": number,
        "block_hash": hash_of("block", number),
        "time": now,
        "transaction": hash_of("transaction", number),
        "index": 0,
        "kind": "allocated",
        "owner": owner,
        "operator": OPERATOR,
        "allocation": hash_of(owner, number),
        "id": number,
        "cap": 50_000_000,
        "rate": 0,
        "start": now - 86400,
        "expires": now + 86400 * 30,
    }


class Chain:
    """The plugin's folder."""

    def __init__(self, data: Path, plugin: Path) -> None:
        plugin.mkdir(parents=True)
        (plugin / "chain.py").write_text(PLUGIN)
        self.folder = data / "plugins" / "chain"
        self.folder.mkdir(parents=True)
        self.events: list[dict[str, Any]] = []

    def add(self, event: dict[str, Any]) -> None:
        self.events.append(event)
        fresh = self.folder / "events.new"
        fresh.write_text(json.dumps(self.events))
        fresh.replace(self.folder / "events.json")

    def settled(self) -> dict[str, list[dict[str, Any]]]:
        path = self.folder / "settled.json"
        return dict(json.loads(path.read_text())) if path.exists() else {}


def used_some_hours_ago(data: Path, chain: Chain) -> None:
    """What a node would have left that ended in the middle of an hour."""
    data.mkdir(mode=0o700, exist_ok=True)
    then = int(time.time()) - 3 * HOUR
    ledger = Ledger(data / "ledger.sqlite", Config())
    ledger.bind(31337, VAULT, OPERATOR)
    ledger.take_events({"chain": 31337, "next_block": 0, "events": chain.events})
    ledger.tick(Moment(then, 5, "an earlier boot"))
    ledger.take_usage([Total(site_of(1), then // HOUR, 7_000_000, 0)], {site_of(1): ANN})
    ledger.close()


def cli(node: RunningNode, home: Path, *arguments: object, stdin: str = "") -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "decentraspace", *map(str, arguments), "--json"],
        env={**node.environment, "DECENTRASPACE_HOME": str(home)},
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.slow
def test_a_node_that_bills(tmp_path: Path) -> None:
    data, plugins, home = tmp_path / "data", tmp_path / "plugins", tmp_path / "home"
    chain = Chain(data, plugins)
    chain.add(allocation("0x" + ANN.hex(), 1))
    used_some_hours_ago(data, chain)
    settings = {
        "PLUGINS_DIRECTORY": str(plugins),
        "BILLING_TICK": "0.2",
        "BILLING_SETTLE_CHECK": "0.2",
        "BILLING_REQUESTS_PRICE": "1000000",
        "BILLING_SETTLE_LEAST": "1",
        "LIMITS_FREE_REQUESTS": "20",
    }
    key = secrets.token_hex(32)
    wallet = str(Account.from_key(key).address)
    site = tmp_path / "site"
    site.mkdir()
    (site / "index.html").write_text("<p>here")

    with RunningNode(tmp_path, **settings) as node:
        # What was used before the node was started is charged, and settled once.
        [(root, charges)] = node.until(chain.settled).items()
        assert [(c["owner"], c["credits"], c["id"]) for c in charges] == [("0x" + ANN.hex(), 5_000_000, 1)]
        node.until(lambda: "settlement_answered" in node.log())
        node.until(lambda: announced(node).prices.get("requests") == 1_000_000)

        cli(node, home, "login", "--node", node.url, "--key-stdin", stdin=key)
        host = httpx.URL(cli(node, home, "deploy", site, "--site", "paid")["urls"]["site"]).host

        def visit() -> httpx.Response:
            return httpx.get(
                f"http://127.0.0.1:{node.gateway}/", headers={"host": host}, trust_env=False, timeout=10
            )

        assert visit().text == "<p>here"
        for _ in range(20):
            visit()
        refused = node.until(lambda: (answer := visit()).status_code == 402 and answer)
        assert refused.headers["cache-control"] == "no-store"
        node.until(lambda: "told_of_depletion" in node.log() and "told_of_pause" in node.log())
        chain.add(allocation(wallet, 2))
        node.until(lambda: visit().status_code == 200)
        assert inspect(data / "ledger.sqlite") == []

    assert list(chain.settled()) == [root]
    ledger = Ledger(data / "ledger.sqlite", Config())
    document = ledger.statement(bytes.fromhex(root[2:]), bytes.fromhex(charges[0]["allocation"][2:]))
    ledger.close()
    assert verify.check(document).credits == 5_000_000
    assert document["status"] == "final"

    chain.add({**allocation(wallet, 2), "block": 3, "index": 1, "cap": 0})
    del settings["PLUGINS_DIRECTORY"]
    with RunningNode(tmp_path, **settings) as node:
        for _ in range(40):
            assert visit_ok(node, host)
        assert announced(node).prices == {}


def visit_ok(node: RunningNode, host: str) -> bool:
    url = f"http://127.0.0.1:{node.gateway}/"
    return httpx.get(url, headers={"host": host}, trust_env=False, timeout=10).status_code == 200
