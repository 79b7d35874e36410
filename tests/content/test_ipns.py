"""IPNS records: what a key has signed and nothing else, as Kubo sees it too."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import libipld
import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from decentraspace.content import cid as cids
from decentraspace.content import ipns
from decentraspace.content.blockstore import BlockStore
from decentraspace.content.cid import varint
from decentraspace.errors import BadInput, QuotaExceeded, Unprocessable
from tests.content.kubo import Kubo

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
SOON = 4_000_000_000.0  # 2096
VALUE = "/ipfs/bafkqaaa"


def field(number: int, value: bytes | int) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def document(**changes: Any) -> dict[str, Any]:
    plain = {
        "Value": VALUE.encode(),
        "Validity": b"2096-10-02T07:06:40.123456789Z",
        "ValidityType": 0,
        "Sequence": 7,
        "TTL": 60 * 10**9,
    }
    return {**plain, **changes}


def signed(entries: dict[str, Any], *more: bytes, key: Any = KEY) -> bytes:
    """A record as any implementation may write one; `more`: fields before."""
    data = bytes(libipld.encode_dag_cbor(entries))
    message = b"ipns-signature:" + data
    if isinstance(key, rsa.RSAPrivateKey):
        signature = key.sign(message, padding.PKCS1v15(), hashes.SHA256())
    elif isinstance(key, ec.EllipticCurvePrivateKey):
        signature = key.sign(message, ec.ECDSA(hashes.SHA256()))
    else:
        signature = key.sign(message)
    return b"".join(more) + field(8, signature) + field(9, data)


NAME, RECORD = ipns.create(KEY, VALUE, until=SOON, sequence=7, ttl=60)


def test_what_is_made_is_verified() -> None:
    record = ipns.verify(NAME, RECORD)
    assert record == (VALUE, SOON, 7, 60, RECORD)
    assert ipns.parse_name(ipns.name_text(NAME)) == NAME
    assert ipns.name_text(NAME).startswith("k51")


def test_kubo_finds_it_valid(tmp_path: Path) -> None:
    file = tmp_path / "record"
    file.write_bytes(RECORD)
    said = Kubo(tmp_path / "repo").run("name", "inspect", f"--verify={ipns.name_text(NAME)}", str(file))
    assert b"Valid: true" in said
    assert VALUE.encode() in said


def test_names_have_several_forms() -> None:
    """Those of peers' ids, and CIDs of either codec; all are one name."""
    import base58

    peer = base58.b58encode(cids.multihash(NAME)).decode()
    assert peer.startswith("12D3KooW")
    dag_pb = b"\x01\x70" + cids.multihash(NAME)
    for text in (peer, cids.to_text(NAME), cids.to_text(dag_pb), cids.to_text(NAME, "base58btc")):
        assert ipns.parse_name(text) == NAME
    for text in ("", "1", "docs.example", cids.to_text(cids.make(cids.RAW, b"x")), "Qm!", "1" * 60):
        with pytest.raises(BadInput):
            ipns.parse_name(text)


def test_a_record_that_says_one_thing_in_both_versions() -> None:
    old = field(1, VALUE.encode()), field(2, b"not looked at"), field(3, 0)
    more = field(4, document()["Validity"]), field(5, 7), field(6, 60 * 10**9)
    assert ipns.verify(NAME, signed(document(), *old, *more)).value == VALUE


@pytest.mark.parametrize(
    "old",
    [
        [
            field(1, b"/ipfs/bafkqaaa/other"),
            field(4, document()["Validity"]),
            field(5, 7),
            field(6, 60 * 10**9),
        ],
        [field(1, VALUE.encode()), field(4, b"2097-01-01T00:00:00Z"), field(5, 7), field(6, 60 * 10**9)],
        [field(1, VALUE.encode()), field(4, document()["Validity"]), field(5, 8), field(6, 60 * 10**9)],
        [field(2, b"a signature alone")],
    ],
)
def test_old_readers_are_not_told_something_else(old: list[bytes]) -> None:
    with pytest.raises(Unprocessable, match="contradicts"):
        ipns.verify(NAME, signed(document(), *old))


@pytest.mark.parametrize(
    "make",
    [
        lambda: signed(document(), key=Ed25519PrivateKey.generate()),
        lambda: field(1, VALUE.encode()) + field(2, KEY.sign(b"version 1 alone")),
        lambda: RECORD[:-1] + bytes([RECORD[-1] ^ 1]),
        lambda: signed(document(ValidityType=1)),
        lambda: signed(document(Validity=b"2001-01-01T00:00:00Z")),
    ],
)
def test_what_the_key_has_not_said(make: Any) -> None:
    with pytest.raises(Unprocessable):
        ipns.verify(NAME, make())


