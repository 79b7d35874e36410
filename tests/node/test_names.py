"""Two nodes and a name server: a name that was linked at one works at the other, and only its owner's word counts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.gateway.served import Wire, until
from tests.names.knot import ZONE, Knot, knot
from tests.node.running import RunningNode, command

KEYS = ["0x" + "11" * 32, "0x" + "22" * 32]  # worth nothing
NAME = f"shop.{ZONE}"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Knot]:
    with knot(tmp_path / "knot") as running:
        yield running


@pytest.fixture
def nodes(server: Knot, tmp_path: Path) -> Iterator[tuple[RunningNode, RunningNode]]:
    settings = {
        "NAMES_NAMESERVERS": server.server,
        "NETWORK_ALLOW_PRIVATE": "yes",
        "NETWORK_SYNC_INTERVAL": "1",
        "GATEWAY_DOMAIN": "gate.example",
    }
    with RunningNode(tmp_path / "first", **settings) as first:
        listening = first.environment["DECENTRASPACE_NETWORK_LISTEN"]
        peer = httpx.get(f"{first.url}/readyz", trust_env=False).json()["peer_id"]
        bootstrap = {"NETWORK_BOOTSTRAP": f"{listening}/p2p/{peer}"}
        with RunningNode(tmp_path / "second", **settings, **bootstrap) as second:
            yield first, second


class Owner:
    """Somebody at a machine of their own, with a wallet and a site."""

    def __init__(self, home: Path, node: RunningNode, key: str, text: str) -> None:
        self.home, self.node = home, node
        (home / "public").mkdir(parents=True)
        (home / "public" / "index.html").write_text(text)
        self.run("login", "--node", node.url, "--key-stdin", stdin=key)
        self.run("deploy", home / "public", "--site", "site")
        self.wallet = json.loads((home / "sessions" / "session.json").read_text())["owner"]

    def run(self, *arguments: object, stdin: str = "", code: int = 0) -> str:
        done = command(self.home, *arguments, stdin=stdin)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout if code == 0 else done.stderr

    def state(self) -> Any:
        return json.loads(self.run("domains", "status", NAME, "--json"))["state"]


def shown(node: RunningNode) -> bytes | int:
    """What a visitor of the name sees there: the page, or the status of the refusal."""
    with Wire(node.gateway) as wire:
        answer = wire.get(NAME)
    return answer.body if answer.status == 200 else answer.status


def prove(server: Knot, *owners: Owner) -> None:
    server.set("_decentraspace.shop", *(f"decentraspace-owner={o.wallet}" for o in owners), ttl=1)


@pytest.mark.slow
def test_a_name_linked_at_one_node_is_served_at_the_other(
    nodes: tuple[RunningNode, RunningNode], server: Knot, tmp_path: Path
) -> None:
    first, second = nodes
    owner = Owner(tmp_path / "owner", first, KEYS[0], "the owner's")
    stranger = Owner(tmp_path / "stranger", second, KEYS[1], "a stranger's")
    prove(server, owner)
    owner.run("domains", "link", NAME, "site")
    for node in nodes:
        until(lambda node=node: shown(node) == b"the owner's", 60)

    # A stranger is refused, where nobody linked it and where it was linked.
    for node in nodes:
        assert "belongs to somebody else" in stranger.run(
            "domains", "link", NAME, "site", "--node", node.url, code=2
        )
    certificate = httpx.get(f"{second.url}/domain/certificate/?domain={NAME}", trust_env=False)
    assert certificate.status_code == 200

    # Taken off at the one node, it is gone at the other, and its records are of no use to anybody else.
    owner.run("domains", "unlink", NAME, "--node", second.url)
    for node in nodes:
        until(lambda node=node: shown(node) == 404, 60)
    stranger.run("domains", "link", NAME, "site", code=2)

    # Sold: the new owner proves it, and that counts at every node at once.
    owner.run("domains", "link", NAME, "site")
    until(lambda: shown(second) == b"the owner's", 60)
    prove(server, stranger)
    stranger.run("domains", "link", NAME, "site")
    for node in nodes:
        until(lambda node=node: shown(node) == b"a stranger's", 60)
    assert owner.state() == "stranger"
