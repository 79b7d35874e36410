"""Grants that the wallet only signs: the node's operator sends them, and pays the gas."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from decentraspace.cli.output import note
from decentraspace.errors import BadInput, Unavailable

if TYPE_CHECKING:
    from decentraspace.cli.client import Api

_FINAL = 1800.0  # seconds to wait for a final block
_EVERY = 2.0
_DOMAIN = {"name": "string", "version": "string", "chainId": "uint256", "verifyingContract": "address"}
_ALLOCATION = {
    "owner": "address", "operator": "address", "id": "uint256", "cap": "uint96", "rate": "uint96",
    "start": "uint40", "expires": "uint40",
}  # fmt: skip


def sign(account: Any, chain: dict[str, Any], grant: dict[str, Any]) -> str:
    """The signature (EIP-712) of a grant by `account` (eth-account). `chain`: what GET /blockchain/credit/ said.

    What is signed is made here, of the terms that were asked for, and not taken from the node.
    """
    signed = account.sign_typed_data(
        full_message={
            "types": {
                "EIP712Domain": [{"name": name, "type": kind} for name, kind in _DOMAIN.items()],
                "Allocation": [{"name": name, "type": kind} for name, kind in _ALLOCATION.items()],
            },
            "primaryType": "Allocation",
            "domain": {
                "name": "DecentraSpace CreditVault",
                "version": "1",
                "chainId": chain["chain"],
                "verifyingContract": chain["vault"],
            },
            "message": {
                "owner": account.address,
                "operator": grant["operator"],
                **{name: int(grant[name]) for name in ("id", "cap", "rate", "start", "expires")},
            },
        }
    )
    return "0x" + bytes(signed.signature).hex()


def hand_in(api: Api, grant: dict[str, Any], signature: str, quiet: bool, no_wait: bool) -> dict[str, Any]:
    """What the node made of it; final when this returns, unless `no_wait`. BadInput when it is refused."""
    terms = {name: grant[name] for name in ("id", "cap", "rate", "start", "expires")}
    until, said = time.monotonic() + _FINAL, ""
    while True:
        found: dict[str, Any] = api.put("/blockchain/credit/", {**terms, "signature": signature})
        if found["status"] == "refused":
            raise BadInput(f"The grant was refused: {found['detail']}")
        if found["status"] == "final" or no_wait:
            return found
        words = found["detail"] or (f"The node sent {found['reference']}." if found["reference"] else "")
        if words and words != said:
            note(words, quiet)
            said = words
        if time.monotonic() > until:
            raise Unavailable(
                f"The grant is in no final block after {_FINAL:g} s.",
                hint="It counts as soon as it is: look later.",
            )
        time.sleep(_EVERY)
