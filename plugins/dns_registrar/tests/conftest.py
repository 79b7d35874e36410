"""Real zones on a real name server, and the plugin as a node has it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from plugins.dns_registrar.tests.zones import Zones, zones

from decentraspace import config as configuration
from decentraspace.config import Config
from decentraspace.content.blockstore import BlockStore
from decentraspace.identity.keys import NodeKey
from decentraspace.plugins import PluginManager

OWNER, STRANGER = "0x" + "a1" * 20, "0x" + "b2" * 20
GATEWAY = "gw.plain.example"


@pytest.fixture(scope="session")
def dns(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zones]:
    with zones(tmp_path_factory.mktemp("zones")) as running:
        yield running


class Node:
    """The hooks of the plugin, as the node calls them."""

    def __init__(self, manager: PluginManager) -> None:
        self.manager = manager

    async def ask(self, hook: str, **arguments: Any) -> Any:
        found = await self.manager.first(hook, **arguments)
        return None if found is None else found.value

    async def verify(self, name: str, owner: str = OWNER, gateway: str = GATEWAY) -> dict[str, Any]:
        found: dict[str, Any] = await self.ask(
            "name_verify", name=name, owner=owner, site="s", gateway=gateway, proof=""
        )
        return found

    async def update(
        self, name: str, credentials: dict[str, str], *records: tuple[str, str, str]
    ) -> dict[str, Any]:
        rows = [{"type": kind, "host": host, "value": value} for kind, host, value in records]
        found: dict[str, Any] = await self.ask(
            "name_update", name=name, records=rows, credentials=credentials
        )
        return found


@dataclass
class Parts:
    """What a plugin manager uses of a node."""

    config: Config
    blocks: BlockStore
    key: NodeKey


class Bench:
    """The plugin loaded and started as a node does; what was before is closed first. `file`, `data`: the node's."""

    def __init__(self, folder: Path) -> None:
        self.file, self.data = folder / "config.toml", folder / "data"
        self._parts: Parts | None = None
        self._manager: PluginManager | None = None

    def configure(self, **settings: Any) -> None:
        lines = [f"{name} = {json.dumps(value)}" for name, value in {"timeout": 10, **settings}.items()]
        self.file.write_text(
            "\n".join(['plugins.enabled = ["dns_registrar"]', "[plugin.dns_registrar]", *lines])
        )

    async def start(self) -> Node:
        await self.stop()
        config = configuration.load(self.file, environ={}, overrides={"node": {"data_dir": str(self.data)}})
        self.data.mkdir(exist_ok=True)
        blocks = BlockStore.open(self.data / "blocks", quota=1 << 30)
        self._parts = Parts(config, blocks, NodeKey.load_or_create(self.data / "node.key", None))
        self._manager = PluginManager(config.plugins)
        await self._manager.load(self._parts)
        await self._manager.call("node_started")
        return Node(self._manager)

    async def stop(self) -> None:
        if self._manager is not None:
            await self._manager.close()
        if self._parts is not None:
            self._parts.blocks.close()
        self._manager = self._parts = None


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


Managed = Callable[..., Awaitable[Node]]


@pytest.fixture
async def managed(bench: Bench) -> AsyncIterator[Managed]:
    """await managed(**settings): a node with the plugin loaded and started, instead of the last one."""

    async def make(**settings: Any) -> Node:
        bench.configure(**settings)
        return await bench.start()

    yield make
    await bench.stop()
