"""Transactions for an owner's wallet to sign: the hook `chain_transaction`.

Where a signature does instead of a transaction (EIP-712), what to sign goes along as `typed_data`.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Mapping
from typing import Any

from decentraspace.errors import BadInput
from decentraspace_billing_polygon import contracts
from decentraspace_billing_polygon.chain import Chain
from decentraspace_billing_polygon.rpc import Refused

_DOMAIN = [
    {"name": "name", "type": "string"},
    {"name": "version", "type": "string"},
    {"name": "chainId", "type": "uint256"},
    {"name": "verifyingContract", "type": "address"},
]


def whole_number(value: Any) -> int:
    """Whole numbers, as numbers or decimal text: JSON readers round those beyond 2^53."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 78:
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**256:
        raise BadInput(f"{value!r} is not a whole number of 0 or more")
    return value


def _bytes(size: int) -> Callable[[Any], bytes]:
    def read(value: Any) -> bytes:
        try:
            found = bytes.fromhex(value.removeprefix("0x"))
        except (ValueError, AttributeError):
            found = b""
        if len(found) != size:
            raise BadInput(f"{value!r} is not 0x and {2 * size} hex digits")
        return found

    return read


def _site(value: Any) -> bytes:
    try:
        found = base64.b32decode(str(value).upper())
    except binascii.Error:
        found = b""
    if len(found) != 10:
        raise BadInput(f"{value!r} is not a site id")
    return found


def _text(value: Any) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= 253:
        raise BadInput(f"{value!r} is not a text")
    return value


Reader = Callable[[Any], Any]
_V: Reader = whole_number
_A: Reader = contracts.address

# action -> contract, function, arguments in the function's order
_ACTIONS: dict[str, tuple[str, str, dict[str, Reader]]] = {
    "approve": ("Token", "approve", {"spender": _A, "amount": _V}),
    "deposit": ("CreditVault", "deposit", {"amount": _V}),
    "deposit_permit": (
        "CreditVault",
        "depositWithPermit",
        {"owner": _A, "amount": _V, "deadline": _V, "v": _V, "r": _bytes(32), "s": _bytes(32)},
    ),
    "deposit_native": ("CreditVault", "depositNative", {"owner": _A, "min_credits": _V}),
    "allocate": (
        "CreditVault",
        "allocate",
        {"operator": _A, "id": _V, "cap": _V, "rate": _V, "start": _V, "expires": _V},
    ),
    "raise_allocation": (
        "CreditVault",
        "raiseAllocation",
        {"operator": _A, "id": _V, "cap": _V, "expires": _V},
    ),
    "end_allocation": ("CreditVault", "endAllocation", {"operator": _A, "id": _V}),
    "request_withdrawal": ("CreditVault", "requestWithdrawal", {"amount": _V}),
    "cancel_withdrawal": ("CreditVault", "cancelWithdrawal", {}),
    "withdraw": ("CreditVault", "withdraw", {"to": _A}),
    "register_site": ("SiteRegistry", "registerSite", {"label": _text}),
    "renew_site": ("SiteRegistry", "renew", {"label": _text, "duration": _V}),
    "approve_fee": ("CreditVault", "approve", {"spender": _A, "amount": _V}),
    "transfer_site": ("SiteRegistry", "transferFrom", {"owner": _A, "to": _A, "site": _site}),
    "revoke_delegations": ("SiteRegistry", "revokeDelegations", {"site": _site, "before": _V}),
}


