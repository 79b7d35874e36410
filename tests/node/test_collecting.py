"""Garbage collection outlives whatever goes wrong with the store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio
from structlog.testing import capture_logs

from decentraspace.config import StorageConfig
from decentraspace.content import environment, gc
from decentraspace.content.blockstore import BlockStore
from decentraspace.errors import Unavailable
from decentraspace.testing import until
from tests.content.stores import leaf

OFTEN = StorageConfig(gc_interval=0.1, gc_grace=0.0)


async def test_it_goes_on_when_the_store_could_not_be_read_for_a_while(tmp_path: Path) -> None:
    """All places for readers are taken, and then given free."""
    with BlockStore.open(tmp_path / "s", quota=1 << 20) as store, capture_logs() as logs:
        store.put_many([leaf(b"garbage")])
        held = [store.env.begin() for _ in range(environment._READERS)]
        with pytest.raises(Unavailable):
            store.stats()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(gc.run_gc, store, OFTEN)
            await until(lambda: len(failures(logs)) >= 2)
            assert "cannot be read just now" in failures(logs)[0]["reason"]
            held.clear()
            await until(lambda: store.stats().blocks == 0)
            nursery.cancel_scope.cancel()


def failures(logs: list[Any]) -> list[Any]:
    return [entry for entry in logs if entry["event"] == "garbage_collection_failed"]


async def test_it_goes_on_asking_a_store_that_is_broken(tmp_path: Path) -> None:
    """LMDB's own errors, not ours: the node lives on, with its network and its API."""
    store = BlockStore.open(tmp_path / "s", quota=1 << 20)
    store.env.close()
    with capture_logs() as logs:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(gc.run_gc, store, OFTEN)
            await until(lambda: len(failures(logs)) >= 3)
            nursery.cancel_scope.cancel()
    assert all(entry["log_level"] == "error" for entry in logs)
