"""What a wallet's delegation must say; each refusal with its slug."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from eth_account import Account
from eth_account.messages import encode_typed_data
from hypothesis import given
from hypothesis import strategies as st

from decentraspace.content import cid as cids
from decentraspace.errors import BadInput, DecentraSpaceError, Unauthorized
from decentraspace.identity import didkey, siwe
from decentraspace.identity.delegation import ALL_SITES, MAX_LIFETIME, PUBLISH, Delegation, VerifiedDelegation
from tests.identity.logins import DAY, NOW, RULES, Client, Rules, sign

SITE = "abcdefghijklmn27"
CLIENT = Client()
SCOPE = PUBLISH + ALL_SITES


def refusal(delegation: Delegation, rules: Rules = RULES) -> tuple[type[DecentraSpaceError], str]:
    with pytest.raises(DecentraSpaceError) as caught:
        delegation.verify(rules)
    return type(caught.value), caught.value.problem_slug


def test_a_delegation_says_who_may_do_what_until_when() -> None:
    text = CLIENT.message(nonce="abcdefgh1")
    assert sign(CLIENT.wallet, text).verify(RULES) == VerifiedDelegation(
        owner=CLIENT.owner,
        key=CLIENT.public,
        scope=ALL_SITES,
        issued_at=NOW - 60,
        not_before=NOW - 60,
        expires_at=NOW + DAY,
        nonce="abcdefgh1",
    )


def test_a_delegation_for_one_site_covers_no_other() -> None:
    verified = CLIENT.delegation(scope=SITE).verify(RULES)
    assert verified.covers(SITE)
    assert not verified.covers("abcdefghijklmn26")
    assert not verified.covers(ALL_SITES)
    assert CLIENT.delegation().verify(RULES).covers(SITE)


def test_fields_that_are_free() -> None:
    text = CLIENT.message(
        scheme="https",
        statement=None,
        request_id="1",
        uri="https://else.example/",
        not_before=siwe.rfc3339(NOW),
    )
    assert sign(CLIENT.wallet, text).verify(RULES).not_before == NOW


def test_the_longest_life() -> None:
    for issued_at in (0, NOW):
        assert CLIENT.delegation(issued_at=issued_at, expires_at=issued_at + MAX_LIFETIME).verify(RULES)
        assert CLIENT.delegation(issued_at=issued_at, expires_at=issued_at + 1).verify(RULES)


@pytest.mark.parametrize(
    ("changes", "error", "slug"),
    [
        ({"domain": "evil.example"}, Unauthorized, "wrong-domain"),
        ({"domain": "DecentraSpace.localhost"}, Unauthorized, "wrong-domain"),
        ({"domain": "decentraspace.localhost:443"}, Unauthorized, "wrong-domain"),
        ({"domain": "decentraspace.localhost@evil.example"}, Unauthorized, "wrong-domain"),
        ({"chain_id": 1}, Unauthorized, "wrong-chain"),
        ({"chain_id": 0}, Unauthorized, "wrong-chain"),
        ({"chain_id": 31337 + 2**32}, Unauthorized, "wrong-chain"),
        ({"expiration_time": None}, BadInput, "malformed-message"),
        ({"expires_at": NOW - 60 + MAX_LIFETIME + 1}, BadInput, "malformed-message"),
        ({"expires_at": NOW - 60}, BadInput, "malformed-message"),
        ({"expires_at": NOW - 61}, BadInput, "malformed-message"),
        ({"not_before": siwe.rfc3339(NOW - 61)}, BadInput, "malformed-message"),
        ({"not_before": siwe.rfc3339(NOW + DAY)}, BadInput, "malformed-message"),
        # 90 days from its issue, not from when it begins.
        (
            {"not_before": siwe.rfc3339(NOW + DAY), "expires_at": NOW + DAY + MAX_LIFETIME},
            BadInput,
            "malformed-message",
        ),
        ({"resources": None}, BadInput, "malformed-message"),
        ({"resources": ()}, BadInput, "malformed-message"),
        ({"resources": (CLIENT.did,)}, BadInput, "malformed-message"),
        ({"resources": (SCOPE,)}, BadInput, "malformed-message"),
        ({"resources": (CLIENT.did, SCOPE, SCOPE)}, BadInput, "malformed-message"),
        ({"resources": (CLIENT.did, CLIENT.did, SCOPE)}, BadInput, "malformed-message"),
        ({"resources": (CLIENT.did, CLIENT.did)}, BadInput, "malformed-message"),
        ({"resources": (CLIENT.did, SCOPE, PUBLISH + SITE)}, BadInput, "malformed-message"),
        ({"resources": (CLIENT.did, SCOPE, "https://else.example/")}, BadInput, "malformed-message"),
        ({"resources": (CLIENT.did, PUBLISH)}, BadInput, "malformed-message"),
        ({"resources": (CLIENT.did, PUBLISH + "**")}, BadInput, "malformed-message"),
        ({"resources": (CLIENT.did, PUBLISH + SITE[1:])}, BadInput, "malformed-message"),
        ({"resources": (CLIENT.did, PUBLISH + SITE.upper())}, BadInput, "malformed-message"),
        ({"resources": (CLIENT.did, PUBLISH + SITE + "," + SITE)}, BadInput, "malformed-message"),
        ({"resources": (CLIENT.did, "decentraspace:admin:*")}, BadInput, "malformed-message"),
        ({"resources": (CLIENT.did, SCOPE.upper())}, BadInput, "malformed-message"),
        ({"resources": ("did:key:z6Mk", SCOPE)}, BadInput, "malformed-message"),
        (
            {"resources": ("did:key:zQ3shokFTS3brHcDQrn82RUDfCZESWL1ZdCEJwekUDPQiYBme", SCOPE)},
            BadInput,
            "malformed-message",
        ),
        ({"resources": (CLIENT.did + "#key", SCOPE)}, BadInput, "malformed-message"),
        ({"statement": "two\nlines"}, BadInput, "malformed-message"),
        ({"statement": "x" * siwe.MAX_MESSAGE}, BadInput, "too-large"),
        ({"nonce": "short"}, BadInput, "malformed-message"),
        ({"address": CLIENT.wallet.address.lower()}, BadInput, "malformed-message"),
        ({"address": Account.create().address}, Unauthorized, "bad-signature"),
    ],
)
def test_delegations_that_do_not_hold(
    changes: dict[str, Any], error: type[DecentraSpaceError], slug: str
) -> None:
    assert refusal(CLIENT.delegation(**changes)) == (error, slug)


def test_resources_in_the_other_order() -> None:
    assert CLIENT.delegation(resources=(SCOPE, CLIENT.did)).verify(RULES).key == CLIENT.public


def test_the_rules_are_those_of_the_network() -> None:
    delegation = CLIENT.delegation()
    assert delegation.verify(RULES)
    # The first answer is remembered; it must not be given for other rules.
    assert refusal(delegation, Rules(chain_id=1)) == (Unauthorized, "wrong-chain")
    assert refusal(delegation, Rules(siwe_domain="else.example")) == (Unauthorized, "wrong-domain")


def test_another_wallets_signature() -> None:
    theirs = Client()
    assert refusal(sign(theirs.wallet, CLIENT.message())) == (Unauthorized, "bad-signature")
    assert refusal(Delegation(CLIENT.message(), CLIENT.delegation(scope=SITE).signature)) == (
        Unauthorized,
        "bad-signature",
    )


@pytest.mark.parametrize("length", [0, 64, 66, 130])
def test_signatures_of_another_length(length: int) -> None:
    whole = CLIENT.delegation()
    assert refusal(Delegation(whole.message, (whole.signature * 2)[:length])) == (
        Unauthorized,
        "bad-signature",
    )


def test_a_signature_of_another_kind() -> None:
    """The same text, signed as typed data (EIP-712), is something else that the wallet showed."""
    text = CLIENT.message()
    typed = encode_typed_data(
        domain_data={"name": "x", "chainId": RULES.chain_id},
        message_types={"Login": [{"name": "text", "type": "string"}]},
        message_data={"text": text},
    )
    signature = bytes(CLIENT.wallet.sign_message(typed).signature)
    assert refusal(Delegation(text, signature)) == (Unauthorized, "bad-signature")


@given(st.integers(0, 10_000), st.integers(1, 127))
def test_no_character_can_be_changed(place: int, change: int) -> None:
    whole = CLIENT.delegation(nonce="abcdefgh1")
    place %= len(whole.message)
    text = whole.message
    changed = text[:place] + chr(ord(text[place]) ^ change) + text[place + 1 :]
    with pytest.raises((BadInput, Unauthorized)):
        Delegation(changed, whole.signature).verify(RULES)


@given(st.text(), st.binary(max_size=70))
def test_any_text_is_refused_in_words(text: str, signature: bytes) -> None:
    with contextlib.suppress(BadInput, Unauthorized):
        Delegation(text, signature).verify(RULES)


def test_the_name_of_a_delegation_is_over_message_and_signature() -> None:
    one = CLIENT.delegation()
    assert one.cid == cids.make(cids.RAW, one.signature + one.message.encode())
    assert Delegation(one.message, bytes(65)).cid != one.cid
    assert Delegation(one.message + " ", one.signature).cid != one.cid


def test_what_the_client_builds_names_the_key_twice() -> None:
    message = siwe.parse(CLIENT.message())
    assert message.uri == didkey.encode(CLIENT.public)
    assert message.resources == (CLIENT.did, SCOPE)
    assert siwe.parse(CLIENT.message()).nonce != message.nonce
