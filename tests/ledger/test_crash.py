"""`kill -9` at any instant: what was acknowledged is charged once, and what was charged is paid once."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from decentraspace.ledger.clock import HOUR, Moment
from decentraspace.ledger.rollup import address
from decentraspace.ledger.usage import UsageStore
from tests.ledger.crash_child import BYTES, REQUESTS, SITES, rows, settle
from tests.ledger.world import GIB, START, World, owner_of, site_of

ROOT = Path(__file__).resolve().parents[2]
ROUNDS = 160


def run(folder: Path, seconds: float | None) -> tuple[int, int]:
    """(batches that were acknowledged, exit code); killed after so many seconds of work."""
    command = [sys.executable, "-m", "tests.ledger.crash_child", str(folder), str(ROUNDS)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    counted = 0
    end: float | None = None
    for line in process.stdout:
        counted = int(line.split()[1])
        end = end or (time.monotonic() + seconds if seconds is not None else float("inf"))
        if time.monotonic() > end:
            os.kill(process.pid, signal.SIGKILL)
            break
    counted = max([counted, *(int(line.split()[1]) for line in process.stdout)])
    process.stdout.close()
    return counted, process.wait()


def test_killed_again_and_again(tmp_path: Path) -> None:
    rng, acknowledged = random.Random(4), 0
    for _ in range(6):
        counted, code = run(tmp_path, rng.uniform(0.0, 0.25))
        acknowledged = max(acknowledged, counted)
        usage = UsageStore(tmp_path / "usage.sqlite")
        assert usage.totals(site_of(1))[0] >= acknowledged * REQUESTS
        usage.close()
        World(tmp_path).ledger.close()  # it opens, and its books balance
        if code == 0:
            break
    assert run(tmp_path, None)[1] == 0

    world = World(tmp_path, exposure=10**12, site_monthly_cap=10**12)
    world.sound()
    usage = UsageStore(tmp_path / "usage.sqlite")
    owners = {site_of(site): owner_of(site) for site in range(1, SITES + 1)}
    totals, _ = usage.touched()
    world.ledger.take_usage(totals, owners)
    wall = START + (ROUNDS // 4 + 2) * HOUR
    for step in (0, HOUR):
        world.ledger.tick(Moment(wall + step, wall + step, "boot"))
    batch = world.ledger.next_batch(wall + HOUR)
    if batch is not None:
        settle(tmp_path / "chain.json", batch)
        world.ledger.answered(batch.root, world.answers(batch, "final", "0x01"), wall + HOUR)
    world.sound()

    # The straightforward model: everything that was counted, at its price, rounded down once.
    paid = json.loads((tmp_path / "chain.json").read_text())
    requests, size = sum(r.requests for n in range(ROUNDS) for r in rows(n)) // SITES, ROUNDS * BYTES
    assert usage.totals(site_of(1)) == (requests, size)
    for site in range(1, SITES + 1):
        lines = world.ledger.history(owner_of(site), limit=10_000)
        assert sum(line.quantity for line in lines if line.service == "egress") == size
        assert sum(line.quantity for line in lines if line.service == "requests") == requests
        free = sum(line.free for line in lines if line.service == "egress")
        free_requests = sum(line.free for line in lines if line.service == "requests")
        due = (size - free) * 1_000_000 // GIB + (requests - free_requests)
        account = world.ledger.account(owner_of(site))
        [allocation] = account.allocations
        assert allocation.settled == paid[allocation.id.hex()] == due
        assert world.balance(f"owner:{address(owner_of(site))}") == 0
    usage.close()
    world.ledger.close()
