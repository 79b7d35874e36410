"""A process with the plugin in it, for a test that kills it: `killed.py CONFIG DATA`, with work on standard input.

Offers a batch and a deposit, or the purchase of a name, again and again, as a node does, and prints how they stand, a
line of JSON each time.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import trio

from decentraspace.errors import DecentraSpaceError
from decentraspace.plugins import PluginManager
from decentraspace.testing import Parts


async def main(file: Path, data: Path) -> None:
    work = json.load(sys.stdin)
    parts = Parts.open(file, data)
    manager = PluginManager(parts.config.plugins)
    await manager.load(parts)
    await manager.call("node_started")
    while True:
        try:
            if "purchase" in work:
                bought = await manager.first("name_purchase", **work["purchase"])
                print(json.dumps(bought.value if bought else {}), flush=True)
                await trio.sleep(0.05)
                continue
            found = await manager.first("ledger_settle", charges=work["charges"], root=work["root"])
            paid = await manager.first("chain_send", **work["deposit"])
        except DecentraSpaceError as error:
            print(json.dumps({"error": error.detail}), flush=True)
        else:
            states = [answer["status"] for answer in found.value] if found else []
            deposit = paid.value["status"] if paid else ""
            print(json.dumps({"settle": states, "deposit": deposit}), flush=True)
        await trio.sleep(0.05)


if __name__ == "__main__":
    trio.run(main, Path(sys.argv[1]), Path(sys.argv[2]))
