"""IPNS records: signed statements of what a key's name stands for. Made, verified and kept; pure but for the store.

    IpnsEntry { value = 1, signatureV1 = 2, validityType = 3, validity = 4, sequence = 5, ttl = 6,
                pubKey = 7, signatureV2 = 8, data = 9 }          data: DAG-CBOR, what the signature is of

A name is the multihash of a public key: the key itself (identity) or its SHA-256. Here it is a CIDv1 with the
codec libp2p-key. Source: https://specs.ipfs.tech/ipns/ipns-record/.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, NamedTuple

import base58
import libipld
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

from decentraspace.content import cid as cids
from decentraspace.content import dagpb
from decentraspace.content.blockstore import BlockStore
from decentraspace.content.cid import varint
from decentraspace.errors import BadInput, QuotaExceeded, Unprocessable

MAX_RECORD = 10 * 1024  # bytes
MAX_NAMES = 10_000  # kept by a node
DEFAULT_TTL = 5 * 60  # seconds
_PREFIX = b"ipns-signature:"
_STORED = b"ipns:"
_OF_SITES = b"site-name:"  # multihash of a name: host label, record
_OF_HOSTS = b"name-of:"  # host label: multihash of its name
_TTL_MOST = 7 * 86400  # seconds
_VALUE, _SIGNATURE_V1, _VALIDITY_TYPE, _VALIDITY, _SEQUENCE, _TTL, _KEY, _SIGNATURE_V2, _DATA = range(1, 10)
_RSA, _ED25519, _SECP256K1, _ECDSA = range(
    4
)  # https://github.com/libp2p/specs/blob/master/peer-ids/peer-ids.md
_V1 = {
    _VALUE: "Value",
    _VALIDITY: "Validity",
    _VALIDITY_TYPE: "ValidityType",
    _SEQUENCE: "Sequence",
    _TTL: "TTL",
}


class Record(NamedTuple):
    """`value`: a content path; `until`: Unix time in seconds; `ttl` in seconds; `encoded`: as it was signed."""

    value: str
    until: float
    sequence: int
    ttl: int
    encoded: bytes


def parse_name(text: str) -> bytes:
    """A name (CIDv1, libp2p-key) from its text: CID, or multihash in base58 as peer ids are. BadInput."""
    if text.startswith(("Qm", "1")):
        if not text.isalnum() or len(text) > 2 * cids.MAX_CID:  # base58 would skip blanks
            raise BadInput("Not the multihash of a key")
        try:
            return cids.validate(b"\x01\x72" + base58.b58decode(text))
        except ValueError as error:
            raise BadInput(f"Not the multihash of a key: {error}") from error
    binary = cids.parse(text)
    if cids.codec(binary) not in (cids.LIBP2P_KEY, cids.DAG_PB):
        raise BadInput("The CID is not one of a key")
    return b"\x01\x72" + cids.multihash(binary)


def name_text(name: bytes) -> str:
    """Base36, so that it fits into a host name."""
    return cids.to_text(name, "base36")


def verify(name: bytes, encoded: bytes, now: float | None = None) -> Record:
    """The record, if it is one of `name` and holds at `now` (Unix time). BadInput if malformed, Unprocessable
    if it is not what the key has signed, or no longer."""
    record = _signed(name, encoded)
    if record.until <= (time.time() if now is None else now):
        raise Unprocessable("The IPNS record is no longer valid")
    return record


@lru_cache(maxsize=1024)
def _signed(name: bytes, encoded: bytes) -> Record:
    """What holds of a record at any time."""
    if len(encoded) > MAX_RECORD:
        raise BadInput(f"An IPNS record has {MAX_RECORD} bytes at most")
    fields = _fields(encoded)
    signature, data = fields.get(_SIGNATURE_V2), fields.get(_DATA)
    if not isinstance(signature, bytes) or not isinstance(data, bytes) or not signature or not data:
        raise Unprocessable("The IPNS record has no signature of version 2")
    _check_signature(_key_of(name, fields.get(_KEY)), signature, _PREFIX + data)
    document = _document(data)
    # Old readers look at the fields of version 1, which this signature does not cover: they must say the same.
    if fields.get(_VALUE) or fields.get(_SIGNATURE_V1):
        for number, key in _V1.items():
            if fields.get(number, 0 if isinstance(document[key], int) else b"") != document[key]:
                raise Unprocessable(f"The IPNS record contradicts itself: {key}")
    if document["ValidityType"] != 0:
        raise Unprocessable("The IPNS record has a validity of an unknown kind")
    try:
        value = document["Value"].decode()
    except UnicodeDecodeError as error:
        raise BadInput("The IPNS record's value is not UTF-8") from error
    until = _time(document["Validity"])
    return Record(value, until, document["Sequence"], min(document["TTL"] // 10**9, _TTL_MOST), encoded)


def create(
    key: ed25519.Ed25519PrivateKey, value: str, *, until: float, sequence: int, ttl: int = DEFAULT_TTL
) -> tuple[bytes, bytes]:
    """(name, record) with a signature of version 2 alone. `value`: a content path; times as in Record."""
    when = datetime.fromtimestamp(until, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    document = {
        "Value": value.encode(),
        "Validity": when.encode(),
        "ValidityType": 0,
        "Sequence": sequence,
        "TTL": ttl * 10**9,
    }
    data = bytes(libipld.encode_dag_cbor(document))
    signature = key.sign(_PREFIX + data)
    encoded = b"".join(
        bytes([number << 3 | 2]) + varint(len(part)) + part
        for number, part in ((_SIGNATURE_V2, signature), (_DATA, data))
    )
    public = b"\x08\x01\x12\x20" + key.public_key().public_bytes_raw()
    return b"\x01\x72\x00" + varint(len(public)) + public, encoded


class SiteNames:
    """Names of sites, beside the blocks: to which host of the index a name belongs, and its newest record. What is
    shown under the name is what the host shows."""

    def __init__(self, store: BlockStore) -> None:
        self._store = store

    def set(self, host_label: str, name: bytes | None, encoded: bytes = b"") -> None:
        """Have a host's name be this one, and no other any more; None: it has none. Durable when it returns."""
        of_host, meta = _OF_HOSTS + host_label.encode(), self._store.db["meta"]
        wanted = None if name is None else cids.multihash(name)
        value = bytes(libipld.encode_dag_cbor([host_label, encoded]))
        with self._store.read() as txn:
            old = txn.get(of_host, db=meta)
            if old == wanted and (wanted is None or txn.get(_OF_SITES + wanted, db=meta) == value):
                return
            old = None if old is None else bytes(old)
        with self._store.write() as txn:
            if old is not None and old != wanted:
                known = txn.get(_OF_SITES + old, db=meta)
                if known is not None and libipld.decode_dag_cbor(bytes(known))[0] == host_label:
                    txn.delete(_OF_SITES + old, db=meta)
            if wanted is None:
                txn.delete(of_host, db=meta)
            else:
                txn.put(of_host, wanted, db=meta)
                txn.put(_OF_SITES + wanted, value, db=meta)

    def get(self, name: bytes) -> tuple[str, bytes] | None:
        """(host label, record), which may be over."""
        with self._store.read() as txn:
            known = txn.get(_OF_SITES + cids.multihash(name), db=self._store.db["meta"])
        if known is None:
            return None
        host_label, encoded = libipld.decode_dag_cbor(bytes(known))
        return host_label, encoded


