from __future__ import annotations

import hashlib
from typing import Any

import libipld
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from eth_account import Account
from eth_account.messages import encode_defunct
from hypothesis import given
from hypothesis import strategies as st

from decentraspace.content import cid as cids
from decentraspace.errors import BadInput
from decentraspace.identity.delegation import Delegation, build_message
from decentraspace.identity.keys import NodeKey
from decentraspace.records import cbor, codec
from decentraspace.records.cbor import Link
from tests.records.factory import (
    RULES,
    address_of,
    make_announcement,
    make_domain,
    make_manifest,
    make_receipt,
    make_revocation,
    make_session,
    make_site,
    make_wallet,
    sign_site,
    take,
)
from tests.records.values import ANY
from tests.support import ROOT

T0 = 1_700_000_000
WALLET = make_wallet()
SESSION = make_session(WALLET, issued_at=T0)
NODE = NodeKey.generate()
RECORDS = {
    "site": make_site(WALLET, SESSION, created=T0),
    "revocation": make_revocation(WALLET, SESSION, Ed25519PrivateKey.generate(), created=T0),
    "domain": make_domain(WALLET, SESSION, created=T0),
    "node": make_announcement(NODE, created=T0),
    "receipt": make_receipt(NODE, created=T0),
}
ENVELOPE = take(RECORDS["site"], NODE, T0)


def fields_of(record: bytes) -> dict[str, Any]:
    value = cbor.decode(record)
    assert isinstance(value, dict)
    return value


def changed(record: bytes, **changes: Any) -> bytes:
    """The same map with other values; None leaves a field out."""
    fields = {**fields_of(record), **changes}
    return cbor.encode({k: v for k, v in fields.items() if v is not None})


def slug_of(record: bytes) -> str:
    with pytest.raises(BadInput) as caught:
        codec.decode_record(record)
    return caught.value.problem_slug


@pytest.mark.parametrize("kind", RECORDS)
def test_a_record_holds_what_was_signed(kind: str) -> None:
    record = codec.decode_record(RECORDS[kind])
    assert (record.kind, record.net, record.raw) == (kind, "devnet", RECORDS[kind])
    assert record.body.created == T0
    assert (record.delegation is None) == (kind in ("node", "receipt"))
    fields = libipld.decode_dag_cbor(RECORDS[kind])
    del fields["sig"]
    # Every library that writes canonical DAG-CBOR signs the same bytes.
    assert record.signed == b"decentraspace-record-v1\0" + libipld.encode_dag_cbor(fields)


def test_what_was_signed_is_the_map_without_the_signature() -> None:
    """Also where the signature stands elsewhere, too."""
    fields = cbor.decode(RECORDS["site"])
    entry = b"\x63sig\x58\x40" + fields["sig"]
    assert RECORDS["site"].count(entry) == 1
    text = "csigX@" + "a" * 64
    twice = cbor.encode({**fields, "sig": b"a" * 64, "dlg": {"m": text, "s": bytes(65)}})
    assert twice.count(b"\x63sig\x58\x40" + b"a" * 64) == 2
    for record in (*RECORDS.values(), twice):
        decoded = codec.decode_record(record)
        assert decoded.signed == codec.signed_bytes(cbor.decode(record))


def test_an_envelope_holds_what_the_sponsor_signed() -> None:
    envelope = codec.decode_envelope(ENVELOPE)
    assert (envelope.record, envelope.sponsor, envelope.at) == (RECORDS["site"], NODE.public, T0)
    cid = b"\x01\x71\x12\x20" + hashlib.sha256(RECORDS["site"]).digest()
    assert codec.record_cid(RECORDS["site"]) == cid
    assert envelope.sig == NODE.sign(b"decentraspace-sponsor-v1\0" + cid + T0.to_bytes(8, "big"))


def test_the_format_of_a_record_never_changes() -> None:
    """Ed25519 and RFC 6979 sign the same bytes alike, so this CID is the same for ever."""
    wallet = Account.from_key("0x" + "11" * 32)
    key = Ed25519PrivateKey.from_private_bytes(b"\x22" * 32)
    message = build_message(
        address_of(wallet),
        key.public_key().public_bytes_raw(),
        RULES,
        issued_at=T0,
        expires_at=T0 + 3600,
        nonce="0123456789abcdef",
    )
    delegation = Delegation(message, bytes(wallet.sign_message(encode_defunct(text=message)).signature))
    manifest = make_manifest(address_of(wallet), created=T0)
    record = sign_site(manifest, key, delegation, RULES)
    cid = "bafyreien4ptjkriczhksuw45o6js25jmylmyxkzywmuu4emf5roq73mb3a"
    assert cids.to_text(codec.record_cid(record)) == cid
    page = (ROOT / "docs/discussion/records.md").read_text()
    for part in (
        cid,
        f"{len(record)} bytes",
        f"{len(take(record, NODE, T0))} bytes",
        key.public_key().public_bytes_raw().hex(),
        cids.to_text(manifest.root),
        manifest.owner.hex(),
        manifest.site_id,
    ):
        assert part in page


