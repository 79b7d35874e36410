"""What the chain says, as agreed by enough endpoints: final blocks, events, accounts, receipts.

Only final blocks count (Polygon's `finalized` tag, PIP-11): what is read of them never changes, so nothing has
to be rolled back. Should a block that was final change nevertheless, that is noticed and everything stops.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import trio

from decentraspace.errors import Unavailable
from decentraspace_billing_polygon import contracts, forms
from decentraspace_billing_polygon.events import credits, hash_, tell
from decentraspace_billing_polygon.forms import Block, Log, Receipt
from decentraspace_billing_polygon.rpc import Endpoints, Refused
from decentraspace_billing_polygon.settings import Settings

_EVENTS_MOST = 10_000  # of the hook
_SCAN_SECONDS = 60.0  # of one call of the hook, which has 120
_OPEN_MOST = 64  # CreditVault.MAX_OPEN


@dataclass(frozen=True)
class Fees:
    """Wei per unit of gas (EIP-1559)."""

    most: int
    tip: int
    base: int


class Chain:
    """For one trio loop."""

    def __init__(self, settings: Settings, endpoints: Endpoints) -> None:
        self.settings, self.endpoints = settings, endpoints
        self._checked = False

    async def check(self) -> None:
        """Unavailable when the endpoints are of another chain, or there is no contract at the vault's address."""
        if self._checked:
            return
        found = await self.endpoints.agreed("eth_chainId", form=forms.quantity)
        if found != self.settings.chain_id:
            raise Unavailable(
                f"The endpoints of plugin.billing_polygon.rpc are of chain {found}, not {self.settings.chain_id}"
            )
        code = await self.endpoints.agreed("eth_getCode", self.settings.vault, "latest", form=forms.hexes)
        if len(code) <= 2:
            raise Unavailable(f"There is no contract at plugin.billing_polygon.vault, {self.settings.vault}")
        self._checked = True

    # -- blocks

    async def final_block(self) -> Block:
        """The newest block that counts. Unavailable when too few endpoints know it."""
        final = self.settings.final
        if isinstance(final, int):
            newest = await self.endpoints.least_known("eth_blockNumber", form=forms.quantity)
            number = max(0, newest - final)
        else:
            number = await self.endpoints.least_known(
                "eth_getBlockByNumber", final, False, form=forms.number_of
            )
        return await self.block(number)

    async def block(self, number: int) -> Block:
        found = await self.endpoints.agreed(
            "eth_getBlockByNumber", hex(number), False, form=forms.block_or_none
        )
        if found is None or found.number != number:
            raise Unavailable(f"The endpoints do not know block {number} yet")
        assert isinstance(found, Block)
        return found

    # -- events

    async def events(self, first: int, final: Block) -> tuple[int, list[dict[str, Any]]]:
        """Events from block `first` on, up to `final`, and the block to go on from. May end early."""
        start, told = max(first, self.settings.first_block), list[dict[str, Any]]()
        size = self.settings.range
        until = trio.current_time() + _SCAN_SECONDS
        while start <= final.number and not told and trio.current_time() < until:
            end = min(start + size - 1, final.number)
            try:
                logs = await self._logs(start, end)
            except (Unavailable, Refused):
                if size == 1:
                    raise
                size = max(1, size // 4)  # endpoints limit the blocks, the results or the time of a question
                continue
            if len(logs) > _EVENTS_MOST and end > start:
                size = max(1, size // 4)
                continue
            told = await self._told(logs)
            start = end + 1
        return start, told

    async def _logs(self, start: int, end: int) -> tuple[Log, ...]:
        question = {
            "fromBlock": hex(start),
            "toBlock": hex(end),
            "address": list(self.settings.contracts),
        }
        found: tuple[Log, ...] = await self.endpoints.agreed("eth_getLogs", question, form=forms.logs)
        addresses = {a.lower() for a in self.settings.contracts}
        if any(not start <= log.block <= end or log.address not in addresses for log in found):
            raise Unavailable("The endpoints answer eth_getLogs with what was not asked for")
        return found

    async def _told(self, logs: tuple[Log, ...]) -> list[dict[str, Any]]:
        times: dict[int, int] = {}
        told = []
        for log in logs:
            if log.block not in times:
                block = await self.block(log.block)
                if block.hash != log.block_hash:
                    raise Unavailable(f"Block {log.block} changed while it was read")
                times[log.block] = block.time
            if (event := tell(log, self.settings, times[log.block])) is not None:
                told.append(event)
        return told

    # -- the contracts

    async def read(self, contract: str, address: str, function: str, *arguments: Any, block: int) -> Any:
        """One call of a view. Refused when it reverts."""
        call = {"to": address, "data": contracts.encode(contract, function, arguments)}
        answer = await self.endpoints.agreed("eth_call", call, hex(block), form=forms.hexes)
        found = contracts.decode(contract, function, answer)
        return found[0] if len(found) == 1 else found

    async def account(self, owner: str) -> dict[str, Any]:
        """As the hook `chain_account` tells it."""
        block, vault = await self.final_block(), self.settings.vault
        who = contracts.address(owner)

        async def read(function: str, *arguments: Any) -> Any:
            return await self.read("CreditVault", vault, function, *arguments, block=block.number)

        balance, reserved, available, withdrawing, after = await read("accountOf", who)
        allocations: dict[bytes, Any] = {}

        async def one(allocation: bytes) -> None:
            allocations[allocation] = await read("allocationOf", allocation)

        ids = (await read("allocationsOf", who))[:_OPEN_MOST]
        async with trio.open_nursery() as nursery:
            for allocation in ids:
                nursery.start_soon(one, allocation)
        return {
            "balance": credits(balance),
            "reserved": credits(reserved),
            "available": credits(available),
            "withdrawing": credits(withdrawing),
            "withdraw_after": after,
            "block": block.number,
            "allocations": [_allocation(i, allocations[i]) for i in ids],
        }

    async def allocation(self, allocation: str, block: int) -> dict[str, Any]:
        raw = bytes.fromhex(allocation[2:])
        found = await self.read("CreditVault", self.settings.vault, "allocationOf", raw, block=block)
        return _allocation(raw, found)

    # -- transactions

    async def receipt(self, transaction: str) -> Receipt | None:
        """None while it is not mined. Whether its block is final is for the caller to see."""
        found = await self.endpoints.agreed(
            "eth_getTransactionReceipt", transaction, form=forms.receipt_or_none
        )
        assert found is None or isinstance(found, Receipt)
        return found

    async def nonce(self, account: str, block: int | str) -> int:
        """Transactions of `account` up to `block`: the number of its next one."""
        at = hex(block) if isinstance(block, int) else block
        found = await self.endpoints.agreed("eth_getTransactionCount", account, at, form=forms.quantity)
        return int(found)

    async def coins(self, account: str) -> int:
        """Wei that `account` has to pay fees with."""
        return int(await self.endpoints.any("eth_getBalance", account, "latest", form=forms.quantity))

    async def fees(self) -> Fees:
        """What gets a transaction mined soon, for two doublings of the base fee."""
        newest = await self.endpoints.any("eth_getBlockByNumber", "latest", False, form=forms.block)
        try:
            tip = await self.endpoints.any("eth_maxPriorityFeePerGas", form=forms.quantity)
        except (Unavailable, Refused):
            tip = 30 * 10**9  # Polygon's least (https://docs.polygon.technology, "EIP-1559")
        return Fees(most=2 * newest.base_fee + tip, tip=tip, base=newest.base_fee)

    async def gas(self, sender: str, to: str, data: str, value: int) -> int:
        """With a fifth to spare. Refused when it would revert."""
        call = {"from": sender, "to": to, "data": data, "value": hex(value)}
        return int(await self.endpoints.any("eth_estimateGas", call, form=forms.quantity)) * 6 // 5


def _allocation(allocation: bytes, found: tuple[Any, ...]) -> dict[str, Any]:
    _, operator, number, cap, rate, start, expires, _, metered, streamed, _ = found
    return {
        "allocation": hash_(allocation),
        "operator": contracts.address(operator),
        "id": number,
        "cap": credits(cap),
        "rate": credits(rate),
        "start": start,
        "expires": expires,
        "stream_settled": credits(streamed),
        "metered_settled": credits(metered),
    }
