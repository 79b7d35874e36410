"""Blocks and unblocks until it is killed; prints the number of entries that are durable."""

from __future__ import annotations

import sys
from pathlib import Path

from decentraspace.content import cid as cids
from decentraspace.identity.keys import NodeKey
from decentraspace.moderation import targets
from decentraspace.moderation.decisions import Decisions

folder = Path(sys.argv[1])
store = Decisions(folder / "moderation.sqlite", NodeKey.load_or_create(folder / "node.key", None))
number = len(store.log(0, 1_000_000))
while True:
    target = targets.parse("cid", cids.to_text(cids.make(cids.RAW, str(number).encode())))
    store.block(target, status=410, reason="", hidden=False, by=bytes(20))
    number += 1
    print(number, flush=True)
    if number % 3 == 0:
        store.unblock(target)
        number += 1
        print(number, flush=True)
