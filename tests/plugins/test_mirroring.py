"""What storage plugins are told: everything that is pinned for sites, whatever is killed meanwhile."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import trio

from decentraspace.content import cid as cids
from decentraspace.mirroring import Mirroring
from decentraspace.testing import until
from tests.plugins.conftest import Parts, Workshop
from tests.support import ROOT

KEEPER = """
    import os
    @hookimpl
    async def storage_pin(cid, node):
        await trio.sleep(0.03)
        with (node.data_dir / "told").open("a") as file:
            file.write(f"+{cid}\\n")
            file.flush()
            os.fsync(file.fileno())
        return "pinned"
    @hookimpl
    async def storage_unpin(cid, node):
        with (node.data_dir / "told").open("a") as file:
            file.write(f"-{cid}\\n")
            file.flush()
            os.fsync(file.fileno())
        return True
"""


def kept(folder: Path, plugin: str = "keeper") -> set[str]:
    """What the plugin was told to keep, and not to let go since."""
    found: set[str] = set()
    told = folder / "plugins" / plugin / "told"
    for line in told.read_text().splitlines() if told.exists() else ():
        (found.add if line[0] == "+" else found.discard)(line[1:])
    return found


def pinned(parts: Parts) -> set[str]:
    return {cids.to_text(root) for root, _ in parts.blocks.pins()}


async def caught_up(parts: Parts, workshop: Workshop) -> None:
    """Run the mirroring until nothing is left to tell."""
    mirroring = Mirroring(
        parts.config.data_dir / "mirror.sqlite", parts.blocks, workshop.manager(parts, timeout=30.0)
    )
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(mirroring.run)
            await until(lambda: bool(mirroring.backlog()) and kept(parts.config.data_dir) == pinned(parts))
            nursery.cancel_scope.cancel()
    finally:
        mirroring.close()


@pytest.mark.slow
async def test_a_kill_loses_nothing_that_was_to_be_told(
    tmp_path: Path, parts: Parts, workshop: Workshop
) -> None:
    workshop.write("keeper", KEEPER)
    parts.blocks.close()
    rng = random.Random(3)
    for seed in range(8):
        child = subprocess.Popen(
            [sys.executable, "-m", "tests.plugins.mirror_child", str(tmp_path), str(seed)],
            stdout=subprocess.PIPE,
            cwd=ROOT,
        )
        assert child.stdout is not None
        for _ in range(rng.randrange(1, 40)):
            assert child.stdout.readline(), "the child ended by itself"
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
    parts.blocks = type(parts.blocks).open(tmp_path / "data" / "blocks", quota=1 << 26)
    with parts.blocks:
        assert len(pinned(parts)) > 5
        assert kept(parts.config.data_dir) != pinned(parts), "some was not told when it was killed"
        await caught_up(parts, workshop)


async def test_a_plugin_that_is_new_gets_what_was_there_before(parts: Parts, workshop: Workshop) -> None:
    for number in range(3):
        data = b"site %d" % number
        cid = cids.make(cids.RAW, data)
        parts.blocks.put_many([(cid, data)])
        parts.blocks.pin(cid, f"site:{number}")
    workshop.write("keeper", KEEPER)
    await caught_up(parts, workshop)
    assert len(kept(parts.config.data_dir)) == 3
    parts.blocks.unpin(cid, "site:2")
    await caught_up(parts, workshop)
    assert len(kept(parts.config.data_dir)) == 2


async def test_what_a_plugin_failed_at_is_told_again_and_does_not_hold_up_the_rest(
    parts: Parts, workshop: Workshop
) -> None:
    workshop.write(
        "keeper",
        KEEPER.replace(
            "await trio.sleep(0.03)",
            "tries = node.state[cid] = node.state.get(cid, 0) + 1\n"
            "        if cid == node.config['bad'] and tries < 3: raise OSError('no')",
        ),
    )
    bad, good = (cids.make(cids.RAW, data) for data in (b"bad", b"good"))
    object.__setattr__(parts.config, "plugin", {"keeper": {"bad": cids.to_text(bad)}})
    parts.blocks.put_many([(bad, b"bad"), (good, b"good")])
    manager = workshop.manager(parts)
    mirroring = Mirroring(parts.config.data_dir / "mirror.sqlite", parts.blocks, manager)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(mirroring.run)
            await until(lambda: "keeper" in mirroring.backlog())
            for cid in (bad, good):
                parts.blocks.pin(cid, "site:x")
                mirroring.changed(cid)
            assert mirroring.backlog() == {"keeper": 2}
            await until(lambda: kept(parts.config.data_dir) == {cids.to_text(good)})
            await until(lambda: mirroring.backlog() == {"keeper": 1})
            await until(lambda: mirroring.backlog() == {"keeper": 0})
            assert kept(parts.config.data_dir) == pinned(parts)
            nursery.cancel_scope.cancel()
    finally:
        mirroring.close()
