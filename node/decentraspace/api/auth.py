"""/auth/: logging in with a wallet, tiers, revoking session keys."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import trio

from decentraspace.api.routing import Call, Reply, RouteTable
from decentraspace.api.schemas import attr, time
from decentraspace.errors import BadInput, Conflict, Forbidden, TooMany, Unauthorized
from decentraspace.identity import didkey
from decentraspace.identity.delegation import MAX_LIFETIME
from decentraspace.identity.ethereum import checksum_address, parse_address
from decentraspace.records import codec
from decentraspace.records.schema import Revocation
from decentraspace.records.verdict import RecordRefused

table = RouteTable()
RECORD_MOST = 24 * 1024  # characters of a record in base64


@dataclass(frozen=True)
class LoginChallenge:
    """What a client needs to log in here. The proof names `nonce` and `audience`; the wallet's message names
    `domain` and `chain_id`."""

    nonce: str = attr("To be used once, in the proof.")
    audience: str = attr("The node's peer id.", example="12D3KooW…")
    network: str = attr("Name of the network; records name it too.", example="devnet")
    domain: str = attr("Domain that the wallet's message names.", example="decentraspace.localhost")
    chain_id: int = attr("Chain id (EIP-155) that the wallet's message names.")
    max_lifetime: int = attr("Seconds between `Issued At` and `Expiration Time` at most.")
    expires: datetime = attr("When the nonce can no longer be used.")


@dataclass(frozen=True)
class LoginRequest:
    """The wallet's delegation to a session key, and the session key's proof that it is here now."""

    message: str = attr("The Sign-In with Ethereum message (EIP-4361) as the wallet signed it.", most=4096)
    signature: str = attr(
        "The wallet's signature (EIP-191): 65 bytes in hexadecimal.", pattern="(0x)?[0-9a-fA-F]{130}"
    )
    nonce: str = attr("From the challenge.", most=100)
    audience: str = attr("From the challenge.", most=100)
    issued_at: int = attr("Unix seconds at which the proof was made; part of what is signed.", least=0)
    proof: str = attr("The session key's Ed25519 signature: 64 bytes in base64.", most=100)


@dataclass(frozen=True)
class LoginAnswer:
    token: str = attr("Send it as `Authorization: Bearer TOKEN`. It works at this node alone.")
    owner: str = attr("The wallet.", example="0x…")
    key: str = attr("The session key.", example="did:key:z6Mk…")
    scope: str = attr("`*`, or the id of the one site that may be published: nothing else, then.")
    tier: Literal["free", "paid"] = attr("The wallet's tier at this node.")
    expires: datetime = attr("When the token ends.")


@table.add("GET", "/auth/login/", tag="auth", answers={200: LoginChallenge})
async def challenge(call: Call) -> LoginChallenge:
    """Get a login challenge"""
    found = await trio.to_thread.run_sync(call.node.sessions.challenge)
    return LoginChallenge(
        found.nonce,
        found.audience,
        call.node.rules.name,
        found.domain,
        found.chain_id,
        MAX_LIFETIME,
        time(found.expires),
    )


@table.add(
    "POST",
    "/auth/login/",
    tag="auth",
    json=LoginRequest,
    answers={200: LoginAnswer},
    problems=(BadInput, Unauthorized, Forbidden, TooMany),
)
async def login(call: Call) -> LoginAnswer:
    """Log in: delegation and proof give an access token

    The proof is an Ed25519 signature over `decentraspace-login-v1\\0` followed by the DAG-CBOR map
    {aud, nonce, key, dlg, iat}: `dlg` is the raw CID of signature and message, as a link's bytes.
    A challenge can be used once.
    """
    body: LoginRequest = call.body
    token = await trio.to_thread.run_sync(
        lambda: call.node.sessions.login(
            body.message,
            bytes.fromhex(body.signature.removeprefix("0x")),
            nonce=body.nonce,
            audience=body.audience,
            issued_at=body.issued_at,
            proof=decode_base64(body.proof, "proof"),
        )
    )
    session = token.session
    tier = await trio.to_thread.run_sync(call.node.sessions.tier, session.owner)
    return LoginAnswer(
        token.text,
        checksum_address(session.owner),
        didkey.encode(session.key),
        session.scope,
        "paid" if tier == "paid" else "free",
        time(session.expires),
    )


@table.add(
    "DELETE",
    "/auth/login/",
    tag="auth",
    login=True,
    narrow=True,
    answers={204: None},
    problems=(Unauthorized,),
)
async def logout(call: Call) -> Reply:
    """Log out: the access token ends

    The session key stays valid at other nodes until its delegation expires or is revoked.
    """
    await trio.to_thread.run_sync(call.node.sessions.logout, call.token)
    return Reply(None, 204)


@dataclass(frozen=True)
class Amounts:
    sites: int = attr("Sites.")
    bytes: int = attr("Bytes.")


@dataclass(frozen=True)
class Limits:
    sites: int = attr("Sites.")
    bytes: int = attr("Bytes of all sites, and likewise of uploads.")
    upload_bytes: int = attr("Bytes of one upload.")
    upload_files: int = attr("Files of one upload.")
    replicas: int = attr("Nodes that hold a site, which its record may ask for.")
    names: int = attr("Names linked to sites.")


@dataclass(frozen=True)
class TierAnswer:
    owner: str = attr("The wallet.")
    tier: Literal["free", "paid"] = attr("Its tier at this node.")
    limits: Limits = attr("What the tier may have here.")
    used: Amounts = attr("What the wallet's current versions take.")
    admin: bool = attr("Whether the wallet may administer this node.")
    suspended: bool = attr("Whether the wallet is suspended at this node.", False)


@dataclass(frozen=True)
class TierQuery:
    owner: str | None = attr("Administrators: the wallet to look at; default: one's own.", None, most=42)


@dataclass(frozen=True)
class TierChange:
    owner: str = attr("The wallet.", pattern="0x[0-9a-fA-F]{40}")
    tier: Literal["free", "paid"] = attr("Its new tier.")


@table.add(
    "GET",
    "/auth/tier/",
    tag="auth",
    login=True,
    narrow=True,
    query=TierQuery,
    answers={200: TierAnswer},
    problems=(Unauthorized, Forbidden),
)
async def get_tier(call: Call) -> TierAnswer:
    """One's tier and its limits at this node"""
    owner = call.owner if call.query.owner is None else parse_address(call.query.owner)
    if owner != call.owner and not call.is_admin:
        raise Forbidden("Only an administrator of this node may look at another wallet")
    return await trio.to_thread.run_sync(_tier, call, owner)


