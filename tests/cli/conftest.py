"""A node served in a thread, and the command line run against it as its user would."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.api.small_node import SmallNode

ROOT = Path(__file__).resolve().parents[2]
KEY = "0x4c0883a69102937d6231471b5dbb6204fe5129617082792ae468d01a3f362318"  # well known, worth nothing
WALLET = "0x2c7536E3605D9C16a7a3D7b1898e529396a65c23"


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class ServedNode:
    """A SmallNode whose API runs in a thread of its own, until `stop`."""

    def __init__(self, folder: Path, **sections: Any) -> None:
        self._folder, self._sections = folder, sections
        self.node = SmallNode(folder, **sections)
        self.port = self.node.config.api.port
        self._up = threading.Event()
        self._token: Any = None
        self._scope = trio.CancelScope()
        self._thread = threading.Thread(target=trio.run, args=(self._main,), daemon=True)
        self._thread.start()
        assert self._up.wait(30)

    @property
    def url(self) -> str:
        return self.node.url

    async def _main(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        with self._scope:
            async with self.node.serving():
                self._up.set()
                await trio.sleep_forever()

    def stop(self) -> None:
        if self._thread.is_alive():
            self._token.run_sync_soon(self._scope.cancel)
            self._thread.join(30)
            self.node.close()


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., ServedNode]]:
    nodes: list[ServedNode] = []

    def start(**sections: Any) -> ServedNode:
        nodes.append(ServedNode(tmp_path / f"node{len(nodes)}", **sections))
        return nodes[-1]

    yield start
    for node in nodes:
        node.stop()


@pytest.fixture
def served(serve: Callable[..., ServedNode]) -> ServedNode:
    return serve()


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """A home of its own, and none of the settings of whoever runs the tests."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("DECENTRASPACE_")}
    home = tmp_path / "home"
    home.mkdir(exist_ok=True)
    return {
        **kept,
        "HOME": str(home),
        "DECENTRASPACE_HOME": str(home / "sessions"),
        "PYTHONPATH": str(ROOT),
        "COLUMNS": "100",
    }


@pytest.fixture
def run(environment: dict[str, str], tmp_path: Path) -> Callable[..., Result]:
    """`run("deploy", folder, …)` in a process of its own, without a terminal."""

    def call(*arguments: object, stdin: str = "", **more: str) -> Result:
        done = subprocess.run(
            [sys.executable, "-m", "decentraspace", *map(str, arguments)],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
            cwd=tmp_path,
            env={**environment, **more},
        )
        return Result(done.returncode, done.stdout, done.stderr)

    return call


@pytest.fixture
def logged_in(run: Callable[..., Result], served: ServedNode) -> ServedNode:
    done = run("login", "--node", served.url, "--key-stdin", "--json", stdin=KEY)
    assert done.code == 0, done.err
    return served


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder with what sites have."""
    folder = tmp_path / "My Site"
    (folder / "css").mkdir(parents=True)
    (folder / "index.html").write_text("<h1>one</h1>")
    (folder / "css" / "style.css").write_text("h1 { color: teal }")
    (folder / "big.bin").write_bytes(os.urandom(1_500_000))
    (folder / "_redirects").write_text("/old /new 301\n")
    (folder / "link").symlink_to("index.html")
    return folder
