"""A month of a node's accounting as fast as it goes: `python -m bench._million FOLDER RECORDS`, a process of its own.

Counts of the gateway, hour by hour, as workers report them; each hour priced, journaled and closed; all of it settled
in a batch, and every statement written. Then, with a time of its own, each is read again and verified, and the books
are checked. The last line it prints has the figures.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from decentraspace.config import BillingConfig, Config, LimitsConfig
from decentraspace.ledger import verify
from decentraspace.ledger.clock import HOUR, Moment
from decentraspace.ledger.store import Ledger
from decentraspace.ledger.usage import UsageRow, UsageStore
from decentraspace.records.schema import site_id

OWNERS, SITES = 200, 5  # sites of each owner
STATUSES = (2, 3, 4)  # what went wrong is reported, and not charged
START = int(time.time()) // HOUR * HOUR
CHAIN, VAULT, OPERATOR = 31337, "0x" + "fa" * 20, "0x" + "0b" * 20


def owner(number: int) -> bytes:
    return number.to_bytes(20, "big")


def rows(hour: int, sites: list[str]) -> Iterator[UsageRow]:
    for place, site in enumerate(sites):
        for status in STATUSES:
            yield UsageRow(
                site, START // HOUR + hour, status, 100 + place + hour, (place + 1) * 100_000 * status
            )


def granted(number: int) -> dict[str, Any]:
    name = f"0x{number:064x}"
    return {
        "block": 1, "block_hash": name, "time": START, "transaction": name, "index": 0, "kind": "allocated",
        "owner": "0x" + owner(number).hex(), "operator": OPERATOR, "allocation": name, "id": number,
        "cap": 10**15, "rate": 0, "start": START - 1, "expires": START + 10**9,
    }  # fmt: skip


def main(folder: Path, records: int) -> dict[str, Any]:
    nothing = LimitsConfig(paid_free_storage=0, paid_free_egress=0, paid_free_requests=0)
    config = Config(billing=BillingConfig(exposure=10**15, site_monthly_cap=10**15), limits=nothing)
    sites = [site_id(owner(n), f"s{m}") for n in range(1, OWNERS + 1) for m in range(SITES)]
    owners = {site: owner(place // SITES + 1) for place, site in enumerate(sites)}
    hours = max(1, records // (len(sites) * len(STATUSES)))
    figures: dict[str, Any] = {"records": hours * len(sites) * len(STATUSES)}
    usage, ledger = UsageStore(folder / "usage.sqlite"), Ledger(folder / "ledger.sqlite", config)
    ledger.bind(CHAIN, VAULT, OPERATOR)
    events = [granted(n) for n in range(1, OWNERS + 1)]
    ledger.take_events({"chain": CHAIN, "next_block": 2, "events": events})

    began, cpu = time.perf_counter(), time.process_time()
    ledger.tick(Moment(START, 0, "boot"))
    for hour in range(hours):
        usage.add_batch("worker", hour + 1, list(rows(hour, sites)))
        totals, turn = usage.touched()
        ledger.take_usage(totals, owners)
        usage.forget(turn)
        ledger.close_hours(START // HOUR + hour, START + (hour + 1) * HOUR + 60)
    figures["priced_s"], figures["priced_cpu_s"] = time.perf_counter() - began, time.process_time() - cpu

    at = START + hours * HOUR + 60
    batch = ledger.next_batch(at)
    assert batch is not None
    with (folder / "statements").open("w") as file:
        for statement in ledger.statements_of(batch.root):
            file.write(json.dumps(statement) + "\n")
    answers = [{**charge.offer(), "reference": "0x01", "status": "final"} for charge in batch.charges]
    ledger.answered(batch.root, answers, at)
    figures["seconds"], figures["cpu_s"] = time.perf_counter() - began, time.process_time() - cpu

    began, proved = time.perf_counter(), 0
    with (folder / "statements").open() as file:
        for line in file:
            proved += verify.check(json.loads(line)).uses
    wrong = ledger.check()
    figures["verified_s"] = time.perf_counter() - began
    leaves = hours * len(sites) * 2  # two services
    if wrong or proved != leaves or ledger.balances("owner:") != dict.fromkeys(ledger.balances("owner:"), 0):
        raise RuntimeError(f"{proved} of {leaves} uses proved; the books: {wrong}")
    usage.close()
    ledger.close()
    return figures | {
        "uses_proved": proved,
        "statements": len(batch.charges),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "disk_mb": sum(path.stat().st_size for path in folder.iterdir()) / 2**20,
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(Path(sys.argv[1]), int(sys.argv[2]))) + "\n")