class Preparer:
    def __init__(self, chain: Chain) -> None:
        self.chain = chain
        self._token = ""  # once it was read: the vault cannot change it

    async def prepare(self, action: str, owner: str, arguments: Mapping[str, Any]) -> dict[str, Any] | None:
        """As the hook says; None for an action that is not known."""
        if action not in _ACTIONS:
            return None
        owner = contracts.address(owner)
        given = {"owner": owner, "spender": self.chain.settings.vault, "to": owner, **arguments}
        fee = 0
        if action in ("transfer_site", "approve_fee"):
            fee = await self._transfer_fee()
            given["owner"] = owner
        if action == "approve_fee":
            given |= {"spender": self.chain.settings.sites, "amount": fee}
        value = whole_number(given.pop("value", 0)) if action == "deposit_native" else 0
        signing = ""
        if action == "deposit_permit" and "v" not in given:
            signing = await self._permit(owner, given)
            given |= {"v": 0, "r": "0x" + 64 * "0", "s": "0x" + 64 * "0"}
        elif action == "allocate":
            signing = await self._allocation(owner, given)
        contract, function, readers = _ACTIONS[action]
        values = [self._one(name, read, given) for name, read in readers.items()]
        unknown = given.keys() - readers.keys() - {"owner", "spender", "to"}
        if unknown:
            raise BadInput(f"{action} has no argument {sorted(unknown)[0]!r}")
        if action == "transfer_site":
            values[2] = int.from_bytes(values[2], "big")
        elif action == "revoke_delegations" and int.from_bytes(values[0], "big") == 0:
            raise BadInput("This is no site's id")
        found = {
            "chain_id": self.chain.settings.chain_id,
            "to": await self._address_of(contract),
            "data": contracts.encode(contract, function, values),
            "value": value,
        }
        if fee:
            found["fee"] = fee
        if signing:
            found["typed_data"] = signing
            if action == "deposit_permit":
                found["data"] = "0x"
                found["detail"] = (
                    "Sign typed_data (EIP-2612), then ask again with v, r and s of the signature."
                )
            else:
                found["detail"] = "Either send the transaction, or sign typed_data for the operator to send."
        return found

    def _one(self, name: str, read: Reader, given: Mapping[str, Any]) -> Any:
        if name not in given:
            raise BadInput(f"The argument {name!r} is missing")
        return read(given[name])

    async def _address_of(self, contract: str) -> str:
        settings = self.chain.settings
        if contract == "Token":
            return await self.token()
        found = settings.vault if contract == "CreditVault" else settings.sites
        if not found:
            raise BadInput(f"This node knows no {contract}", hint="plugin.billing_polygon.sites names it.")
        return contracts.address(found)

    async def _transfer_fee(self) -> int:
        """Credits that the registry takes from whom a site or label leaves."""
        sites = await self._address_of("SiteRegistry")
        final = await self.chain.final_block()
        return int(await self.chain.read("SiteRegistry", sites, "TRANSFER_FEE", block=final.number))

    async def token(self) -> str:
        """The address of the coin whose base units are credits."""
        if not self._token:
            final, vault = await self.chain.final_block(), self.chain.settings.vault
            found = await self.chain.read("CreditVault", vault, "token", block=final.number)
            self._token = contracts.address(found)
        return self._token

    async def _permit(self, owner: str, given: Mapping[str, Any]) -> str:
        token = await self.token()
        block = (await self.chain.final_block()).number

        async def ask(function: str, *arguments: Any) -> Any:
            return await self.chain.read("Token", token, function, *arguments, block=block)

        try:
            version = await ask("version")
        except Refused:
            version = "1"
        message = {
            "owner": owner,
            "spender": contracts.address(self.chain.settings.vault),
            "value": str(whole_number(given.get("amount"))),
            "nonce": str(await ask("nonces", owner)),
            "deadline": str(whole_number(given.get("deadline"))),
        }
        kinds = {"owner": "address", "spender": "address", "value": "uint256", "nonce": "uint256",
                 "deadline": "uint256"}  # fmt: skip
        return self._typed("Permit", kinds, message, await ask("name"), version, token)

    async def _allocation(self, owner: str, given: Mapping[str, Any]) -> str:
        kinds = {"owner": "address", "operator": "address", "id": "uint256", "cap": "uint96", "rate": "uint96",
                 "start": "uint40", "expires": "uint40"}  # fmt: skip
        message = {
            name: owner
            if name == "owner"
            else contracts.address(given.get(name, ""))
            if name == "operator"
            else str(whole_number(given.get(name)))
            for name in kinds
        }
        vault = contracts.address(self.chain.settings.vault)
        return self._typed("Allocation", kinds, message, "DecentraSpace CreditVault", "1", vault)

    def _typed(
        self,
        name: str,
        kinds: Mapping[str, str],
        message: Mapping[str, str],
        domain: str,
        version: str,
        contract: str,
    ) -> str:
        """As `eth_signTypedData_v4` takes it: numbers as decimal text."""
        return json.dumps(
            {
                "types": {
                    "EIP712Domain": _DOMAIN,
                    name: [{"name": key, "type": kind} for key, kind in kinds.items()],
                },
                "primaryType": name,
                "domain": {
                    "name": domain,
                    "version": version,
                    "chainId": self.chain.settings.chain_id,
                    "verifyingContract": contract,
                },
                "message": dict(message),
            }
        )
