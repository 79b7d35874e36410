"""A stand-in for Paystack, and the plugin in a plugin manager as a node has it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trio
from plugins.billing_paystack.tests.standin import SECRET, SOURCE, Paystack

from decentraspace import config as configuration
from decentraspace.config import Config
from decentraspace.content.blockstore import BlockStore
from decentraspace.identity.keys import NodeKey
from decentraspace.plugins import PluginManager

OWNER = "0x" + "aB" * 20


async def until(condition: Callable[[], Awaitable[Any]], seconds: float = 30.0) -> Any:
    """The first true value of `condition`; fails after `seconds`."""
    with trio.move_on_after(seconds):
        while True:
            if value := await condition():
                return value
            await trio.sleep(0.05)
    raise AssertionError(f"not so within {seconds} s")


@pytest.fixture
def paystack() -> Iterator[Paystack]:
    server = Paystack()
    yield server
    server.close()


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "paystack.key"
    path.write_text(SECRET + "\n")
    path.chmod(0o600)
    return path


@dataclass
class Parts:
    """What a plugin manager uses of a node."""

    config: Config
    blocks: BlockStore
    key: NodeKey


@pytest.fixture
def make_parts(tmp_path: Path, paystack: Paystack, key_file: Path) -> Iterator[Callable[..., Parts]]:
    """make_parts(**settings of the plugin); parts made in one test share the data folder."""
    opened: list[BlockStore] = []
    file = tmp_path / "config.toml"

    def make(**settings: Any) -> Parts:
        while opened:
            opened.pop().close()
        table = {
            "key_file": str(key_file),
            "test": True,
            "email": "cards+{owner}@node.example",
            "currency": "NGN",
            "rate": [160_000, 1_000_000],
            "api": paystack.url,
            "poll": 3600,
            **settings,
        }
        lines = [f"{name} = {json.dumps(value)}" for name, value in table.items()]
        file.write_text(
            "\n".join(['plugins.enabled = ["billing_paystack"]', "[plugin.billing_paystack]", *lines])
        )
        data = tmp_path / "data"
        config = configuration.load(file, environ={}, overrides={"node": {"data_dir": str(data)}})
        data.mkdir(exist_ok=True)
        blocks = BlockStore.open(data / "blocks", quota=1 << 30)
        opened.append(blocks)
        return Parts(config, blocks, NodeKey.load_or_create(data / "node.key", None))

    yield make
    for store in opened:
        store.close()


class Node:
    """The hooks of the plugin, as the node calls them."""

    def __init__(self, manager: PluginManager) -> None:
        self.manager = manager

    async def recharge(self, credits: int = 5_000_000, key: str = "k1", owner: str = OWNER) -> dict[str, Any]:
        found = await self.manager.first(
            "payment_recharge", method="paystack", owner=owner, credits=credits, key=key
        )
        assert found is not None
        value: dict[str, Any] = found.value
        return value

    async def called(self, call: tuple[dict[str, str], bytes], source: str = SOURCE) -> dict[str, Any]:
        headers, body = call
        found = await self.manager.first(
            "payment_webhook", method="paystack", headers=headers, body=body, source=source
        )
        assert found is not None
        value: dict[str, Any] = found.value
        return value

    async def events(self, after: int = 0) -> dict[str, Any]:
        found = await self.manager.first("payment_events", after=after)
        assert found is not None
        value: dict[str, Any] = found.value
        return value

    async def standing(self, reference: str) -> dict[str, Any]:
        [one] = [e for e in (await self.events())["events"] if e["reference"] == reference]
        found: dict[str, Any] = one
        return found


Managed = Callable[..., Awaitable[Node]]


@pytest.fixture
async def managed(make_parts: Callable[..., Parts]) -> AsyncIterator[Managed]:
    """await managed(**settings): a node with the plugin loaded and started, instead of the last one."""
    managers: list[PluginManager] = []

    async def make(**settings: Any) -> Node:
        while managers:
            await managers.pop().close()
        parts = make_parts(**settings)
        manager = PluginManager(parts.config.plugins)
        managers.append(manager)
        await manager.load(parts)
        await manager.call("node_started")
        return Node(manager)

    yield make
    while managers:
        await managers.pop().close()
