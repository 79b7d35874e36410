from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from decentraspace.identity.delegation import Delegation
from decentraspace.identity.keys import NodeKey, peer_id_of
from decentraspace.records import cbor, codec
from decentraspace.records.schema import SiteManifest, site_id
from decentraspace.records.verdict import RecordRefused, _check_signature, admit, verify
from tests.records.factory import (
    RULES,
    address_of,
    make_announcement,
    make_receipt,
    make_revocation,
    make_session,
    make_site,
    make_wallet,
    take,
)
from tests.records.values import ANY
from tests.support import ROOT

T0 = 1_700_000_000
DAY = 86400
WALLET, THIEF = make_wallet(), make_wallet()
SESSION = make_session(WALLET, issued_at=T0)  # ends at T0 + DAY
NODE, OTHER_NODE = NodeKey.generate(), NodeKey.generate()
RECORDS = {
    "site": make_site(WALLET, SESSION, created=T0 + 10),
    "revocation": make_revocation(WALLET, SESSION, Ed25519PrivateKey.generate(), created=T0 + 10),
    "node": make_announcement(NODE, created=T0 + 10),
    "receipt": make_receipt(NODE, created=T0 + 10),
}


def slug_of(record: Any, rules: Any = RULES) -> str:
    with pytest.raises(RecordRefused) as caught:
        verify(record, rules)
    return caught.value.problem_slug


def signed_again(record: bytes, key: Ed25519PrivateKey, **changes: Any) -> bytes:
    """The record with other fields, under the signature of `key`, whoever that is."""
    fields = {**cbor.decode(record), "key": key.public_key().public_bytes_raw(), **changes}
    fields["sig"] = key.sign(codec.signed_bytes(fields))
    return cbor.encode(fields)


def outcome(record: bytes) -> str:
    try:
        return verify(record, RULES).cid.hex()
    except RecordRefused as error:
        return f"{error.problem_slug} {error.faulty}"


# -- verify


@pytest.mark.parametrize("kind", RECORDS)
def test_a_valid_record_is_what_it_says(kind: str) -> None:
    verified = verify(RECORDS[kind], RULES)
    assert (verified.kind, verified.created, verified.raw) == (kind, T0 + 10, RECORDS[kind])
    assert verified.cid == codec.record_cid(RECORDS[kind])
    if kind in ("node", "receipt"):
        assert (verified.owner, verified.issued_at, verified.expires_at) == (b"", 0, 0)
        assert verified.key == NODE.public
    else:
        assert (verified.owner, verified.issued_at, verified.expires_at) == (address_of(WALLET), T0, T0 + DAY)
        assert verified.key == SESSION[0].public_key().public_bytes_raw()


@pytest.mark.parametrize("kind", RECORDS)
def test_no_bit_can_be_turned(kind: str) -> None:
    record = bytearray(RECORDS[kind])
    for at in range(len(record)):
        for bit in range(8):
            record[at] ^= 1 << bit
            with pytest.raises(RecordRefused):
                verify(bytes(record), RULES)
            record[at] ^= 1 << bit
    assert verify(bytes(record), RULES)


@pytest.mark.parametrize("kind", RECORDS)
def test_nothing_can_be_cut_off_or_put_in(kind: str) -> None:
    record = RECORDS[kind]
    for at in range(len(record)):
        for other in (record[:at], record[:at] + record[at + 1 :], record[:at] + b"\0" + record[at:]):
            with pytest.raises(RecordRefused):
                verify(other, RULES)
    assert slug_of(record + b"\0") == "malformed-record"


@pytest.mark.parametrize("kind", RECORDS)
def test_no_field_can_be_changed_without_the_key(kind: str) -> None:
    fields = cbor.decode(RECORDS[kind])
    for name, value in fields["body"].items():
        changed = value + 1 if type(value) is int else [] if value is None else None
        other = fields["body"] | {name: changed}
        assert slug_of(cbor.encode({**fields, "body": other})) in ("bad-signature", "malformed-record")
    for name in fields:
        if isinstance(fields[name], bytes):
            assert slug_of(cbor.encode({**fields, name: bytes(len(fields[name]))})) == "bad-signature"


