"""What accounting costs: a gateway that counts beside one that does not, and a million records of use.

Two nodes with the same site take turns under wrk: one counts every answer, has its counts written down twice a second
at most, charges them (a plugin settles) and looks for who has no credit; in the other's gateway counting is taken out,
so there is nothing for its node to do. The ratio is that of the medians of all rounds. `counting_itself_us` is what
counting one answer takes by itself, in a loop: on a busy machine the two before it are mostly what others do.

The million is made, priced, settled and proved by `bench/_million.py`, in a process of its own; the peers are the goals
themselves, 60 s and 300 MB.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
import timeit
from pathlib import Path
from typing import Any

from tests.support import ROOT

from bench import Missing, serve
from bench.nodes import Node, get, median, timed, workspace
from decentraspace.gateway.control import ControlClient
from decentraspace.gateway.usage import UsageCounter

_SECONDS, _MEMORY = 60.0, 300.0
_RECORDS = 1_000_000

# Python reads it at the start of each process that has its folder in PYTHONPATH.
_NO_COUNTING = """
import asyncio

from decentraspace.gateway.usage import UsageCounter


async def idle(self):
    await asyncio.Event().wait()


UsageCounter.add = lambda self, site, status, size: None
UsageCounter.run = UsageCounter.flush_all = idle
"""

_PLUGIN = '''
"""Settles on a chain on which nothing ever happens."""

from decentraspace import hookimpl

OPERATOR, VAULT = "0x" + "0b" * 20, "0x" + "fa" * 20


@hookimpl
async def chain_status(node):
    return {"chain": 31337, "operator": OPERATOR, "vault": VAULT}


@hookimpl
async def chain_events(from_block, node):
    return {"chain": 31337, "next_block": from_block, "events": []}


@hookimpl
async def ledger_settle(charges, root, node):
    return [{**{k: c[k] for k in ("allocation", "owner", "credits")}, "reference": "", "status": "later"}
            for c in charges]
'''


def run(quick: bool = False) -> list[dict[str, Any]]:
    return [*_million(_RECORDS // 20 if quick else _RECORDS), *_counting(*((2, 2) if quick else (31, 2)))]


def _million(records: int) -> list[dict[str, Any]]:
    with workspace() as folder:
        command = [sys.executable, "-m", "bench._million", str(folder), str(records)]
        done = timed(command, {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT)})
    figures = json.loads(done.stdout.splitlines()[-1])
    share = records / _RECORDS
    common = {
        "goal": "<= 1",
        "peer": "the goal",
        "version": "60 s and 300 MB",
        "command": f"python -m bench._million FOLDER {records}",
        **{name: round(value, 2) for name, value in figures.items()},
    }
    return [
        {
            "name": f"{records} records of use rolled up, priced, settled and proved",
            "ratio": round(figures["seconds"] / (_SECONDS * share), 3),
            **common,
        },
        {
            # As long as the machine has other work, the clock says little.
            "name": f"the same by processor time, {records} records",
            "ratio": round(figures["cpu_s"] / (_SECONDS * share), 3),
            **common,
        },
        {
            "name": f"memory for {records} records of use",
            "ratio": round(figures["peak_mb"] / _MEMORY, 3),
            **common,
        },
    ]


def _counting(rounds: int, seconds: int) -> list[dict[str, Any]]:
    if shutil.which("wrk") is None:
        raise Missing("wrk is not here; install it with the system's package manager.")
    page = serve.page()
    with workspace() as folder:
        (folder / "off").mkdir()
        (folder / "off" / "sitecustomize.py").write_text(_NO_COUNTING)
        (folder / "plugins").mkdir()
        (folder / "plugins" / "quiet_chain.py").write_text(_PLUGIN)
        billing = {
            "DECENTRASPACE_PLUGINS_DIRECTORY": str(folder / "plugins"),
            "DECENTRASPACE_LIMITS_FREE_REQUESTS": str(10**15),
            "DECENTRASPACE_LIMITS_FREE_EGRESS": str(10**15),
        }
        with (
            Node(folder / "node on", environment=billing) as on,
            Node(folder / "node off", environment={"PYTHONPATH": str(folder / "off")}) as off,
        ):
            (folder / "a").mkdir()
            (folder / "b").mkdir()
            counting, silent = serve.deployed(on, folder / "a", page), serve.deployed(off, folder / "b", page)
            for peer in (counting, silent):
                serve.wrk(peer, 1)
            for number in range(rounds):
                pair = [counting, silent]
                for peer in pair if number % 2 else reversed(pair):
                    peer.runs.append(serve.wrk(peer, seconds))
            _await_count(on, folder / "node on" / "data", sum(r.rate for r in counting.runs) * seconds)
    common = {
        "goal": ">= 0.97",
        "peer": "the same gateway",
        "version": "without counting",
        "command": f"wrk -t1 -c32 -d{seconds}s, {rounds} rounds in turns",
    }
    pairs = list(zip(counting.runs, silent.runs, strict=True))
    rates, costs = [a.rate / b.rate for a, b in pairs], [b.cpu / a.cpu for a, b in pairs]
    ours, theirs = (serve.Load(*map(median, zip(*peer.runs, strict=True))) for peer in (counting, silent))
    return [
        {
            "name": "requests a second of a gateway that counts, beside one that does not",
            "ratio": round(ours.rate / theirs.rate, 3),
            **common,
            "our_requests_per_s": round(ours.rate),
            "peer_requests_per_s": round(theirs.rate),
            "lowest": round(min(rates), 3),
            "highest": round(max(rates), 3),
        },
        {
            # What others do on the machine counts less here than above.
            "name": "requests that a second of the gateway's processor time gives, likewise",
            "ratio": round(theirs.cpu / ours.cpu, 3),
            **common,
            "counting_itself_us": _counting_itself(),
            "our_us_per_request": ours.cpu,
            "peer_us_per_request": theirs.cpu,
            "lowest": round(min(costs), 3),
            "highest": round(max(costs), 3),
        },
    ]


def _counting_itself() -> float:
    counter, count = UsageCounter(ControlClient("nowhere")), 200_000
    seconds = min(timeit.repeat(lambda: counter.add("a" * 16, 200, 10_240), number=count, repeat=5))
    return round(seconds / count * 1e6, 3)


def _await_count(node: Node, data: Path, requests: float) -> None:
    """What was served must have been counted, all of it, or the comparison is with nothing."""
    import sqlite3

    end = time.monotonic() + 30
    while time.monotonic() < end:
        db = sqlite3.connect(f"file:{data}/ledger.sqlite?mode=ro", uri=True)
        counted = db.execute("SELECT COALESCE(SUM(requests), 0) FROM seen").fetchone()[0]
        db.close()
        if counted >= requests * 0.99:
            return
        get(node.api, "/readyz")
        time.sleep(0.5)
    raise RuntimeError(f"{counted} of {requests:.0f} requests were counted")
