"""`make demo ONCE=1` in a fresh clone: with nothing set up, and again when everything is.

The peer of the ratios is the goal itself: 4 minutes and 20 s. The whole demo is timed, deploy, kill and checks
included, so being ready took less. What a package index has to send is in the first figure.
"""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from typing import Any

from tests.support import ROOT

from bench import Missing
from bench.nodes import median, workspace

_FIRST, _AGAIN = 240.0, 20.0  # seconds


def run(quick: bool = False) -> list[dict[str, Any]]:
    runs = 1 if quick else 3
    if subprocess.run(["git", "rev-parse"], cwd=ROOT, capture_output=True, check=False).returncode:
        raise Missing("This is no git checkout, so there is nothing to clone.")
    with workspace() as folder:
        clone = folder / "clone"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        first = _demo(clone)
        again = [_demo(clone) for _ in range(runs)]
    common = {"goal": "<= 1", "version": "", "command": "make demo ONCE=1"}
    return [
        {
            "name": "make demo in a fresh clone, set-up included",
            "ratio": round(first / _FIRST, 3),
            "peer": "the goal of 240 s",
            **common,
            "seconds": round(first, 1),
        },
        {
            "name": "make demo again",
            "ratio": round(median(again) / _AGAIN, 3),
            "peer": "the goal of 20 s",
            **common,
            "runs": runs,
            "median_s": round(median(again), 1),
            "slowest_s": round(max(again), 1),
        },
    ]


def _demo(clone: Path) -> float:
    environment = {k: v for k, v in os.environ.items() if k not in ("VIRTUAL_ENV", "PYTHONPATH")}
    began = time.perf_counter()
    done = subprocess.run(
        ["make", "demo", "ONCE=1"], cwd=clone, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"make demo ended with {done.returncode}: {(done.stdout + done.stderr)[-3000:]}")
    return time.perf_counter() - began
