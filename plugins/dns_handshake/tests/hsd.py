"""A real Handshake node (hsd) in regtest, alone on loopback, with a wallet that wins names in auctions."""

from __future__ import annotations

import base64
import json
import secrets
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support import ROOT, free_port, require_real

_FOLDER = ROOT / "tests" / "interop" / "hsd" / "node_modules"
_DEADLINE = 90.0  # seconds: it starts in two, on a machine that has nothing else to do
_SAFE = 10  # blocks after which what was said last is what hsd holds for safe, in regtest


class RpcError(RuntimeError):
    pass


class Hsd:
    """`url` of its HTTP server, `key` for it, `dns`: its recursive DNS."""

    def __init__(self, folder: Path) -> None:
        node = shutil.which("node")
        program = _FOLDER / "hsd" / "bin" / "node"
        require_real("hsd (make tools)", node is not None and (_FOLDER / ".installed").exists())
        assert node is not None
        self.key = secrets.token_hex(16)
        port, self._wallet, root, recursive = (free_port() for _ in range(4))
        self.url, self.dns = f"http://127.0.0.1:{port}", f"127.0.0.1:{recursive}"
        folder.mkdir(parents=True, exist_ok=True)
        self._log = folder / "log"
        arguments = {
            "network": "regtest",
            "prefix": str(folder / "data"),
            "memory": "true",
            "api-key": self.key,
            "http-host": "127.0.0.1",
            "http-port": port,
            "wallet-api-key": self.key,
            "wallet-http-host": "127.0.0.1",
            "wallet-http-port": self._wallet,
            "ns-host": "127.0.0.1",
            "ns-port": root,
            "rs-host": "127.0.0.1",
            "rs-port": recursive,
            "listen": "false",
            "workers": "false",
            "log-level": "warning",
        }
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [node, str(program), *(f"--{name}={value}" for name, value in arguments.items())],
                stdout=log,
                stderr=log,
                cwd=folder,
            )

    def node(self, method: str, *params: Any) -> Any:
        return self._call(self.url, method, params)

    def wallet(self, method: str, *params: Any) -> Any:
        return self._call(f"http://127.0.0.1:{self._wallet}", method, params)

    def _call(self, url: str, method: str, params: tuple[Any, ...]) -> Any:
        token = base64.b64encode(f"x:{self.key}".encode()).decode()
        body = json.dumps({"method": method, "params": list(params), "id": 1}).encode()
        headers = {"content-type": "application/json", "authorization": f"Basic {token}"}
        with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=60) as response:
            answer = json.load(response)
        if answer.get("error"):
            raise RpcError(f"{method}: {answer['error']}")
        return answer["result"]

    def wait(self) -> None:
        """Until it answers."""

        def ready() -> bool:
            try:
                self.wallet("getwalletinfo")
                return bool(self.node("getblockchaininfo"))
            except (urllib.error.URLError, ConnectionError, RpcError):
                return False

        self._until(ready)
        self.address = self.wallet("getnewaddress", "default")

    def _until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _DEADLINE
        while not condition():
            assert self.process.poll() is None, self._log.read_text()
            assert time.monotonic() < deadline, self._log.read_text()
            time.sleep(0.05)

    def mine(self, blocks: int) -> None:
        """And wait until the wallet has seen them."""
        self.node("generatetoaddress", blocks, self.address)
        height = self.node("getblockcount")
        self._until(lambda: self.wallet("getwalletinfo")["height"] >= height)

    def settle(self) -> None:
        """Have what was sent be safe."""
        self.mine(_SAFE)

    def info(self, name: str) -> Any:
        return self.node("getnameinfo", name)

    def state(self, name: str) -> str:
        info = self.info(name)["info"]
        return str(info["state"]) if info else ""

    def until_state(self, name: str, state: str) -> None:
        for _ in range(60):
            if self.state(name) == state:
                return
            self.mine(1)
        raise AssertionError(f"{name} is {self.state(name)!r}, not {state!r}")

    def win(self, *names: str) -> None:
        """Auctions for these names, as anybody would run them; they have no records then."""
        start = max(self.info(name)["start"]["start"] for name in names)
        if (lacking := start - self.node("getblockcount")) > 0:
            self.mine(lacking)
        for name in names:
            self.wallet("sendopen", name)
        self.until_state(names[0], "BIDDING")
        for name in names:
            self.wallet("sendbid", name, 5, 10)
        self.until_state(names[0], "REVEAL")
        for name in names:
            self.wallet("sendreveal", name)
        self.until_state(names[0], "CLOSED")

    def update(self, name: str, *records: dict[str, Any]) -> None:
        self.wallet("sendupdate", name, {"records": list(records)})
        self.mine(1)

    def sign(self, name: str, text: str) -> str:
        """By the name's owner address, in base64."""
        return str(self.wallet("signmessagewithname", name, text))


def txt(*texts: str) -> dict[str, Any]:
    return {"type": "TXT", "txt": list(texts)}


@contextmanager
def hsd(folder: Path) -> Iterator[Hsd]:
    """One that answers, with coins in its wallet. Skips the test where there is none."""
    running = Hsd(folder)
    try:
        running.wait()
        running.mine(20)
        yield running
    finally:
        running.process.terminate()
        try:
            running.process.wait(20)
        except subprocess.TimeoutExpired:
            running.process.kill()
            running.process.wait()
