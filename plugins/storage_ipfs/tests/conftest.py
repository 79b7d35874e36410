"""A real Kubo of one's own, offline, on ports the system chooses; and a node's parts without a network."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from decentraspace.content import cid as cids
from decentraspace.plugins import PluginManager
from decentraspace.testing import Parts, Workbench, require_real, until

Managed = Callable[..., Awaitable[PluginManager]]
_START_SECONDS = 30.0


class Kubo:
    """`ipfs` in a repository of its own. Once started it keeps its RPC port."""

    def __init__(self, folder: Path) -> None:
        self.program = require_real("ipfs", shutil.which("ipfs"))
        self.repo, self.log = folder / "repo", folder / "kubo.log"
        self.process: subprocess.Popen[bytes] | None = None
        self.cli("init", "--profile=test")
        self.configure("Addresses.API", "/ip4/127.0.0.1/tcp/0")
        self.configure("Addresses.Gateway", [])
        self.configure("Addresses.Swarm", [])
        self.api = ""

    def cli(self, *arguments: str, stdin: bytes = b"") -> bytes:
        environment = {**os.environ, "IPFS_PATH": str(self.repo)}
        done = subprocess.run(
            [self.program, *arguments], input=stdin, capture_output=True, env=environment, timeout=60
        )
        if done.returncode:
            raise RuntimeError(done.stderr.decode())
        return done.stdout

    def configure(self, key: str, value: Any) -> None:
        self.cli("config", "--json", key, json.dumps(value))

    def start(self) -> None:
        (self.repo / "api").unlink(missing_ok=True)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [self.program, "daemon", "--offline"],
                stdout=log,
                stderr=log,
                env={**os.environ, "IPFS_PATH": str(self.repo)},
            )

    async def started(self) -> str:
        """Start, and wait for its RPC; the multiaddr of it."""
        self.start()

        async def ready() -> bool:
            assert self.process is not None
            assert self.process.poll() is None, self.log.read_text()
            return b"Daemon is ready" in self.log.read_bytes() and (self.repo / "api").exists()

        await until(ready, _START_SECONDS)
        self.api = (self.repo / "api").read_text().strip()
        return self.api

    async def stopped(self) -> None:
        self.stop()
        self.configure("Addresses.API", self.api)  # for the next start
        self.log.write_bytes(b"")

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def freeze(self) -> None:
        """It still accepts connections, and answers nothing."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def pinned(self) -> set[bytes]:
        text = self.cli("pin", "ls", "--type=recursive", "--quiet").decode()
        return {cids.parse(line) for line in text.split()}


@pytest.fixture
def kubo_repo(tmp_path: Path) -> Iterator[Kubo]:
    """Not started."""
    (tmp_path / "kubo").mkdir()
    kubo = Kubo(tmp_path / "kubo")
    yield kubo
    kubo.stop()


@pytest.fixture
async def kubo(kubo_repo: Kubo) -> Kubo:
    await kubo_repo.started()
    return kubo_repo


@pytest.fixture
def workbench(tmp_path: Path) -> Iterator[Workbench]:
    with Workbench(tmp_path, "storage_ipfs") as bench:
        yield bench


@pytest.fixture
def make_parts(workbench: Workbench) -> Callable[..., Parts]:
    """make_parts(**settings of the plugin); parts made in one test share the data folder."""
    return workbench.parts


@pytest.fixture
async def managed(workbench: Workbench) -> AsyncIterator[Managed]:
    """await managed(parts): a plugin manager with the plugin loaded and started, instead of the last one."""
    yield workbench.start
    await workbench.stop()