@given(st.binary(max_size=400))
def test_any_bytes_are_refused(data: bytes) -> None:
    assert slug_of(data) in ("malformed-record", "too-large", "unknown-version", "unknown-kind")


@pytest.mark.parametrize("data", [None, 1, "text", [], {}, bytearray(RECORDS["site"]), memoryview(b"a")])
def test_what_are_no_bytes_is_refused(data: Any) -> None:
    assert slug_of(data) in ("malformed-record", "too-large")


@given(st.sampled_from(sorted(RECORDS)), ANY, st.data())
def test_a_signer_may_sign_anything(kind: str, value: Any, data: st.DataObject) -> None:
    """The key's holder is hostile: what is taken is well formed, what is not is refused in words."""
    fields = cbor.decode(RECORDS[kind])
    inside = data.draw(st.sampled_from([fields, fields["body"], fields.get("dlg", fields["body"])]))
    inside[data.draw(st.sampled_from(sorted(inside)))] = value
    key = NODE.private if kind in ("node", "receipt") else SESSION[0]
    try:
        fields["sig"] = key.sign(codec.signed_bytes(fields))
        verified = verify(cbor.encode(fields), RULES)
    except RecordRefused:
        return
    verified.body.check()


@given(st.text(max_size=300), st.binary(min_size=65, max_size=65))
def test_any_text_in_place_of_a_delegation_is_refused(message: str, signature: bytes) -> None:
    forged = signed_again(RECORDS["site"], SESSION[0], dlg={"m": message, "s": signature})
    assert slug_of(forged) in ("malformed-message", "bad-signature", "wrong-domain", "wrong-chain")


@given(st.integers(0, 400), st.characters(codec="utf-8"), st.integers(0, 3))
def test_no_delegation_can_be_changed_without_the_wallet(at: int, character: str, cut: int) -> None:
    good = SESSION[1]
    message = good.message[:at] + character + good.message[at + cut :]
    if message == good.message:
        return
    forged = signed_again(RECORDS["site"], SESSION[0], dlg={"m": message, "s": good.signature})
    with pytest.raises(RecordRefused):
        verify(forged, RULES)


def test_a_delegation_with_its_signature_mirrored_is_refused() -> None:
    """(r, n - s) with the other parity also recovers the wallet: one delegation would have two forms."""
    order = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
    signature = SESSION[1].signature
    s = int.from_bytes(signature[32:64], "big")
    parity = {27: 28, 28: 27, 0: 1, 1: 0}[signature[64]]
    mirrored = signature[:32] + (order - s).to_bytes(32, "big") + bytes((parity,))
    forged = signed_again(RECORDS["site"], SESSION[0], dlg={"m": SESSION[1].message, "s": mirrored})
    assert slug_of(forged) == "bad-signature"


def test_a_signature_with_s_beyond_the_order_is_refused() -> None:
    """RFC 8032, section 5.1.7: else one record would have two CIDs."""
    order = 2**252 + 27742317777372353535851937790883648493
    fields = cbor.decode(RECORDS["site"])
    s = int.from_bytes(fields["sig"][32:], "little")
    fields["sig"] = fields["sig"][:32] + (s + order).to_bytes(32, "little")
    assert slug_of(cbor.encode(fields)) == "bad-signature"


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=64, max_size=64), st.integers(0, 767))
def test_the_faster_library_takes_nothing_that_openssl_refuses(
    key: bytes, signature: bytes, flipped: int
) -> None:
    private = Ed25519PrivateKey.from_private_bytes(key)
    public, good = private.public_key().public_bytes_raw(), private.sign(b"text")
    mutated = (int.from_bytes(public + good, "big") ^ 1 << flipped).to_bytes(96, "big")
    small = b"\x01" + bytes(31)  # the neutral element: a key of small order, and OpenSSL takes it
    pairs = [(public, good), (mutated[:32], mutated[32:]), (key, signature), (small, small + bytes(32))]
    for number, (who, what) in enumerate(pairs):
        expected = True
        try:
            Ed25519PublicKey.from_public_bytes(who).verify(what, b"text")
        except (InvalidSignature, ValueError):
            expected = False
        assert expected or number in (1, 2)
        if expected:
            _check_signature(who, what, b"text")
        else:
            with pytest.raises(RecordRefused):
                _check_signature(who, what, b"text")


