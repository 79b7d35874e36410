"""The tutorial's two nodes, with the settings it names, follow each other in both directions."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
import pytest

from tests.node.running import RunningNode, command
from tests.support import free_port

PAGE = Path(__file__).resolve().parents[2] / "docs" / "tutorial" / "first-site.md"
KEY = "0x" + "42" * 32


def settings_of(step: int, peer: str = "") -> dict[str, str]:
    """The variables of a step's commands, with ports that are free."""
    section = PAGE.read_text("utf-8").partition(f"\n## {step}. ")[2].partition("\n## ")[0]
    found = dict(re.findall(r"DECENTRASPACE_(\w+)=(\S+)", section))
    assert found["NETWORK_ALLOW_PRIVATE"] == "true"
    found["NETWORK_LISTEN"] = re.sub(r"/tcp/\d+$", f"/tcp/{free_port()}", found["NETWORK_LISTEN"])
    if "NETWORK_BOOTSTRAP" in found:
        found["NETWORK_BOOTSTRAP"] = peer
    return {k: v for k, v in found.items() if k not in ("API_PORT", "GATEWAY_PORT")}


@pytest.mark.slow
def test_two_nodes_follow_each_other(tmp_path: Path) -> None:
    site = tmp_path / "hello"
    site.mkdir()
    first_settings = settings_of(1)
    with RunningNode(tmp_path / "one", **first_settings) as first:
        answer = first.get("/readyz")
        assert answer is not None
        peer = f"{first_settings['NETWORK_LISTEN']}/p2p/{answer.json()['peer_id']}"
        with RunningNode(tmp_path / "two", **settings_of(6, peer)) as second:
            done = command(tmp_path, "login", "--node", first.url, "--key-stdin", stdin=KEY)
            assert done.returncode == 0, done.stderr
            for here, there in ((first, second), (second, first)):
                text = f"<h1>deployed at {here.api}</h1>"
                (site / "index.html").write_text(text)
                done = command(tmp_path, "deploy", site, "--node", here.url)
                assert done.returncode == 0, done.stderr
                host = re.search(r"http://(hello--[a-z2-7]{16}\.localhost)", done.stdout)
                assert host is not None, done.stdout
                there.until(lambda there=there, text=text, host=host: text in shown(there, host[1]))


def shown(node: RunningNode, host: str) -> str:
    answer = httpx.get(
        f"http://127.0.0.1:{node.gateway}/", headers={"Host": host}, timeout=30, trust_env=False
    )
    return answer.text
