"""One-file plugins written by a test, and managers with short deadlines."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from decentraspace.config import PluginsConfig
from decentraspace.content.blockstore import BlockStore
from decentraspace.identity.keys import NodeKey
from decentraspace.plugins import PluginInfo, PluginManager
from decentraspace.testing import Parts
from tests.support import IN_TREE_PLUGINS

HEAD = "import sys, time, threading\nimport trio\nfrom decentraspace import hookimpl\n"
TIMEOUT, GRACE = 2.0, 0.3  # seconds; what must come back in time does so in a fraction of it


class Workshop:
    """Writes plugins and builds managers that load them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "plugins"
        self.folder.mkdir()
        self.managers: list[PluginManager] = []

    def write(self, name: str, source: str) -> None:
        (self.folder / f"{name}.py").write_text(HEAD + textwrap.dedent(source))

    def manager(self, node: Any = None, **settings: Any) -> PluginManager:
        values = {
            "directory": str(self.folder),
            "timeout": TIMEOUT,
            "disabled": IN_TREE_PLUGINS,
            **settings,
        }
        manager = PluginManager(PluginsConfig(**values), grace=GRACE)
        manager.load_blocking(node)
        self.managers.append(manager)
        return manager


@pytest.fixture
def workshop(tmp_path: Path) -> Iterator[Workshop]:
    made = Workshop(tmp_path)
    yield made
    for manager in made.managers:
        manager.close_blocking()


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[Parts]:
    """What a plugin manager uses of a node; `parts.config` may be replaced."""
    from decentraspace import config

    loaded = config.load(environ={}, overrides={"node": {"data_dir": str(tmp_path / "data")}})
    (tmp_path / "data").mkdir()
    with BlockStore.open(tmp_path / "data" / "blocks", quota=1 << 26) as blocks:
        yield Parts(loaded, blocks, NodeKey.load_or_create(tmp_path / "data" / "node.key", None))


@pytest.fixture
def logged() -> Iterator[list[dict[str, Any]]]:
    """What is logged meanwhile, in any thread."""
    with structlog.testing.capture_logs() as entries:
        yield entries  # type: ignore[misc]


def info(manager: PluginManager, name: str) -> PluginInfo:
    return next(found for found in manager.describe() if found.name == name)


def of(entries: list[dict[str, Any]], event: str, plugin: str) -> list[dict[str, Any]]:
    return [entry for entry in entries if entry["event"] == event and entry.get("plugin") == plugin]


Info = Callable[[PluginManager, str], PluginInfo]