def test_another_network_is_no_fault() -> None:
    with pytest.raises(RecordRefused) as caught:
        verify(RECORDS["site"], replace(RULES, name="mainnet"))
    assert (caught.value.problem_slug, caught.value.faulty) == ("wrong-network", False)


@pytest.mark.parametrize(
    ("rules", "slug"),
    [
        (replace(RULES, siwe_domain="example.org"), "wrong-domain"),
        (replace(RULES, chain_id=1), "wrong-chain"),
    ],
)
def test_a_delegation_is_for_one_network(rules: Any, slug: str) -> None:
    assert slug_of(RECORDS["site"], rules) == slug
    assert verify(RECORDS["node"], rules)


def test_a_stolen_delegation_is_of_no_use_without_its_key() -> None:
    key = Ed25519PrivateKey.generate()
    assert slug_of(signed_again(RECORDS["site"], key)) == "wrong-key"


def test_a_wallet_takes_back_its_own_keys_only() -> None:
    session = make_session(THIEF, issued_at=T0)
    dlg = {"m": session[1].message, "s": session[1].signature}
    assert slug_of(signed_again(RECORDS["revocation"], session[0], dlg=dlg)) == "wrong-owner"


def test_a_version_delegated_by_another_wallet_than_the_founder_says_so() -> None:
    """Whether it counts the chain decides, and not the bytes; but its delegation must be for that very site."""
    session = make_session(THIEF, issued_at=T0)
    dlg = {"m": session[1].message, "s": session[1].signature}
    found = verify(signed_again(RECORDS["site"], session[0], dlg=dlg), RULES)
    assert found.owner == address_of(THIEF)
    assert isinstance(found.body, SiteManifest)
    assert found.body.owner == address_of(WALLET)
    own = make_session(THIEF, issued_at=T0, scope=site_id(address_of(THIEF), "site"))
    dlg = {"m": own[1].message, "s": own[1].signature}
    assert slug_of(signed_again(RECORDS["site"], own[0], dlg=dlg)) == "out-of-scope"


@pytest.mark.parametrize("at", [T0 - 1, T0 + DAY, T0 + DAY + 1, 1, 2**40])
def test_a_record_is_dated_within_its_delegation(at: int) -> None:
    assert slug_of(make_site(WALLET, SESSION, created=at)) == "expired-delegation"
    revocation = make_revocation(WALLET, SESSION, Ed25519PrivateKey.generate(), created=at)
    assert slug_of(revocation) == "expired-delegation"


@pytest.mark.parametrize("at", [T0, T0 + DAY - 1])
def test_a_delegation_holds_from_its_first_second_to_its_last(at: int) -> None:
    assert verify(make_site(WALLET, SESSION, created=at), RULES).created == at


def test_a_delegation_of_one_site_covers_no_other() -> None:
    mine = site_id(address_of(WALLET), "site")
    session = make_session(WALLET, scope=mine, issued_at=T0)
    key = Ed25519PrivateKey.generate()
    assert verify(make_site(WALLET, session, created=T0), RULES)
    assert verify(make_revocation(WALLET, session, key, site=mine, created=T0), RULES)
    assert slug_of(make_site(WALLET, session, label="other", created=T0)) == "out-of-scope"
    assert slug_of(make_revocation(WALLET, session, key, created=T0)) == "out-of-scope"
    other = site_id(address_of(WALLET), "other")
    assert slug_of(make_revocation(WALLET, session, key, site=other, created=T0)) == "out-of-scope"


