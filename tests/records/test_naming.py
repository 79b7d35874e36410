"""The record of a site's name that a version carries: what its key signed for that version, or no name at all."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from decentraspace.content import cid as cids
from decentraspace.content import ipns
from decentraspace.errors import BadInput
from decentraspace.identity.keys import NodeKey
from decentraspace.records import codec, judgement, judging, naming, schema
from decentraspace.records.schema import SiteManifest
from decentraspace.records.verdict import verify
from tests.content.kubo import Kubo
from tests.records import factory
from tests.records.factory import RULES, address_of, make_manifest, make_session, make_wallet
from tests.records.values import ANY

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = KEY.public_key().public_bytes_raw()
NAME = naming.name_of(PUBLIC)
AT, UNTIL = 1_700_000_000, 4_000_000_000
PLAIN = make_manifest(bytes(20), seq=3, prev=codec.record_cid(b"before"), created=AT)
CARRIED = naming.sign(KEY, PLAIN, AT, UNTIL)
WALLET = make_wallet()
SESSION = make_session(WALLET, issued_at=AT, expires_at=AT + 86400)

ORDER = st.tuples(st.integers(1, 2**31), st.integers(1, 2**21 - 1))


def named(**changes: Any) -> SiteManifest:
    made = make_manifest(address_of(WALLET), created=AT, **changes)
    return replace(made, ipns=naming.sign(KEY, made, AT, UNTIL))


def record(manifest: SiteManifest) -> bytes:
    from decentraspace.records.signing import sign_site

    return sign_site(manifest, *SESSION, RULES)


def test_it_is_an_ipns_record() -> None:
    found = ipns.verify(NAME, naming.encoded(PLAIN, AT, CARRIED))
    assert found.value == f"/ipfs/{cids.to_text(PLAIN.root)}"
    assert (found.until, found.ttl, found.sequence) == (UNTIL, 60, naming.sequence(AT, 3))
    assert naming.signed(PLAIN, AT, CARRIED, both=True)
    assert naming.key_of(NAME) == PUBLIC
    assert naming.key_of(ipns.create(KEY, "/x", until=UNTIL, sequence=1)[0]) == PUBLIC
    assert naming.key_of(cids.make(cids.RAW, b"x")) is None


def test_kubo_finds_it_valid(tmp_path: Path) -> None:
    file = tmp_path / "record"
    file.write_bytes(naming.encoded(PLAIN, AT, CARRIED))
    said = Kubo(tmp_path / "repo").run("name", "inspect", f"--verify={ipns.name_text(NAME)}", str(file))
    assert b"Valid: true" in said
    assert b"V1+V2" in said
    assert f"/ipfs/{cids.to_text(PLAIN.root)}".encode() in said


def test_the_same_is_signed_for_ever() -> None:
    """Signatures of Ed25519 are the same each time: another encoding would have others."""
    owner = make_manifest(bytes(20), root=cids.make(cids.RAW, b"root"), created=1)
    signature = naming.sign(KEY, owner, AT, UNTIL)[3]
    assert signature.hex() == (
        "d8135713821c29ed3d51b74f7eb41427b16a3e991e8f729d430927247c6933ec5db01b76a037a6d05f60d42267c8b1729fc6aef4bc5290765fbe3a17b8430d01"
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"root": cids.make(cids.RAW, b"other")},
        {"seq": 4},
        {"label": "other"},
        {"owner": bytes(19) + b"x"},
    ],
)
def test_it_is_for_that_version_of_that_site_alone(changes: dict[str, Any]) -> None:
    assert naming.signed(PLAIN, AT, CARRIED)
    assert not naming.signed(replace(PLAIN, **changes), AT, CARRIED)
    assert not naming.signed(PLAIN, AT + 1, CARRIED)


@given(st.integers(0, 3), st.integers(0, 63), st.integers(1, 255))
def test_no_bit_of_it_can_be_changed(part: int, place: int, bits: int) -> None:
    changed: list[Any] = list(CARRIED)
    if part == 1:
        changed[1] ^= bits
    else:
        value = bytearray(changed[part])
        value[place % len(value)] ^= bits
        changed[part] = bytes(value)
    assert not naming.signed(PLAIN, AT, tuple(changed), both=True)  # type: ignore[arg-type]


@given(ORDER, ORDER)
def test_sequences_follow_each_other_as_heads_do(one: tuple[int, int], two: tuple[int, int]) -> None:
    assert (naming.sequence(*one) < naming.sequence(*two)) == (one < two)
    assert naming.sequence(2**32 - 1, schema.MAX_SEQ) < 2**53


def test_a_version_says_its_name() -> None:
    block = record(named())
    assert verify(block, RULES).named == PUBLIC
    assert codec.decode_record(block).body.ipns == named().ipns  # type: ignore[union-attr]
    assert len(block) < len(record(make_manifest(address_of(WALLET), created=AT))) + 200


def test_a_wrong_signature_makes_a_version_without_a_name() -> None:
    """The verdict on the version hangs on its own signature alone."""
    key, until, first, second = named().ipns or pytest.fail("no record")
    for carried in (
        (key, until, first, bytes(64)),
        (key, until + 1, first, second),
        (bytes(32), until, first, second),
        (b"\xff" * 32, until, first, second),
    ):
        found = verify(record(replace(named(), ipns=carried)), RULES)
        assert found.named == b""
    # Nobody but readers of old looks at the signature of version 1.
    assert verify(record(replace(named(), ipns=(key, until, bytes(64), second))), RULES).named == PUBLIC


@pytest.mark.parametrize(
    "carried",
    [
        (),
        CARRIED[:3],
        (*CARRIED, b""),
        (b"x", *CARRIED[1:]),
        (CARRIED[0], 0, *CARRIED[2:]),
        (CARRIED[0], True, *CARRIED[2:]),
        (CARRIED[0], 2**40, *CARRIED[2:]),
        (CARRIED[0], 1, b"x" * 65, CARRIED[3]),
        {"key": CARRIED[0]},
        b"x",
    ],
)
def test_its_form_is_part_of_the_records_form(carried: Any) -> None:
    values = schema.to_map(PLAIN)
    with pytest.raises(BadInput):
        schema.from_map("site", {**values, "ipns": list(carried) if isinstance(carried, tuple) else carried})


@given(ANY)
def test_other_values_are_refused_too(value: Any) -> None:
    with pytest.raises(BadInput):
        schema.from_map("site", {**schema.to_map(PLAIN), "ipns": value})


def test_what_there_is_not_is_left_out() -> None:
    values = schema.to_map(PLAIN)
    assert "ipns" not in values
    assert schema.from_map("site", values) == PLAIN
    with pytest.raises(BadInput, match="left out"):
        schema.from_map("site", {**values, "ipns": None})
    with pytest.raises(BadInput, match="production"):
        replace(PLAIN, channel="preview", ipns=CARRIED).check()


def test_it_is_judged_alike_in_other_processes() -> None:
    envelope = factory.take(record(named()), NodeKey(KEY), AT)
    judged = judging.judge(envelope, RULES, AT)
    assert isinstance(judged, judging.Judged)
    assert judgement.from_plain(envelope, judgement._to_plain(judged)) == judged
    assert judged.record.named == PUBLIC
