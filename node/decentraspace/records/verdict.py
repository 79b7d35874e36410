"""Is a record valid? The same bytes get the same verdict on every node, for ever.

`verify` looks at nothing but the bytes and the network's rules. `admit` adds what depends on the moment a
node first sees a record: a clock that runs ahead, and delegations that had run out by then.
"""

from __future__ import annotations

from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from nacl.bindings import crypto_sign_open
from nacl.exceptions import BadSignatureError

from decentraspace.config import Config
from decentraspace.errors import DecentraSpaceError
from decentraspace.identity.delegation import VerifiedDelegation
from decentraspace.identity.keys import peer_id_of
from decentraspace.records import codec, naming
from decentraspace.records.schema import Body, DomainLink, NodeAnnouncement, Receipt, Revocation, SiteManifest


class RecordRefused(DecentraSpaceError):
    """`problem_slug` says why, in a word that does not change.

    `faulty`: no node of this version takes such bytes at any time, so whoever passed them on is broken or
    hostile; false for what depends on the moment, on quotas, or on a newer version. `sponsor`: the key that
    did sign for them, if one did.
    """

    slug, status, title = "record-refused", 422, "The record is not valid"
    faulty = False
    sponsor: bytes | None = None


_NOT_FAULTY = frozenset({"wrong-network", "unknown-kind", "unknown-version"})


@dataclass(frozen=True)
class NetworkRules:
    """What all nodes of a network apply alike, and what this one applies at first sight."""

    name: str
    chain_id: int
    siwe_domain: str
    clock_skew: int = 120
    expired_grace: int = 86400
    sponsors: frozenset[str] = frozenset()

    @classmethod
    def from_config(cls, config: Config) -> NetworkRules:
        network, records = config.network, config.records
        return cls(
            network.name,
            network.chain_id,
            network.siwe_domain,
            records.clock_skew,
            records.expired_grace,
            frozenset(records.sponsors),
        )


@dataclass(frozen=True)
class VerifiedRecord:
    """`owner`: the wallet that delegated, 20 bytes, or b"" for records of nodes. Of a version it may be another than
    the founder, whom `body.owner` names: then it counts if the chain says that this wallet owns the site, which the
    store decides (ownership.py). `issued_at`: when the delegation was signed, else 0;
    `named`: the key of the site's IPNS name, if the record carries what that key has signed for it, else b"". A
    version whose name is signed wrongly is a version without a name."""

    cid: bytes
    kind: str
    body: Body
    key: bytes
    owner: bytes
    issued_at: int
    expires_at: int
    raw: bytes
    named: bytes = b""

    @property
    def created(self) -> int:
        return self.body.created


def verify(record: bytes, rules: NetworkRules) -> VerifiedRecord:
    """Pure. RecordRefused, and nothing else, for anything that is not valid."""
    try:
        return _verify(record, rules)
    except RecordRefused as error:
        error.faulty = error.problem_slug not in _NOT_FAULTY
        raise


def _verify(record: bytes, rules: NetworkRules) -> VerifiedRecord:
    try:
        decoded = codec.decode_record(record)
        if decoded.net != rules.name:
            raise RecordRefused(f"The record is for network {decoded.net[:40]!r}", slug="wrong-network")
        _check_signature(decoded.key, decoded.sig, decoded.signed)
        delegation = decoded.delegation.verify(rules) if decoded.delegation else None
    except RecordRefused:
        raise
    except DecentraSpaceError as error:
        raise RecordRefused(str(error), slug=error.problem_slug, hint=error.hint) from error
    if delegation is not None:
        _check_delegation(decoded, delegation)
    return VerifiedRecord(
        codec.record_cid(record),
        decoded.kind,
        decoded.body,
        decoded.key,
        delegation.owner if delegation else b"",
        delegation.issued_at if delegation else 0,
        delegation.expires_at if delegation else 0,
        record,
        _named(decoded.body, delegation.issued_at if delegation else 0),
    )


def _named(body: Body, issued_at: int) -> bytes:
    if not isinstance(body, SiteManifest) or body.ipns is None:
        return b""
    return body.ipns[0] if naming.signed(body, issued_at, body.ipns) else b""