@table.add(
    "PATCH",
    "/auth/tier/",
    tag="auth",
    login=True,
    admin=True,
    json=TierChange,
    answers={200: TierAnswer},
    problems=(BadInput, Unauthorized, Forbidden),
)
async def set_tier(call: Call) -> TierAnswer:
    """Set a wallet's tier (administrators)"""
    owner = parse_address(call.body.owner)
    await trio.to_thread.run_sync(call.node.sessions.set_tier, owner, call.body.tier, call.owner)
    return await trio.to_thread.run_sync(_tier, call, owner)


def _tier(call: Call, owner: bytes) -> TierAnswer:
    node = call.node
    tier = node.sessions.tier(owner)
    limits = node.config.limits
    heads = node.records.sites(owner)
    return TierAnswer(
        checksum_address(owner),
        "paid" if tier == "paid" else "free",
        Limits(
            limits.paid_sites if tier == "paid" else limits.free_sites,
            limits.paid_bytes if tier == "paid" else limits.free_bytes,
            node.config.api.max_upload,
            node.config.api.max_upload_files,
            limits.paid_replicas if tier == "paid" else limits.free_replicas,
            limits.paid_names if tier == "paid" else limits.free_names,
        ),
        Amounts(len({h.site_id for h in heads}), sum(h.size for h in heads)),
        node.is_admin(owner),
        node.sessions.suspended(owner),
    )


@dataclass(frozen=True)
class RevokeRequest:
    record: str = attr("The signed revocation: a record block in base64.", most=RECORD_MOST)


@table.add(
    "POST",
    "/auth/revoke/",
    tag="auth",
    login=True,
    json=RevokeRequest,
    answers={204: None},
    problems=(BadInput, Unauthorized, Forbidden, Conflict, RecordRefused),
    replay=True,
)
async def revoke(call: Call) -> Reply:
    """Revoke a session key, at every node

    The revocation is signed by a newer session key of the same wallet, and voids what the key signed
    beyond a stated version. 409 `revocation-too-old` when the signer's login is not newer than the key's:
    it would change nothing.
    """
    record = decode_base64(call.body.record, "record")
    body = codec.decode_record(record).body
    delegated = 0
    if isinstance(body, Revocation):
        delegated = await trio.to_thread.run_sync(call.node.sessions.delegated_at, call.owner, body.key)
    await call.node.hosting.revoke(call.owner, record, delegated)
    return Reply(None, 204)


@dataclass(frozen=True)
class RevocationsQuery:
    limit: int = attr("Revocations to list at most.", 100, least=1, most=1000)
    cursor: str = attr("From `next` of the page before.", "", most=16)


@dataclass(frozen=True)
class StandingRevocation:
    key: str = attr("The session key that was revoked.", example="did:key:z6Mk…")
    signer: str = attr("The session key that said so. When that one is revoked in turn, this falls.")
    delegated: datetime = attr(
        "When the wallet's delegation to the signer was issued: of keys from before then."
    )
    site: str | None = attr("Site id of the one site it is for; null for all.")
    after: int = attr("The last version that is spared.")


@dataclass(frozen=True)
class RevocationsAnswer:
    revocations: list[StandingRevocation] = attr("Newest first.")
    next: str | None = attr("`cursor` of the next page; null after the last.")


@table.add(
    "GET",
    "/auth/revocations/",
    tag="auth",
    login=True,
    query=RevocationsQuery,
    answers={200: RevocationsAnswer},
    problems=(BadInput, Unauthorized),
)
async def revocations(call: Call) -> RevocationsAnswer:
    """The revocations of one's own that stand

    Without those that were overruled, because their signer was revoked, and those that another makes
    superfluous.
    """
    query: RevocationsQuery = call.query
    if query.cursor and not query.cursor.isdecimal():
        raise BadInput("cursor is not from `next` of a page before")
    found = await trio.to_thread.run_sync(call.node.records.revocations, call.owner)
    start = int(query.cursor or 0)
    end = start + query.limit
    return RevocationsAnswer(
        [
            StandingRevocation(
                didkey.encode(r.key), didkey.encode(r.signer), time(r.issued_at), r.site, r.after
            )
            for r in found[start:end]
        ],
        str(end) if len(found) > end else None,
    )


def decode_base64(text: str, name: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error) as error:
        raise BadInput(f"{name} is not base64") from error
