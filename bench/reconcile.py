"""Set exchange between two processes over loopback: 100,000 records that agree, that differ in 50, and an
empty node that joins. Bytes are what TCP carried both ways, with everything that libp2p adds, counted by a
forwarder between the two. Memory is what the tree of fingerprints and its names take, by tracemalloc.
"""

from __future__ import annotations

import os
import socket
import statistics
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from bench.machine import load
from bench.nodes import median, workspace
from bench.recordset import Peer, envelopes, fill, processor_seconds
from decentraspace.identity.keys import NodeKey
from decentraspace.network.reconcile import tree_of

_RECORDS, _DIFFERENT = 100_000, 50
_AGREE_MOST, _MEMORY_MOST, _RATE = 2000, 100_000_000, 5000  # bytes, bytes, records a second
_FULL = 36  # bytes for each record: what the exchange of whole lists took before
_DEADLINE = 120.0
_CONNECTIONS_MOST = 5


def run(quick: bool = False) -> list[dict[str, Any]]:
    count = _RECORDS // 10 if quick else _RECORDS
    made = list(envelopes(count + _DIFFERENT))
    with workspace() as folder:
        full = folder / "full.sqlite"
        fill(full, made[: count + _DIFFERENT // 2])
        fill(other := folder / "other.sqlite", made[:count] + made[count + _DIFFERENT // 2 :])
        return [
            *_bytes(full, other, count),
            _memory(count),
            *(_joining(full, folder, count + _DIFFERENT, begins, quick) for begins in (True, False)),
        ]


def _result(name: str, ratio: float, goal: str, peer: str, **figures: Any) -> dict[str, Any]:
    command = "python -m bench.recordset STORE ADDRESS"
    return {
        "name": name, "ratio": round(ratio, 4), "goal": goal, "peer": peer, "version": "",
        "command": command, **figures,
    }  # fmt: skip


def _bytes(full: Path, other: Path, count: int) -> Iterator[dict[str, Any]]:
    with Peer(full) as first, _forwarded(first.address) as (address, carried), Peer(other, address) as second:
        _until(lambda: second.ask()["accepted"] + first.ask()["accepted"] >= _DIFFERENT)
        _until(lambda: first.ask()["exchanges"] and second.ask()["exchanges"])
        state = second.ask()
        # What connecting and gossip say meanwhile is in here, too: it is little beside the records.
        healed = carried()
        rounds = []
        for _ in range(7):
            done, before = first.ask()["exchanges"], carried()
            first.ask("exchange")
            _until(lambda done=done: first.ask()["exchanges"] > done)
            rounds.append(carried() - before)
    yield _result(
        f"two nodes of {count} records that agree: bytes a round",
        median(rounds) / _AGREE_MOST,
        "<= 1",
        f"the goal of {_AGREE_MOST} bytes",
        median_bytes=median(rounds),
        most_bytes=max(rounds),
    )
    yield _result(
        f"two nodes of {count} records that differ in {_DIFFERENT}: bytes until they agree",
        healed / (count * _FULL),
        "<= 0.1",
        f"lists of all names, {_FULL} bytes each",
        carried_bytes=healed,
        messages_bytes=state["bytes"],
        bytes_per_difference=round(healed / _DIFFERENT),
    )


def _memory(count: int) -> dict[str, Any]:
    names = sorted(os.urandom(32) for _ in range(count))
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    tree = tree_of(names)
    _ = tree.fingerprint
    taken = (tracemalloc.get_traced_memory()[0] - before) * _RECORDS / count
    tracemalloc.stop()
    one_more, began = tree, time.perf_counter()
    for _ in range(1000):
        one_more = one_more.changed([os.urandom(32)])
    changes = time.perf_counter() - began
    return _result(
        "the tree of fingerprints: memory per 100,000 records",
        taken / _MEMORY_MOST,
        "<= 1",
        f"the goal of {_MEMORY_MOST // 10**6} MB",
        tree_mb=round(taken / 1e6, 1),
        change_us=round(changes * 1000, 1),
    )


def _joining(full: Path, folder: Path, count: int, begins: bool, quick: bool) -> dict[str, Any]:
    """`begins`: whether the joining node asks, or is asked."""
    rates, costs = [], []
    loads = [load()]
    for number in range(1 if quick else 3):
        low, high = sorted((NodeKey.generate() for _ in range(2)), key=lambda key: key.peer_id)
        path = folder / f"empty-{begins}-{number}.sqlite"
        os.sync()
        with (
            Peer(full, key=low if begins else high) as there,
            Peer(path, there.address, key=high if begins else low) as joining,
        ):
            here = there.ask()["records"]
            _until(lambda joining=joining: joining.ask()["peers"])
            used = processor_seconds(there, joining)
            began = time.perf_counter()
            # Seldom, for answering takes time, too: it is a hundredth of what is measured.
            _until(lambda joining=joining, here=here: joining.ask()["accepted"] >= here, every=0.1)
            rates.append(here / (time.perf_counter() - began))
            _until(lambda joining=joining: joining.ask()["exchanges"])
            costs.append((processor_seconds(there, joining) - used) / here)
        loads.append(load())
    rate = statistics.median(rates)
    return _result(
        f"an empty node joins {count} records, {'asking' if begins else 'asked'}: records a second",
        rate / _RATE,
        ">= 1",
        f"the goal of {_RATE}",
        median_records_per_s=round(rate),
        best_records_per_s=round(max(rates)),
        processor_us_per_record=round(1e6 * statistics.median(costs)),
        cores=os.cpu_count(),
        loads=loads,
    )


def _until(condition: Any, every: float = 0.02) -> None:
    end = time.monotonic() + _DEADLINE
    while not condition():
        if time.monotonic() > end:
            raise RuntimeError("the exchange did not end")
        time.sleep(every)


@contextmanager
def _forwarded(address: str) -> Iterator[tuple[str, Callable[[], int]]]:
    """A second address of that peer, and how many bytes went through it so far.

    For a few connections, and never for one to itself: a mistake here must not take the machine's ports.
    """
    before, target, behind = _split_port(address)
    carried = 0
    with socket.create_server(("127.0.0.1", 0)) as server:
        own = int(server.getsockname()[1])
        if own == target:
            raise RuntimeError("the forwarder would forward to itself")

        def forward(source: socket.socket, sink: socket.socket) -> None:
            nonlocal carried
            with suppress(OSError):
                while data := source.recv(1 << 16):
                    sink.sendall(data)
                    with lock:
                        carried += len(data)
            for end in (source, sink):
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

        def accept() -> None:
            for _ in range(_CONNECTIONS_MOST):
                try:
                    inner, _ = server.accept()
                    outer = socket.create_connection(("127.0.0.1", target))
                except OSError:
                    return
                ends.extend((inner, outer))
                for pair in ((inner, outer), (outer, inner)):
                    threading.Thread(target=forward, args=pair, daemon=True).start()

        lock = threading.Lock()
        ends: list[socket.socket] = []
        threading.Thread(target=accept, daemon=True).start()
        try:
            yield f"{before}{own}{behind}", lambda: carried
        finally:
            server.shutdown(socket.SHUT_RDWR)
            for end in ends:
                end.close()


def _split_port(address: str) -> tuple[str, int, str]:
    """/ip4/127.0.0.1/tcp/PORT/p2p/ID as what stands before the port, the port, and what stands behind it."""
    before, marker, rest = address.partition("/tcp/")
    port, slash, behind = rest.partition("/")
    return before + marker, int(port), slash + behind
