"""Serving a cached page of 10 KiB: requests per second of our gateway, nginx and Kubo, one worker each.

A real node with the page deployed as a site; nginx as an operator runs it for a site of its own: one worker, a
server with a name, sendfile, a cache of open files, ETag and the headers that we send too, and its log of
accesses written once a second, which is as often as our worker hands over what it counted; Kubo's daemon with no
core withheld from it. Everything on loopback, over kept connections, without compression, and every answer is
looked up by host and path. The three take turns, so that what else the machine does meets all alike; the ratio is
the median of the rounds' ratios, the latencies are the median of the rounds' percentiles. Processor time per
request is that of all processes of a server, user and system; it hardly depends on what else runs.
"""

from __future__ import annotations

import json
import os
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
_NAME = "bench.example"


class Load(NamedTuple):
    """One run of wrk: requests a second, milliseconds that half and 99 of 100 answers took at most, and
    microseconds of the processor per request."""

    rate: float
    p50: float
    p99: float
    cpu: float


class Peer(NamedTuple):
    """`pids`: of all processes that serve."""

    url: str
    host: str
    pids: list[int]
    runs: list[Load]


def run(quick: bool = False) -> list[dict[str, Any]]:
    rounds, seconds = (2, 2) if quick else (7, 5)
    for program in ("wrk", "nginx"):
        if shutil.which(program) is None:
            raise Missing(f"{program} is not here; install it with the system's package manager.")
    body = page()
    with workspace() as folder, ExitStack() as stack:
        node = stack.enter_context(Node(folder / "node"))
        ours = deployed(node, folder, body)
        nginx = stack.enter_context(_nginx(folder / "nginx", body))
        peers = {"ours": ours, "nginx": nginx}
        versions = {"nginx": _nginx_version()}
        try:
            kubo = Kubo()
        except Missing:
            pass
        else:
            peers["Kubo"] = stack.enter_context(_kubo(kubo, folder / "kubo", body))
            versions["Kubo"] = kubo.version
        for name, peer in peers.items():
            answer = get(urlsplit(peer.url).port or 80, urlsplit(peer.url).path, peer.host)
            if answer is None or answer.body != body:
                raise RuntimeError(f"{name} does not give the page: {answer and answer.status}")
            wrk(peer, 1)  # caches fill, and nothing is counted
        for number in range(rounds):
            order = list(peers.values())
            for peer in order if number % 2 else reversed(order):
                peer.runs.append(wrk(peer, seconds))
        worker = memory(_largest(ours.pids))
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
        f"{whose}_cpu_us": round(median([r.cpu for r in peer.runs]), 1),
    }


def _command(peer: Peer, seconds: int) -> str:
    return f"wrk -t1 -c{_CONNECTIONS} -d{seconds}s --latency -H 'Host: {peer.host}' {peer.url}"


def wrk(peer: Peer, seconds: int) -> Load:
    before = _processor(peer.pids)
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
    spent, text = _processor(peer.pids) - before, done.stdout
    if "Non-2xx" in text or "Socket errors" in text:
        raise RuntimeError(f"wrk met errors:\n{text}")
    rate = re.search(r"Requests/sec:\s*([\d.]+)", text)
    p50, p99 = (re.search(rf"^\s*{p}%\s*([\d.]+)(us|ms|s)\s*$", text, re.MULTILINE) for p in (50, 99))
    count = re.search(r"(\d+) requests in", text)
    if rate is None or p50 is None or p99 is None or count is None:
        raise RuntimeError(f"wrk said something unexpected:\n{text}")
    unit = {"us": 1e-3, "ms": 1.0, "s": 1e3}
    return Load(
        float(rate[1]),
        float(p50[1]) * unit[p50[2]],
        float(p99[1]) * unit[p99[2]],
        spent / int(count[1]) * 1e6,
    )


def _processor(pids: list[int]) -> float:
    """Seconds of the processor that these processes have taken."""
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def page() -> bytes:
    """HTML of exactly 10 KiB, the same in every run."""
    rng = random.Random(10)
    words = " ".join(f"{rng.getrandbits(32):08x}" for _ in range(_SIZE // 9 + 1))
    text = f"<!doctype html><title>page</title><p>{words}"
    return text[:_SIZE].encode()


def deployed(node: Node, folder: Path, page: bytes) -> Peer:
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
    return Peer(f"http://127.0.0.1:{node.gateway}/page.html", str(host), _below(node.pid), [])


def _below(pid: int) -> list[int]:
    """The processes that a process has started, and those that they have."""
    found: list[int] = []
    for thread in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, thread.read_text().split()):
            found += [child, *_below(child)]
    return found


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
    access_log {folder}/access.log combined buffer=64k flush=1s;
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
    charset utf-8;
    add_header Cache-Control "public, max-age=0, must-revalidate";
    add_header X-Content-Type-Options nosniff;
    server {{ listen 127.0.0.1:{port} default_server; return 404; }}
    server {{ listen 127.0.0.1:{port}; server_name {_NAME}; root {folder}; }}
}}
"""
    )
    process = subprocess.Popen(["nginx", "-p", folder, "-c", config], stderr=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 20
        while get(port, "/page.html", _NAME) is None:
            if process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"nginx did not start: {(folder / 'error.log').read_text()[-2000:]}")
            time.sleep(0.01)
        yield Peer(f"http://127.0.0.1:{port}/page.html", _NAME, [process.pid], [])
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
    with kubo.daemon(environment) as pid:
        yield Peer(f"http://127.0.0.1:{port}/ipfs/{root}/page.html", "127.0.0.1", [pid], [])
