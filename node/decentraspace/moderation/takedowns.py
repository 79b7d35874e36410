"""The take-down log: what this operator has blocked and unblocked, told to everybody and not to be rewritten.

Entry n is a map in canonical DAG-CBOR, signed by the node's key over everything but `sig`:

    {v: 1, seq, prev, time, action, kind, target, hidden, status, reason, node, sig}

`prev` is the SHA-256 of entry n - 1 as bytes, its signature included; of the first one 32 zero bytes. What
is signed begins with DOMAIN, so that no entry can be taken for a record, nor a record for an entry. Whoever
has seen entry n can tell, from any later log, whether any of the first n were changed or left out. What a
log cannot show by itself is that its end was cut off: remember the last hash you saw (`known`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from decentraspace.errors import BadInput, Unprocessable
from decentraspace.identity.keys import peer_id_of
from decentraspace.records import cbor

DOMAIN = b"decentraspace-takedown-v1\0"
FIRST = bytes(32)
MAX_ENTRY = 8 * 1024  # bytes
BLOCK, UNBLOCK = "block", "unblock"
_TYPES: dict[str, type] = {
    "v": int,
    "seq": int,
    "prev": bytes,
    "time": int,
    "action": str,
    "kind": str,
    "target": str,
    "hidden": bool,
    "status": int,
    "reason": str,
    "node": bytes,
    "sig": bytes,
}


class Entry(NamedTuple):
    """`time`: Unix seconds; `target`: a CID, site id or address, or, if `hidden`, its double hash (base58btc
    SHA2-256 multihash, as in denylists); `node`: public key; `raw`: the entry as bytes."""

    seq: int
    prev: bytes
    time: int
    action: str
    kind: str
    target: str
    hidden: bool
    status: int
    reason: str
    node: bytes
    raw: bytes

    @property
    def hash(self) -> bytes:
        return hashlib.sha256(self.raw).digest()


class Verified(NamedTuple):
    """A log that holds together: how many entries, whose, and the hash of the last, to remember."""

    entries: int
    peer_id: str
    head: bytes


def make_entry(sign: Callable[[bytes], bytes], node: bytes, previous: Entry | None, **facts: Any) -> Entry:
    """The entry after `previous`. `facts`: time, action, kind, target, hidden, status, reason."""
    fields = {
        "v": 1,
        "seq": previous.seq + 1 if previous else 1,
        "prev": previous.hash if previous else FIRST,
        "node": node,
        **facts,
    }
    raw = cbor.encode({**fields, "sig": sign(DOMAIN + cbor.encode(fields))})
    return decode_entry(raw)


def decode_entry(raw: bytes) -> Entry:
    """Not yet verified. Unprocessable for what is no entry."""
    if len(raw) > MAX_ENTRY:
        raise Unprocessable(f"An entry of the log has more than {MAX_ENTRY} bytes")
    try:
        fields = cbor.decode(raw)
    except BadInput as error:
        raise Unprocessable(f"An entry of the log is malformed: {error}") from error
    if not isinstance(fields, dict) or set(fields) != set(_TYPES):
        raise Unprocessable("An entry of the log has other fields than it should")
    if any(type(fields[name]) is not kind for name, kind in _TYPES.items()) or fields["v"] != 1:
        raise Unprocessable("An entry of the log has a field of a wrong type, or another version")
    if (len(fields["prev"]), len(fields["node"]), len(fields["sig"])) != (32, 32, 64):
        raise Unprocessable("An entry of the log has a hash, key or signature of a wrong length")
    kept = {name: value for name, value in fields.items() if name not in ("v", "sig")}
    return Entry(**kept, raw=raw)


def verify_entry(raw: bytes, node: bytes) -> Entry:
    """Unprocessable unless it is an entry that `node` (public key) has signed."""
    entry = decode_entry(raw)
    fields = cbor.decode(raw)
    signature = fields.pop("sig")
    if entry.node != node:
        raise Unprocessable(f"Entry {entry.seq} of the log names another node's key")
    try:
        Ed25519PublicKey.from_public_bytes(node).verify(signature, DOMAIN + cbor.encode(fields))
    except (InvalidSignature, ValueError) as error:
        raise Unprocessable(f"Entry {entry.seq} of the log is not signed by its node") from error
    return entry


def verify_log(entries: Iterable[bytes], *, peer_id: str = "", known: bytes = b"") -> Verified:
    """Check a whole log, from its first entry on.

    Every entry is signed by one and the same node (`peer_id`, where given), numbered without a gap, and
    names the hash of the one before. `known`: the hash of an entry seen earlier, which must still be there.
    Unprocessable names the entry at fault; one that is not there yet is no fault, times may repeat but
    not go back.
    """
    node, last, seen = b"", None, not known
    for raw in entries:
        entry = verify_entry(raw, node or decode_entry(raw).node)
        node = entry.node
        if peer_id and peer_id_of(node) != peer_id:
            raise Unprocessable(f"The log is of {peer_id_of(node)}, not of {peer_id}")
        expected = (last.seq + 1, last.hash) if last else (1, FIRST)
        if (entry.seq, entry.prev) != expected:
            raise Unprocessable(f"Entry {entry.seq} of the log does not follow entry {expected[0] - 1}")
        if last is not None and entry.time < last.time:
            raise Unprocessable(f"Entry {entry.seq} of the log is older than the one before it")
        last = entry
        seen = seen or entry.hash == known
    if not seen:
        raise Unprocessable("An entry that was in this log is there no longer: it was cut off or rewritten")
    return Verified(last.seq if last else 0, peer_id_of(node) if node else "", last.hash if last else FIRST)
