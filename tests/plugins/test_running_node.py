"""A real node with bad plugins beside a good one: it gets ready, serves, and says how they are."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support import IN_TREE_PLUGINS

from .conftest import HEAD

GUIDE = Path(__file__).resolve().parents[2] / "docs/how-to/write-a-plugin.md"
PLUGINS = {
    "exits": "sys.exit(7)",
    "hangs": "threading.Event().wait()",
    "stops": "@hookimpl\nasync def node_started(node): sys.exit(8)\n",
    "blocks": "@hookimpl\nasync def node_started(node): threading.Event().wait()\n",
    "stays": "@hookimpl\nasync def node_stopping(node): threading.Event().wait()\n",
}


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [s.getsockname()[1] for s in sockets]
    finally:
        for s in sockets:
            s.close()


@pytest.fixture
def node(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], Path, str]]:
    """(process, configuration file, API's URL) of a node that is coming up."""
    folder = tmp_path / "plugins"
    folder.mkdir()
    for name, source in PLUGINS.items():
        (folder / f"{name}.py").write_text(HEAD + source)
    (hello, *_) = re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    (folder / "hello.py").write_text(hello)
    api, gateway = free_ports(2)
    config = tmp_path / "config.toml"
    config.write_text(
        f"""
        node.data_dir = {json.dumps(str(tmp_path / "data"))}
        network = {{ listen = ["/ip4/127.0.0.1/tcp/0"], mdns = false }}
        api.port = {api}
        gateway.port = {gateway}
        plugins = {{ directory = {json.dumps(str(folder))}, timeout = 1.0 }}
        plugin.hello.greeting = "good day"
        """
    )
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "decentraspace", "run", "--config", str(config)], stderr=log
        )
    yield process, config, f"http://127.0.0.1:{api}"
    if process.poll() is None:
        process.kill()
        process.wait()


def until(condition: Any, process: subprocess.Popen[bytes], log: Path, seconds: float = 60.0) -> Any:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        assert process.poll() is None, log.read_text()
        if value := condition():
            return value
        time.sleep(0.05)
    raise AssertionError(f"not so within {seconds} s:\n{log.read_text()}")


@pytest.mark.slow
def test_a_node_with_bad_plugins(node: tuple[subprocess.Popen[bytes], Path, str]) -> None:
    process, config, url = node
    log = config.with_name("log")

    def greeting() -> Any:
        try:
            answer = httpx.get(f"{url}/hello/", params={"name": "you"})
        except httpx.TransportError:
            return None
        return answer.json() if answer.status_code == 200 else None

    assert until(greeting, process, log) == {"say": "good day, you"}
    refused = httpx.get(f"{url}/hello/", params={"name": "x" * 101})
    assert (refused.status_code, refused.json()["type"]) == (400, "urn:decentraspace:problem:bad-input")
    assert httpx.post(f"{url}/hello/").status_code == 405
    operation = httpx.get(f"{url}/openapi.json").json()["paths"]["/hello/"]["get"]
    assert operation["summary"] == "Greets whoever asks"
    assert (operation["tags"], operation["description"]) == (["plugins"], "Added by the plugin `hello`.")
    assert "Greets whoever asks." in httpx.get(f"{url}/docs").text

    def health() -> Any:
        """As the command line tells it, of the running node."""
        done = subprocess.run(
            [sys.executable, "-m", "decentraspace", "plugins", "--config", str(config), "--json"],
            capture_output=True,
            check=False,
            env={**os.environ, "NO_COLOR": "1"},
        )
        assert (done.returncode, done.stderr) == (2, b""), "some are refused"
        found = {plugin["name"]: plugin for plugin in json.loads(done.stdout)["plugins"]}
        return found if found["blocks"]["health"] == "disabled" else None

    found = until(health, process, log)
    states = {name: plugin["health"] for name, plugin in found.items() if name not in IN_TREE_PLUGINS}
    assert states == {
        "exits": "refused",
        "hangs": "refused",
        "stops": "failing",
        "blocks": "disabled",
        "stays": "ok",
        "hello": "ok",
    }
    assert "SystemExit: 8" in found["stops"]["error"]
    assert httpx.get(f"{url}/healthz").status_code == 200

    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0, log.read_text()
