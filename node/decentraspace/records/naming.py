"""The IPNS record that a version of a site carries: signed by a key of the site's owner, rebuilt by everybody. Pure.

A manifest carries four values, and the rest of the record follows from the version itself:

    Value           /ipfs/ROOT                        Sequence    when the delegation was issued · 2^21 + number
    Validity        `until`                           TTL         60 seconds
    ValidityType    0                                 SITE_FIELD  the site's id

So a record cannot say anything else than the manifest, and one site's cannot be carried by another's. The sequence
grows as heads follow each other: a newer login outranks every number (docs/discussion/names.md).
Source: https://specs.ipfs.tech/ipns/ipns-record/.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import NamedTuple, Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from decentraspace.content import cid as cids
from decentraspace.content.cid import varint
from decentraspace.records import cbor

TTL = 60  # seconds
MAX_UNTIL = 253_402_300_799  # the last second of the year 9999
SITE_FIELD = "_decentraspace_site"
_NUMBER_BITS = 21
_NAME = b"\x01\x72\x00\x24\x08\x01\x12\x20"  # CIDv1, libp2p-key, identity of an Ed25519 key in protobuf

Carried = tuple[bytes, int, bytes, bytes]
"""Key (32 bytes), until (Unix seconds), signatures of version 1 and 2 (64 bytes each)."""


class Version(Protocol):
    """A site manifest, as far as its name is concerned."""

    @property
    def site_id(self) -> str: ...
    @property
    def root(self) -> bytes: ...
    @property
    def seq(self) -> int: ...


class _Unsigned(NamedTuple):
    value: bytes
    validity: bytes
    sequence: int
    data: bytes

    @property
    def first(self) -> bytes:
        """What the signature of version 1 is over."""
        return self.value + self.validity + b"EOL"

    @property
    def second(self) -> bytes:
        return b"ipns-signature:" + self.data


def sequence(issued_at: int, seq: int) -> int:
    """Of version `seq` under a delegation issued at `issued_at` (Unix seconds)."""
    return (issued_at << _NUMBER_BITS) + min(seq, (1 << _NUMBER_BITS) - 1)


def name_of(key: bytes) -> bytes:
    """The name (CIDv1, libp2p-key) of a public key of 32 bytes."""
    return _NAME + key


def key_of(name: bytes) -> bytes | None:
    """The public key of a name; None for one of another kind."""
    return name[len(_NAME) :] if name.startswith(_NAME) and len(name) == len(_NAME) + 32 else None


def _unsigned(version: Version, issued_at: int, until: int) -> _Unsigned:
    value = b"/ipfs/" + cids.to_text(version.root).encode()
    validity = datetime.fromtimestamp(until, UTC).strftime("%Y-%m-%dT%H:%M:%SZ").encode()
    number = sequence(issued_at, version.seq)
    document = {
        "Value": value,
        "Validity": validity,
        "ValidityType": 0,
        "Sequence": number,
        "TTL": TTL * 10**9,
        SITE_FIELD: version.site_id,
    }
    return _Unsigned(value, validity, number, cbor.encode(document))


def sign(key: Ed25519PrivateKey, version: Version, issued_at: int, until: int) -> Carried:
    """For `version`, published under a delegation issued at `issued_at`, valid `until` (both Unix seconds)."""
    made = _unsigned(version, issued_at, until)
    return key.public_key().public_bytes_raw(), until, key.sign(made.first), key.sign(made.second)


def signed(version: Version, issued_at: int, carried: Carried, *, both: bool = False) -> bool:
    """Whether the key has signed the record of that version; `both`: also in the way of version 1, which old
    readers look at, and nobody else."""
    key, until, first, second = carried
    made = _unsigned(version, issued_at, until)
    try:
        public = Ed25519PublicKey.from_public_bytes(key)
        public.verify(second, made.second)
        if both:
            public.verify(first, made.first)
    except (InvalidSignature, ValueError):
        return False
    return True


def encoded(version: Version, issued_at: int, carried: Carried) -> bytes:
    """The record as IPFS has it (IpnsEntry)."""
    _, until, first, second = carried
    made = _unsigned(version, issued_at, until)
    return b"".join(
        (
            _bytes(1, made.value),
            _bytes(2, first),
            _number(3, 0),
            _bytes(4, made.validity),
            _number(5, made.sequence),
            _number(6, TTL * 10**9),
            _bytes(8, second),
            _bytes(9, made.data),
        )
    )


def _bytes(number: int, value: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(value)) + value


def _number(number: int, value: int) -> bytes:
    return varint(number << 3) + varint(value)
