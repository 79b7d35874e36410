"""Operators as processes of their own, to be killed: `operators.py` forks one for each line on standard input.

A line is JSON: `socket` to connect to, `config` and `data` of the operator; the answer is its process id. Forking
spares each start the import of web3. An operator has a ledger, a usage store and the plugin behind a plugin manager,
as a node has, and does one command at a time, a line of JSON each:

    {"do": "hours", "moments": [{"now", "held", "number", "rows"}, …]}   count, and look at the time again and again
    {"do": "follow"}                                                      take over what is final
    {"do": "settle"}                                                      offer what is due, or ask again

Each has `now`, the time (Unix seconds), `counted`, until when use was counted, and `held`, what the node holds:
{site: bytes}. A command that is
repeated after a crash does what is left of it.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import structlog
import trio

import decentraspace_billing_polygon.parts  # noqa: F401 - once, for all that are forked
from decentraspace import config as configuration
from decentraspace.content.blockstore import BlockStore
from decentraspace.identity.keys import NodeKey
from decentraspace.ledger import facts
from decentraspace.ledger.clock import Moment
from decentraspace.ledger.meters import Held
from decentraspace.ledger.service import Billing
from decentraspace.ledger.store import Ledger
from decentraspace.ledger.usage import UsageRow, UsageStore
from decentraspace.plugins import PluginManager
from decentraspace.testing import Parts

HOUR = 3600


class Clock:
    """The computer's time is what the last command said, and goes on from there; the meter's is `counted`."""

    def __init__(self) -> None:
        self.wall, self._since, self.counted = 0, time.monotonic(), 0
        time.time = lambda: self.wall + time.monotonic() - self._since  # type: ignore[assignment]
        Moment.now = classmethod(lambda cls: cls(self.counted, self.counted, "month"))  # type: ignore[method-assign]

    def set(self, wall: int) -> None:
        self.wall, self._since = wall, time.monotonic()


class Operator:
    def __init__(self, config: Path, data: Path, clock: Clock) -> None:
        self.clock, self._data = clock, data
        self._config = configuration.load(config, environ={}, overrides={"node": {"data_dir": str(data)}})
        owners = json.loads((config.parent / "sites.json").read_text())
        self._owners = {site: bytes.fromhex(owner[2:]) for site, owner in owners.items()}
        self._held: dict[str, int] = {}

    async def open(self) -> None:
        blocks = BlockStore.open(self._data / "blocks", quota=1 << 20)
        key = NodeKey.load_or_create(self._data / "node.key", None)
        manager = PluginManager(self._config.plugins)
        await manager.load(Parts(self._config, blocks, key))
        await manager.call("node_started")
        self.ledger = Ledger(self._data / "ledger.sqlite", self._config)
        self.usage = UsageStore(self._data / "usage.sqlite")
        self.billing = Billing(
            self._config,
            self.ledger,
            self.usage,
            manager,
            owner_of=self._owners.get,
            held=lambda: {site: Held(self._owners[site], size) for site, size in self._held.items()},
            taken=dict,
            reflag=trio.lowlevel.checkpoint,
        )

    async def do(self, command: dict[str, Any]) -> dict[str, Any]:
        self._held = command["held"]
        self.clock.set(command["now"])
        self.clock.counted = command["counted"]
        while not self.ledger.billing:
            await self.billing._carrying_on(self.billing._bind)  # as when a node starts
        if command["do"] == "hours":
            await self._hours(command["moments"])
        elif command["do"] == "follow":
            await self.billing._carrying_on(self.billing.follow)
        else:
            await self.billing._carrying_on(self.billing.settle)
        return self._state()

    async def _hours(self, moments: list[dict[str, Any]]) -> None:
        for moment in moments:
            self._held = moment["held"]
            rows = [UsageRow(site, hour, 200 // 100, n, size) for site, hour, n, size in moment["rows"]]
            if rows:
                self.usage.add_batch("worker", moment["number"], rows)
            last = facts.clock(self.ledger._db).last
            if last is not None and moment["now"] < last.wall:
                continue  # it was killed after that
            self.clock.set(moment["now"])
            self.clock.counted = moment["now"]
            self.billing._held_due = 0.0
            await self.billing.tick()

    def _state(self) -> dict[str, Any]:
        db = self.ledger._db
        last = facts.clock(db).last
        return {
            "next_block": self.ledger.next_block(),
            "last": last.wall if last else 0,
            "open": db.execute("SELECT count(*) FROM batches WHERE state = 'open'").fetchone()[0],
            "due": db.execute(
                "SELECT COALESCE(SUM(charged - settled - lost), 0) FROM allocations WHERE operator = ?",
                (self.ledger.operator,),
            ).fetchone()[0],
            "sound": self.ledger.sound,
            "unserved": sorted(site for site in self._owners if self.ledger.is_unserved(site)),
        }


async def serve(socket: str, config: Path, data: Path) -> None:
    stream = await trio.open_unix_socket(socket)
    operator = Operator(config, data, Clock())
    await operator.open()
    buffer = b""
    async for chunk in stream:
        buffer += chunk
        while b"\n" in buffer:
            line, _, buffer = buffer.partition(b"\n")
            answer = await operator.do(json.loads(line))
            await stream.send_all(json.dumps(answer).encode() + b"\n")


def child(asked: dict[str, str]) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    out = os.open(asked["data"] + ".log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(out, 1)
    os.dup2(out, 2)
    structlog.configure(cache_logger_on_first_use=False)
    trio.run(serve, asked["socket"], Path(asked["config"]), Path(asked["data"]))


def main() -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those that are killed
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                child(json.loads(line))
                code = 0
            except BaseException:  # noqa: BLE001 - whatever it is, this process must not go on as its parent
                import traceback

                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(code)
        print(pid, flush=True)


if __name__ == "__main__":
    main()
