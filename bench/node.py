"""A node at rest: resident memory of the control process, and the time until it is ready.

The peer of the ratios is the goal itself: 150 MB and 3 s. Kubo's daemon is shown beside it where it is.
"""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from bench import Missing
from bench.nodes import Kubo, Node, median, memory, workspace

_MEMORY, _READY = 150e6, 3.0  # bytes, seconds
_REST = 5.0  # seconds after which a started node counts as at rest


def run(quick: bool = False) -> list[dict[str, Any]]:
    runs = 2 if quick else 5
    first: list[float] = []
    again: list[float] = []
    resident: list[int] = []
    anonymous: list[int] = []
    beside: dict[str, Any] = {}
    beside_memory: dict[str, Any] = {}
    with workspace() as folder:
        for number in range(runs):
            node = Node(folder / f"node{number}")
            with node:  # makes its key and its stores
                first.append(node.seconds_to_ready)
            with node:
                again.append(node.seconds_to_ready)
                time.sleep(_REST)
                now = memory(node.pid)
                resident.append(now["resident"])
                anonymous.append(now["anonymous"])
        with suppress(Missing):
            seconds, size = _kubo(folder / "kubo", runs)
            beside = {"kubo_daemon_ready_s": seconds}
            beside_memory = {"kubo_daemon_resident_mb": size}
    return [
        {
            "name": "a node at rest: resident memory of the control process",
            "ratio": round(max(resident) / _MEMORY, 3),
            "goal": "<= 1",
            "peer": "the goal of 150 MB",
            "version": "",
            "command": "decentraspace run",
            "runs": runs,
            "most_resident_mb": round(max(resident) / 1e6, 1),
            "median_resident_mb": round(median(resident) / 1e6, 1),
            "median_anonymous_mb": round(median(anonymous) / 1e6, 1),
            **beside_memory,
        },
        {
            "name": "a node's start until it is ready",
            "ratio": round(median(again) / _READY, 3),
            "goal": "<= 1",
            "peer": "the goal of 3 s",
            "version": "",
            "command": "decentraspace run",
            "runs": runs,
            "median_s": median(again),
            "slowest_s": round(max(again), 3),
            "first_start_median_s": median(first),
            **beside,
        },
    ]


def _kubo(folder: Path, runs: int) -> tuple[float, float]:
    """(median seconds to ready, resident MB after the same rest), of the daemon."""
    kubo = Kubo()
    environment = kubo.repository(folder)
    seconds, sizes = [], []
    for _ in range(runs):
        began = time.perf_counter()
        with kubo.daemon(environment) as pid:
            seconds.append(time.perf_counter() - began)
            time.sleep(_REST)
            sizes.append(memory(pid)["resident"])
    return median(seconds), round(median(sizes) / 1e6, 1)
