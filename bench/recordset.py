"""Many valid records for benchmarks, and a node reduced to records and network in a process of its own.

python -m bench.recordset STORE [ADDRESS …]     asks on its input, answers with JSON, one line each
"""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import psutil
import trio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.records.factory import RULES, make_session, make_site, make_wallet, take

from decentraspace.config import NetworkConfig, RecordsConfig
from decentraspace.identity.keys import NodeKey
from decentraspace.network.host import Network
from decentraspace.records.store import AddResult, RecordStore

_PER_SESSION = 500  # records that have their delegation in common
_QUOTA = RecordsConfig(sponsor_records=10**9, sponsor_bytes=10**15)


def envelopes(count: int) -> Iterator[bytes]:
    """Signed by so many sessions as it takes, sponsored by one node."""
    node = NodeKey.generate()
    for number in range(count):
        if number % _PER_SESSION == 0:
            wallet = make_wallet()
            session = make_session(wallet)
        yield take(make_site(wallet, session, label=f"site{number}"), node)


def fill(path: Path, made: Sequence[bytes]) -> None:
    """Store them as records from the network are stored."""
    store = open_store(path)
    now = int(time.time())
    for start in range(0, len(made), 1000):
        store.add_many(made[start : start + 1000], now=now)
    store.close()


def open_store(path: Path) -> RecordStore:
    return RecordStore(path, RULES, _QUOTA)


class Peer:
    """The process. Of two, the one whose key has the higher peer id begins exchanges. `interval`: seconds
    between them; `inside`: what to start it in."""

    def __init__(
        self,
        path: Path,
        *bootstrap: str,
        key: NodeKey | None = None,
        listen: str = "/ip4/127.0.0.1/tcp/0",
        interval: float = 3600.0,
        inside: AbstractContextManager[Any] | None = None,
    ) -> None:
        self._log = path.with_suffix(".log").open("wb")
        secret = (key or NodeKey.generate()).private.private_bytes_raw().hex()
        with inside or nullcontext():
            self.process = subprocess.Popen(
                [sys.executable, "-m", "bench.recordset", str(path), *bootstrap],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                text=True,
            )
        self._write(json.dumps({"key": secret, "listen": listen, "interval": interval}))

    @cached_property
    def address(self) -> str:
        """Once it listens. To be asked for first."""
        return str(self._read()["address"])

    def __enter__(self) -> Peer:
        _ = self.address
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        self._log.close()

    def ask(self, what: str = "state") -> dict[str, Any]:
        """`state`; `exchange`: begin one now; `times`: when each record from peers was accepted (time.monotonic,
        which all processes of a machine share), by CID; `publish ENVELOPE` (base64), which answers when that
        began."""
        self._write(what)
        return self._read()

    def _write(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def _read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the process has ended:\n{Path(self._log.name).read_text()[-3000:]}")
        answer: dict[str, Any] = json.loads(line)
        return answer


def processor_seconds(*peers: Peer) -> float:
    """Of these processes and those that they started, running or ended."""
    used = 0.0
    for peer in peers:
        process = psutil.Process(peer.process.pid)
        times = process.cpu_times()
        used += times.user + times.system + times.children_user + times.children_system
        for child in process.children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                used += child.cpu_times().user + child.cpu_times().system
    return used


async def _serve(path: Path, bootstrap: Sequence[str], options: dict[str, Any]) -> None:
    import structlog

    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    store = open_store(path)
    times: dict[str, float] = {}

    async def note(results: Sequence[AddResult]) -> None:
        now = time.monotonic()
        times.update((result.record.cid.hex(), now) for result in results)

    config = NetworkConfig(
        listen=(options["listen"],), bootstrap=tuple(bootstrap), mdns=False, allow_private=True,
        sync_interval=options["interval"],
    )  # fmt: skip
    key = NodeKey(Ed25519PrivateKey.from_private_bytes(bytes.fromhex(options["key"])))
    network = Network(config, key, store, note)
    async with trio.open_nursery() as nursery:
        await nursery.start(network.run)
        _say({"address": network.addresses()[0]})
        async for line in trio.wrap_file(sys.stdin):
            what, _, argument = line.strip().partition(" ")
            if what == "times":
                _say(times)
            elif what == "publish":
                began = time.monotonic()
                envelope = base64.b64decode(argument)
                await trio.to_thread.run_sync(partial(store.add, envelope, now=int(time.time()), local=True))
                _say({"began": began})
                await network.publish(envelope)
            else:
                if what == "exchange":
                    network.rounds.demand()
                _say(_state(network, store, len(times)))
        nursery.cancel_scope.cancel()


def _state(network: Network, store: RecordStore, accepted: int) -> dict[str, int]:
    totals = network.rounds.totals
    return {
        "accepted": accepted,
        "records": store.tree().count,
        "peers": len(network.peers()),
        "mesh": network.gossip_peers()[0],
        "exchanges": totals.exchanges,
        "failed": totals.failed,
        "bytes": totals.bytes_in + totals.bytes_out,
    }


def _say(answer: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def main() -> None:
    options = json.loads(sys.stdin.readline())
    trio.run(_serve, Path(sys.argv[1]), sys.argv[2:], options)


if __name__ == "__main__":
    main()