@pytest.mark.parametrize("kind", RECORDS)
@pytest.mark.parametrize("name", ["v", "net", "kind", "body", "key", "sig", "dlg"])
def test_every_field_is_needed(kind: str, name: str) -> None:
    record = RECORDS[kind]
    if name in fields_of(record):
        assert slug_of(changed(record, **{name: None})) == "malformed-record"
    assert slug_of(changed(record, **{name + "_": 1})) == "malformed-record"


@pytest.mark.parametrize("kind", RECORDS)
def test_records_of_nodes_alone_have_no_delegation(kind: str) -> None:
    other = fields_of(RECORDS["site"])["dlg"] if kind in ("node", "receipt") else None
    assert slug_of(changed(RECORDS[kind], dlg=other)) == "malformed-record"


@pytest.mark.parametrize(
    "dlg",
    [
        {},
        {"m": "a"},
        {"m": "a", "s": bytes(64)},
        {"m": "a", "s": bytes(66)},
        {"m": b"a", "s": bytes(65)},
        {"m": "a", "s": "a" * 65},
        {"m": "a", "s": bytes(65), "t": 1},
        [],
        "a",
        1,
    ],
)
def test_a_delegation_is_a_message_and_its_signature(dlg: Any) -> None:
    assert slug_of(changed(RECORDS["site"], dlg=dlg)) == "malformed-record"


LINK = Link(cids.make(cids.RAW, b""))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("v", "1"),
        ("v", True),
        ("net", b"devnet"),
        ("net", 1),
        ("kind", 1),
        ("kind", b"site"),
        ("key", bytes(31)),
        ("key", bytes(33)),
        ("key", "a" * 32),
        ("key", LINK),
        ("sig", bytes(63)),
        ("sig", bytes(65)),
        ("sig", [0] * 64),
        ("body", []),
        ("body", {}),
        ("body", b""),
    ],
)
def test_a_field_of_another_type_is_refused(name: str, value: Any) -> None:
    assert slug_of(changed(RECORDS["site"], **{name: value})) == "malformed-record"


@pytest.mark.parametrize("version", [0, 2, -1, 2**64 - 1])
def test_another_version_is_told_from_rubbish_whatever_it_holds(version: int) -> None:
    assert slug_of(changed(RECORDS["site"], v=version)) == "unknown-version"
    assert slug_of(cbor.encode({"v": version, "kind": "site", "new": [1]})) == "unknown-version"


@pytest.mark.parametrize("kind", ["", "drive", "Site", "x" * 5000])
def test_another_kind_is_told_from_rubbish_whatever_it_holds(kind: str) -> None:
    assert slug_of(changed(RECORDS["site"], kind=kind)) == "unknown-kind"
    assert slug_of(cbor.encode({"v": 1, "kind": kind, "new": [1]})) == "unknown-kind"


def test_a_record_has_at_most_16_kib() -> None:
    def sized(size: int) -> bytes:
        rest = len(cbor.encode({"v": 1, "kind": "new", "pad": bytes(1000)})) - 1000
        return cbor.encode({"v": 1, "kind": "new", "pad": bytes(size - rest)})

    assert len(sized(16384)) == 16384
    assert slug_of(sized(16384)) == "unknown-kind"
    assert slug_of(sized(16385)) == "too-large"
    assert slug_of(bytes(10_000_000)) == "too-large"


def test_the_largest_record_fits_into_an_envelope() -> None:
    envelope = take(bytes(codec.MAX_RECORD), NODE, 2**40)
    assert codec.decode_envelope(envelope).record == bytes(codec.MAX_RECORD)
    with pytest.raises(BadInput):
        codec.decode_envelope(take(bytes(codec.MAX_ENVELOPE), NODE, 1))


@pytest.mark.parametrize("data", [b"", b"\xf6", b"\x80", b"\xa0", b"a", None, 1, "text", bytearray(b"\xa0")])
def test_what_is_no_map_is_no_record(data: Any) -> None:
    for decode in (codec.decode_record, codec.decode_envelope):
        with pytest.raises(BadInput):
            decode(data)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("r", None),
        ("r", "a"),
        ("r", LINK),
        ("r", {}),
        ("s", bytes(31)),
        ("s", "a" * 32),
        ("g", bytes(63)),
        ("g", None),
        ("t", None),
        ("t", 0),
        ("t", -1),
        ("t", True),
        ("t", 2**40 + 1),
        ("t", 2**64 - 1),
        ("t", str(T0)),
        ("x", 1),
    ],
)
def test_what_is_not_exactly_an_envelope_is_refused(name: str, value: Any) -> None:
    with pytest.raises(BadInput):
        codec.decode_envelope(changed(ENVELOPE, **{name: value}))


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_bad_input(data: bytes) -> None:
    for decode in (codec.decode_record, codec.decode_envelope):
        with pytest.raises(BadInput):
            decode(data)


@given(st.sampled_from(sorted(RECORDS)), ANY, st.data())
def test_any_value_in_any_place_is_read_or_bad_input(kind: str, value: Any, data: st.DataObject) -> None:
    fields = fields_of(RECORDS[kind])
    inside = data.draw(st.sampled_from([fields, fields["body"], fields.get("dlg", fields)]))
    inside[data.draw(st.sampled_from(sorted(inside)))] = value
    raw = cbor.encode(fields)
    try:
        record = codec.decode_record(raw)
    except BadInput:
        return
    assert record.raw == raw
    assert record.signed == codec.signed_bytes(cbor.decode(raw))
