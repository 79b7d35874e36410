"""`decentraspace credits`, `renew`, `users`, `suspend` and `restore` against a node in a process of its own."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from decentraspace.cli.amounts import credits_of, words_of
from tests.cli.conftest import KEY, WALLET, Result, ServedNode
from tests.records.factory import address_of, make_wallet

Run = Callable[..., Result]
OPERATOR, VAULT = "0x" + 40 * "b", "0x" + 40 * "a"


@pytest.mark.parametrize(
    ("text", "credits"),
    [("250000", 250_000), ("5usd", 5_000_000), ("0.25 USD", 250_000), ("1,000", 1000), ("0.000001usd", 1),
     ("9007199254.740991usd", 2**53 - 1)],
)  # fmt: skip
def test_amounts_are_exact(text: str, credits: int) -> None:
    assert credits_of(text) == credits


@pytest.mark.parametrize(
    "text", ["", "-1", "1.5", "1e3", "0.0000001usd", "5eur", "9007199254740992", "\u0663", "1..2usd"]
)
def test_what_is_no_amount_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        credits_of(text)


def test_amounts_are_said_in_dollars() -> None:
    assert words_of(5_250_000) == "5250000 credits (5.25 USD)"
    assert words_of(1) == "1 credits (0.000001 USD)"
    assert words_of(-3_000_000) == "-3000000 credits (-3.00 USD)"


def bill(node: ServedNode) -> None:
    """It charges, and the wallet has granted it 5 USD, as final events say."""
    ledger, now = node.node.ledger, int(time.time())
    ledger.bind(31337, VAULT, OPERATOR)
    event = {
        "block": 1, "block_hash": "0x" + 64 * "1", "time": now, "transaction": "0x" + 64 * "2", "index": 0,
        "kind": "allocated", "owner": WALLET, "operator": OPERATOR, "allocation": "0x" + 64 * "7",
        "id": 7, "cap": 5_000_000, "rate": 0, "start": now - 60, "expires": now + 86400,
    }  # fmt: skip
    ledger.take_events({"chain": 31337, "next_block": 2, "events": [event]})


def test_what_was_used_and_paid_is_shown(run: Run, logged_in: ServedNode) -> None:
    bill(logged_in)
    owner, ledger = bytes.fromhex(WALLET[2:]), logged_in.node.ledger
    ledger.deduct("one", owner, "names", credits=300_000)
    paid = {"owner": WALLET, "credits": 2_000_000, "held_until": 2**32}
    ledger.take_payment("cards", {"status": "done", "reference": "r1", **paid})
    found = run("credits", "balance", "--json").json
    assert (found["room"], found["held"]) == (4_700_000, 2_000_000)
    [card] = found["cards"]
    assert (card["reference"], card["state"], card["deposit"]) == ("cards/r1", "held", "waiting")
    said = run("credits").out
    assert "4700000 credits (4.70 USD)" in said
    assert "Held until 2106-02-07: the payer can call it back" in said
    ledger.close_hours(int(time.time()) // 3600, int(time.time()))
    [row] = csv.DictReader(io.StringIO(run("credits", "history", "--csv").out))
    assert (row["service"], row["credits"]) == ("names", "300000")
    assert run("credits", "history", "--json").json["uses"][0]["credits"] == 300_000
    assert "No statement" in run("credits", "statements").out
    assert run("credits", "statements", "0x" + 64 * "1").code == 2


def test_a_node_without_a_chain_says_so(run: Run, logged_in: ServedNode) -> None:
    assert "charges nothing" in run("credits", "methods").out
    for words in (("recharge", "5usd"), ("grant", "5usd"), ("end", "7"), ("withdraw", "1usd")):
        done = run("credits", *words)
        assert (done.code, done.out) == (2, "")
        assert "charges nothing" in done.err
    assert run("credits", "recharge", "five").code == 2
    done = run("credits", "end", "7", "--key-stdin", stdin=KEY)
    assert (done.code, "--rpc" in done.err) == (2, True)
    done = run("credits", "grant", "5usd", "--rpc", "http://127.0.0.1:9")
    assert (done.code, "--key-stdin" in done.err) == (2, True)
    other = "0x" + 63 * "0" + "1"
    done = run("credits", "grant", "5usd", "--key-stdin", "--rpc", "http://127.0.0.1:9", stdin=other)
    assert (done.code, "The key is of" in done.err) == (2, True)
    assert run("credits", "withdraw", "1usd", "--cancel").code == 2


def test_a_sites_limit_and_its_time(run: Run, logged_in: ServedNode, site: Path) -> None:
    assert run("deploy", site, "--site", "blog").code == 0
    assert run("credits", "limit", "blog", "5usd", "--json").json["monthly_cap"] == 5_000_000
    default = logged_in.node.config.billing.site_monthly_cap
    assert run("credits", "limit", "blog", "default", "--json").json["monthly_cap"] == default
    assert run("credits", "limit", "blog", "much").code == 2
    assert run("renew", "blog", "--json").json["state"] == "active"
    assert run("renew", "none").code == 2


def test_administrators_suspend_and_restore(run: Run, serve: Callable[..., Any]) -> None:
    node = serve(node={"admins": [WALLET]})
    assert run("login", "--node", node.url, "--key-stdin", stdin=KEY).code == 0
    other = "0x" + address_of(make_wallet()).hex()
    assert run("suspend", other, "--json").json["suspended"]
    assert "suspended" in run("users").out
    assert not run("restore", other, "--json").json["suspended"]
    listed = run("users", "--json").json["users"]
    assert {u["owner"].lower(): u["suspended"] for u in listed}[other] is False
    assert run("suspend", WALLET).code == 2
    assert run("suspend", "nobody").code == 2
