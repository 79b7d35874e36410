"""`decentraspace block` and `reports`, run as an operator does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import httpx

from decentraspace.content import cid as cids
from tests.cli.conftest import KEY, WALLET, Result, ServedNode, environment, run, serve

__all__ = ["environment", "run", "serve"]
CID = cids.to_text(cids.make(cids.RAW, b"x"))
Run = Callable[..., Result]


def test_an_operators_day(serve: Callable[..., ServedNode], run: Run, tmp_path: Path) -> None:
    lists = tmp_path / "ours.deny"
    lists.write_text(f"name: Ours\n---\n/ipfs/{CID}\nnonsense\n")
    served = serve(node={"admins": (WALLET,)}, moderation={"denylists": (str(lists),)})
    assert run("login", "--node", served.url, "--key-stdin", "--yes", stdin=KEY).code == 0

    report = {"cid": CID, "category": "malware", "text": "two\nlines"}
    assert httpx.post(served.url + "/moderation/reports/", json=report, trust_env=False).status_code == 200
    listed = run("reports")
    assert f"malware\n  {CID}\n  two\n  lines\n" in listed.out

    done = run("block", "add", "--cid", CID, "--status", "451", "--reason", "It is malware")
    assert (done.code, done.out) == (0, f"Blocked (451): cid {CID}\n"), done.err
    same = run("block", "add", "--cid", CID, "--status", "451", "--reason", "It is malware").out
    assert same.startswith("Blocked already, nothing changed: decision 1 of ")
    assert same.endswith(" (451), It is malware\n")
    run("block", "add", "--owner", WALLET, "--hidden")
    assert run("reports", "close", "1", "Blocked").out == "Report 1 is closed.\n"
    assert run("reports", "list").out == "No reports.\n"
    assert run("reports", "list", "--closed", "--json").json["reports"][0]["decision"] == "Blocked"

    text = run("block", "list").out
    assert CID in text
    assert "Denylist Ours: 1 rules, 1 lines are no rules\n  line 4: " in text
    assert [b["status"] for b in run("block", "--json").json["blocks"]] == [451, 410]

    verified = run("block", "log", "--verify", served.url, "--json").json
    assert verified["entries"] == 2
    assert run("block", "rm", "1", "--reason", "mistaken").code == 0
    log = run("block", "log").out
    assert "unblock" in log
    assert WALLET not in log
    again = run("block", "log", "--verify", served.url, "--known", verified["head"])
    assert again.code == 0
    assert again.out.startswith("3 entries, all signed by " + verified["peer_id"])
    lost = run("block", "log", "--verify", served.url, "--known", "00" * 32)
    assert lost.code == 2
    assert "cut off or rewritten" in lost.err


def test_a_decision_that_replaces_another_shows_both(serve: Callable[..., ServedNode], run: Run) -> None:
    served = serve(node={"admins": (WALLET,)})
    assert run("login", "--node", served.url, "--key-stdin", "--yes", stdin=KEY).code == 0
    run("block", "add", "--cid", CID)
    lines = run("block", "add", "--cid", CID, "--status", "451", "--reason", "Order 17").out.splitlines()
    assert lines[0] == f"Blocked (451): cid {CID}"
    assert lines[1].startswith("Before: decision 1 of ")
    assert lines[1].endswith(" (410), no reason given")
    assert lines[2].startswith("Now:    decision 2 of ")
    assert lines[2].endswith(" (451), Order 17")
    assert [b["id"] for b in run("block", "--json").json["blocks"]] == [2]


def test_a_list_says_what_denylists_hold(serve: Callable[..., ServedNode], run: Run, tmp_path: Path) -> None:
    served = serve(node={"admins": (WALLET,)})
    assert run("login", "--node", served.url, "--key-stdin", "--yes", stdin=KEY).code == 0
    assert run("block", "list").out == "Nothing is blocked.\n"
    lists = tmp_path / "ours.deny"
    lists.write_text(f"name: Ours\n---\n/ipfs/{CID}\n")
    second = serve(node={"admins": (WALLET,)}, moderation={"denylists": (str(lists),)})
    assert run("login", "--node", second.url, "--key-stdin", "--yes", stdin=KEY).code == 0
    assert run("block", "list").out == (
        "No decisions of your own. What the denylists name is blocked.\nDenylist Ours: 1 rules\n"
    )


def test_owners_are_told_that_their_site_is_blocked(
    serve: Callable[..., ServedNode], run: Run, tmp_path: Path
) -> None:
    served = serve(node={"admins": (WALLET,)})
    assert run("login", "--node", served.url, "--key-stdin", "--yes", stdin=KEY).code == 0
    (tmp_path / "blog").mkdir()
    (tmp_path / "blog" / "index.html").write_text("hello")
    site = run("deploy", tmp_path / "blog", "--json").json
    assert "locked" not in run("status", "blog").out + run("sites").out
    assert run("status", "blog", "--json").json["blocked"] is None
    done = run("block", "add", "--site", site["site"], "--status", "451", "--reason", "Order 17")
    assert done.code == 0, done.err
    said = (
        f"Blocked at this node, visitors are answered 451: Site {site['site']} is blocked by this node's "
        "operator: Order 17.\n"
    )
    assert said in run("status", "blog").out
    assert "blog (production): " + said in run("sites").out
    assert run("sites", "--json").json["sites"][0]["blocked"]["by"] == "operator"


def test_what_is_wrong_is_said(serve: Callable[..., ServedNode], run: Run) -> None:
    served = serve()
    assert run("login", "--node", served.url, "--key-stdin", "--yes", stdin=KEY).code == 0
    for arguments in (
        ("block", "add"),
        ("block", "add", "--cid", CID, "--site", "x"),
        ("block", "rm"),
        ("block", "--json", "list"),
        ("block", "log", "--known", "00"),
        ("block", "log", "--verify", served.url, "--known", "xyz"),
        ("block", "add", "--cid", CID),  # no administrator
        ("reports",),
    ):
        done = run(*arguments)
        assert done.code == 2, arguments
        assert "Traceback" not in done.err