class NameStore:
    """The records this node has, the newest of each name, beside the blocks; `most`: names kept."""

    def __init__(self, store: BlockStore, most: int = MAX_NAMES) -> None:
        self._store, self._most = store, most

    def put(self, name: bytes, encoded: bytes) -> Record:
        """Durable when it returns; an older one than is here changes nothing. Errors as of `verify`, and
        QuotaExceeded where so many names are kept already."""
        record = verify(name, encoded)
        key, meta = _STORED + cids.multihash(name), self._store.db["meta"]
        with self._store.write() as txn:
            known = txn.get(key, db=meta)
            if known is None:
                self._make_room(txn)
            if known is None or _order(verify(name, bytes(known), 0)) < _order(record):
                txn.put(key, encoded, db=meta)
        return record

    def _make_room(self, txn: Any) -> None:
        """For one more name: records that are no longer valid go."""
        meta = self._store.db["meta"]
        kept: list[tuple[bytes, bytes]] = []
        with txn.cursor(db=meta) as cursor:
            if cursor.set_range(_STORED):
                for key, value in cursor:
                    if not key.startswith(_STORED):
                        break
                    kept.append((bytes(key), bytes(value)))
        if len(kept) < self._most:
            return
        gone = 0
        for key, value in kept:
            try:
                verify(b"\x01\x72" + key.removeprefix(_STORED), value)
            except Unprocessable:
                gone += txn.delete(key, db=meta)
        if not gone:
            raise QuotaExceeded(f"This node keeps {self._most} names, and has as many")

    def get(self, name: bytes) -> Record | None:
        """None, too, for one that is no longer valid."""
        with self._store.read() as txn:
            known = txn.get(_STORED + cids.multihash(name), db=self._store.db["meta"])
        if known is None:
            return None
        try:
            return verify(name, bytes(known))
        except Unprocessable:
            return None


