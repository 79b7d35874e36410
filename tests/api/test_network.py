"""What operators see of the network: two real nodes that talk, asked over HTTP."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from bench.nodes import Node, Owner

DEADLINE = 60.0  # seconds


class Pair:
    """Two nodes, the second one connected to the first, whose operator is logged in at both."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.owner = Owner(folder / "home")
        address = self.owner.address
        self.first = Node(folder / "one", operator=address)
        stack.enter_context(self.first)
        self.second = Node(folder / "two", bootstrap=[self.first.address], operator=address)
        stack.enter_context(self.second)
        self.owner.log_in(self.second)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    with ExitStack() as stack:
        yield Pair(tmp_path_factory.mktemp("pair"), stack)


def run(owner: Owner, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        owner.command(*arguments), env=owner.environment, capture_output=True, text=True, check=False
    )


def report(pair: Pair, *options: str) -> dict[str, Any]:
    done = run(pair.owner, "network", "--json", *options)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_peers_and_exchanges_are_told_to_operators(pair: Pair) -> None:
    end = time.monotonic() + DEADLINE
    found = report(pair)
    while not (found["peers"] and found["peers"][0].get("exchanged") and found["subscribed"]):
        assert time.monotonic() < end, found
        found = report(pair)
    [peer] = found["peers"]
    assert (peer["peer_id"], peer["kind"]) == (pair.first.peer_id, "node")
    assert peer["addresses"]
    assert found["peer_id"] == pair.second.peer_id
    assert found["bytes_received"] > 0
    done = report(pair, "--sync")
    assert done["exchanges"] >= found["exchanges"]


def test_others_are_told_nothing(pair: Pair, tmp_path: Path) -> None:
    stranger = Owner(tmp_path / "home")
    stranger.log_in(pair.second)
    for method, path in (("GET", "/network/status/"), ("POST", "/network/sync/")):
        answer = httpx.request(method, pair.second.api_url + path, trust_env=False)
        assert answer.status_code == 401
        assert answer.headers["content-type"] == "application/problem+json"
    done = run(stranger, "network", "--json")
    assert done.returncode == 2
    assert "administrators" in done.stdout + done.stderr


def test_metrics_count_exchanges(pair: Pair) -> None:
    page = httpx.get(pair.second.api_url + "/metrics", trust_env=False).text
    assert "decentraspace_exchanges_total" in page
    assert "decentraspace_gossip_refused_total 0.0" in page
