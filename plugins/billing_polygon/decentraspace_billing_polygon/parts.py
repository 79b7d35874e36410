"""The plugin's parts, put together for one node."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from decentraspace.public import NodeAPI
from decentraspace_billing_polygon.chain import Chain
from decentraspace_billing_polygon.outbox import Outbox
from decentraspace_billing_polygon.rpc import Endpoints
from decentraspace_billing_polygon.sender import Sender
from decentraspace_billing_polygon.settings import Settings
from decentraspace_billing_polygon.settling import Settler
from decentraspace_billing_polygon.signer import External, KeyFile, Signer, read_password
from decentraspace_billing_polygon.transactions import Preparer


@dataclass(frozen=True)
class Parts:
    settings: Settings
    endpoints: Endpoints
    signer: Signer
    chain: Chain
    sender: Sender
    settler: Settler
    preparer: Preparer

    async def run(self) -> None:
        """Bring what is written down to the chain, until cancelled."""
        try:
            await self.sender.run()
        finally:
            self.sender.outbox.close()


# What py_ecc, which web3 loads, sets it to overflows the stack: answers of endpoints may be nested that deeply.
sys.setrecursionlimit(min(sys.getrecursionlimit(), 1000))


def assemble(node: NodeAPI, settings: Settings) -> Parts:
    """Blocking. ConfigError for a key that does not open."""
    signer: Signer
    if settings.keystore:
        password = read_password(Path(settings.password_file)) if settings.password_file else ""
        signer = KeyFile(Path(settings.keystore), password)
    else:
        signer = External(settings.signer, settings.operator, settings.timeout)
    endpoints = Endpoints(settings.rpc, settings.agreeing, settings.timeout)
    chain = Chain(settings, endpoints)
    sender = Sender(chain, Outbox(node.data_dir / "outbox.json"), signer, node.log)
    return Parts(settings, endpoints, signer, chain, sender, Settler(sender), Preparer(chain))
