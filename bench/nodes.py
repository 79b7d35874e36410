"""Real nodes, the command line and Kubo daemons as child processes of a benchmark."""

from __future__ import annotations

import http.client
import json
import os
import secrets
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from tests.support import ROOT, find_kubo, free_port

from bench import Missing

_DEADLINE = 60.0  # seconds for anything to start
# Python keeps its bytecode, as it does unless told otherwise; nobody phones home.
_ENVIRONMENT = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
_ENVIRONMENT |= {"IPFS_TELEMETRY": "off", "NO_PROXY": "127.0.0.1,localhost"}


@contextmanager
def workspace() -> Iterator[Path]:
    """A folder on the disk of this project (/tmp may be memory), removed afterwards."""
    (ROOT / "build").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=ROOT / "build") as folder:
        yield Path(folder)


class Finished(NamedTuple):
    """`seconds` on the clock, `cpu` seconds of the process, its `peak` resident memory in bytes, its output."""

    seconds: float
    cpu: float
    peak: int
    stdout: bytes


def timed(command: Sequence[str], environment: dict[str, str]) -> Finished:
    """Run to its end. What earlier runs wrote is on disk before the clock starts."""
    os.sync()
    with tempfile.TemporaryFile() as errors:
        began = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, env=environment)
        output = process.stdout.read() if process.stdout else b""
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.stdout:
            process.stdout.close()
        if process.returncode:
            errors.seek(0)
            raise RuntimeError(f"{command[0]} ended with {process.returncode}: {errors.read().decode()}")
    return Finished(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024, output)


def median(values: Sequence[float]) -> float:
    return round(statistics.median(values), 3)


# -- ours


class Node:
    """`decentraspace run` with a folder of its own and ports that were free."""

    def __init__(
        self,
        folder: Path,
        *,
        bootstrap: Sequence[str] = (),
        sites: int = 10,
        operator: str = "",
        environment: Mapping[str, str] | None = None,
    ) -> None:
        folder.mkdir(parents=True)
        self._environment = {**_ENVIRONMENT, **(environment or {})}
        self.folder = folder
        self.api, self.gateway, self.p2p = free_port(), free_port(), free_port()
        self.config = folder / "config.toml"
        self.config.write_text(
            f"""\
[node]
data_dir = {json.dumps(str(folder / "data"))}
operator = {json.dumps(operator)}

[network]
listen = ["/ip4/127.0.0.1/tcp/{self.p2p}"]
bootstrap = {json.dumps(list(bootstrap))}
mdns = false
allow_private = true

[api]
port = {self.api}

[gateway]
port = {self.gateway}
workers = 1

[limits]
free_sites = {sites}
"""
        )
        self.seconds_to_ready = 0.0
        self.peer_id = ""
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def api_url(self) -> str:
        return f"http://127.0.0.1:{self.api}"

    @property
    def address(self) -> str:
        return f"/ip4/127.0.0.1/tcp/{self.p2p}/p2p/{self.peer_id}"

    @property
    def pid(self) -> int:
        if self._process is None:
            raise RuntimeError("the node is not running")
        return self._process.pid

    def __enter__(self) -> Node:
        began = time.perf_counter()
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "decentraspace", "run", "--config", str(self.config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._environment,
            )
        try:
            self.peer_id = self._until_ready()["peer_id"]
        except BaseException:
            self.__exit__()
            raise
        self.seconds_to_ready = time.perf_counter() - began
        return self

    def __exit__(self, *_: object) -> None:
        process, self._process = self._process, None
        if process is not None:
            _stop(process)

    def ready(self) -> dict[str, Any] | None:
        """What /readyz says, None when it does not say that the node is ready."""
        answer = get(self.api, "/readyz")
        return json.loads(answer.body) if answer and answer.status == 200 else None

    def _until_ready(self) -> dict[str, Any]:
        end = time.monotonic() + _DEADLINE
        while time.monotonic() < end:
            if self._process is None or self._process.poll() is not None:
                break
            if (ready := self.ready()) is not None:
                return ready
            time.sleep(0.005)
        raise RuntimeError(f"the node did not start:\n{(self.folder / 'log').read_text()[-3000:]}")


class Answer(NamedTuple):
    status: int
    body: bytes


def get(port: int, path: str, host: str = "") -> Answer | None:
    """GET from 127.0.0.1, None when nobody answers."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", path, headers={"Host": host} if host else {})
        response = connection.getresponse()
        return Answer(response.status, response.read())
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def memory(pid: int) -> dict[str, int]:
    """Bytes: `resident`, and of it `anonymous` (its own) and `file` (mapped files, the block store's too)."""
    names = {"VmRSS": "resident", "RssAnon": "anonymous", "RssFile": "file"}
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    fields = (line.partition(":") for line in lines)
    return {names[name]: int(rest.split()[0]) * 1024 for name, _, rest in fields if name in names}


class Owner:
    """A wallet made for the benchmark, with the command line's folder of its own."""

    def __init__(self, home: Path) -> None:
        home.mkdir(mode=0o700, parents=True)
        self.environment = {**_ENVIRONMENT, "DECENTRASPACE_HOME": str(home)}
        self._key = secrets.token_hex(32)

    @property
    def address(self) -> str:
        """The wallet's, in EIP-55 form."""
        from eth_account import Account

        return str(Account.from_key(self._key).address)

    def log_in(self, node: Node) -> dict[str, Any]:
        command = [*self.command("login"), "--node", node.api_url, "--key-stdin", "--json"]
        done = subprocess.run(
            command, input=self._key.encode(), env=self.environment, capture_output=True, check=False
        )
        if done.returncode:
            raise RuntimeError(f"login: {done.stderr.decode()}")
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    @staticmethod
    def command(*arguments: str | Path) -> list[str]:
        """The installed command, as a user has it."""
        return [str(Path(sys.executable).with_name("decentraspace")), *map(str, arguments)]


# -- Kubo


class Kubo:
    """The `ipfs` of `make tools` or of the PATH."""

    def __init__(self) -> None:
        found = find_kubo()
        if found is None:
            raise Missing("Kubo is not here; `make tools` builds it (with Go).")
        self.ipfs = found
        self.version = subprocess.check_output([found, "version", "--number"], text=True).strip()

    def repository(self, path: Path) -> dict[str, str]:
        """A fresh repository with nobody to talk to; the environment that names it. Stores as by default."""
        environment = {**_ENVIRONMENT, "IPFS_PATH": str(path)}
        command = [str(self.ipfs), "init", "--profile=test"]
        subprocess.run(command, env=environment, check=True, capture_output=True)
        return environment

    @contextmanager
    def daemon(self, environment: dict[str, str]) -> Iterator[int]:
        """A daemon on that repository; its process id, once it is ready."""
        with (Path(environment["IPFS_PATH"]) / "log").open("w+b") as log:
            process = subprocess.Popen([self.ipfs, "daemon"], env=environment, stdout=log, stderr=log)
            try:
                end = time.monotonic() + _DEADLINE
                while b"Daemon is ready" not in Path(log.name).read_bytes():
                    if process.poll() is not None or time.monotonic() > end:
                        raise RuntimeError(f"ipfs daemon: {Path(log.name).read_text()[-3000:]}")
                    time.sleep(0.005)
                yield process.pid
            finally:
                _stop(process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
