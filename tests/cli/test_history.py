"""Rolling back in a long history, and labels that look like site ids."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from eth_account import Account

from decentraspace.content import cid as cids
from decentraspace.records.codec import record_cid
from decentraspace.records.schema import site_id
from tests.cli.conftest import KEY, WALLET, Result, ServedNode
from tests.records.factory import make_session, make_site, take

Run = Callable[..., Result]


def test_rolling_back_beyond_a_page(run: Run, logged_in: ServedNode, site: Path) -> None:
    first = run("deploy", site, "--json").json
    node, wallet = logged_in.node, Account.from_key(KEY)
    session = make_session(wallet, node.rules, issued_at=int(time.time()))
    shown = cids.make(cids.RAW, b"shown 120 times")
    node.blocks.put_many([(shown, b"shown 120 times")])
    prev = cids.parse(first["manifest"])
    for seq in range(2, 122):
        record = make_site(
            wallet, session, node.rules, label="my-site", seq=seq, prev=prev, root=shown, size=15
        )
        node.records.add(take(record, node.key), now=int(time.time()))
        prev = record_cid(record)
    login = run("login", "--node", logged_in.url, "--key-stdin", "--json", stdin=KEY)
    assert login.code == 0, login.err
    page = run("status", "my-site", "--json").json
    assert (page["seq"], page["history"][-1]["seq"], page["next"]) == (121, 22, "22")

    back = run("rollback", "my-site", "--json")
    assert back.code == 0, back.err
    assert (back.json["seq"], back.json["root"]) == (122, first["root"])
    again = run("rollback", "my-site", 2, "--json")
    assert again.code == 0, again.err
    assert again.json["root"] == cids.to_text(shown)
    assert run("rollback", "my-site", 1, "--json").json["root"] == first["root"]
    assert "no version 500 of my-site" in run("rollback", "my-site", 500).err


def test_a_label_of_sixteen_letters(run: Run, logged_in: ServedNode, site: Path) -> None:
    label = "abcdefghijklmnop"
    assert run("deploy", site, "--site", label, "--json").code == 0
    found = run("status", label, "--json").json
    assert (found["label"], found["site"]) == (label, site_id(bytes.fromhex(WALLET[2:]), label))
    assert run("status", found["site"], "--json").json["label"] == label
    assert run("status", "ponmlkjihgfedcba").code == 2
