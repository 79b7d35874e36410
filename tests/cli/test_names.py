"""IPNS names from the command line: one per site, the same at every login, and only as many keys as are needed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import KEY, WALLET, Result, ServedNode

Run = Callable[..., Result]


@pytest.fixture
def site(tmp_path: Path) -> Path:
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "index.html").write_text("<h1>named")
    return folder


def login(run: Run, served: ServedNode, *options: str) -> dict[str, Any]:
    """The session file it leaves."""
    done = run("login", "--node", served.url, "--key-stdin", "--json", *options, stdin=KEY + "\n")
    assert done.code == 0, done.err
    found: dict[str, Any] = json.loads(Path(done.json["session"]).read_text())
    return found


def test_a_name_stays_over_logins_and_versions(run: Run, served: ServedNode, site: Path) -> None:
    wide = login(run, served)
    first = run("deploy", str(site), "--site", "named", "--json").json
    assert first["changed"]
    name = first["ipns"]["name"]
    # A login for one site has that site's key, and makes the same name.
    narrow = login(run, served, "--scope", "named")
    assert narrow["names"] not in ("", wide["names"])
    again = run("deploy", str(site), "--site", "named", "--json").json
    assert not again["changed"]
    assert again["ipns"]["name"] == name
    assert name in run("status", "named").out
    assert name in run("sites").out
    # Without names the site goes on, and its record is of the older version.
    assert login(run, served, "--no-names")["names"] == ""
    (site / "index.html").write_text("<h1>changed")
    unnamed = run("deploy", str(site), "--site", "named", "--json").json["ipns"]
    assert (unnamed["name"], unnamed["current"]) == (name, False)
    assert not run("deploy", str(site), "--site", "named", "--json").json["changed"]
    # The next deploy with names catches up, though nothing else has changed; another generation is another name.
    login(run, served)
    caught_up = run("deploy", str(site), "--site", "named", "--json").json
    assert caught_up["changed"]
    assert (caught_up["ipns"]["name"], caught_up["ipns"]["current"]) == (name, True)
    login(run, served, "--name-generation", "2")
    assert run("deploy", str(site), "--site", "named", "--json").json["ipns"]["name"] != name
    assert run("deploy", str(site), "--preview", "draft", "--site", "named", "--json").json["ipns"] is None


def test_what_the_wallet_signs_is_shown(run: Run, served: ServedNode) -> None:
    shown = run("login", "--node", served.url, "--key-stdin", stdin=KEY + "\n").err
    assert "make the keys of the IPNS names of my sites" in shown
    assert WALLET in shown
    without = run("login", "--node", served.url, "--key-stdin", "--no-names", stdin=KEY + "\n").err
    assert "IPNS" not in without
