"""`decentraspace run` in a process of its own, as an operator has it."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Self

import httpx

from decentraspace.config import PluginsConfig
from decentraspace.plugins.loading import candidates


def free_port() -> int:
    """A TCP port of 127.0.0.1 that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


class RunningNode:
    """`with RunningNode(folder) as node`: it is ready. Its data is in `folder`, its log in `folder`/log.

    Alone on loopback, on ports that were free, and with no plugins but those named. Settings are given by their
    variable without its prefix: `RunningNode(folder, GATEWAY_HOST="::1", CONFIG=str(file))`.

    url      of its API
    api, gateway  the ports of both
    environment   what its process, and a command that is to use it, is given
    """

    def __init__(self, folder: Path, *, plugins: Iterable[str] = (), **settings: str) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.api, self.gateway = free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.api}"
        wanted = set(plugins)
        others = [found.name for found in candidates(PluginsConfig()) if found.name not in wanted]
        values = {
            "NODE_DATA_DIR": str(folder / "data"),
            "NETWORK_LISTEN": f"/ip4/127.0.0.1/tcp/{free_port()}",
            "NETWORK_MDNS": "no",
            "API_PORT": str(self.api),
            "GATEWAY_PORT": str(self.gateway),
            "PLUGINS_DISABLED": ",".join(others),
            **settings,
        }
        kept = {k: v for k, v in os.environ.items() if not k.startswith("DECENTRASPACE_")}
        self.environment = {**kept, **{f"DECENTRASPACE_{k}": v for k, v in values.items()}}
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
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
        """What `condition` gives, once it is true. AssertionError, with the log, when the node ends or the time."""
        deadline = time.monotonic() + seconds
        while not (value := condition()):
            if self.process is None or self.process.poll() is not None:
                raise AssertionError(self.log())
            if time.monotonic() >= deadline:
                raise AssertionError(f"not so within {seconds} s:\n{self.log()}")
            time.sleep(0.05)
        return value

    def get(self, path: str) -> httpx.Response | None:
        """What the API answers; None while nobody does."""
        try:
            return httpx.get(self.url + path, timeout=10, trust_env=False)
        except httpx.TransportError:
            return None

    def ready(self) -> bool:
        answer = self.get("/readyz")
        return answer is not None and answer.status_code == 200
