"""What the chain says, as agreed by enough endpoints: final blocks, events, accounts, receipts.

Only final blocks count (Polygon's `finalized` tag, PIP-11): what is read of them never changes, so nothing has
to be rolled back. The last one is remembered: should it change nevertheless, everything stops.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import trio

from decentraspace.errors import DecentraSpaceError, Unavailable
from decentraspace_billing_polygon import contracts, forms
from decentraspace_billing_polygon.events import credits, hash_, tell
from decentraspace_billing_polygon.forms import Block, Log, Receipt
from decentraspace_billing_polygon.rpc import Endpoints, Refused
from decentraspace_billing_polygon.settings import Settings
from decentraspace_billing_polygon.store import Store

_EVENTS_MOST = 10_000  # of the hook
_SCAN_SECONDS = 60.0  # of one call of the hook, which has 120
_OPEN_MOST = 64  # CreditVault.MAX_OPEN
_AT_ONCE = 8  # questions
_SLICE = 64  # blocks whose times are asked for before the time is looked at

_T = TypeVar("_T")
_R = TypeVar("_R")


async def each(work: Callable[[_T], Awaitable[_R]], of: Sequence[_T]) -> list[_R]:
    """`work` of each, several at once, in their order. The first error as it is, and the others cancelled."""
    found: dict[int, _R] = {}
    errors: list[DecentraSpaceError] = []
    limit = trio.CapacityLimiter(_AT_ONCE)

    async def one(number: int, item: _T) -> None:
        async with limit:
            try:
                found[number] = await work(item)
            except DecentraSpaceError as error:
                errors.append(error)
                nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        for number, item in enumerate(of):
            nursery.start_soon(one, number, item)
    if errors:
        raise errors[0]
    return [found[number] for number in range(len(of))]


@dataclass(frozen=True)
class Fees:
    """Wei per unit of gas (EIP-1559)."""

    most: int
    tip: int
    base: int


class Chain:
    """For one trio loop."""

    def __init__(self, settings: Settings, endpoints: Endpoints, store: Store) -> None:
        self.settings, self.endpoints, self.store = settings, endpoints, store
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
        """The newest block that counts. Unavailable when too few endpoints know it, or when the one that counted
        last has changed."""
        final = self.settings.final
        if isinstance(final, int):
            newest = await self.endpoints.least_known("eth_blockNumber", form=forms.quantity)
            number = max(0, newest - final)
        else:
            number = await self.endpoints.least_known(
                "eth_getBlockByNumber", final, False, form=forms.number_of
            )
        found = await self.block(number)
        await self._same_as_ever(found)
        return found

    async def _same_as_ever(self, newest: Block) -> None:
        known = await trio.to_thread.run_sync(self.store.fact, "final")
        if known:
            number, was = int(known.split()[0]), known.split()[1]
            now = newest if newest.number == number else await self.block(number)
            if now.hash != was:
                raise Unavailable(
                    f"Block {number} was final as {was} and is {now.hash} now: nothing goes on",
                    hint="Either plugin.billing_polygon.rpc is of another chain than before, or finality failed. "
                    "When you are sure of the endpoints: `decentraspace operator trust-chain`.",
                )
            if number >= newest.number:
                return
        await trio.to_thread.run_sync(self.store.put_fact, "final", f"{newest.number} {newest.hash}")

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
            last, told = await self._told(logs, until)
            start = end + 1 if last is None else last + 1
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

    async def _told(self, logs: tuple[Log, ...], until: float) -> tuple[int | None, list[dict[str, Any]]]:
        """Their events; and the block up to which, where it would take longer than `until` to tell all."""
        numbers = sorted({log.block for log in logs})
        blocks: dict[int, Block] = {}
        last = None
        for begin in range(0, len(numbers), _SLICE):
            if begin and trio.current_time() > until:
                last = numbers[begin - 1]
                break
            some = numbers[begin : begin + _SLICE]
            blocks |= zip(some, await each(self.block, some), strict=True)
        told = []
        for log in logs:
            if log.block not in blocks:
                continue
            if blocks[log.block].hash != log.block_hash:
                raise Unavailable(f"Block {log.block} changed while it was read")
            if (event := tell(log, self.settings, blocks[log.block].time)) is not None:
                told.append(event)
        return last, told

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

        async def one(allocation: bytes) -> dict[str, Any]:
            return allocation_of(allocation, await read("allocationOf", allocation))

        ids = (await read("allocationsOf", who))[:_OPEN_MOST]
        return {
            "balance": credits(balance),
            "reserved": credits(reserved),
            "available": credits(available),
            "withdrawing": credits(withdrawing),
            "withdraw_after": after,
            "block": block.number,
            "allocations": await each(one, ids),
        }

    async def standing(self, allocation: str, block: int) -> tuple[int, int]:
        """Status of the allocation (0 none, 1 open, 2 closed) and credits that its stream has earned and not got."""
        raw = bytes.fromhex(allocation[2:])
        found = await self.read("CreditVault", self.settings.vault, "allocationOf", raw, block=block)
        return found[7], found[10]

    async def allocation(self, allocation: str, block: int) -> dict[str, Any]:
        raw = bytes.fromhex(allocation[2:])
        found = await self.read("CreditVault", self.settings.vault, "allocationOf", raw, block=block)
        return allocation_of(raw, found)

    # -- transactions

    async def receipt(self, transaction: str) -> Receipt | None:
        """None while it is not mined. Whether its block is final is for the caller to see."""
        found = await self.endpoints.agreed(
            "eth_getTransactionReceipt", transaction, form=forms.receipt_or_none
        )
        assert found is None or isinstance(found, Receipt)
        if found is not None and found.transaction != transaction.lower():
            raise Unavailable("The endpoints answer eth_getTransactionReceipt with what was not asked for")
        return found

    async def user_of(self, account: str, nonce: int, after: int, final: int) -> str:
        """Hash of the transaction by which `account` used `nonce`, in a block above `after` and up to `final`.
        Proves it by the block alone: receipts are looked up in an index, which may lag."""
        low, high = after, final  # it is not used up to `low`, and used up to `high`
        while high - low > 1:
            between = (low + high) // 2
            if await self.nonce(account, between) > nonce:
                high = between
            else:
                low = between
        sent = await self.endpoints.agreed("eth_getBlockByNumber", hex(high), True, form=forms.sent)
        for one in sent:
            if one.sender == account.lower() and one.nonce == nonce:
                return str(one.hash)
        raise Unavailable(f"Block {high} does not show who used nonce {nonce} of {account}")

    async def nonce(self, account: str, block: int | str) -> int:
        """Transactions of `account` up to `block`: the number of its next one."""
        at = hex(block) if isinstance(block, int) else block
        found = await self.endpoints.agreed("eth_getTransactionCount", account, at, form=forms.quantity)
        return int(found)

    async def coins(self, account: str) -> int:
        """Wei that `account` has to pay fees with."""
        return int(await self.endpoints.any("eth_getBalance", account, "latest", form=forms.quantity))

    async def fees(self) -> Fees:
        """What gets a transaction mined soon, for two doublings of the base fee. No endpoint alone decides."""

        def base_fee(value: Any) -> int:
            return forms.block(value).base_fee

        base = await self.endpoints.middle("eth_getBlockByNumber", "latest", False, form=base_fee)
        try:
            tip = await self.endpoints.middle("eth_maxPriorityFeePerGas", form=forms.quantity)
        except (Unavailable, Refused):
            tip = 30 * 10**9  # Polygon's least (https://docs.polygon.technology, "EIP-1559")
        return Fees(most=2 * base + tip, tip=tip, base=base)

    async def gas(self, sender: str, to: str, data: str, value: int) -> int:
        """With a fifth to spare. Refused when enough endpoints say that it would revert."""
        call = {"from": sender, "to": to, "data": data, "value": hex(value)}
        return await self.endpoints.middle("eth_estimateGas", call, form=forms.quantity) * 6 // 5


def allocation_of(allocation: bytes, found: tuple[Any, ...]) -> dict[str, Any]:
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
