"""`decentraspace domains`, as somebody with a site and a name uses it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import KEY, WALLET, Result, ServedNode
from tests.names.knot import ZONE, Knot, knot

Run = Callable[..., Result]
NAME = f"shop.{ZONE}"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Knot]:
    with knot(tmp_path_factory.mktemp("knot")) as running:
        yield running


@pytest.fixture
def site(serve: Callable[..., ServedNode], server: Knot, run: Run, tmp_path: Path) -> ServedNode:
    """A node with a deployed site, and somebody who is logged in."""
    served = serve(names={"nameservers": [server.server], "timeout": 20.0})
    assert run("login", "--node", served.url, "--key-stdin", stdin=KEY).code == 0
    (tmp_path / "public").mkdir()
    (tmp_path / "public" / "index.html").write_text("<p>hello")
    done = run("deploy", tmp_path / "public", "--site", "my-site")
    assert done.code == 0, done.err
    return served


def test_linking_a_name_in_plain_words(site: ServedNode, server: Knot, run: Run) -> None:
    assert run("domains", "list").out == "You have no names linked.\n"
    waiting = run("domains", "link", NAME.upper(), "my-site")
    assert waiting.code == 0, waiting.err
    assert f"{NAME} is linked to my-site--" in waiting.out
    assert f"TXT    _decentraspace.{NAME}  decentraspace-owner={WALLET.lower()}" in waiting.out
    assert "does not see it yet" in waiting.out

    server.set("_decentraspace.shop", f"decentraspace-owner={WALLET}", ttl=0)
    server.set("shop", "203.0.113.7", kind="A")
    shown = run("domains", "status", NAME)
    assert shown.out.startswith(f"{NAME} shows my-site--")
    assert "sees it" in shown.out
    assert run("domains", "status", NAME, "--json").json["state"] == "linked"
    assert "linked" in run("domains", "list").out

    again = run("domains", "link", NAME, "my-site", "--json")
    assert again.json["number"] == 2
    gone = run("domains", "unlink", NAME)
    assert gone.out == f"{NAME} shows your site no longer, at any node within moments.\n"
    assert run("domains", "status", NAME, "--json").json["state"] == "unlinked"


def test_what_cannot_be(site: ServedNode, server: Knot, run: Run, tmp_path: Path) -> None:
    for arguments, said in [
        (("link", NAME, "missing"), "No site missing is known here."),
        (("link", "not a name", "my-site"), "cannot be a name"),
        (("link", "x.localhost", "my-site"), "a name of this gateway's own"),
        (("unlink", f"never.{ZONE}"), f"You have not linked never.{ZONE}."),
        (("set-records", NAME, "my-site"), "is not JSON"),
    ]:
        failed = run("domains", *arguments)
        assert (failed.code, failed.out) == (2, ""), arguments
        assert said in failed.err
        assert failed.err.startswith("error: ")
    (tmp_path / "me.json").write_bytes(b'{"given": "J\xf6rg"}')  # not UTF-8
    failed = run("domains", "buy", NAME, "--contact", tmp_path / "me.json")
    assert (failed.code, failed.err) == (2, f"error: {tmp_path / 'me.json'} is not JSON.\n")
    refused = run("domains", "set-records", NAME, "my-site", stdin='{"key": "secret"}')
    assert "No plugin of this node enters records" in refused.err
    server.set("_decentraspace.theirs", "decentraspace-owner=0x" + "12" * 20, ttl=0)
    refused = run("domains", "link", f"theirs.{ZONE}", "my-site")
    assert "belongs to somebody else" in refused.err
    alike = run("domains", "status", "\u0430pple.example")
    assert "looks like apple.example" in alike.out
