"""The plugin's parts, put together for one node."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trio

from decentraspace_billing_polygon.chain import Chain
from decentraspace_billing_polygon.keeping import Allocations, Keeper
from decentraspace_billing_polygon.listening import Listener
from decentraspace_billing_polygon.naming import Naming
from decentraspace_billing_polygon.operating import Operating
from decentraspace_billing_polygon.outbox import Outbox
from decentraspace_billing_polygon.rpc import Endpoints
from decentraspace_billing_polygon.sender import Sender
from decentraspace_billing_polygon.settings import Settings
from decentraspace_billing_polygon.settling import Settler
from decentraspace_billing_polygon.signer import External, KeyFile, Signer, read_password
from decentraspace_billing_polygon.store import Store
from decentraspace_billing_polygon.transactions import Preparer


@dataclass(frozen=True)
class Parts:
    settings: Settings
    store: Store
    endpoints: Endpoints
    signer: Signer
    chain: Chain
    sender: Sender
    settler: Settler
    preparer: Preparer
    operating: Operating
    allocations: Allocations
    keeper: Keeper
    listener: Listener
    naming: Naming

    async def run(self) -> None:
        """Bring what is written down to the chain, until cancelled."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.sender.run)
                nursery.start_soon(self.keeper.run)
        finally:
            with trio.CancelScope(shield=True):
                await self.aclose()

    async def aclose(self) -> None:
        await self.endpoints.aclose()
        if isinstance(self.signer, External):
            await self.signer.aclose()
        self.store.close()


# What py_ecc, which web3 loads, sets it to overflows the stack: answers of endpoints may be nested that deeply.
sys.setrecursionlimit(min(sys.getrecursionlimit(), 1000))


def assemble(settings: Settings, data_dir: Path, log: Any) -> Parts:
    """Blocking. ConfigError for a key that does not open."""
    signer: Signer
    if settings.keystore:
        password = read_password(Path(settings.password_file)) if settings.password_file else ""
        signer = KeyFile(Path(settings.keystore), password)
    else:
        signer = External(settings.signer, settings.operator, settings.timeout)
    endpoints = Endpoints(settings.rpc, settings.agreeing, settings.timeout)
    store = Store(data_dir / "polygon.sqlite")
    chain = Chain(settings, endpoints, store)
    sender = Sender(chain, Outbox(store), signer, log)
    preparer, allocations = Preparer(chain), Allocations(store, signer.address)
    return Parts(
        settings=settings,
        store=store,
        endpoints=endpoints,
        signer=signer,
        chain=chain,
        sender=sender,
        settler=Settler(sender),
        preparer=preparer,
        operating=Operating(sender, preparer),
        allocations=allocations,
        keeper=Keeper(sender, allocations),
        listener=Listener(settings.webhook_keys),
        naming=Naming(sender, settings.labels),
    )
