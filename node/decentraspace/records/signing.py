"""Making records: signed by a session key (sites, revocations, domains) or by the node (announcements, receipts)."""

from __future__ import annotations

from typing import Any, Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from decentraspace.identity.delegation import Delegation
from decentraspace.identity.keys import NodeKey
from decentraspace.records import cbor, codec, schema
from decentraspace.records.schema import Body, DomainLink, NodeAnnouncement, Receipt, Revocation, SiteManifest


class Named(Protocol):
    @property
    def name(self) -> str: ...


def _sign(body: Body, private: Ed25519PrivateKey, network: Named, delegation: Delegation | None) -> bytes:
    body.check()
    fields: dict[str, Any] = {
        "v": 1,
        "net": network.name,
        "kind": body.kind_name,
        "body": schema.to_map(body),
        "key": private.public_key().public_bytes_raw(),
    }
    if delegation is not None:
        fields["dlg"] = {"m": delegation.message, "s": delegation.signature}
    fields["sig"] = private.sign(codec.signed_bytes(fields))
    return cbor.encode(fields)


def sign_site(
    manifest: SiteManifest, session: Ed25519PrivateKey, delegation: Delegation, network: Named
) -> bytes:
    """A record block. BadInput if the manifest is not well formed."""
    return _sign(manifest, session, network, delegation)


def sign_revocation(
    revocation: Revocation, session: Ed25519PrivateKey, delegation: Delegation, network: Named
) -> bytes:
    return _sign(revocation, session, network, delegation)


def sign_domain(
    link: DomainLink, session: Ed25519PrivateKey, delegation: Delegation, network: Named
) -> bytes:
    return _sign(link, session, network, delegation)


def sign_announcement(announcement: NodeAnnouncement, key: NodeKey, network: Named) -> bytes:
    return _sign(announcement, key.private, network, None)


def sign_receipt(receipt: Receipt, key: NodeKey, network: Named) -> bytes:
    return _sign(receipt, key.private, network, None)


def sponsor(record: bytes, key: NodeKey, now: int) -> bytes:
    """The envelope with which this node answers for having taken `record` at time `now`."""
    signature = key.sign(codec.sponsor_bytes(codec.record_cid(record), now))
    return cbor.encode({"r": record, "s": key.public, "t": now, "g": signature})
