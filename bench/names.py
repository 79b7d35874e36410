"""A name that is linked to a site beside the site's own host: what it costs the gateway, and what a cold name costs.

Warm: one node, one worker, one page of 10 KiB; wrk asks for it by the site's own host and by a linked name of DNS,
whose proof is on a real name server (Knot). They take turns; the ratios are medians of the rounds', of requests a
second and of processor time per request, user and system, of all processes that serve. The latter hardly depends on
what else runs.

Cold: the plugins before ENS's contracts on a chain of their own (anvil), and before hsd in regtest. Between is a relay
that counts the requests, so a round is one that was really made; no name is asked for twice in the same way.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import trio
from plugins.dns_ens.tests.chain import Anvil, Ens
from plugins.dns_handshake.tests.hsd import hsd, txt
from tests.names.knot import ZONE, knot
from tests.support import IN_TREE_PLUGINS

from bench import Missing
from bench.nodes import Node, Owner, get, median, workspace
from bench.serve import Peer, deployed, page, wrk
from decentraspace.testing import Wallet, Workbench

_NAME = f"bench.{ZONE}"
_SETTLED = 60.0  # seconds for a link to be seen
Result = dict[str, Any]


def run(quick: bool = False) -> list[Result]:
    try:
        with workspace() as folder:
            return [*_warm(folder / "warm", quick), _ens(folder / "ens", quick), _hns(folder / "hns", quick)]
    except pytest.skip.Exception as lacking:
        raise Missing(str(lacking)) from None


# -- warm


def _warm(folder: Path, quick: bool) -> list[Result]:
    # Many short ones: what else the machine does is not the same for long.
    rounds, seconds = (4 if quick else 36), 1
    folder.mkdir()
    body = page()
    with ExitStack() as stack:
        server = stack.enter_context(knot(folder / "knot"))
        environment = {
            "DECENTRASPACE_NAMES_NAMESERVERS": server.server,
            "DECENTRASPACE_PLUGINS_DISABLED": ",".join(IN_TREE_PLUGINS),
        }
        node = stack.enter_context(Node(folder / "node", environment=environment))
        own = deployed(node, folder, body)
        named = own._replace(host=_NAME, runs=[])
        _link(folder, server.set)
        for peer in (own, named):
            _until_shown(peer, body)
            wrk(peer, 1)  # caches fill, and nothing is counted
        for number in range(rounds):
            for peer in (own, named) if number % 2 else (named, own):
                peer.runs.append(wrk(peer, seconds))
    pairs = list(zip(named.runs, own.runs, strict=True))
    common = {
        "peer": "the site's own host",
        "version": "",
        "command": f"wrk -t1 -c32 -d{seconds}s --latency -H 'Host: {_NAME}' {named.url}",
        "rounds": rounds,
        "seconds_each": seconds,
        "our_requests_per_s": round(median([r.rate for r in named.runs])),
        "peer_requests_per_s": round(median([r.rate for r in own.runs])),
        "our_p99_ms": median([r.p99 for r in named.runs]),
        "peer_p99_ms": median([r.p99 for r in own.runs]),
        "our_cpu_us": round(median([r.cpu for r in named.runs]), 2),
        "peer_cpu_us": round(median([r.cpu for r in own.runs]), 2),
    }
    return [
        {
            "name": "a warm linked name, requests a second",
            "ratio": median([a.rate / b.rate for a, b in pairs]),
            "goal": ">= 0.95",
            **common,
        },
        {
            "name": "a warm linked name, processor time per request",
            "ratio": median([a.cpu / b.cpu for a, b in pairs]),
            "goal": "<= 1.05",
            **common,
        },
    ]


def _link(folder: Path, enter: Any) -> None:
    """By the owner that `deployed` made, who has a session in that folder."""
    environment = {**os.environ, "DECENTRASPACE_HOME": str(folder / "home")}
    asked = [*Owner.command("domains", "link", _NAME, "bench"), "--json"]
    done = subprocess.run(asked, env=environment, capture_output=True, check=False)
    if done.returncode:
        raise RuntimeError(f"domains link: {done.stderr.decode()}")
    wanted = next(one for one in json.loads(done.stdout)["records"] if one["type"] == "TXT")
    enter(wanted["host"].removesuffix("." + ZONE), wanted["value"], ttl=3600)


def _until_shown(peer: Peer, body: bytes) -> None:
    end, at = time.monotonic() + _SETTLED, urlsplit(peer.url)
    while (answer := get(at.port or 80, at.path, peer.host)) is None or answer.body != body:
        if time.monotonic() > end:
            raise RuntimeError(f"{peer.host} does not give the page: {answer and answer.status}")
        time.sleep(0.1)


# -- cold


class _Relay:
    """`url`: leads to another HTTP server; `rounds`: requests made by way of it."""

    def __init__(self, to: str) -> None:
        found = urlsplit(to)
        self._to = found.hostname or "127.0.0.1", found.port or 80
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self.rounds = 0

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                stream, _ = self._listening.accept()
                beyond = socket.create_connection(self._to)
                for one, other, counts in ((stream, beyond, True), (beyond, stream, False)):
                    threading.Thread(target=self._pass, args=(one, other, counts), daemon=True).start()

    def _pass(self, one: socket.socket, other: socket.socket, counts: bool) -> None:
        with suppress(OSError):
            while data := one.recv(65536):
                if counts:
                    self.rounds += data.startswith(b"POST ")  # bodies are small, and nobody sends ahead
                other.sendall(data)
        with suppress(OSError):
            other.shutdown(socket.SHUT_WR)

    @contextmanager
    def serving(self) -> Iterator[_Relay]:
        threading.Thread(target=self._accept, daemon=True).start()
        try:
            yield self
        finally:
            self._listening.close()


def _ens(folder: Path, quick: bool) -> Result:
    chain = Anvil()
    try:
        ens, wallet = Ens.on(chain), chain.accounts[1]
        content = bytes.fromhex(
            "e3010170122029f2d17be6139079dc48696d1f582a8530eb9805b561eda517e22a892c7e3f1f"
        )
        names = [ens.show(f"bench{number}", wallet, content) for number in range(5 if quick else 25)]
        with _Relay(chain.url).serving() as relay:
            return _cold("ENS", folder, "dns_ens", ens.settings(rpc=[relay.url]), names, wallet, relay)
    finally:
        chain.close()


def _hns(folder: Path, quick: bool) -> Result:
    wallet = Wallet().address
    with hsd(folder / "hsd") as chain, _Relay(chain.url).serving() as relay:
        names = [f"benchmarked{number}" for number in range(3 if quick else 10)]
        chain.win(*names)
        for name in names:
            records = [txt(f"decentraspace-owner={wallet}"), txt("decentraspace-site=abcdefghijklmnop")]
            chain.wallet("sendupdate", name, {"records": records})
        chain.mine(1)
        (folder / "key").write_text(chain.key)
        settings = {
            "rpc": [relay.url],
            "api_key_file": str(folder / "key"),
            "network": "regtest",
            "safe": False,
        }
        return _cold("Handshake", folder, "dns_handshake", settings, names, wallet, relay)


def _cold(
    system: str, folder: Path, plugin: str, settings: Result, names: list[str], wallet: str, relay: _Relay
) -> Result:
    """Every name looked up, and then verified, once."""
    taken: dict[str, list[float]] = {"resolve": [], "verify": []}
    rounds: dict[str, list[int]] = {"resolve": [], "verify": []}

    async def ask() -> None:
        with Workbench(folder / "bench", plugin, settings) as bench:
            manager = await bench.start()
            more = {"owner": wallet.lower(), "site": "bench--abcdefghijklmnop", "gateway": "", "proof": ""}
            for what, arguments in (("resolve", {}), ("verify", more)):
                for name in names:
                    before, began = relay.rounds, time.perf_counter()
                    found = await manager.one(plugin, f"name_{what}", name=name, **arguments)
                    taken[what].append((time.perf_counter() - began) * 1000)
                    rounds[what].append(relay.rounds - before)
                    if found.get("kind") not in ("ipfs", "site") and found.get("state") != "held":
                        raise RuntimeError(f"{name}: {found}")
            await bench.stop()

    folder.mkdir(exist_ok=True)
    trio.run(ask)
    return {
        "name": f"a cold name of {system}, in rounds (the most that one took)",
        "ratio": max(rounds["resolve"]),
        "goal": "<= 1",
        "peer": "one round",
        "version": "",
        "command": f"name_resolve of {plugin}, and name_verify",
        "names": len(names),
        "verifying_rounds": max(rounds["verify"]),
        "resolve_ms": median(taken["resolve"]),
        "verify_ms": median(taken["verify"]),
    }
