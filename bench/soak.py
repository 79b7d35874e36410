"""A node for an hour under mixed load: does its memory stay flat, in the control process and the gateway's?

    python -m bench.soak [--minutes 60]        the same as `python -m bench soak`, for as long as you like

Owners deploy, redeploy and roll back; visitors ask for hot pages and cold ones; a second node syncs, copies,
is stopped, and comes back, every other time with nothing; garbage is collected every half minute; the API is
asked. Every ten seconds the memory of both planes is read. What counts is anonymous memory (RssAnon of
proc(5)): what the processes took for themselves. The block store is a mapped file: its pages come and go as
the kernel likes, and are told apart. The ratio is the median of the last sixth of the time over that of the
second sixth; the first sixth is for warming up.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import psutil
from tests.network.lab.nodes import LabNode

from bench.nodes import memory, workspace
from bench.soaking import Api, Deploys, Load, Visitors

LONG = True  # not among those that run when none is named
_MINUTES, _QUICK_MINUTES = 60.0, 6.0
_EVERY = 10.0  # seconds between samples
_FLAT = 1.05
_SECOND_NODE = 300.0  # seconds between its restarts; a twelfth of the whole time if that is less
_PLANES = ("control", "gateway")
_SETTINGS: dict[str, dict[str, Any]] = {
    "network": {"sync_interval": 10.0},
    "gateway": {"cache_mb": 16, "fetch_timeout": 5.0},  # small, so that it is full before the warm-up ends
    "storage": {"gc_interval": 30.0, "gc_grace": 60.0},
    "hosting": {"keep_versions": 4, "check_every": 5.0, "challenge_every": 5.0, "live_for": 60},
    "records": {"sponsor_records": 1_000_000, "sponsor_bytes": 1 << 40},
}


class Sample(NamedTuple):
    """Of one plane: bytes, by proc(5). `pss`: shared pages in equal parts, mapped files included."""

    seconds: float
    anonymous: int
    resident: int
    pss: int


def run(quick: bool = False, minutes: float = 0.0) -> list[dict[str, Any]]:
    seconds = 60 * (minutes or (_QUICK_MINUTES if quick else _MINUTES))
    samples: dict[str, list[Sample]] = {plane: [] for plane in _PLANES}
    with workspace() as folder, ExitStack() as stack:
        os.environ["DECENTRASPACE_HOME"] = str(folder / "home")
        (folder / "home").mkdir(mode=0o700)
        node, second = (LabNode(number, folder / f"node{number}", None, replicas=0) for number in range(2))
        node.configure([], **_SETTINGS)
        second.configure([node.address], **_SETTINGS)
        for each in (node, second):
            stack.callback(_stop, each)
        node.start()
        node.wait()
        second.start()
        second.wait()
        deploys = Deploys(node, random.Random(1))
        loads: list[Load] = [deploys, Visitors(node, deploys, random.Random(2)), Api(node, deploys)]
        restarts = 0
        with _running(loads):
            began, next_sample = time.monotonic(), 0.0
            next_restart = interval = max(20.0, min(_SECOND_NODE, seconds / 12))
            while (now := time.monotonic() - began) < seconds:
                _check(node, loads)
                if now >= next_sample:
                    next_sample += _EVERY
                    for plane, sample in _sampled(node, now).items():
                        samples[plane].append(sample)
                    _tell(now, samples, loads)
                if now >= next_restart:
                    next_restart += interval
                    restarts += 1
                    _restart(second, emptied=restarts % 2 == 0)
                time.sleep(0.5)
        done: Counter[str] = sum((load.done for load in loads), Counter())
        complaints = [*node.complaints(), *second.complaints()]
    for line in complaints[:10]:
        print(line, file=sys.stderr)
    figures = {
        "load": dict(sorted(done.items())),
        "second_node_restarts": restarts,
        "complaints_in_logs": len(complaints),
    }
    return [result(plane, samples[plane], seconds, **figures) for plane in _PLANES]


def result(plane: str, samples: list[Sample], seconds: float, **figures: Any) -> dict[str, Any]:
    def during(sixth: int, of: str) -> float:
        chosen = [getattr(s, of) for s in samples if int(s.seconds * 6 / seconds) == sixth]
        return statistics.median(chosen)

    sizes = {
        f"{of}_{when}_mb": round(during(sixth, of) / 1e6, 2)
        for of in ("anonymous", "resident", "pss")
        for when, sixth in (("after_warm_up", 1), ("at_the_end", 5))
    }
    every = max(1, len(samples) // 60)
    return {
        "name": f"a soak of {seconds / 60:g} minutes at mixed load: growth of the {plane} plane after warm-up",
        "ratio": round(during(5, "anonymous") / during(1, "anonymous"), 4),
        "goal": f"<= {_FLAT}",
        "peer": "its own memory after warm-up",
        "version": "",
        "command": f"python -m bench.soak --minutes {seconds / 60:g}",
        **sizes,
        "anonymous_mb_over_time": [round(s.anonymous / 1e6, 1) for s in samples[::every]],
        **figures,
    }


def _sampled(node: LabNode, seconds: float) -> dict[str, Sample]:
    control, *below = processes(node.pid)
    planes = {"control": [control], "gateway": below}
    found = {}
    for plane, pids in planes.items():
        sizes = [memory(pid) for pid in pids]
        anonymous, resident = (sum(size[what] for size in sizes) for what in ("anonymous", "resident"))
        found[plane] = Sample(seconds, anonymous, resident, sum(map(_pss, pids)))
    return found


def processes(pid: int) -> list[int]:
    """The node's, then those of its gateway: its supervisor and workers. Not processes that judge records."""
    result = [pid]
    for child in psutil.Process(pid).children():
        with suppress(psutil.NoSuchProcess):
            if any("decentraspace.gateway" in part for part in child.cmdline()):
                result += [child.pid, *(c.pid for c in child.children(recursive=True))]
    return result