def _order(record: Record) -> tuple[int, float, bytes]:
    return record.sequence, record.until, record.encoded


def _fields(encoded: bytes) -> dict[int, Any]:
    """Of a protobuf message; of a field that stands twice, the last."""
    return {number: value for number, _, value in dagpb.fields(encoded)}


def _document(data: bytes) -> dict[str, Any]:
    try:
        document = libipld.decode_dag_cbor(data)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"The IPNS record's data is not DAG-CBOR: {error}") from error
    kinds = {"Value": bytes, "Validity": bytes, "ValidityType": int, "Sequence": int, "TTL": int}
    if not isinstance(document, dict) or not all(isinstance(document.get(k), t) for k, t in kinds.items()):
        raise BadInput("The IPNS record's data lacks something")
    return document


def _time(text: bytes) -> float:
    """RFC 3339, with up to nanoseconds."""
    plain = text.decode("ascii", "replace")
    whole, dot, rest = plain.partition(".")
    try:
        if dot:  # more digits than Python reads
            digits = rest.rstrip("Zz")
            plain = f"{whole}.{digits[:6].ljust(6, '0')}+00:00"
        when = datetime.fromisoformat(plain)
        return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError) as error:
        raise BadInput("The IPNS record's validity is no time") from error


def _key_of(name: bytes, sent: Any) -> bytes:
    """The public key (protobuf) of a name: within it, or sent along."""
    inlined = cids.identity_data(name)
    if inlined is not None:
        return inlined
    if not isinstance(sent, bytes) or not sent or not cids.digest_matches(name, sent):
        raise Unprocessable("The IPNS record has no public key of that name")
    return sent


def _check_signature(public: bytes, signature: bytes, signed: bytes) -> None:
    fields = _fields(public)
    kind, raw = fields.get(1, 0), fields.get(2)
    if not isinstance(raw, bytes):
        raise BadInput("A public key is malformed")
    try:
        if kind == _ED25519:
            ed25519.Ed25519PublicKey.from_public_bytes(raw).verify(signature, signed)
        elif kind == _SECP256K1:
            point = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256K1(), raw)
            point.verify(signature, signed, ec.ECDSA(hashes.SHA256()))
        elif kind in (_RSA, _ECDSA):
            key = serialization.load_der_public_key(raw)
            if kind == _RSA and isinstance(key, rsa.RSAPublicKey) and 2048 <= key.key_size <= 8192:
                key.verify(signature, signed, padding.PKCS1v15(), hashes.SHA256())
            elif kind == _ECDSA and isinstance(key, ec.EllipticCurvePublicKey):
                key.verify(signature, signed, ec.ECDSA(hashes.SHA256()))
            else:
                raise BadInput("A public key is of another kind than it says")
        else:
            raise BadInput(f"Public keys of kind {kind} are not known here")
    except InvalidSignature as error:
        raise Unprocessable("The IPNS record's signature is not the key's") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise BadInput(f"A public key is malformed: {error}") from error
