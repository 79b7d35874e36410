"""Deploys site after site with real stores until it is killed; says on stdout what was acknowledged.

Run as `python crash_child.py FOLDER SEED`. Lines: `ready`, then `ack SEQ ROOT MANIFEST RECEIPT` each time
`Hosting.deploy` has returned. Meanwhile it collects garbage without grace in another thread.
"""

from __future__ import annotations

import io
import random
import sys
import time
from pathlib import Path
from typing import Any

import trio

from decentraspace.config import load
from decentraspace.content import cid as cids
from decentraspace.content.blockstore import BlockStore
from decentraspace.content.gc import collect
from decentraspace.content.importer import add_directory, add_file
from decentraspace.hosting import Hosting
from decentraspace.identity.keys import NodeKey
from decentraspace.records.codec import record_cid
from decentraspace.records.store import RecordStore
from decentraspace.records.verdict import NetworkRules
from tests.hosting.owner import Owner


def open_hosting(folder: Path) -> tuple[Hosting, BlockStore, RecordStore]:
    config = load(environ={}, overrides={"hosting": {"keep_versions": 3}, "node": {"data_dir": str(folder)}})
    rules = NetworkRules.from_config(config)
    blocks = BlockStore.open(folder / "blocks", quota=config.storage.quota)
    records = RecordStore(folder / "records.sqlite", rules, config.records)

    async def nothing(*_: Any, **__: Any) -> None:
        return None

    hosting = Hosting(
        config,
        NodeKey.load_or_create(folder / "node.key", None),
        rules,
        blocks,
        records,
        fetcher=None,  # type: ignore[arg-type]  # nothing is fetched: every block is uploaded here
        publish=nothing,
        emit=nothing,
        tier=lambda owner: "paid",
    )
    return hosting, blocks, records


async def main(folder: Path, seed: int) -> None:
    rng = random.Random(seed)
    hosting, blocks, records = open_hosting(folder)
    owner = Owner(folder / "owner.json", hosting.rules)

    def collect_for_ever() -> None:
        while True:
            for _ in collect(blocks, grace=0.0, batch=50):
                pass
            time.sleep(0.001)

    async with trio.open_nursery() as nursery:
        await nursery.start(hosting.run)
        nursery.start_soon(trio.to_thread.run_sync, collect_for_ever)
        print("ready", flush=True)
        while True:
            with blocks.hold():
                writer = blocks.writer()
                entries = {}
                for number in range(rng.randrange(1, 12)):
                    size = rng.choice([0, 10, 5000, 300_000])
                    # Some files are always the same, so that versions share blocks.
                    content = bytes(size) if rng.random() < 0.5 else rng.randbytes(size)
                    entries[f"file{number}"] = add_file(io.BytesIO(content), writer.put)
                entry = add_directory(entries, writer.put)
                writer.flush()
                head = records.head(owner.site_id)
                record = owner.sign(entry.cid, entry.tsize, head)
                deployed = await hosting.deploy(owner.address, record)
            receipt = record_cid(deployed.receipt)
            words = [str(deployed.head.seq), *map(cids.to_text, (entry.cid, deployed.head.cid, receipt))]
            print("ack", *words, flush=True)


if __name__ == "__main__":
    trio.run(main, Path(sys.argv[1]), int(sys.argv[2]))
