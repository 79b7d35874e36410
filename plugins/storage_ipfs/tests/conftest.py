"""A real Kubo of one's own, offline, on ports the system chooses; and a node's parts without a network."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trio

from decentraspace import config as configuration
from decentraspace.config import Config
from decentraspace.content import cid as cids
from decentraspace.content.blockstore import BlockStore
from decentraspace.content.importer import add_directory, add_file
from decentraspace.identity.keys import NodeKey
from decentraspace.plugins import PluginManager

_START_SECONDS = 30.0


def require_real(tool: str) -> str:
    """Path of a program. Without it the test is skipped, or fails where it must run."""
    path = shutil.which(tool)
    if path is None:
        reason = f"{tool} is not installed"
        if os.environ.get("DECENTRASPACE_REQUIRE_REAL") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    return path


async def until(condition: Callable[[], Awaitable[Any]], seconds: float = 30.0) -> Any:
    """The first true value of `condition`; fails after `seconds`."""
    with trio.move_on_after(seconds):
        while True:
            if value := await condition():
                return value
            await trio.sleep(0.02)
    raise AssertionError(f"not so within {seconds} s")


class Kubo:
    """`ipfs` in a repository of its own. Once started it keeps its RPC port."""

    def __init__(self, folder: Path) -> None:
        self.program = require_real("ipfs")
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


@dataclass
class Parts:
    """What a plugin manager uses of a node."""

    config: Config
    blocks: BlockStore
    key: NodeKey

    def site(self, *files: bytes) -> bytes:
        """Store and pin a site; its root."""
        with self.blocks.hold():
            writer = self.blocks.writer()
            entries = {
                f"file{number}.txt": add_file(io.BytesIO(content), writer.put)
                for number, content in enumerate(files)
            }
            root = add_directory(entries, writer.put).cid
            writer.flush()
            self.blocks.pin(root, "test")
        return root


@pytest.fixture
def make_parts(tmp_path: Path) -> Iterator[Callable[..., Parts]]:
    """make_parts(**settings of the plugin); parts made in one test share the data folder."""
    opened: list[BlockStore] = []
    file = tmp_path / "config.toml"

    def make(**settings: Any) -> Parts:
        while opened:
            opened.pop().close()
        lines = [f"{key} = {json.dumps(value)}" for key, value in settings.items()]
        file.write_text("\n".join(["[plugin.storage_ipfs]", *lines]))
        data = tmp_path / "data"
        config = configuration.load(file, environ={}, overrides={"node": {"data_dir": str(data)}})
        data.mkdir(exist_ok=True)
        blocks = BlockStore.open(data / "blocks", quota=1 << 30)
        opened.append(blocks)
        return Parts(config, blocks, NodeKey.load_or_create(data / "node.key", None))

    yield make
    for store in opened:
        store.close()


@pytest.fixture
async def managed() -> Any:
    """await managed(parts): a plugin manager with the plugin loaded and started."""
    managers: list[PluginManager] = []

    async def make(parts: Parts) -> PluginManager:
        while managers:
            await managers.pop().close()
        manager = PluginManager(parts.config.plugins)
        managers.append(manager)
        await manager.load(parts)
        await manager.call("node_started")
        return manager

    yield make
    while managers:
        await managers.pop().close()