def _check_signature(key: bytes, signature: bytes, signed: bytes) -> None:
    """`key`: 32 bytes, `signature`: 64. What OpenSSL says counts: it alone takes keys of small order, say."""
    try:
        # Faster, and the same equation after more tests: whatever passes here passes there.
        crypto_sign_open(signature + signed, key)
        return
    except BadSignatureError:
        pass
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, signed)
    except (InvalidSignature, ValueError) as error:
        raise RecordRefused("The signature does not match", slug="bad-signature") from error


def _check_delegation(record: codec.Record, delegation: VerifiedDelegation) -> None:
    body = record.body
    if delegation.key != record.key:
        raise RecordRefused("The delegation is for another key", slug="wrong-key")
    owner = getattr(body, "owner", b"")
    # A site that was given away keeps its founder's name, of which its id is made; who owns it by now, the chain
    # says, and not these bytes.
    if delegation.owner != owner and not isinstance(body, SiteManifest):
        raise RecordRefused("The delegation is by another wallet", slug="wrong-owner")
    if isinstance(body, SiteManifest) and not delegation.covers_all and not delegation.covers(body.site_id):
        raise RecordRefused("The delegation does not cover this site", slug="out-of-scope")
    if isinstance(body, Revocation) and not delegation.covers(body.site or ""):
        raise RecordRefused("The delegation does not cover this site", slug="out-of-scope")
    if isinstance(body, DomainLink) and not delegation.covers(""):
        # What a name shows is the wallet's to say: a key of one site could else take it from another.
        raise RecordRefused("The delegation does not cover this site", slug="out-of-scope")
    if not delegation.not_before <= body.created < delegation.expires_at:
        raise RecordRefused("The record is dated outside its delegation's life", slug="expired-delegation")


def admit(
    envelope: codec.Envelope, rules: NetworkRules, now: int, *, joining: bool = False
) -> VerifiedRecord:
    """The verdict at first sight, at time `now` (Unix seconds). RecordRefused, with the reason.

    A delegation that had run out by now is accepted only when the sponsor attests that it took the record
    before, and either this node is `joining` (it fetches what was there before it) or the delegation ran
    out less than `expired_grace` seconds ago (the two sides of a partition must end alike).
    """
    if rules.sponsors and peer_id_of(envelope.sponsor) not in rules.sponsors:
        raise RecordRefused("The record's sponsor is not one of this network", slug="unknown-sponsor")
    try:
        _check_signature(
            envelope.sponsor,
            envelope.sig,
            codec.sponsor_bytes(codec.record_cid(envelope.record), envelope.at),
        )
    except RecordRefused as error:
        error.faulty = True
        raise
    try:
        verified = verify(envelope.record, rules)
        _check_sponsoring(envelope, verified, rules)
    except RecordRefused as error:
        error.sponsor = envelope.sponsor
        raise
    if verified.created > now + rules.clock_skew or envelope.at > now + rules.clock_skew:
        raise RecordRefused("The record is dated in the future", slug="future-record")
    expired_for = now - verified.expires_at if verified.expires_at else -1
    if expired_for >= 0 and not joining and expired_for > rules.expired_grace:
        raise RecordRefused(
            "The delegation had run out when the record arrived here", slug="expired-delegation"
        )
    return verified


def _check_sponsoring(envelope: codec.Envelope, verified: VerifiedRecord, rules: NetworkRules) -> None:
    """What no sponsor may sign for, whenever it is seen: so that all who ever see it judge it alike."""
    error = None
    if verified.expires_at and envelope.at >= verified.expires_at:
        error = RecordRefused(
            "The delegation had run out when the sponsor took the record", slug="expired-delegation"
        )
    elif envelope.at < verified.created - rules.clock_skew:
        error = RecordRefused("The sponsor took the record before it was made", slug="wrong-time")
    elif isinstance(verified.body, Receipt | NodeAnnouncement) and verified.key != envelope.sponsor:
        # Else one node could bring in any number of others that do not exist.
        error = RecordRefused("What a node states is sponsored by itself", slug="wrong-sponsor")
    if error is not None:
        error.faulty = True
        raise error
