"""Uploads that end in the middle, and addresses where no API is: what the command line says."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.cli.conftest import KEY, Result, ServedNode
from tests.cli.test_publishing import words
from tests.node.running import RunningNode
from tests.support import interruptible

Run = Callable[..., Result]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningNode]:
    with RunningNode(tmp_path_factory.mktemp("node")) as running:
        yield running


def test_addresses_where_no_api_is(run: Run, node: RunningNode) -> None:
    p2p = node.environment["DECENTRASPACE_NETWORK_LISTEN"].rpartition("/")[2]
    for url, said in {
        f"http://127.0.0.1:{node.gateway}": "as a node's gateway does",
        f"http://127.0.0.1:{p2p}": "is a node's libp2p port",
        f"https://127.0.0.1:{node.api}": f"does not speak TLS. Try http://127.0.0.1:{node.api}.",
        f"{node.url}/api/v1": f"has a path, and no API is there. Try {node.url}.",
        f"http://127.0.0.1:{node.gateway}/api": f"has a path, and no API is there. Try http://127.0.0.1:{node.gateway}.",
    }.items():
        assert said in words(run("login", "--node", url, "--key-stdin", stdin=KEY)), url
        assert said in words(run("status", "--node", url)), url


@pytest.mark.parametrize(
    "answer",
    [
        b"\x15\x03\x03\x00\x02\x02\x46",
        b"HTTP/1.1 400 Bad Request\r\nContent-Length: 37\r\n\r\nThis is an HTTPS port, talk TLS here.",
    ],
)
def test_a_port_that_speaks_tls(run: Run, answer: bytes) -> None:
    """What servers with TLS answer to a request without: an alert, or a page."""
    with _answering(lambda peer: peer.sendall(answer)) as port:
        line = words(run("status", "--node", f"http://127.0.0.1:{port}"))
    assert f"speaks TLS. Try https://127.0.0.1:{port}." in line


def test_a_redirect_to_tls_is_named(run: Run) -> None:
    answer = b"HTTP/1.1 301 Moved\r\nLocation: https://api.node.example/readyz\r\nContent-Length: 0\r\n\r\n"
    with _answering(lambda peer: peer.sendall(answer)) as port:
        line = words(run("status", "--node", f"http://127.0.0.1:{port}"))
    assert "sends to https://api.node.example." in line


class _answering:
    """A port that reads a little and then does `what` with each connection."""

    def __init__(self, what: Callable[[socket.socket], object]) -> None:
        self._what = what
        self._listener = socket.create_server(("127.0.0.1", 0))

    def __enter__(self) -> int:
        threading.Thread(target=self._serve, daemon=True).start()
        return int(self._listener.getsockname()[1])

    def __exit__(self, *_: object) -> None:
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                peer, _ = self._listener.accept()
            except OSError:
                return
            with peer, suppress(OSError):
                peer.recv(4096)
                self._what(peer)


class Line:
    """Between command line and node; `cut()` is called once, when `most` bytes went to the node."""

    def __init__(self, port: int, most: int, cut: Callable[[], object]) -> None:
        self._port, self._most, self._cut = port, most, cut
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._lock = threading.Lock()
        self.was_cut = threading.Event()

    def __enter__(self) -> Line:
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                node = socket.create_connection(("127.0.0.1", self._port))
            except OSError:  # the node is gone
                client.close()
                continue
            threading.Thread(target=self._pump, args=(client, node, True), daemon=True).start()
            threading.Thread(target=self._pump, args=(node, client, False), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, up: bool) -> None:
        sent = 0
        with suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
                sent += len(data)
                if up and sent > self._most:
                    with self._lock:
                        if not self.was_cut.is_set():
                            self.was_cut.set()
                            self._cut()
        for side in (source, sink):
            with suppress(OSError):
                side.shutdown(socket.SHUT_RDWR)


def test_a_node_killed_during_an_upload(run: Run, tmp_path: Path, site: Path) -> None:
    with RunningNode(tmp_path / "killed") as victim:
        assert run("login", "--node", victim.url, "--key-stdin", "--json", stdin=KEY).code == 0
        assert victim.process is not None
        with Line(victim.api, 600_000, victim.process.kill) as line:
            said = words(run("deploy", site, "--node", line.url))
        assert line.was_cut.is_set()
        assert "stopped answering. What was sent is kept: run the command again" in said
        victim.process.wait(20)
    with victim:
        done = run("deploy", site, "--json")
    assert done.code == 0, done.err
    assert done.json["seq"] == 1


def test_ctrl_c_during_an_upload(
    run: Run, logged_in: ServedNode, site: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    (site / "bigger.bin").write_bytes(os.urandom(30_000_000))
    process: subprocess.Popen[str] | None = None

    def interrupt() -> None:
        assert process is not None
        process.send_signal(signal.SIGINT)
        process.wait(60)

    with Line(logged_in.port, 6_000_000, interrupt) as line:
        process = subprocess.Popen(
            [sys.executable, "-m", "decentraspace", "deploy", str(site), "--node", line.url],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            text=True,
            preexec_fn=interruptible,
        )
        out, err = process.communicate(timeout=60)
        assert line.was_cut.is_set()
    assert (process.returncode, out) == (130, "")
    assert (
        err.strip() == "Interrupted. What was sent is kept: run the command again, and it goes on from there."
    )
    deadline = time.monotonic() + 30
    while not logged_in.node.blocks.stats().blocks:  # kept when the node has noticed
        assert time.monotonic() < deadline, "nothing was kept"
        time.sleep(0.02)
    done = run("deploy", site, "--json")
    assert done.code == 0, done.err
    assert done.json["uploaded"] < 31_400_000, "a part was there"


def test_the_size_of_a_request_is_what_the_node_takes(
    run: Run, serve: Callable[..., ServedNode], site: Path
) -> None:
    node = serve(api={"max_upload": 1_000_000})
    assert run("login", "--node", node.url, "--key-stdin", "--json", stdin=KEY).code == 0
    done = run("deploy", site, "--json")
    assert done.code == 0, done.err
    assert done.json["uploaded"] > 1_500_000
