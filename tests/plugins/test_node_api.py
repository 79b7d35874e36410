"""What plugins are given of the node."""

from __future__ import annotations

import dataclasses
import io
import os
import threading
from pathlib import Path
from typing import Any

import pytest
import trio

from decentraspace.content import car, importer
from decentraspace.content import cid as cids
from decentraspace.content.reader import BlockMissing
from decentraspace.errors import BadInput, QuotaExceeded, TooLarge, Unavailable, Unprocessable
from decentraspace.plugins import PluginManager
from decentraspace.public import NodeAPI, StoreGate, freeze

from .conftest import Parts, Workshop, info

HOOK = "@hookimpl\nasync def storage_unpin(cid, node):\n    seen.append(node)\n    return True\n"


async def api_of(workshop: Workshop, parts: Any) -> tuple[PluginManager, NodeAPI]:
    """The NodeAPI as a plugin's hook gets it."""
    workshop.write("probe", "import builtins\nseen = builtins.__dict__.setdefault('_probe', [])\n" + HOOK)
    manager = workshop.manager(parts)
    await manager.call("storage_unpin", cid="x")
    import builtins

    return manager, builtins._probe.pop()  # type: ignore[attr-defined,no-any-return]


async def test_it_is_read_only(workshop: Workshop, parts: Parts, tmp_path: Path) -> None:
    table = {"probe": {"a": 1, "list": [1, {"b": 2}]}, "other": {"secret": "x"}}
    parts.config = dataclasses.replace(parts.config, plugin=table)
    _, node = await api_of(workshop, parts)
    assert (node.plugin, node.network, node.peer_id) == ("probe", "devnet", parts.key.peer_id)
    assert node.config == {"a": 1, "list": (1, {"b": 2})}
    with pytest.raises(TypeError):
        node.config["a"] = 2  # type: ignore[index]
    with pytest.raises(TypeError):
        node.config["list"][1]["b"] = 3
    with pytest.raises(dataclasses.FrozenInstanceError):
        node.plugin = "other"  # type: ignore[misc]
    assert node.data_dir == tmp_path / "data" / "plugins" / "probe"
    assert node.data_dir.stat().st_mode & 0o777 == 0o700
    assert "secret" not in repr(node)


async def test_blocks(workshop: Workshop, parts: Parts) -> None:
    _, node = await api_of(workshop, parts)
    data = b"a block"
    cid = cids.to_text(cids.make(cids.RAW, data))
    assert node.get_block(cid) is None
    assert not node.has_dag(cid)
    assert node.put_blocks([(cid, data)]) == 1
    assert node.put_blocks([(cid, data)]) == 0
    assert node.get_block(cid) == data
    assert node.has_dag(cid)
    with pytest.raises(Unprocessable):
        node.put_blocks([(cid, b"other bytes")])
    with pytest.raises(BadInput):
        node.put_blocks([("no cid", data)])
    with pytest.raises(TooLarge):
        node.put_blocks([(cid, bytes(3_000_000))])
    with pytest.raises(BadInput):
        node.get_block("no cid")
    assert node.room() == parts.blocks.quota - len(data)
    assert node.pinned() == set()
    parts.blocks.pin(cids.parse(cid), "x")
    assert node.pinned() == {cid}


async def test_cars_go_round(workshop: Workshop, parts: Parts) -> None:
    _, node = await api_of(workshop, parts)
    blocks: list[tuple[bytes, bytes]] = []
    entry = importer.add_file(io.BytesIO(os.urandom(3_000_000)), lambda c, d: blocks.append((c, bytes(d))))
    text = cids.to_text(entry.cid)
    whole = car.encode([entry.cid], blocks)
    pieces = [whole[i : i + 70_001] for i in range(0, len(whole), 70_001)]
    assert node.import_car(pieces, max_bytes=len(whole)) == len(blocks)
    assert node.has_dag(text)
    exported = b"".join(node.export_car(text))
    decoder = car.CarDecoder()
    assert dict(decoder.feed(exported)) == dict(blocks)
    assert decoder.roots == [entry.cid]
    with pytest.raises(BlockMissing):
        list(node.export_car(cids.to_text(cids.make(cids.RAW, b"absent"))))