@pytest.mark.parametrize(
    "make",
    [
        lambda: b"\xff" * 20,
        lambda: signed(document()) + bytes(20_000),
        lambda: signed({"Value": b"x"}),
        lambda: signed(document(Validity=b"tomorrow")),
        lambda: signed(document(Value=b"\xff")),
        lambda: signed(document(Sequence=b"7")),
    ],
)
def test_what_is_no_record(make: Any) -> None:
    with pytest.raises(BadInput):
        ipns.verify(NAME, make())


@given(st.binary(max_size=300))
def test_anything_may_come(data: bytes) -> None:
    with pytest.raises((BadInput, Unprocessable)):
        ipns.verify(NAME, data)


@pytest.mark.parametrize("kind", ["rsa", "secp256k1", "ecdsa"])
def test_other_kinds_of_keys(kind: str) -> None:
    """Those that are too long for a name are sent along."""
    key: Any
    if kind == "rsa":
        key = rsa.generate_private_key(65537, 2048)
    else:
        key = ec.generate_private_key(ec.SECP256K1() if kind == "secp256k1" else ec.SECP256R1())
    form = serialization.PublicFormat
    if kind == "secp256k1":
        raw = key.public_key().public_bytes(serialization.Encoding.X962, form.CompressedPoint)
    else:
        raw = key.public_key().public_bytes(serialization.Encoding.DER, form.SubjectPublicKeyInfo)
    public = field(1, {"rsa": 0, "secp256k1": 2, "ecdsa": 3}[kind]) + field(2, raw)
    name = cids.make(cids.LIBP2P_KEY, public)
    record = signed(document(), field(7, public), key=key)
    assert ipns.verify(name, record).sequence == 7
    with pytest.raises(Unprocessable):  # of another key than the name's
        ipns.verify(cids.make(cids.LIBP2P_KEY, b"other"), record)
    with pytest.raises(Unprocessable):
        ipns.verify(name, signed(document(), key=key))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[BlockStore]:
    with BlockStore.open(tmp_path / "blocks", quota=1 << 24) as opened:
        yield opened


def test_the_newest_is_kept(store: BlockStore) -> None:
    names = ipns.NameStore(store)
    assert names.get(NAME) is None
    second = ipns.create(KEY, "/ipfs/bafkqaaa/2", until=SOON, sequence=8)[1]
    later = ipns.create(KEY, "/ipfs/bafkqaaa/3", until=SOON + 9, sequence=8)[1]
    for record, value in (
        (RECORD, VALUE),
        (second, "/ipfs/bafkqaaa/2"),
        (RECORD, "/ipfs/bafkqaaa/2"),
        (later, "/ipfs/bafkqaaa/3"),
        (second, "/ipfs/bafkqaaa/3"),
    ):
        names.put(NAME, record)
        found = names.get(NAME)
        assert found is not None
        assert found.value == value
    with pytest.raises(Unprocessable):
        names.put(NAME, signed(document(Sequence=99), key=Ed25519PrivateKey.generate()))
    assert ipns.NameStore(store).get(NAME) == found


def test_names_that_ran_out_make_room(store: BlockStore) -> None:
    names = ipns.NameStore(store, most=2)
    soon = time.time() + 0.3
    for until in (soon, SOON):
        names.put(*ipns.create(Ed25519PrivateKey.generate(), VALUE, until=until, sequence=1))
    third = ipns.create(Ed25519PrivateKey.generate(), VALUE, until=SOON, sequence=1)
    if time.time() < soon:
        with pytest.raises(QuotaExceeded):
            names.put(*third)
    while time.time() <= soon:
        time.sleep(0.02)
    names.put(*third)
    assert names.get(third[0]) is not None
    with pytest.raises(QuotaExceeded):
        names.put(*ipns.create(Ed25519PrivateKey.generate(), VALUE, until=SOON, sequence=1))
    names.put(third[0], third[1])  # what is known already needs no room


def test_none_is_given_after_its_time(store: BlockStore) -> None:
    names = ipns.NameStore(store)
    name, record = ipns.create(KEY, VALUE, until=time.time() + 0.3, sequence=1)
    names.put(name, record)
    deadline = time.monotonic() + 10
    while names.get(name) is not None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