def _pss(pid: int) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


def _tell(now: float, samples: dict[str, list[Sample]], loads: list[Load]) -> None:
    if len(samples["control"]) % 6 == 1:
        sizes = ", ".join(
            f"{plane} {s[-1].anonymous / 1e6:.1f} (resident {s[-1].resident / 1e6:.1f}, pss {s[-1].pss / 1e6:.1f})"
            for plane, s in samples.items()
        )
        counts = dict(sum((load.done for load in loads), Counter()))
        print(f"{now / 60:5.1f} min, MB: {sizes}; {counts}", file=sys.stderr, flush=True)


def _check(node: LabNode, loads: list[Load]) -> None:
    node.check_alive()
    for load in loads:
        if load.failure is not None:
            raise RuntimeError("the load could not go on") from load.failure


@contextmanager
def _running(loads: list[Load]) -> Iterator[None]:
    threads = [threading.Thread(target=load.run, daemon=True) for load in loads]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        for load in loads:
            load.end.set()
        for thread in threads:
            thread.join(60)


def _restart(second: LabNode, *, emptied: bool) -> None:
    second.stop()
    if emptied:
        for path in second.folder.iterdir():
            if path.name not in ("config.toml", "log", "node.key"):
                _remove(path)
    second.start()  # nobody waits for it: the load goes on


def _remove(path: Path) -> None:
    if path.is_dir():
        for inner in path.iterdir():
            _remove(inner)
        path.rmdir()
    else:
        path.unlink()


def _stop(node: LabNode) -> None:
    stop: Callable[[], None] = node.stop
    with suppress(Exception):  # what counted was measured before
        stop()


def main() -> int:
    from bench.__main__ import RESULTS, kept, table, write
    from bench.machine import load

    parser = argparse.ArgumentParser(prog="python -m bench.soak", description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=_MINUTES)
    parser.add_argument("--results", type=Path, default=RESULTS, help="where the figures go")
    asked = parser.parse_args()
    common = {"module": "soak", "taken": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
    common |= {"quick": False, "load_before": load()}
    results = [{**result, **common} for result in run(minutes=asked.minutes)]
    write([*kept(["soak"], asked.results), *results], asked.results)
    print(table(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
