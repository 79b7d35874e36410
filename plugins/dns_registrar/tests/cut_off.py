"""A node's process that begins a purchase, for tests to kill: `cut_off.py FOLDER NAME OWNER KEY CONTACT`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import trio
from plugins.dns_registrar.tests.conftest import Bench


async def main() -> None:
    folder, name, owner, key, contact = sys.argv[1:]
    node = await Bench(Path(folder)).start()
    await node.ask("name_quote", name=name, years=1)
    person = json.loads(contact)
    found = await node.ask("name_purchase", name=name, years=1, owner=owner, key=key, contact=person)
    sys.stdout.write(json.dumps(found) + "\n")
    sys.stdout.flush()
    await trio.sleep_forever()


trio.run(main)
