"""Pins and unpins for sites until it is killed, and tells a plugin meanwhile; one line for each change."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import trio

from decentraspace.config import load
from decentraspace.content import cid as cids
from decentraspace.content.blockstore import BlockStore
from decentraspace.identity.keys import NodeKey
from decentraspace.mirroring import Mirroring
from decentraspace.plugins import PluginManager
from tests.plugins.conftest import Parts
from tests.support import IN_TREE_PLUGINS


async def main(folder: Path, seed: int) -> None:
    rng, data_dir = random.Random(seed), folder / "data"
    plugins = {"directory": str(folder / "plugins"), "disabled": list(IN_TREE_PLUGINS)}
    config = load(environ={}, overrides={"node": {"data_dir": str(data_dir)}, "plugins": plugins})
    key = NodeKey.load_or_create(data_dir / "node.key", None)
    with BlockStore.open(data_dir / "blocks", quota=1 << 26) as blocks:
        manager = PluginManager(config.plugins)
        await manager.load(Parts(config, blocks, key))
        mirroring = Mirroring(data_dir / "mirror.sqlite", blocks, manager)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(mirroring.run)
            while True:
                data = b"%d" % rng.randrange(60)
                cid = cids.make(cids.RAW, data)
                if blocks.is_pinned(cid) and rng.random() < 0.6:
                    blocks.unpin(cid, "site:x")
                else:
                    blocks.put_many([(cid, data)])
                    blocks.pin(cid, "site:x")
                mirroring.changed(cid)
                sys.stdout.write(f"{cids.to_text(cid)}\n")
                sys.stdout.flush()
                await trio.sleep(0.001)


trio.run(main, Path(sys.argv[1]), int(sys.argv[2]))
