"""Wallets' signatures: other people's vectors, eth-account as the peer, and every form that is not canonical."""

from __future__ import annotations

import contextlib

import pytest
from eth_account import Account
from eth_account.messages import encode_defunct
from eth_account.signers.local import LocalAccount
from eth_utils import to_checksum_address
from hypothesis import example, given, settings
from hypothesis import strategies as st

from decentraspace.errors import BadInput
from decentraspace.identity import siwe
from decentraspace.identity.ethereum import (
    checksum_address,
    keccak256,
    parse_address,
    personal_sign_digest,
    recover_personal_sign,
)
from tests.identity.siwe_vectors import message_of
from tests.identity.vectors import load

POSITIVE = load("siwe_verification_positive")
NEGATIVE = load("siwe_verification_negative")
ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
# The moment at which the vectors without one are judged.
TODAY = siwe.seconds("2026-01-01T00:00:00Z")

WALLET: LocalAccount = Account.from_key(bytes(31) + b"\x07")
OWNER = bytes.fromhex(WALLET.address[2:])


def sign(text: str, wallet: LocalAccount = WALLET) -> bytes:
    return bytes(wallet.sign_message(encode_defunct(text=text)).signature)


def faults(vector: dict[str, object]) -> set[str]:
    """What is wrong with a login that a vector describes."""
    message = siwe.parse(message_of(vector).format())
    now = siwe.seconds(str(vector["time"])) if "time" in vector else TODAY
    found = set()
    if vector.get("domainBinding", message.domain) != message.domain:
        found.add("domain")
    if vector.get("matchNonce", message.nonce) != message.nonce:
        found.add("nonce")
    if message.expiration_time and now >= siwe.seconds(message.expiration_time):
        found.add("expired")
    if message.not_before and now < siwe.seconds(message.not_before):
        found.add("early")
    digits = str(vector["signature"]).removeprefix("0x")
    try:
        signer = recover_personal_sign(message.format().encode(), bytes.fromhex(digits))
    except (BadInput, ValueError):  # ValueError: an odd number of digits
        found.add("signature")
    else:
        if checksum_address(signer) != message.address:
            found.add("signer")
    return found


@pytest.mark.parametrize("name", POSITIVE)
def test_published_logins_hold(name: str) -> None:
    assert faults(POSITIVE[name]) == set()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("expired message", {"expired"}),
        ("domain binding", {"domain"}),
        ("custom time", {"expired"}),
        ("custom nonce", {"nonce"}),
        ("malformed signature", {"signature"}),
        ("wrong signature", {"signer"}),
        ("not yet valid", {"early"}),
    ],
)
def test_published_bad_logins_fail_for_their_one_fault(name: str, expected: set[str]) -> None:
    assert faults(NEGATIVE[name]) == expected


def test_no_published_bad_login_is_forgotten() -> None:
    assert len(NEGATIVE) == 7


@settings(max_examples=50, deadline=None)
@given(st.binary(min_size=32, max_size=32), st.text())
@example(bytes(31) + b"\x01", "")
@example((ORDER - 1).to_bytes(32, "big"), "\u20ac \U0001f600")
def test_another_library_and_this_one_agree(secret: bytes, text: str) -> None:
    text = text.encode("utf-8", "replace").decode()
    if not 0 < int.from_bytes(secret, "big") < ORDER:
        return
    wallet = Account.from_key(secret)
    signature = sign(text, wallet)
    assert checksum_address(recover_personal_sign(text.encode(), signature)) == wallet.address
    assert Account.recover_message(encode_defunct(text=text), signature=signature) == wallet.address
    other = recover_personal_sign(text.encode() + b"x", signature)
    assert checksum_address(other) != wallet.address


def test_the_length_in_the_prefix_is_in_bytes() -> None:
    """EIP-191, version 0x45."""
    assert personal_sign_digest(b"hello") == keccak256(b"\x19Ethereum Signed Message:\n5hello")
    text = "\u20ac" * 4
    assert (
        personal_sign_digest(text.encode())[:4]
        == keccak256(b"\x19Ethereum Signed Message:\n12" + text.encode())[:4]
    )


def test_keccak_is_not_the_later_sha3() -> None:
    """The hash of nothing, from the yellow paper."""
    assert keccak256(b"").hex() == "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470"


