"""What plugins are given of the node: small, typed, read-only, and safe to call from any thread.

NodeAPI                           the `node` argument of every hook
Route, HttpRequest, HttpResponse  for plugins that answer HTTP (`api_routes`)
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import structlog

from decentraspace.content import car, reader
from decentraspace.content import cid as cids
from decentraspace.content.blockstore import BlockStore
from decentraspace.errors import TooLarge, Unavailable
from decentraspace.routes import HttpRequest, HttpResponse, Route

__all__ = ["HttpRequest", "HttpResponse", "NodeAPI", "Route", "freeze"]

_BATCH = 16 * 1024 * 1024  # bytes of blocks held before they are written


def freeze(value: Any) -> Any:
    """A copy that cannot be changed: tables become read-only mappings, lists tuples."""
    if isinstance(value, Mapping):
        return MappingProxyType({key: freeze(item) for key, item in value.items()})
    if isinstance(value, list | tuple):
        return tuple(freeze(item) for item in value)
    return value


class StoreGate:
    """Lets plugins at the block store until it is closed, and then no more, however late they come."""

    def __init__(self, blocks: BlockStore | None) -> None:
        self._blocks = blocks
        self._changed = threading.Condition()
        self._users = 0

    @contextmanager
    def use(self) -> Iterator[BlockStore]:
        with self._changed:
            blocks = self._blocks
            if blocks is None:
                raise Unavailable("The node has stopped, or there is none behind this call")
            self._users += 1
        try:
            yield blocks
        finally:
            with self._changed:
                self._users -= 1
                self._changed.notify_all()

    def close(self, seconds: float) -> bool:
        """Let nobody in any more, and wait for those inside; False if some are still there."""
        with self._changed:
            self._blocks = None
            return self._changed.wait_for(lambda: self._users == 0, seconds)


@dataclass(frozen=True, eq=False)
class NodeAPI:
    """The node, as one plugin sees it.

    plugin    the plugin's own name
    config    its table `[plugin.NAME]` of the configuration, read-only
    data_dir  a folder of its own, mode 0700, which outlives restarts
    peer_id   the node's libp2p peer id ("12D3Koo…")
    network   the network's name ("devnet")
    log       a structlog logger that names the plugin
    state     a dict of its own for this node, lost at restart: clients, caches
    start_soon(function, *args)  runs `await function(*args)` beside the hooks until the node stops; an
              exception in it is counted as a failure of the plugin

    CIDs are text. The functions on blocks block: call them by `trio.to_thread.run_sync` in async hooks.
    """

    plugin: str
    config: Mapping[str, Any]
    data_dir: Path
    peer_id: str
    network: str
    start_soon: Callable[..., None]
    log: Any = field(repr=False, default_factory=lambda: structlog.get_logger("decentraspace.plugin"))
    state: dict[str, Any] = field(default_factory=dict, repr=False)
    _store: StoreGate = field(repr=False, default_factory=lambda: StoreGate(None))

    def get_block(self, cid: str) -> bytes | None:
        """The block's bytes, or None when it is not stored here."""
        with self._store.use() as blocks:
            return blocks.get(cids.parse(cid))

    def put_blocks(self, pairs: Iterable[tuple[str, bytes]]) -> int:
        """Verify and store (CID, bytes) pairs; how many were new. Durable when it returns.

        Unprocessable for bytes that do not match, TooLarge for a block over 2 MiB, QuotaExceeded. What no
        pin references is collected after `storage.gc_grace` seconds.
        """
        with self._store.use() as blocks:
            return blocks.put_many(((cids.parse(cid), data) for cid, data in pairs), verify=True)

    def has_dag(self, cid: str) -> bool:
        """Whether every block of the DAG is stored here. Takes time in proportion to the number of blocks."""
        with self._store.use() as blocks:
            return not blocks.missing(cids.parse(cid), limit=1)

    def pinned(self) -> set[str]:
        """Roots of all DAGs this node pins."""
        with self._store.use() as blocks:
            return {cids.to_text(root) for root, _ in blocks.pins()}

    def room(self) -> int:
        """Bytes of blocks that still fit into the node's quota."""
        with self._store.use() as blocks:
            stats = blocks.stats()
            return max(0, stats.quota - stats.bytes)

    def export_car(self, cid: str) -> Iterator[bytes]:
        """The DAG as the chunks of a CAR (version 1), depth first. BlockMissing when a block is not here."""
        root = cids.parse(cid)

        def get(block_cid: bytes) -> bytes:
            with self._store.use() as blocks:
                return blocks.get_or_raise(block_cid)

        yield car.header([root])
        for block_cid, data in reader.walk(get, root):
            yield car.frame(block_cid, data)

    def import_car(self, chunks: Iterable[bytes], *, max_bytes: int) -> int:
        """Verify and store a CAR block by block; how many blocks it had. Durable when it returns.

        Holds at most 16 MiB. BadInput or Unprocessable for a CAR that is malformed or lies, TooLarge beyond
        `max_bytes`; blocks that came before the error may be stored, unreferenced. Whether the DAG is whole
        is not checked: see `has_dag`.
        """
        decoder, held, size, count = car.CarDecoder(), 0, 0, 0
        batch: list[tuple[bytes, bytes]] = []

        def flush() -> None:
            with self._store.use() as blocks:
                blocks.put_many(batch)
            batch.clear()

        for chunk in chunks:
            size += len(chunk)
            if size > max_bytes:
                raise TooLarge(f"The CAR has more than {max_bytes} bytes")
            for cid, data in decoder.feed(chunk):
                batch.append((cid, data))
                held += len(data) + 256
                count += 1
            if held >= _BATCH:
                flush()
                held = 0
        decoder.close()
        flush()
        return count
