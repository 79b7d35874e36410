"""A delegation: the wallet's signature on "this session key may publish for me until then".

It is a Sign-In with Ethereum message whose resources name the key and what it may do, and can be checked
by anybody, offline, for ever.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

from decentraspace.content import cid as cids
from decentraspace.errors import BadInput, Unauthorized
from decentraspace.identity import didkey, siwe
from decentraspace.identity.ethereum import checksum_address, recover_personal_sign

PUBLISH = "decentraspace:publish:"
ALL_SITES = "*"
MAX_LIFETIME = 90 * 86400  # seconds
STATEMENT = "Let this session key publish for me on DecentraSpace until it expires."
_SCOPE = re.compile(r"\*|[a-z2-7]{16}")


class LoginRules(Protocol):
    """What a network demands of a login."""

    @property
    def chain_id(self) -> int: ...
    @property
    def siwe_domain(self) -> str: ...


@dataclass(frozen=True)
class VerifiedDelegation:
    """`owner`: 20 bytes; `key`: 32 bytes; `scope`: `*` or a site id; times in Unix seconds."""

    owner: bytes
    key: bytes
    scope: str
    issued_at: int
    not_before: int
    expires_at: int
    nonce: str

    @property
    def covers_all(self) -> bool:
        """Every site of the wallet: then nobody needs to work out which one it is."""
        return self.scope == ALL_SITES

    def covers(self, site: str) -> bool:
        return self.scope in (ALL_SITES, site)


@dataclass(frozen=True)
class Delegation:
    """`message`: the text signed (EIP-4361); `signature`: 65 bytes (EIP-191)."""

    message: str
    signature: bytes

    @property
    def cid(self) -> bytes:
        """Names this delegation in a login's proof: a raw CID over message and signature."""
        return cids.make(cids.RAW, self.signature + self.message.encode())

    def verify(self, rules: LoginRules) -> VerifiedDelegation:
        """Everything but the clock. BadInput or Unauthorized, with the slug saying what is wrong."""
        return _verify(self, rules.chain_id, rules.siwe_domain)


@lru_cache(maxsize=4096)
def _verify(delegation: Delegation, chain_id: int, domain: str) -> VerifiedDelegation:
    # Cached because a session signs many records; the result depends on nothing else.
    message = siwe.parse(delegation.message)
    if message.domain != domain:
        raise Unauthorized(f"The login is for {message.domain}, not for {domain}", slug="wrong-domain")
    if message.chain_id != chain_id:
        raise Unauthorized(f"The login is for chain {message.chain_id}, not {chain_id}", slug="wrong-chain")
    if message.expiration_time is None:
        raise BadInput("The login has no expiration time", slug="malformed-message")
    key, scope = _resources(message.resources or ())
    issued_at, expires_at = siwe.seconds(message.issued_at), siwe.seconds(message.expiration_time)
    not_before = siwe.seconds(message.not_before) if message.not_before else issued_at
    # Were it valid before it was issued, a login "issued" far in the future could live for decades, and
    # outrank every later one.
    if not issued_at <= not_before < expires_at <= issued_at + MAX_LIFETIME:
        raise BadInput(
            f"A login begins when it is issued or later, and lasts at most {MAX_LIFETIME // 86400} days from then",
            slug="malformed-message",
        )
    owner = bytes.fromhex(message.address[2:])
    try:
        signer = recover_personal_sign(delegation.message.encode(), delegation.signature)
    except BadInput as error:
        raise Unauthorized(
            f"{error}. Contract wallets (EIP-1271) are not supported yet", slug="bad-signature"
        ) from error
    if signer != owner:
        raise Unauthorized(
            "The signature was not made by the wallet that the login names", slug="bad-signature"
        )
    return VerifiedDelegation(owner, key, scope, issued_at, not_before, expires_at, message.nonce)


def _resources(resources: tuple[str, ...]) -> tuple[bytes, str]:
    keys = [r for r in resources if r.startswith("did:key:")]
    scopes = [r.removeprefix(PUBLISH) for r in resources if r.startswith(PUBLISH)]
    if len(keys) != 1 or len(scopes) != 1 or len(resources) != 2 or not _SCOPE.fullmatch(scopes[0]):
        raise BadInput(
            f"A login's resources are one did:key and one {PUBLISH}* or {PUBLISH}SITEID",
            slug="malformed-message",
        )
    try:
        return didkey.decode(keys[0]), scopes[0]
    except BadInput as error:
        raise BadInput(str(error), slug="malformed-message") from error


def build_message(
    owner: bytes,
    key: bytes,
    rules: LoginRules,
    *,
    issued_at: int,
    expires_at: int,
    scope: str = ALL_SITES,
    nonce: str | None = None,
) -> str:
    """The text for the wallet to sign; client side."""
    return siwe.SiweMessage(
        domain=rules.siwe_domain,
        address=checksum_address(owner),
        statement=STATEMENT,
        uri=didkey.encode(key),
        chain_id=rules.chain_id,
        nonce=nonce or secrets.token_hex(12),
        issued_at=siwe.rfc3339(issued_at),
        expiration_time=siwe.rfc3339(expires_at),
        resources=(didkey.encode(key), PUBLISH + scope),
    ).format()
