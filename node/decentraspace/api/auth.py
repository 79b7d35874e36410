"""/auth/: log in with a wallet, tiers, taking a session key's power back."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import Any

import trio

from decentraspace.api.routing import Table, read_json
from decentraspace.api.services import node, owner, require, when
from decentraspace.errors import BadInput
from decentraspace.identity import didkey
from decentraspace.identity.ethereum import checksum_address, parse_address

table = Table("auth")


@dataclass(frozen=True)
class LoginRequest:
    """`message`: EIP-4361 text; `signature`: the wallet's, 0x…; `nonce`, `audience`: of the challenge;
    `issued_at`: Unix seconds; `proof`: the session key's Ed25519 signature, base64."""

    message: str
    signature: str
    nonce: str
    audience: str
    issued_at: int
    proof: str


@dataclass(frozen=True)
class TierRequest:
    """`tier`: free or paid; `owner`: the wallet (0x…)."""

    owner: str
    tier: str


@dataclass(frozen=True)
class RevokeRequest:
    """`record`: a signed revocation record, base64."""

    record: str


def from_base64(text: str, name: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadInput(f"{name} is not base64") from error


@table.add("GET", "/auth/login/", "A challenge for a login at this node")
async def challenge() -> dict[str, Any]:
    made = node().sessions.challenge()
    return {
        "nonce": made.nonce,
        "audience": made.audience,
        "network": node().rules.name,
        "domain": made.domain,
        "chain_id": made.chain_id,
        "expires": when(made.expires),
    }


@table.add("POST", "/auth/login/", "Delegation and proof give an access token", body=LoginRequest)
async def login() -> dict[str, Any]:
    asked: LoginRequest = await read_json(LoginRequest)
    try:
        signature = bytes.fromhex(asked.signature.removeprefix("0x"))
    except ValueError as error:
        raise BadInput("signature is not hexadecimal", slug="bad-signature") from error
    proof = from_base64(asked.proof, "proof")
    token = await trio.to_thread.run_sync(
        lambda: node().sessions.login(
            asked.message,
            signature,
            nonce=asked.nonce,
            audience=asked.audience,
            issued_at=asked.issued_at,
            proof=proof,
        )
    )
    return {
        "token": token.text,
        "owner": checksum_address(token.session.owner),
        "key": didkey.encode(token.session.key),
        "scope": token.session.scope,
        "expires": when(token.session.expires),
    }


@table.add("GET", "/auth/tier/", "One's own tier and its limits", access="owner")
async def tier() -> dict[str, Any]:
    session = await owner()
    name = await trio.to_thread.run_sync(node().sessions.tier, session.owner)
    limits = node().config.limits
    used = await trio.to_thread.run_sync(lambda: node().records.sites(owner=session.owner))
    return {
        "owner": checksum_address(session.owner),
        "tier": name,
        "limits": {
            "sites": limits.paid_sites if name == "paid" else limits.free_sites,
            "bytes": limits.paid_bytes if name == "paid" else limits.free_bytes,
            "upload_bytes": node().config.api.max_upload,
            "upload_files": node().config.api.max_upload_files,
        },
        "used": {"sites": len({h.site_id for h in used}), "bytes": sum(h.size for h in used)},
        "admin": node().is_admin(session.owner),
    }


@table.add("PATCH", "/auth/tier/", "Set a wallet's tier", access="admin", body=TierRequest)
async def set_tier() -> dict[str, Any]:
    session = await require("admin")
    asked: TierRequest = await read_json(TierRequest)
    wallet = parse_address(asked.owner)
    by = session.owner if session else b""
    await trio.to_thread.run_sync(node().sessions.set_tier, wallet, asked.tier, by)
    return {"owner": checksum_address(wallet), "tier": asked.tier}


@table.add(
    "POST",
    "/auth/revoke/",
    "Publish a signed revocation of a session key",
    access="owner",
    body=RevokeRequest,
)
async def revoke() -> dict[str, Any]:
    session = await owner()
    asked: RevokeRequest = await read_json(RevokeRequest)
    await node().hosting.revoke(session.owner, from_base64(asked.record, "record"))
    return {"revoked": True}
