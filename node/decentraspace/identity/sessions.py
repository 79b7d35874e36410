"""Logins at this node: challenges used once, a proof by the session key, access tokens, tiers.

The client sends the delegation and a proof: DAG-CBOR of {aud, nonce, key, dlg, iat} signed by the session
key, where `aud` is this node's peer id and `nonce` one of its challenges. The token that comes back works
at this node alone until it expires; only its SHA-256 is kept.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import libipld
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from decentraspace.database import open_database, reading, transaction
from decentraspace.errors import BadInput, Forbidden, TooMany, Unauthorized
from decentraspace.identity.delegation import ALL_SITES, Delegation, LoginRules
from decentraspace.identity.ethereum import checksum_address

PROOF_DOMAIN = b"decentraspace-login-v1\0"
CHALLENGE_LIFETIME = 300  # seconds
_CLOCK_SKEW = 120  # seconds
_CHALLENGES_MOST = 100_000

MIGRATIONS = (
    """
CREATE TABLE IF NOT EXISTS used (nonce TEXT PRIMARY KEY, expires INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS tokens (
    digest BLOB PRIMARY KEY, owner BLOB NOT NULL, key BLOB NOT NULL, scope TEXT NOT NULL, expires INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS users (
    owner BLOB PRIMARY KEY, tier TEXT NOT NULL DEFAULT 'free', suspended INTEGER NOT NULL DEFAULT 0,
    changed_by BLOB, changed INTEGER
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS secrets (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
""",
    "ALTER TABLE tokens ADD COLUMN issued_at INTEGER NOT NULL DEFAULT 0",
)

Revoked = Callable[[bytes, bytes, int, str], bool]
"""Whether a session key was taken back: (owner, key, issued_at, scope); see records/revoked.py."""


@dataclass(frozen=True)
class Challenge:
    """For the client's proof. `expires` in Unix seconds."""

    nonce: str
    audience: str
    domain: str
    chain_id: int
    expires: int


@dataclass(frozen=True)
class Session:
    """Who a token speaks for. `owner`: 20 bytes; `key`: 32; `scope`: `*` or a site id; `issued_at`: when the
    wallet delegated to the key, in Unix seconds."""

    owner: bytes
    key: bytes
    scope: str
    expires: int
    issued_at: int = 0

    @property
    def unlimited(self) -> bool:
        """Whether it may do all that the wallet may, not only publish one site."""
        return self.scope == ALL_SITES


@dataclass(frozen=True)
class Token:
    text: str
    session: Session


def proof_bytes(audience: str, nonce: str, key: bytes, delegation_cid: bytes, issued_at: int) -> bytes:
    """What the session key signs at login."""
    claims = {"aud": audience, "nonce": nonce, "key": key, "dlg": delegation_cid, "iat": issued_at}
    return PROOF_DOMAIN + bytes(libipld.encode_dag_cbor(claims))


def sign_proof(
    private: Ed25519PrivateKey, delegation: Delegation, audience: str, nonce: str, issued_at: int
) -> bytes:
    """64 bytes; client side."""
    key = private.public_key().public_bytes_raw()
    return private.sign(proof_bytes(audience, nonce, key, delegation.cid, issued_at))


class User(NamedTuple):
    """A wallet at this node; `changed` (Unix seconds) and `changed_by`: when an administrator decided, and who."""

    owner: bytes
    tier: str
    suspended: bool
    changed_by: bytes | None
    changed: int | None


class Sessions:
    """SQLite behind one lock; blocking, call it in a thread.

    `is_revoked` is asked at every login and for every token, and must be quick. `given_to`: who owns a site as the
    chain says, if it says anything.
    """

    def __init__(
        self,
        path: Path,
        rules: LoginRules,
        audience: str,
        token_lifetime: int = 86400,
        is_revoked: Revoked = lambda owner, key, issued_at, scope: False,
        given_to: Callable[[str], bytes | None] = lambda site: None,
    ) -> None:
        self._rules, self._audience, self._lifetime = rules, audience, token_lifetime
        self._is_revoked, self._given_to = is_revoked, given_to
        self._lock = threading.Lock()
        self._db = open_database(path, MIGRATIONS)
        with transaction(self._db):
            fresh = secrets.token_bytes(32)
            self._db.execute("INSERT OR IGNORE INTO secrets VALUES ('challenge', ?)", (fresh,))
            self._secret: bytes = self._db.execute(
                "SELECT value FROM secrets WHERE name = 'challenge'"
            ).fetchone()[0]

    def close(self) -> None:
        with self._lock:
            self._db.close()

    def challenge(self, now: int | None = None) -> Challenge:
        """A nonce that carries its own expiry and authenticity, so that asking for many costs nothing."""
        expires = (int(time.time()) if now is None else now) + CHALLENGE_LIFETIME
        body = f"{expires:x}x{secrets.token_hex(12)}"
        return Challenge(
            body + "x" + self._tag(body),
            self._audience,
            self._rules.siwe_domain,
            self._rules.chain_id,
            expires,
        )

    def _tag(self, body: str) -> str:
        return hmac.new(self._secret, body.encode(), hashlib.sha256).hexdigest()[:32]

    def login(
        self,
        message: str,
        signature: bytes,
        *,
        nonce: str,
        audience: str,
        issued_at: int,
        proof: bytes,
        now: int | None = None,
    ) -> Token:
        """Check delegation and proof, use up the nonce, give a token.

        BadInput or Unauthorized; their slugs: malformed-message, too-large, wrong-domain, wrong-chain,
        bad-signature, expired-delegation, wrong-audience, bad-proof, expired-nonce, replayed-nonce,
        revoked-key.
        """
        now = int(time.time()) if now is None else now
        delegation = Delegation(message, signature)
        verified = delegation.verify(self._rules)
        if now >= verified.expires_at:
            raise Unauthorized("The login has expired; sign a new one", slug="expired-delegation")
        if now + _CLOCK_SKEW < verified.not_before:
            raise Unauthorized("The login is not valid yet: check your clock", slug="early-delegation")
        if audience != self._audience:
            raise Unauthorized("The proof is for another node", slug="wrong-audience")
        if abs(now - issued_at) > CHALLENGE_LIFETIME:
            raise Unauthorized("The proof is not fresh: check your clock", slug="bad-proof")
        try:
            signed = proof_bytes(audience, nonce, verified.key, delegation.cid, issued_at)
            Ed25519PublicKey.from_public_bytes(verified.key).verify(proof, signed)
        except (InvalidSignature, ValueError) as error:
            raise Unauthorized("The session key did not sign this proof", slug="bad-proof") from error
        if self.suspended(verified.owner):
            raise Forbidden("This wallet is suspended at this node", slug="suspended")
        self._refuse_revoked(verified.owner, verified.key, verified.issued_at, verified.scope)
        self._use(nonce, now)
        expires = min(now + self._lifetime, verified.expires_at)
        session = Session(verified.owner, verified.key, verified.scope, expires, verified.issued_at)
        text = secrets.token_urlsafe(32)
        with self._lock, transaction(self._db):
            self._db.execute("DELETE FROM tokens WHERE expires < ?", (now,))
            self._db.execute(
                "INSERT INTO tokens (digest, owner, key, scope, expires, issued_at) VALUES (?, ?, ?, ?, ?, ?)",
                (
                    _digest(text), session.owner, session.key, session.scope, session.expires,
                    session.issued_at,
                ),
            )  # fmt: skip
        return Token(text, session)

    def _use(self, nonce: str, now: int) -> None:
        """Durable before a token is given: a nonce cannot be used again after a crash either."""
        body, _, tag = nonce.rpartition("x")
        if len(nonce) > 100 or not nonce.isascii() or not hmac.compare_digest(self._tag(body), tag):
            raise Unauthorized("The nonce is not one of this node's challenges", slug="unknown-nonce")
        expires = int(body.partition("x")[0], 16)
        if now >= expires:
            raise Unauthorized("The challenge has expired; ask for another", slug="expired-nonce")
        with self._lock, transaction(self._db):
            self._db.execute("DELETE FROM used WHERE expires < ?", (now,))
            if self._db.execute("SELECT COUNT(*) FROM used").fetchone()[0] >= _CHALLENGES_MOST:
                raise TooMany("Too many logins at once; try again in some minutes")
            try:
                self._db.execute("INSERT INTO used VALUES (?, ?)", (nonce, expires))
            except sqlite3.IntegrityError as error:
                raise Unauthorized("The challenge was used already", slug="replayed-nonce") from error

    def authenticate(self, token: str, now: int | None = None) -> Session:
        """Unauthorized unless the token is one of this node's, and neither it nor its key has ended."""
        now = int(time.time()) if now is None else now
        if len(token) > 200:
            raise Unauthorized("The access token is not valid", slug="bad-token")
        with self._lock, reading():
            row = self._db.execute(
                "SELECT owner, key, scope, expires, issued_at FROM tokens WHERE digest = ?", (_digest(token),)
            ).fetchone()
        if row is None or now >= row[3]:
            raise Unauthorized(
                "The access token is not valid at this node, or has expired",
                hint="Log in again: `decentraspace login`.",
                slug="bad-token",
            )
        if self.suspended(row[0]):
            raise Forbidden("This wallet is suspended at this node", slug="suspended")
        session = Session(*row)
        self._refuse_revoked(session.owner, session.key, session.issued_at, session.scope)
        return session

    def _refuse_revoked(self, owner: bytes, key: bytes, issued_at: int, scope: str) -> None:
        """Asked each time, rather than tokens deleted once: a revocation may come from any other node."""
        new = self._given_to(scope) if scope != ALL_SITES else None
        if new is not None and new != owner:
            raise Forbidden(
                f"The site {scope} belongs to {checksum_address(new)}, and this login may publish nothing else",
                hint="It was given away on the chain. Log in without --scope for your other sites.",
                slug="not-site-owner",
                site=scope,
                owner=checksum_address(new),
            )
        if self._is_revoked(owner, key, issued_at, scope):
            raise Unauthorized(
                "This session key was revoked", hint="Log in anew: `decentraspace login`.", slug="revoked-key"
            )

    def logout(self, token: str) -> None:
        with self._lock, transaction(self._db):
            self._db.execute("DELETE FROM tokens WHERE digest = ?", (_digest(token),))

    def delegated_at(self, owner: bytes, key: bytes) -> int:
        """When the newest delegation was signed under which `key` logged in here; 0 when it did not lately."""
        with self._lock, reading():
            row = self._db.execute(
                "SELECT MAX(issued_at) FROM tokens WHERE owner = ? AND key = ?", (owner, key)
            ).fetchone()
        return int(row[0] or 0)

    # -- users

    def tier(self, owner: bytes) -> str:
        """`free` or `paid`."""
        with self._lock, reading():
            row = self._db.execute("SELECT tier FROM users WHERE owner = ?", (owner,)).fetchone()
        return str(row[0]) if row else "free"

    def set_tier(self, owner: bytes, tier: str, by: bytes) -> None:
        if tier not in ("free", "paid"):
            raise BadInput(f"{tier!r} is no tier; there are free and paid")
        self._set(owner, "tier", tier, by)

    def suspended(self, owner: bytes) -> bool:
        with self._lock, reading():
            row = self._db.execute("SELECT suspended FROM users WHERE owner = ?", (owner,)).fetchone()
        return bool(row and row[0])

    def suspend(self, owner: bytes, suspended: bool, by: bytes) -> None:
        self._set(owner, "suspended", int(suspended), by)

    def users(self, after: bytes, limit: int, *, itself: bool = False) -> list[User]:
        """Wallets that logged in lately or were decided about, by address, behind `after` (or with `itself`)."""
        with self._lock, reading():
            rows = self._db.execute(
                "SELECT owner, COALESCE(tier, 'free'), COALESCE(suspended, 0), changed_by, changed "
                "FROM (SELECT owner FROM users UNION SELECT owner FROM tokens) LEFT JOIN users USING (owner) "
                "WHERE owner > ? OR (? AND owner = ?) ORDER BY owner LIMIT ?",
                (after, itself, after, limit),
            ).fetchall()
        return [
            User(owner, tier, bool(suspended), by, changed) for owner, tier, suspended, by, changed in rows
        ]

    def _set(self, owner: bytes, column: str, value: object, by: bytes) -> None:
        if len(owner) != 20:
            raise BadInput(f"{checksum_address(owner)} is not an address")
        with self._lock, transaction(self._db):
            self._db.execute("INSERT OR IGNORE INTO users (owner) VALUES (?)", (owner,))
            self._db.execute(
                f"UPDATE users SET {column} = ?, changed_by = ?, changed = ? WHERE owner = ?",  # noqa: S608 - two fixed names
                (value, by, int(time.time()), owner),
            )


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "replace")).digest()
