"""The hook `ledger_settle`: when a batch goes to the chain, and what came of it."""

from __future__ import annotations

import time
from typing import Any

import trio
from eth_abi.abi import encode
from eth_utils import keccak

from decentraspace.errors import Unavailable
from decentraspace_billing_polygon import contracts
from decentraspace_billing_polygon.chain import Chain, each
from decentraspace_billing_polygon.events import NOTHING_DUE, reason
from decentraspace_billing_polygon.outbox import Job
from decentraspace_billing_polygon.rpc import Refused
from decentraspace_billing_polygon.sender import Sender

CHARGES_MOST = 500
"""Charges in one transaction: some 7 million units of gas."""
_GAS_BATCH, _GAS_CHARGE = 60_000, 16_000  # on the safe side of contracts/snapshots
_URGENT = 86_400  # seconds before an allocation can no longer be charged from which on no fee is too high
_COIN = 10**18

Charge = dict[str, Any]
Answer = dict[str, Any]


def allocation_id(owner: str, operator: str, number: int) -> str:
    """keccak256(abi.encode(owner, operator, id)), as the vault has it."""
    return "0x" + bytes(keccak(encode(["address", "address", "uint256"], [owner, operator, number]))).hex()


class Settler:
    def __init__(self, sender: Sender) -> None:
        self.sender, self.chain = sender, sender.chain

    async def settle(self, charges: list[Charge], root: str) -> list[Answer]:
        """As the hook says. Unavailable when the chain cannot be asked."""
        key, operator = f"settle:{root}", self.sender.signer.address
        mine, refused = list[Charge](), list[Answer]()
        for charge in charges:
            if allocation_id(charge["owner"], operator, charge["id"]) != charge["allocation"]:
                refused.append(_answer(charge, "refused", detail=f"not an allocation to {operator}"))
            elif len(mine) == CHARGES_MOST:
                refused.append(_answer(charge, "refused", detail="too many charges at once"))
            else:
                mine.append(charge)
        job = await trio.to_thread.run_sync(self.sender.outbox.get, key)
        if job is None and mine:
            why_not = await self._why_not(mine)
            if why_not:
                return refused + [_answer(c, "later", detail=why_not) for c in mine]
            job = await self.sender.put(self._job(key, mine, root))
        return refused + ([_outcome(charge, job) for charge in mine] if job is not None else [])

    def _job(self, key: str, charges: list[Charge], root: str) -> Job:
        entries = [(contracts.address(c["owner"]), c["id"], c["credits"]) for c in charges]
        data = contracts.encode("CreditVault", "settle", [entries, bytes.fromhex(root[2:])])
        return Job(
            key=key,
            to=self.chain.settings.vault,
            data=data,
            made=int(time.time()),
            about={"charges": [c["allocation"] for c in charges]},
        )

    async def _why_not(self, charges: list[Charge]) -> str:
        """Why it does not pay to settle these now, or ""."""
        settings = self.chain.settings
        await self.chain.check()
        final = await self.chain.final_block()

        async def look(charge: Charge) -> dict[str, Any]:
            allocation = await self.chain.allocation(charge["allocation"], final.number)
            return {"due": max(0, charge["credits"] - allocation["metered_settled"]), **allocation}

        found = await each(look, charges)
        window = await self.chain.read("CreditVault", settings.vault, "SETTLEMENT_WINDOW", block=final.number)
        fees = await self.chain.fees()
        wei = (_GAS_BATCH + _GAS_CHARGE * len(charges)) * (fees.base + fees.tip)
        if any(one["due"] and one["expires"] + window - final.time < _URGENT for one in found):
            return ""
        fee, due = await fee_in_credits(self.chain, wei, final.number), sum(one["due"] for one in found)
        if due < settings.settle_margin * fee:
            return f"{due} credits are due, the fee would be some {fee}; see plugin.billing_polygon.settle_margin"
        return ""


async def fee_in_credits(chain: Chain, wei: int, block: int) -> int:
    """By the setting, or the vault's own feed; 0 where it has none, so that no fee is too high."""
    price = chain.settings.coin_credits
    if not price:
        try:
            price = await chain.read("CreditVault", chain.settings.vault, "quoteNative", _COIN, block=block)
        except Refused as refusal:
            if not refusal.reverts:
                raise Unavailable(f"The vault's price feed cannot be read: {refusal.detail}") from refusal
    return wei * price // _COIN


def _outcome(charge: Charge, job: Job) -> Answer:
    if charge["allocation"] not in job.about.get("charges", ()):
        return _answer(charge, "refused", detail="It was not in the batch.")
    if job.open:
        return _answer(charge, "pending", job.reference)
    if job.state == "failed":
        return _answer(charge, "refused", job.reference, job.detail)
    settled, skipped = job.result["settled"], job.result["skipped"]
    allocation = charge["allocation"]
    if settled.get(allocation) == charge["credits"] or skipped.get(allocation) == NOTHING_DUE:
        return _answer(charge, "final", job.reference)
    why = reason(skipped[allocation]) if allocation in skipped else "the contract did not mention it"
    return _answer(charge, "refused", job.reference, why)


def _answer(charge: Charge, status: str, reference: str = "", detail: str = "") -> Answer:
    return {
        "allocation": charge["allocation"],
        "owner": charge["owner"],
        "credits": charge["credits"],
        "reference": reference,
        "status": status,
        "detail": detail,
    }
