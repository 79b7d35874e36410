"""Logins to try: wallets of eth-account, messages with any field changed, proofs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from eth_account import Account
from eth_account.messages import encode_defunct
from eth_account.signers.local import LocalAccount

from decentraspace.identity import didkey, siwe
from decentraspace.identity.delegation import Delegation, build_message
from decentraspace.identity.sessions import Challenge, sign_proof

NOW = siwe.seconds("2026-03-01T12:00:00Z")
DAY = 86400


@dataclass(frozen=True)
class Rules:
    """Satisfies delegation.LoginRules."""

    chain_id: int = 31337
    siwe_domain: str = "decentraspace.localhost"


RULES = Rules()


def sign(wallet: LocalAccount, message: str) -> Delegation:
    return Delegation(message, bytes(wallet.sign_message(encode_defunct(text=message)).signature))


class Client:
    """A wallet and its session key."""

    def __init__(self) -> None:
        self.wallet: LocalAccount = Account.create()
        self.owner = bytes.fromhex(self.wallet.address[2:])
        self.key = Ed25519PrivateKey.generate()
        self.public = self.key.public_key().public_bytes_raw()
        self.did = didkey.encode(self.public)

    def message(
        self, *, issued_at: int = NOW - 60, expires_at: int = NOW + DAY, scope: str = "*", **changes: Any
    ) -> str:
        """What the node's own client would ask the wallet to sign; then `changes` of SiweMessage's fields."""
        text = build_message(
            self.owner, self.public, RULES, issued_at=issued_at, expires_at=expires_at, scope=scope
        )
        return replace(siwe.parse(text), **changes).format()

    def delegation(self, **changes: Any) -> Delegation:
        return sign(self.wallet, self.message(**changes))

    def login(
        self,
        challenge: Challenge,
        *,
        delegation: Delegation | None = None,
        key: Ed25519PrivateKey | None = None,
        now: int = NOW,
        signed: dict[str, Any] | None = None,
        **changes: Any,
    ) -> dict[str, Any]:
        """Arguments of Sessions.login. `signed`: what the proof says otherwise; `changes`: what is sent."""
        delegation = delegation or self.delegation()
        says = {"audience": challenge.audience, "nonce": challenge.nonce, "issued_at": now, **(signed or {})}
        proof = sign_proof(
            key or self.key,
            says.get("delegation", delegation),
            says["audience"],
            says["nonce"],
            says["issued_at"],
        )
        return {
            "message": delegation.message,
            "signature": delegation.signature,
            "nonce": challenge.nonce,
            "audience": challenge.audience,
            "issued_at": now,
            "proof": proof,
            "now": now,
            **changes,
        }
