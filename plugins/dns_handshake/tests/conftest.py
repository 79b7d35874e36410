"""One Handshake chain, and two name servers, for all tests of the plugin."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from plugins.dns_handshake.tests.hsd import Hsd, hsd
from plugins.dns_handshake.tests.servers import FIRST, Server, knots

from decentraspace.testing import Workbench
from decentraspace_dns_handshake.handshake import Handshake
from decentraspace_dns_handshake.settings import Settings, read

# Top-level names that are won, and nobody has entered anything for, but where it is said below.
NAMES = ("changing", "decentraspace", "signed", "welcome", "sold", "nothing", "recursed")


@dataclass
class World:
    """`decentraspace` and `signed` are delegated to `first`, `sub.` of both from there to `second`."""

    chain: Hsd
    first: Server
    second: Server

    @property
    def settings(self) -> dict[str, Any]:
        """Of a plugin that finds all that; it is given time, as the machine may have other work."""
        return {
            "rpc": [self.chain.url],
            "api_key_file": str(self.key_file),
            "network": "regtest",
            "private": True,
            "port": self.first.port,
            "timeout": 20.0,
            "deadline": 60.0,
        }

    def read(self, **changed: Any) -> Settings:
        return read({**self.settings, **changed})

    key_file: Path = Path()


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("handshake")
    zones = (("decentraspace",), ("signed", "own.signed")), (("sub.decentraspace",), ("sub.signed",))
    with knots(folder, *zones) as (first, second), hsd(folder / "hsd") as chain:
        made = World(chain, first, second, key_file=folder / "key")
        made.key_file.write_text(chain.key + "\n")
        chain.win(*NAMES)
        for name in ("decentraspace", "signed"):
            first.set(f"sub.{name}", f"ns.sub.{name}.", kind="NS")
            first.set(f"ns.sub.{name}", second.address, kind="A")
        for server, zone in ((first, "own.signed"), (second, "sub.signed")):
            first.set(zone, server.ds(zone).to_text(), kind="DS")
        chain.wallet("sendupdate", "decentraspace", {"records": delegation("decentraspace")})
        ds = first.ds("signed")
        key = {
            "type": "DS",
            "keyTag": ds.key_tag,
            "algorithm": int(ds.algorithm),
            "digestType": int(ds.digest_type),
            "digest": ds.digest.hex(),
        }
        chain.wallet("sendupdate", "signed", {"records": [*delegation("signed"), key]})
        chain.mine(1)
        chain.settle()
        yield made


def delegation(name: str, address: str = FIRST) -> list[dict[str, Any]]:
    return [
        {"type": "NS", "ns": f"ns.{name}."},
        {"type": "GLUE4", "ns": f"ns.{name}.", "address": address},
    ]


@pytest.fixture
def workbench(tmp_path: Path) -> Iterator[Workbench]:
    with Workbench(tmp_path, "dns_handshake") as bench:
        yield bench


@pytest.fixture
async def handshake(world: World) -> AsyncIterator[Callable[..., Handshake]]:
    """handshake(**settings that differ): what the plugin's hooks ask."""
    made: list[Handshake] = []

    def make(**changed: Any) -> Handshake:
        made.append(Handshake(world.read(**changed)))
        return made[-1]

    yield make
    for one in made:
        await one.aclose()