async def test_bad_cars(workshop: Workshop, parts: Parts) -> None:
    _, node = await api_of(workshop, parts)
    cid, data = cids.make(cids.RAW, b"x"), b"x"
    good = car.encode([cid], [(cid, data)])
    with pytest.raises(TooLarge):
        node.import_car([good, bytes(100)], max_bytes=len(good))
    for bad in ([good[:-1]], [b""], [], [b"junk" * 100], [good[:-1] + b"y"]):
        with pytest.raises((BadInput, Unprocessable)):
            node.import_car(bad, max_bytes=10_000)
    assert node.get_block(cids.to_text(cid)) is None
    parts.blocks.quota = 10
    many = [(cids.make(cids.RAW, bytes([n]) * 100), bytes([n]) * 100) for n in range(9)]
    with pytest.raises(QuotaExceeded):
        node.import_car([car.encode([cid], many)], max_bytes=10_000)


async def test_a_closed_node_lets_nobody_at_the_store(workshop: Workshop, parts: Parts) -> None:
    manager, node = await api_of(workshop, parts)
    cid = cids.to_text(cids.make(cids.RAW, b"x"))
    await manager.close()
    for use in (lambda: node.get_block(cid), node.pinned, node.room, lambda: list(node.export_car(cid))[1:]):
        with pytest.raises(Unavailable):
            use()


def test_the_gate_waits_for_those_inside() -> None:
    store: Any = object()
    gate, inside, leave = StoreGate(store), threading.Event(), threading.Event()

    def user() -> None:
        with gate.use() as got:
            assert got is store
            inside.set()
            leave.wait()

    thread = threading.Thread(target=user)
    thread.start()
    inside.wait()
    assert gate.close(0.01) is False
    with pytest.raises(Unavailable), gate.use():
        pass
    leave.set()
    assert gate.close(10) is True
    thread.join()


async def test_background_tasks_end_with_the_node(workshop: Workshop, parts: Parts) -> None:
    workshop.write(
        "worker",
        """
        done = threading.Event()
        async def work():
            try:
                await trio.sleep_forever()
            finally:
                done.set()
        @hookimpl
        async def node_started(node):
            node.start_soon(work)
        @hookimpl
        async def storage_unpin(cid):
            return done.is_set()
        """,
    )
    manager = workshop.manager(parts)
    await manager.call("node_started")
    assert (await manager.call("storage_unpin", cid="x"))[0].value is False
    await manager.close()
    import sys

    assert sys.modules["decentraspace_plugin_worker"].done.is_set()
    assert info(manager, "worker").health == "ok"


@pytest.mark.parametrize("body", ["raise ValueError('x')", "sys.exit(1)", "raise KeyboardInterrupt"])
async def test_a_failing_background_task_is_counted(body: str, workshop: Workshop, parts: Parts) -> None:
    workshop.write(
        "worker",
        f"""
        async def work():
            {body}
        @hookimpl
        async def node_started(node):
            node.start_soon(work)
        """,
    )
    manager = workshop.manager(parts)
    await manager.call("node_started")
    with trio.fail_after(10):
        while info(manager, "worker").health != "failing":
            await trio.sleep(0.01)
    assert info(manager, "worker").error.startswith("start_soon: ")


async def test_two_nodes_in_one_process(workshop: Workshop, parts: Parts, tmp_path: Path) -> None:
    """Each has its own thread, state and folder of the same plugin."""
    workshop.write(
        "counter",
        """
        @hookimpl
        async def storage_fetch(cid, node):
            node.state["n"] = node.state.get("n", 0) + 1
            return node.state["n"]
        """,
    )
    one, two = workshop.manager(parts), workshop.manager(parts)
    for expected in (1, 2, 3):
        assert (await one.call("storage_fetch", max_bytes=1 << 24, cid="x"))[0].value == expected
    assert (await two.call("storage_fetch", max_bytes=1 << 24, cid="x"))[0].value == 1


def test_a_folder_that_cannot_be_made(workshop: Workshop, parts: Parts, tmp_path: Path) -> None:
    workshop.write("a", "@hookimpl\nasync def storage_unpin(cid): return True\n")
    (tmp_path / "data" / "plugins").write_text("a file is in the way")
    assert info(workshop.manager(parts), "a").health == "refused"


def test_freeze() -> None:
    assert freeze({"a": [{"b": (1, [2])}]}) == {"a": ({"b": (1, (2,))},)}
