from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from decentraspace.content import cid as cids
from decentraspace.errors import BadInput

V0 = "QmdfTbBqBPQ7VNxZEYEj14VmRuZBkqFbiwReogJgS1zR1n"  # the empty folder, as every Kubo of old knew it
V1 = "bafybeihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku"
EMPTY = "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku"


def test_version_0_is_read_as_the_version_1_of_the_same_multihash() -> None:
    assert cids.to_text(cids.parse(V0)) == V1
    assert cids.multihash(cids.parse(V0)) == cids.multihash(cids.parse(V1))


def test_a_known_cid() -> None:
    assert cids.to_text(cids.make(cids.RAW, b"")) == EMPTY


@pytest.mark.parametrize(
    "text",
    [
        EMPTY,
        EMPTY.upper(),
        "zb2rhmy65F3REf8SZp7De11gxtECBGgUKaLdiDj7MCGCHxbDW",  # this and the next as Kubo writes them
        "k2cwueebp9wws0fnm29jatrrbqocjaivp132efhd99cd5phw2odywbit",
        "f01551220" + hashlib.sha256(b"").hexdigest(),
        "F01551220" + hashlib.sha256(b"").hexdigest().upper(),
    ],
)
def test_every_base_names_the_same(text: str) -> None:
    assert cids.to_text(cids.parse(text)) == EMPTY


@given(st.sampled_from([cids.RAW, cids.DAG_PB, cids.DAG_CBOR, cids.DAG_JSON]), st.binary(max_size=64))
def test_text_and_back(codec: int, data: bytes) -> None:
    cid = cids.make(codec, data)
    for base in ("base32", "base58btc", "base36"):
        assert cids.parse(cids.to_text(cid, base)) == cid
    assert cids.codec(cid) == codec
    assert cids.digest_matches(cid, data)
    assert not cids.digest_matches(cid, data + b"x")


@given(st.text(max_size=120) | st.text("bBzkKfFQm0123456789abcxyz-_+ \n", max_size=80))
def test_any_text_is_a_cid_or_bad_input(text: str) -> None:
    try:
        cid = cids.parse(text)
    except BadInput:
        return
    assert cids.validate(cid) == cid


@given(st.binary(max_size=80))
def test_any_bytes_are_a_cid_or_bad_input(data: bytes) -> None:
    for read in (cids.validate, cids.normal, cids.codec, cids.multihash, cids.identity_data):
        try:
            read(data)
        except BadInput:
            continue


@pytest.mark.parametrize(
    "text",
    [
        "",
        "b",
        "Q",
        V0[:-1],
        V0 + "a",
        EMPTY[:-1],
        EMPTY + "a",
        "k-5",
        "k1_0",
        "f01 55",
        " " + EMPTY,
        EMPTY + "\n",
        "b" + EMPTY[1:].upper()[:-1] + "u",
        "m" + EMPTY[1:],
        "z" + "1" * 300,
        "é" * 20,
    ],
)
def test_what_only_looks_like_a_cid_is_refused(text: str) -> None:
    with pytest.raises(BadInput):
        cids.parse(text)


def test_hash_functions() -> None:
    data = b"content"
    for code, digest in (
        (0x13, hashlib.sha512(data).digest()),
        (0xB220, hashlib.blake2b(data, digest_size=32).digest()),
        (0x00, data),
    ):
        cid = b"\x01\x55" + cids.varint(code) + cids.varint(len(digest)) + digest
        assert cids.digest_matches(cid, data)
        assert not cids.digest_matches(cid, b"contents")
    with pytest.raises(BadInput, match="not supported"):
        cids.digest_matches(b"\x01\x55\x11\x14" + hashlib.sha1(data).digest(), data)


def test_a_shortened_digest_proves_nothing() -> None:
    digest = hashlib.sha256(b"content").digest()
    assert not cids.digest_matches(b"\x01\x55\x12\x04" + digest[:4], b"content")


def test_identity_is_bounded_and_not_taken_for_a_hash() -> None:
    assert cids.identity_data(b"\x01\x55\x00\x02hi") == b"hi"
    assert cids.identity_data(cids.make(cids.RAW, b"hi")) is None
    with pytest.raises(BadInput):
        cids.validate(b"\x01\x55\x00\x81\x01" + b"x" * 129)
    # 36 bytes whose third and fourth look like SHA2-256, and are the codec and another hash function.
    odd = b"\x01\x80\x12\x20" + bytes([31]) + b"x" * 31
    assert len(odd) == 36
    assert cids.multihash(odd) == odd[3:]


@given(st.integers(0, (1 << 63) - 1))
def test_varints(value: int) -> None:
    assert cids.read_varint(b"x" + cids.varint(value), 1) == (value, 1 + len(cids.varint(value)))


@pytest.mark.parametrize("data", [b"", b"\x80", b"\x80\x00", b"\xff" * 9, b"\xff" * 20])
def test_bad_varints(data: bytes) -> None:
    with pytest.raises(BadInput):
        cids.read_varint(data)
