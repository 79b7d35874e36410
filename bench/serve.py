"""Serving a cached page of 10 KiB: requests per second of our gateway, nginx and Kubo, one worker each.

A real node with the page deployed as a site; nginx with one worker, sendfile, ETag and its cache of open
files; Kubo's daemon with no core withheld from it. Everything on loopback, over kept connections, without
compression. The three take turns, so that what else the machine does meets all alike; the ratio is the
median of the rounds' ratios, the latencies are the median of the rounds' percentiles.
"""

from __future__ import annotations

import json
import random
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from tests.support import free_port

from bench import Missing
from bench.nodes import Kubo, Node, Owner, get, median, memory, workspace

_SIZE = 10 * 1024  # bytes of the page
_CONNECTIONS = 32


class Load(NamedTuple):
    """One run of wrk: requests a second, and milliseconds that half and 99 of 100 answers took at most."""

    rate: float
    p50: float
    p99: float


class Peer(NamedTuple):
    url: str
    host: str
    runs: list[Load]


def run(quick: bool = False) -> list[dict[str, Any]]:
    rounds, seconds = (2, 2) if quick else (7, 5)
    for program in ("wrk", "nginx"):
        if shutil.which(program) is None:
            raise Missing(f"{program} is not here; install it with the system's package manager.")
    page = _page()
    with workspace() as folder, ExitStack() as stack:
        node = stack.enter_context(Node(folder / "node"))
        ours = _deployed(node, folder, page)
        nginx = stack.enter_context(_nginx(folder / "nginx", page))
        peers = {"ours": ours, "nginx": nginx}
        versions = {"nginx": _nginx_version()}
        try:
            kubo = Kubo()
        except Missing:
            pass
        else:
            peers["Kubo"] = stack.enter_context(_kubo(kubo, folder / "kubo", page))
            versions["Kubo"] = kubo.version
        for name, peer in peers.items():
            answer = get(urlsplit(peer.url).port or 80, urlsplit(peer.url).path, peer.host)
            if answer is None or answer.body != page:
                raise RuntimeError(f"{name} does not give the page: {answer and answer.status}")
            _wrk(peer, 1)  # caches fill, and nothing is counted
        for number in range(rounds):
            order = list(peers.values())
            for peer in order if number % 2 else reversed(order):
                peer.runs.append(_wrk(peer, seconds))
        worker = memory(_worker_of(node.pid))
    extra = {"rounds": rounds, "seconds_each": seconds, "worker_resident_mb": worker["resident"] / 1e6}
    goals = {"nginx": ">= 0.7", "Kubo": ">= 3"}
    return [
        {
            "name": f"a cached page of 10 KiB, one worker, beside {name}",
            "ratio": median([a.rate / b.rate for a, b in zip(ours.runs, peers[name].runs, strict=True)]),
            "goal": goals[name],
            "peer": name,
            "version": version,
            "command": _command(ours, seconds),
            **_figures("our", ours),
            **_figures("peer", peers[name]),
            **extra,
        }
        for name, version in versions.items()
    ]


def _figures(whose: str, peer: Peer) -> dict[str, float]:
    return {
        f"{whose}_requests_per_s": round(median([r.rate for r in peer.runs])),
        f"{whose}_p50_ms": median([r.p50 for r in peer.runs]),
        f"{whose}_p99_ms": median([r.p99 for r in peer.runs]),
    }


def _command(peer: Peer, seconds: int) -> str:
    return f"wrk -t1 -c{_CONNECTIONS} -d{seconds}s --latency -H 'Host: {peer.host}' {peer.url}"


