"""/readyz tells the truth about the gateway, and a gateway that hangs is started again."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.node.running import RunningNode


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNode]:
    with RunningNode(tmp_path_factory.mktemp("ready"), GATEWAY_WORKERS="2") as running:
        yield running


def unready(node: RunningNode) -> bool:
    answer = node.get("/readyz")
    if answer is None or answer.status_code == 200:
        return False
    assert answer.status_code == 503
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["ready"] is False
    assert answer.json()["peer_id"]
    return True


@pytest.mark.slow
def test_idle_workers_count_as_alive(node: RunningNode) -> None:
    """For longer than a worker that says nothing is waited for."""
    before = node.gateways()
    assert len(before) == 3
    end = time.monotonic() + 12
    while time.monotonic() < end:
        assert node.ready(), node.log()
        time.sleep(0.2)
    assert node.gateways() == before


@pytest.mark.slow
@pytest.mark.parametrize("stopped", [slice(1, 2), slice(0, 3)], ids=["a worker", "all of it"])
def test_a_gateway_that_hangs_is_told_and_started_again(node: RunningNode, stopped: slice) -> None:
    before = node.until(lambda: len(found := node.gateways()) == 3 and found)
    for pid in before[stopped]:
        os.kill(pid, signal.SIGSTOP)
    node.until(lambda: unready(node), 30)
    node.until(node.ready)
    after = node.gateways()
    assert not set(before) & set(after)
    assert "gateway_hangs" in node.log()
    answer = httpx.get(f"http://127.0.0.1:{node.gateway}/ipfs/bafkqaaa", trust_env=False)
    assert answer.status_code == 200


@pytest.mark.slow
def test_a_gateway_that_is_killed_is_started_again(node: RunningNode) -> None:
    before = node.until(lambda: len(found := node.gateways()) == 3 and found)
    os.kill(before[0], signal.SIGKILL)
    node.until(lambda: unready(node), 30)
    node.until(node.ready)
    assert not set(before) & set(node.gateways())


@pytest.mark.slow
def test_a_worker_that_is_killed_comes_back_alone(node: RunningNode) -> None:
    before = node.until(lambda: len(found := node.gateways()) == 3 and found)
    os.kill(before[1], signal.SIGKILL)
    after = node.until(lambda: len(found := node.gateways()) == 3 and before[1] not in found and found)
    assert after[0] == before[0]
    node.until(node.ready)


@pytest.mark.slow
def test_the_node_ends_in_order_while_its_gateway_hangs(tmp_path: Path) -> None:
    with RunningNode(tmp_path) as node:
        for pid in node.gateways():
            os.kill(pid, signal.SIGSTOP)
        assert node.process is not None
        node.process.terminate()
        assert node.process.wait(30) == 0
