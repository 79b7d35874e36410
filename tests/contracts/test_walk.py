"""From the artifacts alone: deposit, allocate by signature, settle, release, withdraw, and what goes with it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import pytest
from eth_account import Account
from eth_account.signers.local import LocalAccount
from web3 import Web3
from web3.contract import Contract

from tests.contracts.chains import DAY, REFUSED, ZERO, artifact, deploy, events, later, send

ROOT = b"\x07" * 32
ALLOCATION = [
    ("owner", "address"),
    ("operator", "address"),
    ("id", "uint256"),
    ("cap", "uint96"),
    ("rate", "uint96"),
    ("start", "uint40"),
    ("expires", "uint40"),
]


@dataclass
class World:
    web3: Web3
    dollar: Contract
    vault: Contract
    operators: Contract
    sites: Contract
    owner: LocalAccount
    operator: str
    treasury: str

    def account(self, of: str) -> tuple[int, int, int, int, int]:
        """(balance, reserved, available, withdrawing, withdrawable at)"""
        view: Any = self.vault.functions.accountOf(of).call()
        return tuple(view) if not isinstance(view, dict) else tuple(view.values())

    def now(self) -> int:
        return int(self.web3.eth.get_block("latest")["timestamp"])


@pytest.fixture
def world(web3: Web3) -> World:
    deployer, operator, treasury = web3.eth.accounts[:3]
    owner = Account.create()
    dollar = deploy(web3, artifact("DevDollar"))
    timelock = deploy(web3, artifact("TimelockController"), DAY, [deployer], [ZERO], ZERO)
    feed = deploy(web3, artifact("DevFeed"), 50_000_000)
    settings = (dollar.address, ZERO, feed.address, 3600, treasury, 100, timelock.address)
    vault = deploy(web3, artifact("CreditVault"), settings)
    operators = deploy(web3, artifact("OperatorRegistry"), vault.address, treasury, 100_000_000)
    sites = deploy(web3, artifact("SiteRegistry"), vault.address, treasury, 5_000_000, 1_000_000, b"\0" * 32)
    return World(web3, dollar, vault, operators, sites, owner, operator, treasury)


def deposit(world: World, who: str, amount: int) -> None:
    send(world.web3, world.dollar.functions.mint(who, amount), who)
    send(world.web3, world.dollar.functions.approve(world.vault.address, amount), who)
    send(world.web3, world.vault.functions.deposit(amount), who)


def allocation(world: World, number: int, cap: int, rate: int) -> dict[str, Any]:
    start = world.now()
    return {
        "owner": world.owner.address,
        "operator": world.operator,
        "id": number,
        "cap": cap,
        "rate": rate,
        "start": start,
        "expires": start + 30 * DAY,
    }


def sign(world: World, granted: dict[str, Any], chain_id: int | None = None) -> bytes:
    domain = {
        "name": "DecentraSpace CreditVault",
        "version": "1",
        "chainId": chain_id or world.web3.eth.chain_id,
        "verifyingContract": world.vault.address,
    }
    types = {"Allocation": [{"name": name, "type": kind} for name, kind in ALLOCATION]}
    return bytes(world.owner.sign_typed_data(domain, types, granted).signature)


def test_from_deposit_to_withdrawal(world: World) -> None:
    """An owner without any coin: somebody else deposits for it and sends what it signed."""
    vault, web3 = world.vault.functions, world.web3
    payer, owner = web3.eth.accounts[3], world.owner.address
    send(web3, world.dollar.functions.mint(payer, 1_000_000), payer)
    send(web3, world.dollar.functions.approve(world.vault.address, 1_000_000), payer)
    receipt = send(web3, vault.depositFor(owner, 1_000_000), payer)
    assert events(world.vault, receipt) == [
        ("Recharged", {"owner": owner, "from": payer, "amount": 1_000_000})
    ]

    granted = allocation(world, 1, cap=400_000, rate=1)
    wrong = sign(world, granted, chain_id=web3.eth.chain_id + 1)
    with pytest.raises(REFUSED):
        vault.allocateBySignature(tuple(granted.values()), wrong).call({"from": payer})
    signature = sign(world, granted)
    receipt = send(web3, vault.allocateBySignature(tuple(granted.values()), signature), payer)
    grant_id = Web3.keccak(web3.codec.encode(["address", "address", "uint256"], [owner, world.operator, 1]))
    ((name, fields),) = events(world.vault, receipt)
    assert (name, fields["allocation"]) == ("LimitChanged", grant_id)
    assert {key: fields[key] for key in granted} == granted
    with pytest.raises(REFUSED):
        vault.allocateBySignature(tuple(granted.values()), signature).call({"from": payer})
    assert world.account(owner)[:3] == (1_000_000, 400_000, 600_000)
    assert vault.allocationsOf(owner).call() == [grant_id]

    batch = [(owner, 1, 150_000), (owner, 2, 5), (owner, 1, 500_000), (owner, 1, 100_000)]
    receipt = send(web3, vault.settle(batch, ROOT), world.operator)
    seen = events(world.vault, receipt)
    assert [name for name, _ in seen] == [
        "Settled",
        "ChargeSkipped",
        "ChargeSkipped",
        "ChargeSkipped",
        "BatchSettled",
    ]
    assert [fields["reason"] for name, fields in seen if name == "ChargeSkipped"] == [0, 3, 2]
    assert seen[0][1]["cumulative"] == 150_000
    assert (seen[-1][1]["root"], seen[-1][1]["charges"], seen[-1][1]["amount"]) == (ROOT, 1, 150_000)
    assert world.account(world.operator)[2] == 150_000

    later(web3, 34 * DAY)
    receipt = send(web3, vault.release([grant_id]), payer)
    names = [name for name, _ in events(world.vault, receipt)]
    assert names == [
        "StreamSettled",
        "CreditDepleted",
        "Released",
    ]  # thirty days at 1 a second is past the cap
    assert world.account(owner)[:3] == (600_000, 0, 600_000)
    assert world.account(world.operator)[2] == 400_000

    send(web3, vault.requestWithdrawal(400_000), world.operator)
    with pytest.raises(REFUSED):
        vault.withdraw(world.operator).call({"from": world.operator})
    later(web3, 4 * DAY)
    send(web3, vault.withdraw(world.operator), world.operator)
    assert world.dollar.functions.balanceOf(world.operator).call() == 400_000
    assert (
        vault.totalCredits().call() == world.dollar.functions.balanceOf(world.vault.address).call() == 600_000
    )


def test_coins_become_credits_of_the_desk(world: World) -> None:
    vault, web3 = world.vault.functions, world.web3
    deposit(world, world.treasury, 10_000_000)
    send(web3, vault.approve(world.vault.address, 10_000_000), world.treasury)
    buyer = web3.eth.accounts[4]
    credits = vault.quoteNative(10**18).call()
    assert credits == 495_000
    send(web3, vault.depositNative(world.owner.address, credits), buyer, value=10**18)
    assert world.account(world.owner.address)[2] == credits
    assert world.account(world.treasury)[2] == 10_000_000 - credits


def test_a_site_changes_hands(world: World) -> None:
    """The id is the node's, and what the old owner had delegated is void from the block on."""
    sites, web3 = world.sites.functions, world.web3
    seller, buyer = web3.eth.accounts[5:7]
    deposit(world, seller, 10_000_000)
    send(web3, world.vault.functions.approve(world.sites.address, 10_000_000), seller)
    site = hashlib.sha256(bytes.fromhex(seller[2:]) + b"blog").digest()[:10]
    receipt = send(web3, sites.registerSite("blog"), seller)
    assert ("SiteRegistered", {"site": site, "owner": seller, "label": "blog"}) in events(
        world.sites, receipt
    )
    token = int.from_bytes(site, "big")
    receipt = send(web3, sites.transferFrom(seller, buyer, token), seller)
    names = [name for name, _ in events(world.sites, receipt)]
    assert names == ["Transfer", "DelegationRevoked", "SiteTransferred"]
    assert sites.siteOwner(site).call() == buyer
    block = web3.eth.get_block(receipt["blockNumber"])["timestamp"]
    assert sites.revokedBefore(site, seller).call() == sites.transferredAt(site).call() == block
    assert world.account(world.treasury)[2] == 1_000_000


def test_an_operator_comes_and_goes(world: World) -> None:
    registry, web3 = world.operators.functions, world.web3
    deposit(world, world.operator, 100_000_000)
    send(web3, world.vault.functions.approve(world.operators.address, 100_000_000), world.operator)
    call = registry.register(100_000_000, b"\x00\x24\x08\x01", "https://node.example", b"\x01" * 32)
    send(web3, call, world.operator)
    assert registry.isOperator(world.operator).call()
    send(web3, registry.deregister(), world.operator)
    assert not registry.isOperator(world.operator).call()
    later(web3, 14 * DAY)
    send(web3, registry.withdrawStake(), world.operator)
    assert world.account(world.operator)[2] == 100_000_000
