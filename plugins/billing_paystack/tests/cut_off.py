"""A node's process that begins a payment, for tests to kill: `cut_off.py CONFIG DATA OWNER CREDITS KEY`."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import trio

from decentraspace import config as configuration
from decentraspace.config import Config
from decentraspace.content.blockstore import BlockStore
from decentraspace.identity.keys import NodeKey
from decentraspace.plugins import PluginManager


@dataclass
class Parts:
    config: Config
    blocks: BlockStore
    key: NodeKey


async def main() -> None:
    file, data, owner, credits, key = sys.argv[1:]
    config = configuration.load(Path(file), environ={}, overrides={"node": {"data_dir": data}})
    blocks = BlockStore.open(Path(data) / "other-blocks", quota=1 << 30)
    manager = PluginManager(config.plugins)
    await manager.load(Parts(config, blocks, NodeKey.load_or_create(Path(data) / "node.key", None)))
    await manager.call("node_started")
    found = await manager.first(
        "payment_recharge", method="paystack", owner=owner, credits=int(credits), key=key
    )
    sys.stdout.write(json.dumps(found.value if found else None) + "\n")
    sys.stdout.flush()
    await trio.sleep_forever()


trio.run(main)
