"""`decentraspace run` in a process of its own, as an operator has it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from tests.support import IN_TREE_PLUGINS, free_port


class RunningNode:
    """`with RunningNode(folder) as node`: ready. Settings by variable, `GATEWAY_HOST="::1"`, without prefix."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.api, self.gateway = free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.api}"
        values = {
            "NODE_DATA_DIR": str(folder / "data"),
            "NETWORK_LISTEN": f"/ip4/127.0.0.1/tcp/{free_port()}",
            "NETWORK_MDNS": "no",
            "API_PORT": str(self.api),
            "GATEWAY_PORT": str(self.gateway),
            "PLUGINS_DISABLED": ",".join(IN_TREE_PLUGINS),
            **settings,
        }
        kept = {k: v for k, v in os.environ.items() if not k.startswith("DECENTRASPACE_")}
        self.environment = {**kept, **{f"DECENTRASPACE_{k}": v for k, v in values.items()}}
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> RunningNode:
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "decentraspace", "run"],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stderr=log,
            )
        try:
            self.until(self.ready)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def log(self) -> str:
        """Without colours."""
        return re.sub(r"\x1b\[[0-9;]*m", "", (self.folder / "log").read_text())

    def until(self, condition: Callable[[], Any], seconds: float = 60.0) -> Any:
        """What `condition` gives, once it is true. The node must not end before that."""
        deadline = time.monotonic() + seconds
        while not (value := condition()):
            assert self.process is not None
            assert self.process.poll() is None, self.log()
            assert time.monotonic() < deadline, f"not so within {seconds} s:\n{self.log()}"
            time.sleep(0.05)
        return value

    def get(self, path: str) -> httpx.Response | None:
        """None while nobody answers."""
        try:
            return httpx.get(self.url + path, timeout=10, trust_env=False)
        except httpx.TransportError:
            return None

    def ready(self) -> bool:
        answer = self.get("/readyz")
        return answer is not None and answer.status_code == 200

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
