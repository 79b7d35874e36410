"""Session keys as people meet them: which is in use, which signed what, which may be taken back."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from eth_account import Account

from decentraspace.cli.sites import still_shown
from decentraspace.identity import didkey
from decentraspace.records.schema import site_id
from tests.cli.conftest import KEY, WALLET, Result, ServedNode
from tests.cli.test_publishing import words

Run = Callable[..., Result]


def login(run: Run, node: ServedNode, *more: str, **variables: str) -> Result:
    done = run("login", "--node", node.url, "--key-stdin", "--json", *more, stdin=KEY, **variables)
    assert done.code == 0, done.err
    return done


def test_a_lost_key_can_be_found_and_revoked(
    run: Run, logged_in: ServedNode, site: Path, environment: dict[str, str]
) -> None:
    assert run("deploy", site, "--json").json["seq"] == 1
    before = run("status", "my-site", "--json").json
    lost = before["history"][0]["key"]
    assert lost.startswith("did:key:z6Mk")
    assert f"{lost}  1  (this login)" in run("status", "my-site").out
    assert "the session in use" in words(run("revoke", lost))
    assert run("status", "my-site", "--json").json["seq"] == 1

    second = int(time.time())
    while int(time.time()) == second:  # logins are dated to the second, and only a newer one may revoke
        time.sleep(0.02)
    text = run("login", "--node", logged_in.url, "--key-stdin", stdin=KEY).out
    assert f"It replaces the session key {lost}" in text
    assert f"decentraspace revoke {lost}" in text
    assert f"{lost}  1\n" in run("status", "my-site").out
    done = run("revoke", lost)
    assert done.code == 0, done.err
    assert "my-site is offline" in done.out
    assert run("status", "my-site").code == 2


def test_a_revoked_session_is_told_to_log_in(
    run: Run, logged_in: ServedNode, site: Path, tmp_path: Path
) -> None:
    assert run("deploy", site, "--json").code == 0
    lost = run("status", "my-site", "--json").json["history"][0]["key"]
    second = int(time.time())
    while int(time.time()) == second:
        time.sleep(0.02)
    other = str(tmp_path / "laptop")
    login(run, logged_in, DECENTRASPACE_HOME=other)
    assert run("revoke", lost, DECENTRASPACE_HOME=other).code == 0
    line = words(run("deploy", site))
    assert "session key was revoked" in line
    assert "decentraspace login" in line


def test_a_session_that_others_can_read_is_refused(
    run: Run, logged_in: ServedNode, environment: dict[str, str]
) -> None:
    path = Path(environment["DECENTRASPACE_HOME"]) / "session.json"
    path.chmod(0o644)
    line = words(run("sites"))
    assert f"Run: chmod 600 {path}." in line
    path.chmod(0o600)
    assert run("sites").code == 0


def test_a_scope_by_label_id_or_host(run: Run, served: ServedNode) -> None:
    own = site_id(bytes.fromhex(WALLET[2:]), "blog")
    for scope in ("blog", own, f"blog--{own}"):
        assert login(run, served, "--scope", scope).json["scope"] == own
    refused = run("login", "--node", served.url, "--key-stdin", "--scope", "blog--" + "a" * 16, stdin=KEY)
    assert "is no site of the wallet" in refused.err


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("0x" + "00" * 32, "it is 0, or beyond"),
        ("0x" + "ff" * 32, "it is 0, or beyond"),
        ("0x12", "it has 2 characters"),
        ("zz" * 32, "not all of them such digits"),
    ],
)
def test_what_is_wrong_with_a_key(run: Run, served: ServedNode, key: str, said: str) -> None:
    assert said in words(run("login", "--node", served.url, "--key-stdin", stdin=key + "\n"))


def test_what_is_wrong_with_a_keystore(run: Run, served: ServedNode, tmp_path: Path) -> None:
    path = tmp_path / "wallet.json"
    for text, said in (
        (json.dumps(Account.encrypt(KEY, "open sesame", iterations=2)), "wrong passphrase"),
        ("{}", "no keystore of version 3"),
        ("no json", "it is not JSON"),
    ):
        path.write_text(text)
        line = words(run("login", "--node", served.url, "--keystore", path, "--key-stdin", stdin="wrong\n"))
        assert said in line


@pytest.mark.parametrize(("answer", "code"), [("n", 130), ("y", 0)])
def test_a_terminal_is_asked_before_signing(
    served: ServedNode, environment: dict[str, str], answer: str, code: int
) -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "decentraspace", "login", "--node", served.url],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=environment,
        start_new_session=True,
    )
    os.close(theirs)
    seen = b""

    def until(text: bytes) -> None:
        nonlocal seen
        while text not in seen:
            ready, _, _ = select.select([ours], [], [], 60)
            assert ready, seen
            seen += os.read(ours, 4096)

    until(b"private key")
    os.write(ours, KEY.encode() + b"\n")
    until(b"Sign it?")
    assert b"wants you to sign in" in seen
    assert KEY.encode() not in seen
    os.write(ours, answer.encode() + b"\n")
    assert process.wait(60) == code
    os.close(ours)
    assert (Path(environment["DECENTRASPACE_HOME"]) / "session.json").exists() == (code == 0)


def test_operators_set_tiers(run: Run, serve: Callable[..., ServedNode], site: Path, tmp_path: Path) -> None:
    node = serve(node={"admins": [WALLET]})
    guest = str(tmp_path / "guest")
    done = run(
        "login", "--node", node.url, "--key-stdin", "--json", stdin="0x" + "11" * 32, DECENTRASPACE_HOME=guest
    )
    address = done.json["owner"]
    assert "in the free tier" in run("tier", DECENTRASPACE_HOME=guest).out
    assert run("tier", address, "paid", DECENTRASPACE_HOME=guest).code == 2, "no operator"
    login(run, node)
    assert run("tier", address.lower(), "paid", "--json").json["tier"] == "paid"
    assert "Sites  0 of 100" in run("tier", DECENTRASPACE_HOME=guest).out
    assert run("tier", address, "--json").json["owner"] == address
    assert "0x12" in words(run("tier", "0x12", "paid"))


def versions(roots: str) -> list[dict[str, object]]:
    return [{"seq": number, "root": root} for number, root in enumerate(roots, 1)]


@pytest.mark.parametrize(
    ("roots", "seq"),
    [
        ("A", None),
        ("AA", None),
        ("AB", 1),
        ("ABC", 2),
        ("ABCB", 1),
        ("ABCBA", None),
        ("ABCBD", 2),
        ("ABCBDB", 1),
        ("ABCC", 2),
        ("ABACA", None),
        ("ABAB", 1),
    ],
)
def test_rolling_back_goes_back_and_back(roots: str, seq: int | None) -> None:
    trail = still_shown(versions(roots))
    assert trail[-1]["root"] == roots[-1]
    assert (trail[-2]["seq"] if len(trail) > 1 else None) == seq


def test_a_site_with_one_version_has_nothing_to_go_back_to(
    run: Run, logged_in: ServedNode, site: Path
) -> None:
    run("deploy", site)
    for arguments in (("my-site",), ("my-site", 2)):
        line = words(run("rollback", *arguments))
        assert "no version but the one it shows" in line
        assert "SEQ" not in line


def test_rolling_back_several_steps(run: Run, logged_in: ServedNode, site: Path) -> None:
    roots = []
    for text in ("one", "two", "three"):
        (site / "index.html").write_text(text)
        roots.append(run("deploy", site, "--json").json["root"])
    first = run("rollback", "my-site").out
    assert first.startswith("Version 4 of my-site shows what version 2 showed.")
    assert first.endswith(" `decentraspace rollback my-site` goes one step further back.\n")
    done = run("rollback", "my-site", "--json").json
    assert (done["root"], done["changed"]) == (roots[0], True)
    assert "rollback my-site SEQ" in words(run("rollback", "my-site"))
    forward = run("rollback", "my-site", 3)
    assert "shows what version 3 showed" in forward.out
    assert "further back" not in run("rollback", "my-site").out, "there is no older one"
    same = run("rollback", "my-site", 1, "--json").json
    assert (same["changed"], same["root"]) == (False, roots[0])


def test_an_unknown_site_is_named_as_it_was(run: Run, logged_in: ServedNode) -> None:
    assert "No site nosuchsite is known here. `decentraspace sites`" in words(run("status", "nosuchsite"))
    assert "with channel pr-1" in words(run("status", "nosuchsite", "--channel", "pr-1"))


def test_a_site_keeps_showing_what_other_keys_had_signed(run: Run, logged_in: ServedNode, site: Path) -> None:
    """The newest version builds on one of the revoked key, and would be void with it."""
    assert run("deploy", site, "--json").code == 0
    lost = run("status", "my-site", "--json").json["history"][0]["key"]
    second = int(time.time())
    while int(time.time()) == second:
        time.sleep(0.02)
    login(run, logged_in)
    (site / "index.html").write_text("<h1>by the new key</h1>")
    newest = run("deploy", site, "--json").json
    assert newest["seq"] == 2
    done = run("revoke", lost, "--json")
    assert done.code == 0, done.err
    [kept] = done.json["sites"]
    assert (kept["label"], kept["root"], kept["published"]) == ("my-site", newest["root"], True)
    assert run("status", "my-site", "--json").json["root"] == newest["root"]


def newer_login(run: Run, node: ServedNode) -> None:
    """One that is newer than all before: they are dated to the second."""
    second = int(time.time())
    while int(time.time()) == second:
        time.sleep(0.02)
    login(run, node)


@pytest.mark.parametrize("restored", [False, True])
def test_what_a_revoked_key_had_revoked_stays_so_unless_told_otherwise(
    run: Run, logged_in: ServedNode, site: Path, restored: bool
) -> None:
    assert run("deploy", site, "--json").code == 0
    first = run("status", "my-site", "--json").json["history"][0]["key"]
    newer_login(run, logged_in)
    (site / "index.html").write_text("<h1>by the second key</h1>")
    assert run("deploy", site, "--json").code == 0
    assert run("revoke", first).code == 0
    second = run("status", "my-site", "--json").json["history"][0]["key"]
    assert second != first
    newer_login(run, logged_in)
    done = run("revoke", second, "--json", *(["--restore"] if restored else []))
    assert done.code == 0, done.err
    again = [] if restored else [{"key": first, "site": None, "after": 0}]
    assert done.json["renewed"] == again
    raw = [key for key in (first, second) if is_revoked(logged_in, key)]
    assert raw == ([second] if restored else [first, second])


def is_revoked(node: ServedNode, key: str) -> bool:
    owner = bytes.fromhex(WALLET[2:])
    return node.node.records.is_revoked(owner, didkey.decode(key), 0)
