"""Telling storage plugins what to keep elsewhere, so that a crash at any instant loses none of it.

What a plugin is to have is what the store pins for sites; what it has confirmed is written down, by plugin and
root. Only the difference is told, at the start and after each change: nothing has to be written before a
deploy is acknowledged but its pin, and a plugin that is new gets what was there before it.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any, Protocol

import structlog
import trio

from decentraspace.content import cid as cids
from decentraspace.content.blockstore import BlockStore
from decentraspace.database import open_database, reading, transaction
from decentraspace.errors import DecentraSpaceError

log = structlog.get_logger(__name__)

SITE = "site:"
"""How the names of pins start whose content is to be kept elsewhere, too."""
_RETRY, _RETRY_MOST = 1.0, 600.0  # seconds after a failure, doubled with each further one
_TOLD, _CONFIRMED = 0, 1  # a plugin that was told may have it, whether it said so or not
_MIGRATIONS = [
    "CREATE TABLE mirrored (plugin TEXT, root BLOB, state INTEGER NOT NULL, PRIMARY KEY (plugin, root)) "
    "WITHOUT ROWID"
]


class Plugins(Protocol):
    """What is used of the plugin manager."""

    def having(self, hook: str) -> list[str]: ...
    async def ask(self, plugin: str, hook: str, **arguments: Any) -> tuple[bool, Any]: ...


class Mirroring:
    """`close` it at the end. `path` of its database."""

    def __init__(self, path: Path, blocks: BlockStore, plugins: Plugins) -> None:
        self._db, self._lock = open_database(path, _MIGRATIONS), threading.Lock()
        self._blocks, self._plugins = blocks, plugins
        # By plugin: roots, each with what tells a change from the one before.
        self._waiting: dict[str, OrderedDict[bytes, object]] = {}
        self._more = trio.Event()

    def close(self) -> None:
        with self._lock:
            self._db.close()

    def changed(self, root: bytes) -> None:
        """Pins of a root came or went."""
        for waiting in self._waiting.values():
            waiting[root] = object()
        self._more.set()

    def backlog(self) -> dict[str, int]:
        """Roots that wait to be told, by plugin."""
        return {plugin: len(waiting) for plugin, waiting in self._waiting.items()}

    async def run(self) -> None:
        """Until cancelled; after the plugins were loaded."""
        for plugin in self._plugins.having("storage_pin"):
            self._waiting[plugin] = OrderedDict()
        if not self._waiting:
            return
        for plugin, roots in (await trio.to_thread.run_sync(self._differences)).items():
            self._waiting[plugin].update((root, object()) for root in roots)
            if roots:
                log.info("mirror_behind", plugin=plugin, roots=len(roots))
        async with trio.open_nursery() as nursery:
            for plugin in self._waiting:
                nursery.start_soon(self._follow, plugin)

    def _differences(self) -> dict[str, list[bytes]]:
        pinned = {root for root, name in self._blocks.pins() if name.startswith(SITE)}
        found = {}
        for plugin in self._waiting:
            with self._lock, reading():
                rows = self._db.execute("SELECT root, state FROM mirrored WHERE plugin = ?", (plugin,))
                known = dict(rows.fetchall())
            confirmed = {root for root, state in known.items() if state == _CONFIRMED}
            found[plugin] = sorted(pinned - confirmed) + sorted(known.keys() - pinned)
        return found

    async def _follow(self, plugin: str) -> None:
        waiting, delay = self._waiting[plugin], _RETRY
        while True:
            while not waiting:
                self._more = trio.Event() if self._more.is_set() else self._more
                await self._more.wait()
            root, change = next(iter(waiting.items()))
            done = False
            try:
                done = await self._tell(plugin, root)
            except DecentraSpaceError as error:  # the disk fails
                log.error("mirror_failed", plugin=plugin, root=cids.to_text(root), reason=str(error))
            if done:
                delay = _RETRY
                if waiting[root] is change:
                    del waiting[root]
            else:
                waiting.move_to_end(root)  # it may be this one alone
                await trio.sleep(delay)
                delay = min(2 * delay, _RETRY_MOST)

    async def _tell(self, plugin: str, root: bytes) -> bool:
        """Whether the plugin has what it should have of a root now."""
        wanted, known = await trio.to_thread.run_sync(self._state, plugin, root)
        if wanted == (known == _CONFIRMED) and (wanted or known is None):
            return True
        if wanted:
            await trio.to_thread.run_sync(self._note, plugin, root, _TOLD)
        elif plugin not in self._plugins.having("storage_unpin"):
            await trio.to_thread.run_sync(self._note, plugin, root, None)
            return True
        hook = "storage_pin" if wanted else "storage_unpin"
        well, answer = await self._plugins.ask(plugin, hook, cid=cids.to_text(root))
        if not well:
            return False
        # None: the plugin is not set up. Once it is, at the next start, it is told.
        state = _CONFIRMED if wanted and answer is not None else None
        await trio.to_thread.run_sync(self._note, plugin, root, state)
        return True

    def _state(self, plugin: str, root: bytes) -> tuple[bool, int | None]:
        """(whether it is to be kept, what the plugin was told)."""
        with self._lock, reading():
            row = self._db.execute(
                "SELECT state FROM mirrored WHERE plugin = ? AND root = ?", (plugin, root)
            ).fetchone()
        return self._blocks.is_pinned(root, SITE), row[0] if row else None

    def _note(self, plugin: str, root: bytes, state: int | None) -> None:
        with self._lock, transaction(self._db) as db:
            if state is None:
                db.execute("DELETE FROM mirrored WHERE plugin = ? AND root = ?", (plugin, root))
            else:
                db.execute("INSERT OR REPLACE INTO mirrored VALUES (?, ?, ?)", (plugin, root, state))
