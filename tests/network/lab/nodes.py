"""Nodes of the laboratory: `decentraspace run` in a process of its own, asked from within its own network."""

from __future__ import annotations

import http.client
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, NamedTuple

from decentraspace.identity.keys import NodeKey
from tests.network.lab.tunnels import Namespace
from tests.support import ROOT, free_port

_DEADLINE = 90.0  # seconds for a node to start, on a machine that is busy
_ANSWER = 20.0
# Whoever runs the laboratory may have settings of their own in the environment.
_ENVIRONMENT = {k: v for k, v in os.environ.items() if not k.startswith("DECENTRASPACE_")}
_ENVIRONMENT |= {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'node'}", "NO_PROXY": "*"}
_COMMAND = (sys.executable, "-m", "tests.network.lab.process")

# What takes minutes and hours elsewhere takes seconds here.
_SETTINGS: dict[str, dict[str, Any]] = {
    "network": {"mdns": False, "allow_private": True, "sync_interval": 2.0},
    "gateway": {"workers": 1, "fetch_timeout": 10.0, "cache_mb": 0},
    "storage": {"gc_interval": 2.0, "gc_grace": 30.0},
    "hosting": {
        "check_every": 1.0,
        "live_for": 12,
        "release_after": 3.0,
        "challenge_every": 0.5,
        "refute_after": 4.0,
    },
    "limits": {"free_sites": 1000},
    "log": {"format": "json"},
}


class Answer(NamedTuple):
    status: int
    body: bytes


class Failed(AssertionError):
    """What the laboratory is there to find."""


def until(holds: Callable[[], bool], deadline: float, what: str) -> None:
    """Poll; Failed, saying `what`, when it does not hold in `deadline` seconds."""
    end = time.monotonic() + deadline
    while not holds():
        if time.monotonic() > end:
            raise Failed(what)
        time.sleep(0.05)


class LabNode:
    """One node. `skew`: seconds its clock is off, from its next start on."""

    def __init__(self, number: int, folder: Path, namespace: Namespace | None, replicas: int) -> None:
        folder.mkdir(parents=True)
        self.number, self.folder, self.namespace = number, folder, namespace
        self.host = namespace.address if namespace else "127.0.0.1"
        self.ports = (4001, 8080, 8090) if namespace else (free_port(), free_port(), free_port())
        self.key = NodeKey.load_or_create(folder / "node.key", None)
        self.replicas = replicas
        self.skew = 0.0
        self.paused = False
        self.gone = False  # for good
        self._process: subprocess.Popen[bytes] | None = None

    def __repr__(self) -> str:
        return f"node{self.number}"

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.ports[2]}"

    @property
    def address(self) -> str:
        return f"/ip4/{self.host}/tcp/{self.ports[0]}/p2p/{self.key.peer_id}"

    @property
    def pid(self) -> int:
        if self._process is None:
            raise Failed(f"{self} does not run")
        return self._process.pid

    @property
    def runs(self) -> bool:
        return self._process is not None

    def configure(self, bootstrap: list[str], **more: dict[str, Any]) -> None:
        p2p, gateway, api = self.ports
        sections = {name: dict(values) for name, values in _SETTINGS.items()}
        sections["node"] = {"data_dir": str(self.folder), "name": repr(self)}
        sections["network"] |= {"listen": [f"/ip4/{self.host}/tcp/{p2p}"], "bootstrap": bootstrap}
        sections["gateway"] |= {"host": self.host, "port": gateway}
        sections["api"] = {"host": self.host, "port": api}
        sections["hosting"]["replicas"] = self.replicas
        for name, values in more.items():
            sections[name] = {**sections.get(name, {}), **values}
        lines = []
        for name, values in sections.items():
            lines += [f"[{name}]", *(f"{k} = {json.dumps(v)}" for k, v in values.items())]
        (self.folder / "config.toml").write_text("\n".join(lines) + "\n")

    # -- the process

    def start(self) -> None:
        """Begin; see `wait`."""
        with (self.folder / "log").open("ab") as log, self.inside():
            self._process = subprocess.Popen(
                [*_COMMAND, str(self.skew), "run", "--config", str(self.folder / "config.toml")],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=_ENVIRONMENT,
                cwd=self.folder,
                start_new_session=True,
            )

    def wait(self) -> None:
        """Until it serves. Failed when it ends or takes too long."""

        def serves() -> bool:
            self.check_alive()
            answer = self.get("/readyz", self.ports[2])
            return answer is not None and answer.status == 200

        until(serves, _DEADLINE, f"{self} does not start")

    def check_alive(self) -> None:
        """Failed when the process has ended though nobody ended it."""
        if self._process is not None and (code := self._process.poll()) is not None:
            raise Failed(f"{self} ended by itself with {code}")

    def kill(self) -> None:
        """SIGKILL to the node alone: its gateway has to notice."""
        self.check_alive()
        self.resume()
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """As an operator does, and as a last resort not."""
        if self._process is None:
            return
        self.resume()
        self._end(signal.SIGTERM)

    def _end(self, number: int) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        with suppress(ProcessLookupError):
            process.send_signal(number)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise Failed(f"{self} does not stop") from None

    def pause(self) -> None:
        """All its processes stand still, as on a disk or a host that hangs."""
        self._signal(signal.SIGSTOP)
        self.paused = True

    def resume(self) -> None:
        if self.paused:
            self._signal(signal.SIGCONT)
        self.paused = False

    def _signal(self, number: int) -> None:
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)

    # -- asking

    def inside(self) -> Any:
        """Sockets made meanwhile are on this node's side of its tunnel: no fault comes between."""
        return self.namespace.entered() if self.namespace else nullcontext()

    def get(self, path: str, port: int = 0, headers: dict[str, str] | None = None) -> Answer | None:
        """From its gateway, or another port of its; None when nobody answers."""
        with self._connected(port or self.ports[1]) as connection:
            try:
                connection.request("GET", path, headers=headers or {})
                response = connection.getresponse()
                return Answer(response.status, response.read())
            except (OSError, http.client.HTTPException):
                return None

    @contextmanager
    def _connected(self, port: int) -> Iterator[http.client.HTTPConnection]:
        connection = http.client.HTTPConnection(self.host, port, timeout=_ANSWER)
        try:
            with self.inside(), suppress(OSError):
                connection.connect()
            yield connection
        finally:
            connection.close()

    def site_status(self, site: str) -> dict[str, Any] | None:
        """What /hosting/status/ says; None when it does not know the site."""
        answer = self.get(f"/hosting/status/?site={site}&limit=100", self.ports[2])
        return json.loads(answer.body) if answer and answer.status == 200 else None

    def record_ids(self) -> frozenset[bytes]:
        """Of all records but announcements, which never stop coming. Read as they are on disk."""
        with sqlite3.connect(f"file:{self.folder}/records.sqlite?mode=ro", uri=True, timeout=10) as database:
            rows = database.execute("SELECT cid FROM records WHERE kind != 'node'").fetchall()
        database.close()
        return frozenset(row[0] for row in rows)

    def complaints(self) -> list[str]:
        """Lines of its log that no fault of the network or of a neighbour excuses."""
        found = []
        for line in (self.folder / "log").read_text(errors="replace").splitlines():
            if "Traceback" in line or '"exception"' in line or '"level": "critical"' in line:
                found.append(f"{self}: {line[:2000]}")
        return found