@pytest.mark.parametrize("v", [0, 1, 27, 28])
def test_both_ways_of_counting_recovery_ids(v: int) -> None:
    seen = set()
    for number in range(12):
        signature = sign(str(number))
        if signature[64] % 27 == v % 27:
            seen.add(recover_personal_sign(str(number).encode(), signature[:64] + bytes((v,))))
    assert seen == {OWNER}


@pytest.mark.parametrize("v", [v for v in range(256) if v not in (0, 1, 27, 28)])
def test_other_recovery_ids_are_refused(v: int) -> None:
    with pytest.raises(BadInput):
        recover_personal_sign(b"1", sign("1")[:64] + bytes((v,)))


@pytest.mark.parametrize("v", [2, 3, 29, 30])
def test_points_beyond_the_order_are_refused(v: int) -> None:
    """Recovery ids of the curve that wallets never give; about every second small r is one's x."""
    for r in range(1, 12):
        with pytest.raises(BadInput):
            recover_personal_sign(b"1", r.to_bytes(32, "big") + bytes(31) + b"\x01" + bytes((v,)))


def test_the_other_recovery_id_names_another_wallet() -> None:
    signature = sign("1")
    assert recover_personal_sign(b"1", signature[:64] + bytes((55 - signature[64],))) != OWNER


def test_a_signature_has_no_second_form() -> None:
    """(r, n - s) with the other v verifies wherever high s is taken, so it must not be."""
    signature = sign("1")
    s = int.from_bytes(signature[32:64], "big")
    twin = signature[:32] + (ORDER - s).to_bytes(32, "big") + bytes((55 - signature[64],))
    assert Account.recover_message(encode_defunct(text="1"), signature=twin) == WALLET.address
    with pytest.raises(BadInput):
        recover_personal_sign(b"1", twin)


HALF = ORDER // 2


@pytest.mark.parametrize(
    ("r", "s"),
    [(0, 1), (1, 0), (0, 0), (ORDER, 1), (ORDER - 1, HALF + 1), (1, ORDER), (2**256 - 1, 2**256 - 1), (5, 1)],
)
def test_numbers_outside_the_curve_are_refused(r: int, s: int) -> None:
    # 5 is the x of no point.
    with pytest.raises(BadInput):
        recover_personal_sign(b"1", r.to_bytes(32, "big") + s.to_bytes(32, "big") + b"\x1b")


@pytest.mark.parametrize("length", [0, 1, 63, 64, 66, 130, 10_000])
def test_short_and_long_signatures_are_refused(length: int) -> None:
    with pytest.raises(BadInput):
        recover_personal_sign(b"1", (sign("1") * 200)[:length])


@given(st.binary(max_size=40), st.binary(min_size=60, max_size=70))
def test_any_bytes_for_a_signature(message: bytes, signature: bytes) -> None:
    with contextlib.suppress(BadInput):
        assert len(recover_personal_sign(message, signature)) == 20


@given(st.binary(min_size=20, max_size=20))
def test_addresses_are_those_of_another_library(raw: bytes) -> None:
    text = checksum_address(raw)
    assert text == to_checksum_address(raw)
    assert parse_address(text) == raw
    assert parse_address(text.lower()) == raw
    assert parse_address("0x" + text[2:].upper()) == raw


@pytest.mark.parametrize(
    "text",
    [
        # From EIP-55, each with one letter's case changed.
        "0x5AAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
        "0xFB6916095ca1df60bB79Ce92cE3Ea74c37c5d359",
        "",
        "0x",
        "5aaeb6053f3e94c9b9a09f33669435e7ef1beaed",
        "0X5aaeb6053f3e94c9b9a09f33669435e7ef1beaed",
        "0x5aaeb6053f3e94c9b9a09f33669435e7ef1beae",
        "0x5aaeb6053f3e94c9b9a09f33669435e7ef1beaedd",
        "0x5aaeb6053f3e94c9b9a09f33669435e7ef1bea\u0665d",
        "0x5aaeb6053f3e94c9b9a09f33669435e7ef1be  d",
        "0x" + " " * 40,
        "0x" + "ab " * 13 + "a",
    ],
)
def test_addresses_that_are_none(text: str) -> None:
    with pytest.raises(BadInput):
        parse_address(text)


@pytest.mark.parametrize(
    "text",
    [
        "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
        "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359",
        "0xdbF03B407c01E7cD3CBea99509d93f8DDDC8C6FB",
        "0xD1220A0cf47c7B9Be7A2E6BA89F429762e7b9aDb",
    ],
)
def test_the_addresses_of_eip_55(text: str) -> None:
    assert checksum_address(parse_address(text)) == text
