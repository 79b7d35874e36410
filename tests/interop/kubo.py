"""Real Kubo daemons for tests: alone on loopback, with nobody to talk to but whom a test connects them with."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio

from tests.support import find_kubo, require_real

_DEADLINE = 60.0  # seconds


class Kubo:
    """`ipfs` on one repository. A command that fails is an AssertionError with what it said."""

    def __init__(self, ipfs: Path, folder: Path) -> None:
        self._ipfs = ipfs
        self.environment = {**os.environ, "IPFS_PATH": str(folder), "IPFS_TELEMETRY": "off"}

    async def run(self, *arguments: str | Path, deadline: float = _DEADLINE) -> bytes:
        with trio.fail_after(deadline):
            done = await trio.run_process(
                [str(self._ipfs), *map(str, arguments)],
                capture_stdout=True,
                capture_stderr=True,
                check=False,
                env=self.environment,
            )
        assert done.returncode == 0, f"ipfs {' '.join(map(str, arguments))}: {done.stderr.decode()}"
        return done.stdout

    async def peer_id(self) -> str:
        return str(json.loads(await self.run("id"))["ID"])

    async def address(self) -> str:
        """Its libp2p address on loopback, ending in /p2p/PEERID."""
        answer: dict[str, Any] = json.loads(await self.run("id"))
        return next(a for a in answer["Addresses"] if a.startswith("/ip4/127.0.0.1/tcp/") and "/ws" not in a)


@asynccontextmanager
async def kubo(
    folder: Path,
    routers: Sequence[str] = (),
    publishers: Sequence[str] = (),
    *,
    dht: bool = False,
    at: str = "",
) -> AsyncIterator[Kubo]:
    """A daemon that is ready. `routers`: base URLs whom it asks for providers; `dht`: it is a server of the
    DHT, that of a local network on loopback, too; else it asks nobody. `at`: an IP address other than
    loopback, where it listens on port 4001 and tries for others whether they can be reached.
    `publishers`: whom it tells what its names stand for. Skips the test where there is no Kubo."""
    ipfs = find_kubo()
    require_real("Kubo (tests/interop/build_kubo.sh)", ipfs)
    assert ipfs is not None
    made = Kubo(ipfs, folder)
    await made.run("init", "--profile=test")  # ports the OS chooses, loopback only, no bootstrap
    await made.run("config", "Routing.Type", "dhtserver" if dht else "delegated" if routers else "none")
    await made.run("config", "--json", "Routing.LoopbackAddressesOnLanDHT", "true")
    await made.run("config", "--json", "Routing.DelegatedRouters", json.dumps(list(routers)))
    await made.run("config", "--json", "Ipns.DelegatedPublishers", json.dumps(list(publishers)))
    await made.run("config", "--json", "Provide.Enabled", json.dumps(dht))
    if at:
        await made.run("config", "--json", "Addresses.Swarm", json.dumps([f"/ip4/{at}/tcp/4001"]))
        await made.run("config", "AutoNAT.ServiceMode", "enabled")
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen([ipfs, "daemon"], env=made.environment, stdout=output, stderr=output)
    try:
        with trio.fail_after(_DEADLINE):
            while b"Daemon is ready" not in log.read_bytes():
                assert process.poll() is None, log.read_text()
                await trio.sleep(0.05)
        yield made
    finally:
        process.send_signal(signal.SIGTERM)
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(process.wait)
