"""`decentraspace run` in a process of its own, as an operator has it, and its command line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from decentraspace import testing


class RunningNode(testing.RunningNode):
    """With what only this repository's tests look at."""

    def gateways(self) -> list[int]:
        """Process ids of the gateway and, after it, of its workers."""
        assert self.process is not None
        found: list[int] = []
        waiting = children(self.process.pid)
        while waiting:
            found.append(waiting.pop(0))
            waiting += children(found[-1])
        return found


def children(pid: int) -> list[int]:
    found: list[int] = []
    for task in sorted(Path(f"/proc/{pid}/task").glob("*/children")):
        try:
            found += [int(child) for child in task.read_text().split()]
        except OSError:
            continue
    return found


def command(
    home: Path, *arguments: object, stdin: str = "", **variables: str
) -> subprocess.CompletedProcess[str]:
    """The command line in a process of its own, with nobody's settings but these."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("DECENTRASPACE_")}
    return subprocess.run(
        [sys.executable, "-m", "decentraspace", *map(str, arguments)],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=home,
        env={
            **kept,
            "HOME": str(home),
            "DECENTRASPACE_HOME": str(home / "sessions"),
            "COLUMNS": "100",
            **variables,
        },
    )
