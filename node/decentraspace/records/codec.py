"""Records and envelopes as bytes.

    record    {v: 1, net, kind, body, key, sig} and, for kinds that act for a wallet, dlg: {m, s}
    envelope  {r: record bytes, s: sponsor's key, t: time taken, g: sponsor's signature}

Canonical DAG-CBOR (cbor.py): a value has one encoding, so a record has one CID.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from decentraspace.content import cid as cids
from decentraspace.errors import BadInput
from decentraspace.identity.delegation import Delegation
from decentraspace.records import cbor, schema
from decentraspace.records.schema import Body

MAX_RECORD = 16 * 1024  # bytes
MAX_ENVELOPE = MAX_RECORD + 256
RECORD_DOMAIN = b"decentraspace-record-v1\0"
SPONSOR_DOMAIN = b"decentraspace-sponsor-v1\0"
_SIG_ENTRY = b"\x63sig\x58\x40"  # the key "sig", and 64 bytes follow
_FIELDS = {"v", "net", "kind", "body", "key", "sig"}


@dataclass(frozen=True)
class Record:
    """Decoded, well formed, not verified. `signed`: the bytes that `sig` is over."""

    net: str
    kind: str
    body: Body
    key: bytes
    delegation: Delegation | None
    sig: bytes
    signed: bytes
    raw: bytes


@dataclass(frozen=True)
class Envelope:
    """A record and the node that took it in. `at`: Unix seconds, as the sponsor says."""

    record: bytes
    sponsor: bytes
    at: int
    sig: bytes
    raw: bytes


def record_cid(record: bytes) -> bytes:
    return cids.make(cids.DAG_CBOR, record)


def signed_bytes(fields: dict[str, Any]) -> bytes:
    """What a record's key signs: its map without `sig`."""
    return RECORD_DOMAIN + cbor.encode({k: v for k, v in fields.items() if k != "sig"})


def sponsor_bytes(cid: bytes, at: int) -> bytes:
    """What a sponsor signs."""
    return SPONSOR_DOMAIN + cid + at.to_bytes(8, "big")


def _map(data: bytes, most: int, what: str) -> dict[str, Any]:
    if not isinstance(data, bytes) or not data or len(data) > most:
        raise BadInput(f"{what} must be 1 to {most} bytes", slug="too-large" if data else "malformed-record")
    try:
        value = cbor.decode(data)
    except BadInput as error:
        raise BadInput(f"{what} is not canonical DAG-CBOR: {error}", slug="malformed-record") from error
    if not isinstance(value, dict):
        raise BadInput(f"{what} is not a map", slug="malformed-record")
    return value


def decode_record(data: bytes) -> Record:
    """BadInput for anything that is not exactly a record.

    Slugs: too-large, malformed-record; unknown-version and unknown-kind for what a newer program may know.
    """
    fields = _map(data, MAX_RECORD, "The record")
    version, kind = fields.get("v"), fields.get("kind")
    if type(version) is not int or not isinstance(kind, str):
        raise BadInput("The record does not say its version and kind", slug="malformed-record")
    if version != 1:
        raise BadInput(f"Records of version {version} are not known", slug="unknown-version")
    if kind not in schema.KINDS:
        raise BadInput(f"Records of kind {kind[:40]!r} are not known", slug="unknown-kind")
    if set(fields) - {"dlg"} != _FIELDS:
        raise BadInput("The record has other fields than it should", slug="malformed-record")
    net, key, sig = fields["net"], fields["key"], fields["sig"]
    if not isinstance(net, str) or not _is_bytes(key, 32) or not _is_bytes(sig, 64):
        raise BadInput("The record has a field of a wrong type", slug="malformed-record")
    delegation = _delegation(fields["dlg"]) if "dlg" in fields else None
    if (delegation is None) != (kind in schema.OF_NODES):
        raise BadInput("The record's kind and delegation do not go together", slug="malformed-record")
    try:
        body = schema.from_map(kind, fields["body"])
    except BadInput as error:
        raise BadInput(str(error), hint=error.hint, slug="malformed-record") from error
    return Record(net, kind, body, key, delegation, sig, _signed_part(data, fields), data)


def _signed_part(data: bytes, fields: dict[str, Any]) -> bytes:
    """signed_bytes(fields), cut out of the record: there is one encoding, so these are the same bytes."""
    entry = _SIG_ENTRY + fields["sig"]
    if data.count(entry) != 1:  # somebody wrote the signature elsewhere, too
        return signed_bytes(fields)
    before, _, behind = data.partition(entry)
    return RECORD_DOMAIN + bytes((before[0] - 1,)) + before[1:] + behind  # a map of one entry less


def _delegation(value: Any) -> Delegation:
    if (
        not isinstance(value, dict)
        or set(value) != {"m", "s"}
        or not isinstance(value["m"], str)
        or not _is_bytes(value["s"], 65)
    ):
        raise BadInput("The record's delegation has a wrong form", slug="malformed-record")
    return Delegation(value["m"], value["s"])


def _is_bytes(value: Any, length: int) -> bool:
    return type(value) is bytes and len(value) == length  # a link is no bytes


def decode_envelope(data: bytes) -> Envelope:
    """BadInput for anything that is not exactly an envelope."""
    fields = _map(data, MAX_ENVELOPE, "The envelope")
    if (
        set(fields) != {"r", "s", "t", "g"}
        or type(fields["r"]) is not bytes
        or not _is_bytes(fields["s"], 32)
        or not _is_bytes(fields["g"], 64)
        or type(fields["t"]) is not int
        or not 0 < fields["t"] <= schema.MAX_TIME
    ):
        raise BadInput("The envelope has a wrong form", slug="malformed-record")
    return Envelope(fields["r"], fields["s"], fields["t"], fields["g"], data)
