"""A cold fetch of a site of 100 files and 50 MB from one peer: ours from node to node, Kubo's from Kubo to Kubo.

Ours is what a node does that takes a copy: it asks the other node's gateway for a CAR, verifies every block
and stores it durably. Kubo's is `pin add` on a daemon with an empty repository that is connected with the
one that has the site, which is the fastest way it fetches a whole DAG; its daemon is asked over its HTTP API, so
that no start of a program is counted. Both begin with an empty store in every run, and take turns. For
comparison, ours over Bitswap too.
"""

from __future__ import annotations

import http.client
import json
import random
import shutil
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import trio

from bench.nodes import Kubo, Node, Owner, median, timed, workspace

_FILES, _SIZE = 100, 500_000
_DEADLINE = 300.0  # seconds
_ADD = ("add", "-Q", "-r", "--cid-version=1", "--raw-leaves")


def run(quick: bool = False) -> list[dict[str, Any]]:
    runs = 3 if quick else 7
    kubo = Kubo()
    taken: dict[str, list[float]] = {"ours": [], "bitswap": [], "kubo": []}
    with workspace() as folder, ExitStack() as stack:
        site = folder / "site"
        _make(site)
        node = stack.enter_context(Node(folder / "node"))
        owner = Owner(folder / "home")
        owner.log_in(node)
        done = timed(owner.command("deploy", site, "--site", "bench", "--json"), owner.environment)
        root = json.loads(done.stdout)["root"]
        repository = _repository(kubo, folder / "kubo")
        stack.enter_context(kubo.daemon(repository))
        if timed([str(kubo.ipfs), *_ADD, str(site)], repository).stdout.decode().strip() != root:
            raise RuntimeError("the two sides have different roots")
        for number in range(runs):
            order = list(taken)
            for who in order[number % 3 :] + order[: number % 3]:
                here = folder / "run"
                here.mkdir()
                if who == "kubo":
                    seconds = _by_kubo(kubo, _address(kubo, repository), root, here)
                else:
                    seconds = trio.run(_by_us, node, root, here, who == "bitswap")
                taken[who].append(seconds)
                shutil.rmtree(here)
    seconds_of = {who: median(times) for who, times in taken.items()}
    return [
        {
            "name": "cold fetch of 100 files, 50 MB, from one peer (speed)",
            "ratio": round(seconds_of["kubo"] / seconds_of["ours"], 3),
            "goal": ">= 3",
            "peer": "Kubo to Kubo over Bitswap",
            "version": f"Kubo {kubo.version}",
            "command": "GET /ipfs/ROOT?format=car, verified and stored | POST /api/v0/pin/add?arg=ROOT",
            "runs": runs,
            "ours_s": seconds_of["ours"],
            "kubo_s": seconds_of["kubo"],
            "ours_over_bitswap_s": seconds_of["bitswap"],
            "ours_mb_per_s": round(_FILES * _SIZE / 1e6 / seconds_of["ours"], 1),
            "kubo_mb_per_s": round(_FILES * _SIZE / 1e6 / seconds_of["kubo"], 1),
            "ours_each_s": [round(t, 3) for t in taken["ours"]],
            "kubo_each_s": [round(t, 3) for t in taken["kubo"]],
            "ours_over_bitswap_each_s": [round(t, 3) for t in taken["bitswap"]],
        }
    ]


def _make(site: Path) -> None:
    source = random.Random(50)
    for number in range(_FILES):
        path = site / f"{number % 10}" / f"{number:03}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(source.randbytes(_SIZE))


# -- ours


async def _by_us(node: Node, root: str, here: Path, over_bitswap: bool) -> float:
    """Seconds in which an empty block store has all of it, durably."""
    from decentraspace import heap
    from decentraspace.config import NetworkConfig
    from decentraspace.content import cid as cids
    from decentraspace.content.blockstore import BlockStore
    from decentraspace.identity.keys import NodeKey
    from decentraspace.network.bitswap.service import Bitswap
    from decentraspace.network.fetch import Fetcher, Provider
    from decentraspace.network.host import Network
    from decentraspace.records.store import RecordStore
    from decentraspace.records.verdict import NetworkRules

    heap.keep_compact()  # as a node does when it starts
    providers = [] if over_bitswap else [Provider(f"http://127.0.0.1:{node.gateway}", node.peer_id)]

    async def find(_: bytes) -> list[Provider]:
        return providers

    async def ignore(_: object) -> None:
        return None

    with ExitStack() as stack:
        blocks = stack.enter_context(BlockStore.open(here / "blocks", quota=10**9))
        bitswap = Bitswap(blocks, blocks.referenced)
        config = NetworkConfig(
            listen=("/ip4/127.0.0.1/tcp/0",), ipfs_peers=(node.address,), mdns=False, allow_private=True
        )
        rules = NetworkRules(config.name, config.chain_id, config.siwe_domain)
        records = RecordStore(here / "records.sqlite", rules)
        stack.callback(records.close)
        network = Network(config, NodeKey.generate(), records, ignore, bitswap)
        fetcher = Fetcher(blocks, find, True, exchange=bitswap)
        async with trio.open_nursery() as nursery:
            await nursery.start(network.run)
            with trio.fail_after(_DEADLINE):
                while not network.peers():
                    await trio.sleep(0.01)
            began = time.perf_counter()
            result = await fetcher.fetch(cids.parse(root), deadline=_DEADLINE, max_bytes=10**9)
            seconds = time.perf_counter() - began
            nursery.cancel_scope.cancel()
        if result.bytes < _FILES * _SIZE or blocks.missing(cids.parse(root)):
            raise RuntimeError("the fetch is not complete")
    return seconds


# -- Kubo


def _repository(kubo: Kubo, path: Path) -> dict[str, str]:
    """One that asks nobody but the peers it is connected with."""
    environment = kubo.repository(path)
    command = [str(kubo.ipfs), "config", "Routing.Type", "none"]
    subprocess.run(command, env=environment, check=True, capture_output=True)
    return environment


def _address(kubo: Kubo, environment: dict[str, str]) -> str:
    answer = json.loads(subprocess.check_output([str(kubo.ipfs), "id"], env=environment))
    return next(a for a in answer["Addresses"] if a.startswith("/ip4/127.0.0.1/tcp/") and "/ws" not in a)


def _by_kubo(kubo: Kubo, peer: str, root: str, here: Path) -> float:
    environment = _repository(kubo, here / "repository")
    with kubo.daemon(environment):
        command = [str(kubo.ipfs), "swarm", "connect", peer]
        subprocess.run(command, env=environment, check=True, capture_output=True)
        api = (here / "repository" / "api").read_text().strip().split("/")
        connection = http.client.HTTPConnection(api[2], int(api[4]), timeout=_DEADLINE)
        began = time.perf_counter()
        connection.request("POST", f"/api/v0/pin/add?arg={root}")
        response = connection.getresponse()
        body = response.read()
        seconds = time.perf_counter() - began
        connection.close()
        if response.status != 200 or root not in body.decode():
            raise RuntimeError(f"ipfs pin add: {body.decode()}")
    return seconds
