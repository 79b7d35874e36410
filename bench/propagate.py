"""From "the deploy is acknowledged" at one node to "the new version is served" by another, on loopback.

Acknowledged: the first byte of what `decentraspace deploy --json` prints. Served: the other node's gateway
answers for the site's host with the new home page; it is asked every few milliseconds. Every file of every
version is new, so that all content moves. Afterwards every file is compared.
"""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bench.nodes import Node, Owner, get, median, workspace

_GOAL = 1.0  # seconds
_EVERY = 0.005
_DEADLINE = 60.0
_LABEL = "bench"


def run(quick: bool = False) -> list[dict[str, Any]]:
    versions = 4 if quick else 20
    with workspace() as folder, ExitStack() as stack:
        first = stack.enter_context(Node(folder / "first"))
        second = stack.enter_context(Node(folder / "second", bootstrap=[first.address]))
        _until_connected(first, second)
        return [
            _measure(files, rounds, first, second, folder / f"{files}-files")
            for files, rounds in ((50, versions), (500, versions // 2))
        ]


def _measure(files: int, versions: int, first: Node, second: Node, folder: Path) -> dict[str, Any]:
    from decentraspace.records.schema import site_id

    owner = Owner(folder / "home")
    wallet = owner.log_in(first)["owner"]
    host = f"{_LABEL}--{site_id(bytes.fromhex(wallet[2:]), _LABEL)}.localhost"
    delays: list[float] = []
    whole: list[float] = []
    for number in range(1, versions + 1):
        site = folder / f"v{number}"
        _make(site, files)
        home = (site / "index.html").read_bytes()
        with _Asking(second.gateway, host, home) as asking:
            acknowledged = _deploy(owner, site)
            delays.append(asking.until_served() - acknowledged)
        whole.append(_compare(second, host, site) - acknowledged)
    return {
        "name": f"deploy acknowledged to served by another node, {files} files",
        "ratio": round(max(delays) / _GOAL, 3),
        "goal": "<= 1",
        "peer": "the goal of 1 s (the slowest version)",
        "version": "",
        "command": "decentraspace deploy SITE --site bench --json",
        "versions": versions,
        "files": files,
        "new_site_s": round(delays[0], 3),
        "median_s": median(delays),
        "slowest_s": round(max(delays), 3),
        "every_file_fetched_and_compared_median_s": median(whole),
        "each_s": [round(delay, 3) for delay in delays],
    }


def _until_connected(*nodes: Node) -> None:
    end = time.monotonic() + _DEADLINE
    while not all((node.ready() or {}).get("peers") for node in nodes):
        if time.monotonic() > end:
            raise RuntimeError("the nodes did not find each other")
        time.sleep(0.05)


def _make(site: Path, files: int) -> None:
    site.mkdir(parents=True)
    (site / "index.html").write_bytes(b"<!doctype html><p>" + os.urandom(16).hex().encode())
    for number in range(files - 1):
        path = site / f"{number % 10}" / f"{number:04}.bin"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(os.urandom(10 * 1024))


def _deploy(owner: Owner, site: Path) -> float:
    """When the deploy was acknowledged (perf_counter)."""
    command = owner.command("deploy", site, "--site", _LABEL, "--json")
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=owner.environment) as process:
        if process.stdout is None:
            raise RuntimeError("no output to read")
        begin = process.stdout.read(1)
        acknowledged = time.perf_counter()
        rest = process.stdout.read()
    if process.returncode:
        raise RuntimeError(f"deploy ended with {process.returncode}")
    json.loads(begin + rest)
    return acknowledged


class _Asking:
    """A visitor of the other node who asks for the home page again and again, until it is the new one."""

    def __init__(self, port: int, host: str, body: bytes) -> None:
        self._port, self._host, self._body = port, f"{host}:{port}", body
        self._served: float | None = None
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._ask, daemon=True)

    def __enter__(self) -> _Asking:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def until_served(self) -> float:
        """When it was (perf_counter)."""
        self._thread.join(_DEADLINE)
        if self._served is None:
            raise RuntimeError(f"the other node did not serve the new version within {_DEADLINE:.0f} s")
        return self._served

    def _ask(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=_DEADLINE)
        while not self._end.wait(_EVERY):
            try:
                connection.request("GET", "/", headers={"Host": self._host})
                response = connection.getresponse()
                if response.read() == self._body and response.status == 200:
                    self._served = time.perf_counter()
                    break
            except (OSError, http.client.HTTPException):
                connection.close()
        connection.close()


def _compare(node: Node, host: str, site: Path) -> float:
    """When every file of the version had been fetched from the node (perf_counter)."""
    for path in (path for path in site.rglob("*") if path.is_file()):
        answer = get(node.gateway, f"/{path.relative_to(site).as_posix()}", f"{host}:{node.gateway}")
        if answer is None or answer.body != path.read_bytes():
            raise RuntimeError(f"the other node serves other bytes for {path}")
    return time.perf_counter()
