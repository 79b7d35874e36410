"""/billing/settle/: administrators have charges settled now, as before a node is stopped for good."""

from __future__ import annotations

from dataclasses import dataclass

import trio

from decentraspace.api.routing import Call, RouteTable
from decentraspace.api.schemas import attr
from decentraspace.errors import Forbidden, NotFound, Unauthorized

table = RouteTable()


@dataclass(frozen=True)
class SettleAnswer:
    root: str | None = attr(
        "Merkle root of the batch that was offered to the chain; null when nothing is due."
    )
    charges: int = attr("Allocations in it.")
    waiting: int = attr("Of them, those that are in no final block yet.")


@table.add(
    "POST",
    "/billing/settle/",
    tag="billing",
    login=True,
    admin=True,
    answers={200: SettleAnswer},
    problems=(Unauthorized, Forbidden, NotFound),
)
async def settle(call: Call) -> SettleAnswer:
    """Settle what is due now, however little (administrators)

    What was used so far is priced at once, and not at the end of the hour: once in each hour. One batch is under way
    at a time: again for the rest, and for how it stands.
    """
    ledger = call.node.ledger
    if not ledger.billing:
        raise NotFound("This node charges nothing: no plugin settles on a chain", slug="no-chain")
    root = await call.node.billing.settle_now()
    batch = await trio.to_thread.run_sync(ledger.batch, root) if root is not None else None
    if batch is None:
        return SettleAnswer(None, 0, 0)
    waiting = sum(charge.status in ("offered", "pending") for charge in batch.charges)
    return SettleAnswer("0x" + batch.root.hex(), len(batch.charges), waiting)
