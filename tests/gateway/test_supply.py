"""Several visitors who miss the same block: it is asked for once, for all of them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import trio

from decentraspace.content import cid as cids
from decentraspace.content.blockstore import BlockStore
from decentraspace.gateway.control import ControlClient, ControlServer
from decentraspace.gateway.supply import Supply

BLOCK, ROOT, OTHER = (cids.make(cids.RAW, name) for name in (b"block", b"root", b"another root"))
WITHIN = 20.0  # seconds


async def _refuse(*_: object) -> bool:
    return False


@contextmanager
def answering(path: Path, fetch: Callable[[bytes, bytes], Awaitable[bool]]) -> Iterator[None]:
    """The node's end of the workers' socket, in a thread."""
    started = threading.Event()
    stop: list[Callable[[], None]] = []

    async def serve() -> None:
        server = ControlServer(path, fetch=fetch, resolve=_refuse, usage=_refuse, link=_refuse)  # type: ignore[arg-type]
        token = trio.lowlevel.current_trio_token()
        async with trio.open_nursery() as nursery:
            stop.append(lambda: token.run_sync_soon(nursery.cancel_scope.cancel))
            await nursery.start(lambda task_status: server.run(task_status=task_status))
            started.set()

    thread = threading.Thread(target=trio.run, args=(serve,))
    thread.start()
    try:
        assert started.wait(WITHIN)
        yield
    finally:
        stop[0]()
        thread.join(WITHIN)


def test_whoever_asked_first_may_leave(tmp_path: Path) -> None:
    asked: list[tuple[bytes, bytes]] = []
    arrived, give = threading.Event(), threading.Event()

    async def fetch(cid: bytes, root: bytes) -> bool:
        asked.append((cid, root))
        arrived.set()
        return await trio.to_thread.run_sync(give.wait, WITHIN)

    async def visitors(supply: Supply) -> bool:
        async with asyncio.timeout(WITHIN):
            first = asyncio.create_task(supply.bring(BLOCK, ROOT))
            await asyncio.to_thread(arrived.wait, WITHIN)
            second = asyncio.create_task(supply.bring(BLOCK, ROOT))
            await asyncio.sleep(0)  # it waits with the first now
            first.cancel()
            await asyncio.wait([first])
            give.set()
            return await second

    socket = tmp_path / "gateway.sock"
    with BlockStore.open(tmp_path / "blocks", quota=2**20) as store, answering(socket, fetch):
        supply = Supply(store, ControlClient(str(socket)), WITHIN)
        try:
            assert asyncio.run(visitors(supply))
        finally:
            give.set()
    assert asked == [(BLOCK, ROOT)]


def test_a_wrong_root_of_one_visitor_is_not_the_others(tmp_path: Path) -> None:
    async def fetch(cid: bytes, root: bytes) -> bool:
        return root == ROOT

    async def visitors(supply: Supply) -> list[bool]:
        return await asyncio.gather(supply.bring(BLOCK, OTHER), supply.bring(BLOCK, ROOT))

    socket = tmp_path / "gateway.sock"
    with BlockStore.open(tmp_path / "blocks", quota=2**20) as store, answering(socket, fetch):
        assert asyncio.run(visitors(Supply(store, ControlClient(str(socket)), WITHIN))) == [False, True]
