"""A node's accounting at full speed, to be killed at any instant: `python -m tests.ledger.crash_child FOLDER ROUNDS`.

Says `counted N` for each batch of the gateway that was acknowledged. The chain is a file that is replaced as a
whole, and pays what CreditVault would.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from decentraspace.ledger.clock import CLOSE_AFTER, HOUR, Moment
from decentraspace.ledger.settlement import Batch
from decentraspace.ledger.usage import UsageRow, UsageStore
from tests.ledger.world import START, World, owner_of, site_of

SITES, BYTES, REQUESTS = 3, 123_456_789, 1_234
CAP = 10**12


def rows(number: int) -> list[UsageRow]:
    hour = START // HOUR + number // 4
    return [UsageRow(site_of(site), hour, 2, REQUESTS, BYTES) for site in range(1, SITES + 1)]


def settle(chain: Path, batch: Batch) -> None:
    paid = json.loads(chain.read_text()) if chain.exists() else {}
    for charge in batch.charges:
        name = charge.allocation.hex()
        paid[name] = max(paid.get(name, 0), charge.cumulative)
    fresh = chain.with_suffix(".new")
    fresh.write_text(json.dumps(paid))
    fresh.replace(chain)


def main(folder: Path, rounds: int) -> None:
    usage = UsageStore(folder / "usage.sqlite")
    world = World(folder, exposure=10**12, site_monthly_cap=10**12)
    ledger = world.ledger
    for site in range(1, SITES + 1):
        world.vault.allocate(owner_of(site), CAP, days=3000)
    ledger.take_events(world.vault.answer(0))
    owners = {site_of(site): owner_of(site) for site in range(1, SITES + 1)}
    done = usage.totals(site_of(1))[0] // REQUESTS
    for number in range(done, rounds):
        usage.add_batch("worker", number + 1, rows(number))
        print(f"counted {number + 1}", flush=True)
        totals, turn = usage.touched()
        ledger.take_usage(totals, owners)
        usage.forget(turn)
        wall = START + (number // 4) * HOUR + (number % 4) * 900 + CLOSE_AFTER
        ledger.tick(Moment(wall, wall, "boot"))
        batch = ledger.next_batch(wall)
        if batch is not None:
            settle(folder / "chain.json", batch)
            ledger.answered(batch.root, world.answers(batch, "final", "0x01"), wall)
    usage.close()
    ledger.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