def test_the_same_bytes_get_the_same_verdict_everywhere() -> None:
    """Another process, hash seed, time zone, locale and optimisation; nothing cached."""
    draw = random.Random(7)
    corpus = list(RECORDS.values())
    for record in RECORDS.values():
        for _ in range(40):
            other = bytearray(record)
            other[draw.randrange(len(other))] ^= 1 << draw.randrange(8)
            corpus.append(bytes(other))
    corpus += [signed_again(RECORDS["site"], SESSION[0], net="x"), make_site(WALLET, SESSION, created=T0 - 1)]
    script = (
        "import sys, json\n"
        "from tests.records.test_verdict import outcome\n"
        "print(json.dumps([outcome(bytes.fromhex(line)) for line in json.load(sys.stdin)]))\n"
    )
    environment = {**os.environ, "TZ": "Pacific/Kiritimati", "LC_ALL": "tr_TR.UTF-8", "PYTHONHASHSEED": "99"}
    answer = subprocess.run(
        [sys.executable, "-O", "-c", script],
        input=json.dumps([record.hex() for record in corpus]),
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=environment,
        check=True,
    )
    assert json.loads(answer.stdout) == [outcome(record) for record in corpus]


# -- admit


Make = Callable[[int], bytes]


def admitted(envelope: bytes, now: int, **options: Any) -> str:
    """`taken`, or why not; and whether that is somebody's fault."""
    rules = options.pop("rules", RULES)
    try:
        admit(codec.decode_envelope(envelope), rules, now, **options)
    except RecordRefused as error:
        return error.problem_slug + (" (faulty)" if error.faulty else "")
    return "taken"


@pytest.mark.parametrize("kind", RECORDS)
def test_a_fresh_record_is_taken(kind: str) -> None:
    assert admitted(take(RECORDS[kind], NODE, T0 + 10), T0 + 11) == "taken"


def test_any_node_may_sponsor_what_owners_signed_and_none_what_other_nodes_state() -> None:
    for kind, expected in (
        ("site", "taken"),
        ("revocation", "taken"),
        ("node", "wrong-sponsor (faulty)"),
        ("receipt", "wrong-sponsor (faulty)"),
    ):
        assert admitted(take(RECORDS[kind], OTHER_NODE, T0 + 10), T0 + 11) == expected


@pytest.mark.parametrize("name", ["r", "s", "t", "g"])
def test_nobody_can_change_what_a_sponsor_signed(name: str) -> None:
    fields = cbor.decode(take(RECORDS["site"], NODE, T0 + 10))
    other = {
        "r": RECORDS["node"],
        "s": OTHER_NODE.public,
        "t": T0 + 11,
        "g": bytes(64),
    }
    changed = codec.decode_envelope(cbor.encode({**fields, name: other[name]}))
    with pytest.raises(RecordRefused) as caught:
        admit(changed, RULES, T0 + 20)
    assert (caught.value.problem_slug, caught.value.faulty) == ("bad-signature", True)
    assert caught.value.sponsor is None  # whoever passed it on is to blame, not who is named


def test_a_sponsor_answers_for_what_it_signed() -> None:
    envelope = codec.decode_envelope(take(b"rubbish", NODE, T0))
    with pytest.raises(RecordRefused) as caught:
        admit(envelope, RULES, T0)
    assert (caught.value.faulty, caught.value.sponsor) == (True, NODE.public)


def test_what_a_newer_program_may_know_is_nobodys_fault() -> None:
    newer = cbor.encode({"v": 2, "kind": "site"})
    assert admitted(take(newer, NODE, T0), T0) == "unknown-version"
    assert admitted(take(cbor.encode({"v": 1, "kind": "drive"}), NODE, T0), T0) == "unknown-kind"


