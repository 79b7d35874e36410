"""The plugin on a workbench, before a chain with ENS on it."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from plugins.dns_ens.tests.chain import Anvil, Ens, packaged, serve
from plugins.dns_ens.tests.gateway import Gateway

from decentraspace.plugins import PluginManager
from decentraspace.testing import Workbench

# web3 raises it (py_ecc does), and then something nested deeply enough overflows the stack.
sys.setrecursionlimit(1000)

Managed = Callable[..., Awaitable[PluginManager]]
# Of no file that exists; as good as any other. EIP-1577's own example.
IPFS = bytes.fromhex("e3010170122029f2d17be6139079dc48696d1f582a8530eb9805b561eda517e22a892c7e3f1f")
IPFS_CID = "bafybeibj6lixxzqtsb45ysdjnupvqkufgdvzqbnvmhw2kf7cfkesy7r7d4"


@pytest.fixture(scope="session")
def deployed() -> Iterator[Ens]:
    chain = Anvil()
    try:
        yield Ens.on(chain)
    finally:
        chain.close()


@pytest.fixture
def ens(deployed: Ens) -> Iterator[Ens]:
    """As it was deployed: what a test does to the chain is taken back after it."""
    before = deployed.chain.ask("evm_snapshot")
    yield deployed
    deployed.chain.ask("evm_revert", before)


@pytest.fixture
async def managed(tmp_path: Path) -> AsyncIterator[Managed]:
    """await managed(**settings): the plugin loaded and started."""
    with Workbench(tmp_path, "dns_ens") as bench:

        async def make(**settings: Any) -> PluginManager:
            return await bench.start(**settings)

        yield make
        await bench.stop()


@dataclass
class Offchain:
    """ENS's offchain resolver on the chain, and the gateway that it names. `asked`: (method, path)."""

    resolver: Any
    gateway: Gateway
    url: str
    asked: list[tuple[str, str]]


@pytest.fixture
def offchain(ens: Ens) -> Iterator[Offchain]:
    gateway = Gateway()
    with serve(gateway) as (url, asked):
        made = packaged(
            "offchain-resolver-contracts/artifacts/contracts/OffchainResolver.sol/OffchainResolver.json"
        )
        resolver = ens.chain.deploy(made, url + "/{sender}/{data}.json", [gateway.signer])
        yield Offchain(resolver, gateway, url, asked)


async def resolve(manager: PluginManager, name: str) -> dict[str, Any]:
    found: dict[str, Any] = await manager.one("dns_ens", "name_resolve", name=name)
    return found


async def verify(manager: PluginManager, name: str, owner: str) -> dict[str, Any]:
    found: dict[str, Any] = await manager.one(
        "dns_ens", "name_verify", name=name, owner=owner.lower(), site="site--abc", gateway="", proof=""
    )
    return found


async def transaction(manager: PluginManager, name: str, owner: str, target: str) -> dict[str, Any]:
    found: dict[str, Any] = await manager.one(
        "dns_ens", "name_transaction", name=name, owner=owner.lower(), target=target
    )
    return found
