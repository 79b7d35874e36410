"""A stand-in for Paystack, and the plugin in a plugin manager as a node has it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from plugins.billing_paystack.tests.standin import SECRET, SOURCE, Paystack

from decentraspace.plugins import PluginManager
from decentraspace.testing import Workbench

OWNER = "0x" + "aB" * 20


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


@pytest.fixture
def workbench(tmp_path: Path, paystack: Paystack, key_file: Path) -> Iterator[Workbench]:
    settings = {
        "key_file": str(key_file),
        "test": True,
        "email": "cards+{owner}@node.example",
        "currency": "NGN",
        "rate": [160_000, 1_000_000],
        "api": paystack.url,
        "poll": 3600,
    }
    with Workbench(tmp_path, "billing_paystack", settings) as bench:
        yield bench


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
async def managed(workbench: Workbench) -> AsyncIterator[Managed]:
    """await managed(**settings): a node with the plugin loaded and started, instead of the last one."""

    async def make(**settings: Any) -> Node:
        return Node(await workbench.start(**settings))

    yield make
    await workbench.stop()
