"""Real zones on a real name server, and the plugin as a node has it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from plugins.dns_registrar.tests.gandi import Gandi
from plugins.dns_registrar.tests.zones import Zones, zones

from decentraspace.plugins import PluginManager
from decentraspace.testing import Workbench

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


@pytest.fixture
def gandi() -> Iterator[Gandi]:
    server = Gandi()
    yield server
    server.close()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Workbench]:
    with Workbench(tmp_path, "dns_registrar", {"timeout": 10}) as made:
        yield made


Managed = Callable[..., Awaitable[Node]]


@pytest.fixture
async def managed(bench: Workbench) -> AsyncIterator[Managed]:
    """await managed(**settings): a node with the plugin loaded and started, instead of the last one."""

    async def make(**settings: Any) -> Node:
        return Node(await bench.start(**settings))

    yield make
    await bench.stop()