def _wrk(peer: Peer, seconds: int) -> Load:
    done = subprocess.run(
        [
            "wrk",
            "-t1",
            f"-c{_CONNECTIONS}",
            f"-d{seconds}s",
            "--latency",
            "-H",
            f"Host: {peer.host}",
            peer.url,
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    text = done.stdout
    if "Non-2xx" in text or "Socket errors" in text:
        raise RuntimeError(f"wrk met errors:\n{text}")
    rate = re.search(r"Requests/sec:\s*([\d.]+)", text)
    p50, p99 = (re.search(rf"^\s*{p}%\s*([\d.]+)(us|ms|s)\s*$", text, re.MULTILINE) for p in (50, 99))
    if rate is None or p50 is None or p99 is None:
        raise RuntimeError(f"wrk said something unexpected:\n{text}")
    unit = {"us": 1e-3, "ms": 1.0, "s": 1e3}
    return Load(float(rate[1]), float(p50[1]) * unit[p50[2]], float(p99[1]) * unit[p99[2]])


def _page() -> bytes:
    """HTML of exactly 10 KiB, the same in every run."""
    rng = random.Random(10)
    words = " ".join(f"{rng.getrandbits(32):08x}" for _ in range(_SIZE // 9 + 1))
    page = f"<!doctype html><title>page</title><p>{words}"
    return page[:_SIZE].encode()


def _deployed(node: Node, folder: Path, page: bytes) -> Peer:
    site = folder / "site"
    site.mkdir()
    (site / "page.html").write_bytes(page)
    owner = Owner(folder / "home")
    owner.log_in(node)
    done = subprocess.run(
        [*owner.command("deploy", site), "--site", "bench", "--json"],
        env=owner.environment,
        capture_output=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"deploy: {done.stderr.decode()}")
    host = urlsplit(json.loads(done.stdout)["urls"]["site"]).hostname
    return Peer(f"http://127.0.0.1:{node.gateway}/page.html", str(host), [])


def _worker_of(pid: int) -> int:
    """The gateway's worker below a node: the child of its child that has no children itself."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    for child in map(int, children):
        threads = Path(f"/proc/{child}/task").glob("*/children")
        if below := [int(p) for t in threads for p in t.read_text().split()]:
            return _largest(below)
    return pid


def _largest(pids: list[int]) -> int:
    return max(pids, key=lambda pid: memory(pid).get("resident", 0))


def _nginx_version() -> str:
    done = subprocess.run(["nginx", "-v"], capture_output=True, text=True, check=True)
    return done.stderr.strip().rpartition("/")[2]


@contextmanager
def _nginx(folder: Path, page: bytes) -> Iterator[Peer]:
    folder.mkdir()
    folder.chmod(0o755)
    (folder / "page.html").write_bytes(page)
    port = free_port()
    config = folder / "nginx.conf"
    config.write_text(
        f"""\
daemon off;
master_process off;
worker_processes 1;
pid {folder}/pid;
error_log {folder}/error.log;
events {{ worker_connections 1024; }}
http {{
    types {{ text/html html; }}
    access_log off;
    sendfile on;
    tcp_nopush on;
    etag on;
    keepalive_requests 1000000000;
    open_file_cache max=100 inactive=1h;
    open_file_cache_valid 1h;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{ listen 127.0.0.1:{port}; root {folder}; }}
}}
"""
    )
    process = subprocess.Popen(["nginx", "-p", folder, "-c", config], stderr=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 20
        while get(port, "/page.html") is None:
            if process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"nginx did not start: {(folder / 'error.log').read_text()[-2000:]}")
            time.sleep(0.01)
        yield Peer(f"http://127.0.0.1:{port}/page.html", "127.0.0.1", [])
    finally:
        process.terminate()
        process.wait()


@contextmanager
def _kubo(kubo: Kubo, folder: Path, page: bytes) -> Iterator[Peer]:
    environment = kubo.repository(folder)
    port = free_port()

    def ipfs(*arguments: str) -> str:
        command = [str(kubo.ipfs), *arguments]
        return subprocess.run(
            command, env=environment, check=True, capture_output=True, text=True
        ).stdout.strip()

    ipfs("config", "Addresses.Gateway", f"/ip4/127.0.0.1/tcp/{port}")
    site = folder / "site"
    site.mkdir()
    (site / "page.html").write_bytes(page)
    root = ipfs("add", "-Q", "-r", "--cid-version=1", "--raw-leaves", str(site))
    with kubo.daemon(environment):
        yield Peer(f"http://127.0.0.1:{port}/ipfs/{root}/page.html", "127.0.0.1", [])
