"""The hook `chain_send`: what the operator itself sends, once for each key."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from typing import Any

import trio

from decentraspace.errors import BadInput, Conflict
from decentraspace_billing_polygon import contracts
from decentraspace_billing_polygon.outbox import Job
from decentraspace_billing_polygon.sender import Sender
from decentraspace_billing_polygon.settling import allocation_id
from decentraspace_billing_polygon.transactions import Preparer, whole_number

ALLOCATIONS_MOST = 200
_SIGNATURE_MOST = 4096  # bytes; those of contracts (EIP-1271) may be long
_ALL = 2**256 - 1
_OPEN = 1  # ICreditVault.Status


class Operating:
    def __init__(self, sender: Sender, preparer: Preparer) -> None:
        self.sender, self.chain, self.preparer = sender, sender.chain, preparer
        sender.before = self.approve

    async def send(self, action: str, arguments: Mapping[str, Any], key: str) -> dict[str, Any] | None:
        """As the hook says."""
        made = {
            "deposit_for": self._deposit_for,
            "allocate_by_signature": self._allocate,
            "settle_streams": self._of_allocations,
            "release": self._of_allocations,
        }.get(action)
        if made is None:
            return None
        function, values, more = made(action, dict(arguments))
        data = contracts.encode("CreditVault", function, values)
        asked = hashlib.sha256(f"{action} {data}".encode()).hexdigest()
        about = {"action": action, "asked": asked, **more.pop("about", {})}
        job = await self.sender.put(
            Job(
                key=f"send:{key}",
                to=self.chain.settings.vault,
                data=data,
                made=int(time.time()),
                about=about,
                **more,
            )
        )
        if job.about["asked"] != asked:
            raise Conflict(f"The key {key!r} was used for something else", hint="Choose another key.")
        return await self._answer(job)

    def _deposit_for(self, _: str, given: dict[str, Any]) -> tuple[str, list[Any], dict[str, Any]]:
        owner, amount = contracts.address(_take(given, "owner")), whole_number(_take(given, "amount"))
        _nothing_else(given)
        if not 0 < amount < 2**64:
            raise BadInput(f"{amount} is not an amount of 1 to 2^64 - 1 credits")
        if int(owner, 16) == 0 or owner.lower() == self.chain.settings.vault.lower():
            raise BadInput(f"{owner} can have no credits")
        # Whatever is in its way now, such as too few tokens, will not be for ever; and money came in for it.
        return "depositFor", [owner, amount], {"patient": True, "once": True, "about": {"spends": amount}}

    def _allocate(self, _: str, given: dict[str, Any]) -> tuple[str, list[Any], dict[str, Any]]:
        mine = self.sender.signer.address
        owner = contracts.address(_take(given, "owner"))
        operator = contracts.address(given.pop("operator", mine))
        if operator != mine:
            raise BadInput(f"This node pays for allocations to {mine} alone, not to {operator}")
        numbers = [whole_number(_take(given, name)) for name in ("id", "cap", "rate", "start", "expires")]
        try:
            signature = bytes.fromhex(str(_take(given, "signature")).removeprefix("0x"))
        except ValueError as error:
            raise BadInput("signature is not 0x and hex digits") from error
        if not 0 < len(signature) <= _SIGNATURE_MOST:
            raise BadInput(f"signature has {len(signature)} bytes, not 1 to {_SIGNATURE_MOST}")
        _nothing_else(given)
        about = {"allocation": allocation_id(owner, operator, numbers[0])}
        return "allocateBySignature", [(owner, operator, *numbers), signature], {"about": about}

    def _of_allocations(self, action: str, given: dict[str, Any]) -> tuple[str, list[Any], dict[str, Any]]:
        found = _take(given, "allocations")
        _nothing_else(given)
        if not isinstance(found, list | tuple) or not 0 < len(found) <= ALLOCATIONS_MOST:
            raise BadInput(f"allocations is not a list of 1 to {ALLOCATIONS_MOST} ids")
        return streams_or_release(action), [[_id(one) for one in found]], {}

    async def _answer(self, job: Job) -> dict[str, Any]:
        status = {"final": "final", "failed": "refused"}.get(job.state, "pending")
        if status == "refused" and "allocation" in job.about:
            # Perhaps somebody else has sent what the owner signed.
            final = await self.chain.final_block()
            if (await self.chain.standing(job.about["allocation"], final.number))[0] == _OPEN:
                return {"status": "final", "reference": job.reference, "detail": "It was there already."}
        return {"status": status, "reference": job.reference, "detail": job.detail}

    async def approve(self, job: Job) -> None:
        """Let the vault take the operator's tokens, where `job` needs that and it may not. Without limit: it takes
        them by calls of the operator alone, and a limit of one job would be in the way of the next."""
        amount = job.about.get("spends", 0)
        if not amount:
            return
        final, token = await self.chain.final_block(), await self.preparer.token()
        mine, vault = self.sender.signer.address, contracts.address(self.chain.settings.vault)
        allowed = await self.chain.read("Token", token, "allowance", mine, vault, block=final.number)
        if allowed >= amount:
            return
        jobs = await trio.to_thread.run_sync(self.sender.outbox.open_jobs)
        if not any(one.key.startswith("approve:") for one in jobs):
            data = contracts.encode("Token", "approve", [vault, _ALL])
            now = time.time_ns()
            await self.sender.put(Job(key=f"approve:{now}", to=token, data=data, made=now // 10**9))


def streams_or_release(action: str) -> str:
    return "settleStreams" if action == "settle_streams" else "release"


def _take(given: dict[str, Any], name: str) -> Any:
    if name not in given:
        raise BadInput(f"The argument {name!r} is missing")
    return given.pop(name)


def _nothing_else(given: Mapping[str, Any]) -> None:
    if given:
        raise BadInput(f"There is no argument {sorted(given)[0]!r}")


def _id(value: Any) -> bytes:
    try:
        found = bytes.fromhex(value.removeprefix("0x"))
    except (ValueError, AttributeError):
        found = b""
    if len(found) != 32:
        raise BadInput(f"{value!r} is no allocation's id")
    return found
