"""A node's process that begins a purchase, for tests to kill: `cut_off.py CONFIG DATA NAME OWNER KEY CONTACT`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import trio

from decentraspace.plugins import PluginManager
from decentraspace.testing import Parts


async def main() -> None:
    file, data, name, owner, key, contact = sys.argv[1:]
    parts = Parts.open(Path(file), Path(data), Path(data) / "other-blocks")
    manager = PluginManager(parts.config.plugins)
    await manager.load(parts)
    await manager.call("node_started")
    await manager.first("name_quote", name=name, years=1)
    person = json.loads(contact)
    await manager.first("name_purchase", name=name, years=1, owner=owner, key=key, contact=person)
    await trio.sleep_forever()


trio.run(main)
