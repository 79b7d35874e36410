"""Wallets, sessions and signed manifests for tests. Wallet signatures are made by eth-account."""

from __future__ import annotations

import time
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from eth_account import Account
from eth_account.messages import encode_defunct
from eth_account.signers.local import LocalAccount

from decentraspace.content import cid as cids
from decentraspace.identity.delegation import Delegation, build_message
from decentraspace.identity.keys import NodeKey
from decentraspace.records.schema import (
    DomainLink,
    NodeAnnouncement,
    Receipt,
    Revocation,
    SiteManifest,
    site_id,
)
from decentraspace.records.signing import (
    sign_announcement,
    sign_domain,
    sign_receipt,
    sign_revocation,
    sign_site,
    sponsor,
)
from decentraspace.records.verdict import NetworkRules

RULES = NetworkRules("devnet", 31337, "decentraspace.localhost")


def make_wallet() -> LocalAccount:
    return Account.create()


def address_of(wallet: LocalAccount) -> bytes:
    return bytes.fromhex(wallet.address[2:])


def make_session(
    wallet: LocalAccount,
    rules: NetworkRules = RULES,
    *,
    scope: str = "*",
    issued_at: int | None = None,
    expires_at: int | None = None,
) -> tuple[Ed25519PrivateKey, Delegation]:
    """A session key and the wallet's delegation to it."""
    issued = int(time.time()) - 60 if issued_at is None else issued_at
    key = Ed25519PrivateKey.generate()
    message = build_message(
        address_of(wallet),
        key.public_key().public_bytes_raw(),
        rules,
        issued_at=issued,
        expires_at=issued + 86400 if expires_at is None else expires_at,
        scope=scope,
    )
    signature = wallet.sign_message(encode_defunct(text=message)).signature
    return key, Delegation(message, bytes(signature))


def make_manifest(owner: bytes, **changes: Any) -> SiteManifest:
    values: dict[str, Any] = {
        "owner": owner,
        "label": "site",
        "seq": 1,
        "root": cids.make(cids.RAW, b"root"),
        "prev": None,
        "channel": "production",
        "kind": "static",
        "size": 4,
        "has_headers": False,
        "has_redirects": False,
        "controllers": (),
        "created": int(time.time()),
    }
    return SiteManifest(**{**values, **changes})


def make_site(
    wallet: LocalAccount,
    session: tuple[Ed25519PrivateKey, Delegation],
    rules: NetworkRules = RULES,
    **changes: Any,
) -> bytes:
    """A signed manifest, as a record block."""
    return sign_site(make_manifest(address_of(wallet), **changes), *session, rules)


def make_revocation(
    wallet: LocalAccount,
    session: tuple[Ed25519PrivateKey, Delegation],
    key: Ed25519PrivateKey,
    rules: NetworkRules = RULES,
    **changes: Any,
) -> bytes:
    """A signed revocation of session key `key`, as a record block."""
    values: dict[str, Any] = {
        "owner": address_of(wallet),
        "key": key.public_key().public_bytes_raw(),
        "site": None,
        "after": 0,
        "created": int(time.time()),
    }
    return sign_revocation(Revocation(**{**values, **changes}), *session, rules)


def make_domain(
    wallet: LocalAccount,
    session: tuple[Ed25519PrivateKey, Delegation],
    rules: NetworkRules = RULES,
    **changes: Any,
) -> bytes:
    """A signed link of a name, as a record block."""
    values: dict[str, Any] = {
        "owner": address_of(wallet),
        "name": "shop.example",
        "seq": 1,
        "created": int(time.time()),
        "founder": address_of(wallet),
        "label": "site",
    }
    return sign_domain(DomainLink(**{**values, **changes}), *session, rules)


def make_announcement(node: NodeKey, rules: NetworkRules = RULES, **changes: Any) -> bytes:
    """A signed node announcement, as a record block."""
    values: dict[str, Any] = {
        "http": "http://127.0.0.1:8090",
        "gateway": "http://127.0.0.1:8080",
        "addrs": ("/ip4/127.0.0.1/tcp/4001",),
        "operator": None,
        "capacity": 2**30,
        "prices": {"storage": 1, "egress": 2},
        "name": "a node",
        "seq": 1,
        "created": int(time.time()),
    }
    return sign_announcement(NodeAnnouncement(**{**values, **changes}), node, rules)


def make_receipt(node: NodeKey, rules: NetworkRules = RULES, **changes: Any) -> bytes:
    """A signed receipt, as a record block."""
    values: dict[str, Any] = {
        "root": cids.make(cids.RAW, b"root"),
        "size": 4,
        "site": site_id(bytes(20), "site"),
        "channel": "production",
        "seq": 1,
        "holders": (bytes(32),),
        "held": True,
        "created": int(time.time()),
    }
    return sign_receipt(Receipt(**{**values, **changes}), node, rules)


def take(record: bytes, node: NodeKey, now: int | None = None) -> bytes:
    """The envelope of a node that took `record`."""
    return sponsor(record, node, int(time.time()) if now is None else now)
