"""`decentraspace deploy` to a running node beside `ipfs add`, on the same disk.

Both sides do the same: hash the files, put the blocks on disk, pin the root; ours also signs a version,
has it accepted and gets a receipt. Every run begins with an empty node or repository and the files in the
page cache. Each is the whole command, from its start to its end. Kubo is taken both ways it can be used,
with a daemon and without; the peer of the ratio is whichever is faster.
"""

from __future__ import annotations

import json
import random
import shutil
import threading
from pathlib import Path
from typing import Any

from bench.nodes import Finished, Kubo, Node, Owner, get, median, memory, timed, workspace

_SMALL = (5000, 4096)  # files, bytes of each
_LARGE = (1, 500_000_000)
_ADD = ("add", "-Q", "-r", "--cid-version=1", "--raw-leaves")


def run(quick: bool = False) -> list[dict[str, Any]]:
    kubo = Kubo()
    with workspace() as folder:
        return [
            _compare("deploy 5,000 files of 4 KiB", _SMALL, 3 if quick else 7, kubo, folder / "small"),
            _compare("deploy one file of 500 MB", _LARGE, 2 if quick else 5, kubo, folder / "large"),
        ]


def _compare(name: str, shape: tuple[int, int], runs: int, kubo: Kubo, folder: Path) -> dict[str, Any]:
    site = folder / "site"
    _make(site, *shape)
    taken: dict[str, list[Finished]] = {"ours": [], "offline": [], "daemon": []}
    grown: list[int] = []
    for number in range(runs):
        order = list(taken)
        for who in order[number % 3 :] + order[: number % 3]:
            here = folder / "run"
            if who == "ours":
                done, root, growth = _ours(site, here)
                grown.append(growth)
            else:
                done, root = _kubo(kubo, site, here, daemon=who == "daemon")
            taken[who].append(done)
            shutil.rmtree(here)
            if number == 0 and who == order[0]:
                expected = root
            if root != expected:
                raise RuntimeError(f"{who} made {root}, not {expected}")
    seconds = {who: median([done.seconds for done in taken[who]]) for who in taken}
    peer = min(("offline", "daemon"), key=seconds.__getitem__)
    return {
        "name": name,
        "ratio": round(seconds["ours"] / seconds[peer], 3),
        "goal": "<= 1",
        "peer": "ipfs add" + (" to a running daemon" if peer == "daemon" else " without a daemon"),
        "version": f"Kubo {kubo.version}",
        "command": f"decentraspace deploy site --json | ipfs {' '.join(_ADD)} site",
        "runs": runs,
        "ours_s": seconds["ours"],
        "kubo_offline_s": seconds["offline"],
        "kubo_daemon_s": seconds["daemon"],
        "ours_each_s": [round(done.seconds, 3) for done in taken["ours"]],
        "kubo_offline_each_s": [round(done.seconds, 3) for done in taken["offline"]],
        "kubo_daemon_each_s": [round(done.seconds, 3) for done in taken["daemon"]],
        "ratio_offline": round(seconds["ours"] / seconds["offline"], 3),
        "ratio_daemon": round(seconds["ours"] / seconds["daemon"], 3),
        "our_command_cpu_s": median([done.cpu for done in taken["ours"]]),
        "our_command_peak_mb": round(max(done.peak for done in taken["ours"]) / 1e6, 1),
        "node_own_memory_grew_mb": round(max(grown) / 1e6, 1),
        "root": expected,
    }


def _make(site: Path, files: int, size: int) -> None:
    """Bytes that cannot be compressed or shared, the same every time."""
    source = random.Random(files)
    site.mkdir(parents=True)
    for number in range(files):
        path = site / f"{number % 50:02}" / f"{number:05}.bin"
        path.parent.mkdir(exist_ok=True)
        with path.open("wb") as file:
            for left in range(size, 0, -(2**20)):
                file.write(source.randbytes(min(left, 2**20)))


def _ours(site: Path, here: Path) -> tuple[Finished, str, int]:
    """(the command, root CID, bytes by which the node's own memory grew at most)"""
    owner = Owner(here / "home")
    with Node(here / "node") as node:
        owner.log_in(node)
        with _Watch(node.pid) as watch:
            done = timed(owner.command("deploy", site, "--site", "bench", "--json"), owner.environment)
        answer = json.loads(done.stdout)
        some = next(path for path in site.rglob("*") if path.is_file())
        served = get(node.gateway, f"/ipfs/{answer['root']}/{some.relative_to(site)}")
        if served is None or served.body != some.read_bytes():
            raise RuntimeError("the node acknowledged a deploy that it does not serve")
    return done, answer["root"], watch.most - watch.before


def _kubo(kubo: Kubo, site: Path, here: Path, *, daemon: bool) -> tuple[Finished, str]:
    here.mkdir()
    environment = kubo.repository(here / "repository")
    command = [str(kubo.ipfs), *_ADD, str(site)]
    if daemon:
        with kubo.daemon(environment):
            done = timed(command, environment)
    else:
        done = timed(command, environment)
    return done, done.stdout.decode().strip()


class _Watch:
    """Samples the anonymous memory of a process: what it holds itself, the mapped store not counted."""

    def __init__(self, pid: int) -> None:
        self._pid, self._end = pid, threading.Event()
        self.before = self.most = memory(pid)["anonymous"]
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> _Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._end.wait(0.05):
            self.most = max(self.most, memory(self._pid)["anonymous"])
