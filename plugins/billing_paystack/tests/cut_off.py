"""A node's process that begins a payment, for tests to kill: `cut_off.py CONFIG DATA OWNER CREDITS KEY`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import trio

from decentraspace.plugins import PluginManager
from decentraspace.testing import Parts


async def main() -> None:
    file, data, owner, credits, key = sys.argv[1:]
    parts = Parts.open(Path(file), Path(data), Path(data) / "other-blocks")
    manager = PluginManager(parts.config.plugins)
    await manager.load(parts)
    await manager.call("node_started")
    found = await manager.first(
        "payment_recharge", method="paystack", owner=owner, credits=int(credits), key=key
    )
    sys.stdout.write(json.dumps(found.value if found else None) + "\n")
    sys.stdout.flush()
    await trio.sleep_forever()


trio.run(main)