def test_on_a_network_with_registered_sponsors_no_other_is_heard() -> None:
    rules = replace(RULES, sponsors=frozenset({peer_id_of(NODE.public)}))
    assert admitted(take(RECORDS["site"], NODE, T0 + 10), T0 + 10, rules=rules) == "taken"
    assert admitted(take(RECORDS["site"], OTHER_NODE, T0 + 10), T0 + 10, rules=rules) == "unknown-sponsor"


def test_a_record_from_the_future_is_for_later() -> None:
    skew = RULES.clock_skew
    envelope = take(make_site(WALLET, SESSION, created=T0 + 1000), NODE, T0 + 1000)
    assert admitted(envelope, T0 + 1000 - skew) == "taken"
    assert admitted(envelope, T0 + 1000 - skew - 1) == "future-record"
    assert admitted(envelope, T0 + 1000 - skew - 1, joining=True) == "future-record"
    late = take(make_site(WALLET, SESSION, created=T0), NODE, T0 + 1000)
    assert admitted(late, T0 + 1000 - skew) == "taken"
    assert admitted(late, T0 + 1000 - skew - 1) == "future-record"


def test_no_sponsor_took_a_record_before_it_was_made() -> None:
    record = make_site(WALLET, SESSION, created=T0 + 1000)
    earliest = T0 + 1000 - RULES.clock_skew
    assert admitted(take(record, NODE, earliest), T0 + 1000) == "taken"
    for now, joining in ((T0 + 1000, False), (T0 + 5000, True)):
        assert admitted(take(record, NODE, earliest - 1), now, joining=joining) == "wrong-time (faulty)"


def test_an_expired_delegation_is_not_sponsored() -> None:
    """The last second in which a sponsor may sign for it is the last of its life, whoever looks, whenever."""
    end = T0 + DAY
    assert admitted(take(RECORDS["site"], NODE, end - 1), end) == "taken"
    for now, joining in ((end, False), (end + 10, False), (end + 10 * DAY, True)):
        envelope = take(RECORDS["site"], NODE, end)
        assert admitted(envelope, now, joining=joining) == "expired-delegation (faulty)"


def test_a_backdated_record_is_taken_only_within_the_grace_or_when_joining() -> None:
    """The sponsor is in league with the thief: it signs for a time when the delegation was alive."""
    end, envelope = T0 + DAY, take(RECORDS["site"], NODE, T0 + 10)
    assert admitted(envelope, end + RULES.expired_grace) == "taken"
    assert admitted(envelope, end + RULES.expired_grace + 1) == "expired-delegation"
    assert admitted(envelope, end + 1000 * DAY) == "expired-delegation"
    assert admitted(envelope, end + 1000 * DAY, joining=True) == "taken"


def test_what_nodes_sign_for_themselves_does_not_expire() -> None:
    for kind in ("node", "receipt"):
        assert admitted(take(RECORDS[kind], NODE, T0 + 10), T0 + 1000 * DAY) == "taken"


@given(st.binary(max_size=200), st.integers(1, 2**40), st.integers(1, 2**40), st.booleans())
def test_any_bytes_under_a_sponsors_signature_are_refused(
    record: bytes, at: int, now: int, joining: bool
) -> None:
    assert admitted(take(record, NODE, at), now, joining=joining) != "taken"


def test_a_delegation_is_verified_by_its_content_alone() -> None:
    """Equal delegations share a cached verdict; different ones never do."""
    good = SESSION[1]
    assert verify(RECORDS["site"], RULES)
    twin = Delegation(good.message, good.signature[:64] + bytes((good.signature[64] ^ 1,)))
    forged = signed_again(RECORDS["site"], SESSION[0], dlg={"m": twin.message, "s": twin.signature})
    for _ in range(2):
        with pytest.raises(RecordRefused):
            verify(forged, RULES)
        assert verify(RECORDS["site"], RULES)
