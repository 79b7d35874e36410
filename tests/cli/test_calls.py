"""What a wallet signs for a node: the call data is Solidity's, and nothing else passes."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from web3 import Web3

from decentraspace.cli.calls import address, call, check, site
from decentraspace.cli.ownership import _calls
from decentraspace.errors import Unprocessable
from tests.contracts.chains import artifact

OWNER, OTHER = "0x" + "0a" * 20, "0x" + "0b" * 20
VAULT, TOKEN = "0x" + "0c" * 20, "0x" + "0d" * 20
SITE = "k3v5x2q7mbyzaolp"


def encoded(contract: str, function: str, *arguments: Any) -> str:
    """By the contract's interface and another program."""
    found = Web3().eth.contract(abi=artifact(contract)["abi"])
    return str(found.encode_abi(function, args=list(arguments)))


def plain(text: str) -> str:
    return Web3.to_checksum_address(text)


def test_calls_are_encoded_as_the_contracts_want_them() -> None:
    vault, sites = "CreditVault", "SiteRegistry"
    assert call("deposit(uint256)", 5) == encoded(vault, "deposit", 5)
    assert call("approve(address,uint256)", address(OTHER), 2**96) == encoded(
        vault, "approve", plain(OTHER), 2**96
    )
    terms = (7, 100, 3, 1_800_000_000, 1_900_000_000)
    assert call("allocate(address,uint256,uint96,uint96,uint40,uint40)", address(OTHER), *terms) == encoded(
        vault, "allocate", plain(OTHER), *terms
    )
    assert call("endAllocation(address,uint256)", address(OTHER), 7) == encoded(
        vault, "endAllocation", plain(OTHER), 7
    )
    assert call("withdraw(address)", address(OTHER)) == encoded(vault, "withdraw", plain(OTHER))
    assert call("cancelWithdrawal()") == encoded(vault, "cancelWithdrawal")
    assert call("requestWithdrawal(uint256)", 9) == encoded(vault, "requestWithdrawal", 9)
    for label in ("a", "a" * 32, "a" * 45):
        assert call("registerSite(string)", label) == encoded(sites, "registerSite", label)


def step(data: str, to: str = VAULT, value: str = "0", **more: Any) -> dict[str, Any]:
    return {"chain_id": 31337, "to": to, "data": data, "value": value, **more}


def test_only_what_was_asked_for_is_signed() -> None:
    asked = [call("approve(address,uint256)", address(VAULT), 5), call("deposit(uint256)", 5)]
    check([step(asked[0], TOKEN), step(asked[1].upper().replace("0X", "0x"))], asked)
    more = call("approve(address,uint256)", address(VAULT), 2**256 - 1)
    taken = call("transfer(address,uint256)", address(OTHER), 5)
    for steps in (
        [step(more, TOKEN), step(asked[1])],
        [step(asked[0], TOKEN), step(taken, TOKEN)],
        [step(asked[0], TOKEN), step(asked[1], value="1")],
        [step(asked[0], TOKEN), step(asked[1]), step(taken, TOKEN)],
        [step(asked[0], TOKEN)],
        [{}],
        [],
        [None, None],
    ):
        with pytest.raises(Unprocessable, match="Nothing was signed"):
            check(steps, asked)
    with pytest.raises(Unprocessable):
        address("vault")
    with pytest.raises(Unprocessable):
        site("not a site's id")


def test_a_site_goes_to_whom_its_owner_named() -> None:
    number = int.from_bytes(base64.b32decode(SITE.upper()), "big")
    assert site(SITE) == number
    registry = "0x" + "0e" * 20

    def prepared(**changes: str) -> dict[str, Any]:
        data = {
            "approve_fee": call("approve(address,uint256)", address(registry), 250_000),
            "register_site": call("registerSite(string)", "docs"),
            "transfer_site": call(
                "transferFrom(address,address,uint256)", address(OWNER), address(OTHER), number
            ),
            **changes,
        }
        steps = [step(one, VAULT if action == "approve_fee" else registry, action=action)
                 for action, one in data.items()]  # fmt: skip
        return {"site": SITE, "fee": 250_000, "transactions": steps}

    good = prepared()
    check(good["transactions"], _calls(good, OWNER, OTHER))
    thief = call("transferFrom(address,address,uint256)", address(OWNER), address(VAULT), number)
    for bad in (
        prepared(transfer_site=thief),
        prepared(register_site=thief),
        prepared(approve_fee=call("approve(address,uint256)", address(OTHER), 250_000)),
        prepared(another=thief),
    ):
        with pytest.raises(Unprocessable):
            check(bad["transactions"], _calls(bad, OWNER, OTHER))
