"""A plugin as a node has it, without the node around it."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from decentraspace import config as configuration
from decentraspace.config import Config
from decentraspace.content.blockstore import BlockStore
from decentraspace.content.importer import add_directory, add_file
from decentraspace.identity.keys import NodeKey
from decentraspace.plugins import PluginManager

_QUOTA = 1 << 30  # bytes


@dataclass
class Parts:
    """What a plugin manager uses of a node."""

    config: Config
    blocks: BlockStore
    key: NodeKey

    @classmethod
    def open(cls, file: Path, data: Path, store: Path | None = None) -> Parts:
        """From a configuration file and a data folder, which is made. A block store can be open only once at a
        time: a second process on the same folder names another one as `store`."""
        config = configuration.load(file, environ={}, overrides={"node": {"data_dir": str(data)}})
        data.mkdir(parents=True, exist_ok=True)
        blocks = BlockStore.open(store or data / "blocks", quota=_QUOTA)
        return cls(config, blocks, NodeKey.load_or_create(data / "node.key", None))

    def site(self, *files: bytes) -> bytes:
        """Store and pin a folder of files; its root, a binary CID."""
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


class Workbench:
    """`Workbench(folder, "hello", {"greeting": "hi"})`: the plugin of that name, with settings for all its tests.

    Nothing else is loaded. A plugin that is one file is looked for in `plugins_dir`. All that is made on one
    workbench shares `folder`/data, as a node does that is started again and again; what was made before is
    closed first. Settings are what JSON and TOML have in common: text, numbers, booleans, and lists of them.

    file  the configuration file, for a process that a test starts by itself
    data  the node's data folder
    """

    def __init__(
        self,
        folder: Path,
        plugin: str,
        settings: Mapping[str, Any] | None = None,
        *,
        plugins_dir: Path | None = None,
    ) -> None:
        self.file, self.data = folder / "config.toml", folder / "data"
        self._plugin, self._settings = plugin, settings or {}
        self._node: dict[str, Any] = {"plugins.enabled": [plugin]}
        if plugins_dir is not None:
            self._node["plugins.directory"] = str(plugins_dir)
        self._parts: Parts | None = None
        self._manager: PluginManager | None = None

    def parts(self, **settings: Any) -> Parts:
        """With these settings over the shared ones."""
        self._close_parts()
        head, own = _lines(self._node), _lines({**self._settings, **settings})
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self.file.write_text("\n".join([*head, f"[plugin.{self._plugin}]", *own]))
        self._parts = Parts.open(self.file, self.data)
        return self._parts

    async def start(self, parts: Parts | None = None, /, **settings: Any) -> PluginManager:
        """The plugin loaded and told that the node has started, with `parts` made before or new ones.

        `await manager.first("hook", …)` and `await manager.call("hook", …)` call its hooks as the node does.
        """
        await self.stop()
        if parts is None:
            parts = self.parts(**settings)
        self._manager = manager = PluginManager(parts.config.plugins)
        await manager.load(parts)
        await manager.call("node_started")
        return manager

    async def stop(self) -> None:
        """As when the node stops; nothing where nothing was started."""
        if self._manager is not None:
            manager, self._manager = self._manager, None
            await manager.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._manager is not None:  # a test that did not stop it: its threads are ended all the same
            self._manager.close_blocking()
        self._close_parts()

    def _close_parts(self) -> None:
        if self._parts is not None:
            self._parts.blocks.close()
            self._parts = None


def _lines(settings: Mapping[str, Any]) -> list[str]:
    return [f"{name} = {json.dumps(value)}" for name, value in settings.items()]
