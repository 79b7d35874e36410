"""Keys as text: the vectors of the did:key and libp2p specifications, and every other spelling refused."""

from __future__ import annotations

import contextlib

import base58
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import example, given
from hypothesis import strategies as st
from libp2p.crypto.ed25519 import Ed25519PublicKey
from libp2p.peer.id import ID

from decentraspace.errors import BadInput
from decentraspace.identity import didkey
from decentraspace.identity.keys import NodeKey, peer_id_of, public_of

# Seed's last byte, public key in base58, name. Source: https://github.com/w3c-ccg/did-method-key,
# test-vectors/ed25519-x25519.json at 801b0a91ce5af882c389ca399fa1fd1a75229c09.
DID_KEYS = [
    (0, "4zvwRjXUKGfvwnParsHAS3HuSVzV5cA4McphgmoCtajS", "z6MkiTBz1ymuepAQ4HEHYSF1H8quG5GLVVQR3djdX3mDooWp"),
    (1, "6ASf5EcmmEHTgDJ4X4ZT5vT6iHVJBXPg5AN5YoTCpGWt", "z6MkjchhfUsD6mmvni8mCdXHw216Xrm9bQe2mBH1P5RDjVJG"),
    (2, "8pM1DN3RiT8vbom5u1sNryaNT1nyL8CTTW3b5PwWXRBH", "z6MknGc3ocHs3zdPiJbnaaqDi58NGb4pk1Sp9WxWufuXSdxf"),
    (3, "HPYVwAQmskwT1qEEeRzhoomyfyupJGASQQtCXSNG8XS2", "z6MkvqoYXQfDDJRv8L4wKzxYeuKyVZBfi9Qo6Ro8MiLH3kDQ"),
    (4, "J3qYF7YJMKCqQke47UQwiHizgFUXapHxRxKmxbkar89x", "z6MkwW6aqMnjgrhJXFUko3NnZPGzVpkNzhYK7yEhnsibmLwL"),
]
# Source: https://github.com/libp2p/specs, peer-ids/peer-ids.md, "Test vectors": the Ed25519 keys as protobuf.
SPEC_PRIVATE = bytes.fromhex(
    "080112407e0830617c4a7de83925dfb2694556b12936c477a0e1feb2e148ec9da60fee7d"
    "1ed1e8fae2c4a144b8be8fd4b47bf3d3b34b871c3cacf6010f0e42d474fce27e"
)
SPEC_PUBLIC = bytes.fromhex("080112201ed1e8fae2c4a144b8be8fd4b47bf3d3b34b871c3cacf6010f0e42d474fce27e")

KEY = bytes(range(32))


@pytest.mark.parametrize(("seed", "public", "name"), DID_KEYS)
def test_the_names_of_the_specification(seed: int, public: str, name: str) -> None:
    key = NodeKey(Ed25519PrivateKey.from_private_bytes(bytes(31) + bytes((seed,))))
    assert key.public == base58.b58decode(public)
    assert key.did == f"did:key:{name}"
    assert didkey.decode(key.did) == key.public


@pytest.mark.parametrize(
    "text",
    [
        # Keys of other kinds, from the same specification: X25519, secp256k1, P-256.
        "did:key:z6LShs9GGnqk85isEBzzshkuVWrVKsRp24GnDuHk8QWkARMW",
        "did:key:zQ3shokFTS3brHcDQrn82RUDfCZESWL1ZdCEJwekUDPQiYBme",
        "did:key:zDnaerDaTF5BXEavCrfRZEk316dpbLsfPDZ3WJ5hRTPFU2169",
        "",
        "did:key:",
        "did:key:z",
        "did:key:z6Mk",
        "did:web:example.com",
        didkey.encode(KEY).removeprefix("did:key:"),
        didkey.encode(KEY).upper(),
        didkey.encode(KEY).replace("did:", "DID:"),
        didkey.encode(KEY).replace("did:key:z", "did:key:m"),
        didkey.encode(KEY) + "#" + didkey.encode(KEY)[8:],
        didkey.encode(KEY) + " ",
        " " + didkey.encode(KEY),
        didkey.encode(KEY) + "\n",
        didkey.encode(KEY).replace("did:key:z", "did:key:z1"),
        didkey.encode(KEY)[:-1],
        didkey.encode(KEY) + "1",
        didkey.encode(KEY)[:-1] + "0",
        didkey.encode(KEY)[:-1] + "\u00e9",
        didkey.encode(KEY[:31]),
        didkey.encode(KEY + b"x"),
        "did:key:z" + "6" * 100_000,
    ],
)
def test_other_spellings_are_refused(text: str) -> None:
    with pytest.raises(BadInput):
        didkey.decode(text)


@given(st.binary(min_size=32, max_size=32))
@example(bytes(32))
@example(b"\xff" * 32)
def test_every_key_comes_back(public: bytes) -> None:
    assert didkey.decode(didkey.encode(public)) == public
    assert public_of(peer_id_of(public)) == public
    assert peer_id_of(public) == str(ID.from_pubkey(Ed25519PublicKey.from_bytes(public)))


@given(st.text() | st.text("123456789ABCabcz", min_size=40, max_size=60).map("did:key:z6Mk{}".format))
def test_any_text_for_a_key(text: str) -> None:
    with contextlib.suppress(BadInput):
        assert didkey.encode(didkey.decode(text)) == text
    found = public_of(text)
    assert found is None or peer_id_of(found) == text


def test_the_peer_id_of_the_specification() -> None:
    key = NodeKey(Ed25519PrivateKey.from_private_bytes(SPEC_PRIVATE[4:36]))
    assert key.public == SPEC_PUBLIC[4:]
    # The rule in words: at most 42 bytes of protobuf are not hashed but given whole (identity multihash).
    assert base58.b58decode(key.peer_id) == bytes((0, len(SPEC_PUBLIC))) + SPEC_PUBLIC
    assert key.peer_id == "12D3KooWBtg3aaRMjxwedh83aGiUkwSxDwUZkzuJcfaqUmo7R3pq"
    assert public_of(key.peer_id) == key.public


def test_a_peer_id_from_the_specification_holds_its_key() -> None:
    name = "12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA"
    public = public_of(name)
    assert public is not None
    assert ID.from_string(name).to_bytes() == b"\x00\x24\x08\x01\x12\x20" + public


@pytest.mark.parametrize(
    "text",
    [
        # RSA (hashed) and a CID, both from the specification; then damage.
        "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N",
        "bafzbeie5745rpv2m6tjyuugywy4d5ewrqgqqhfnf445he3omzpjbx5xqxe",
        "",
        "1",
        peer_id_of(KEY) + " ",
        peer_id_of(KEY)[:-1],
        peer_id_of(KEY[:31]),
        "1" + peer_id_of(KEY),
        "\u00e9" * 40,
        "1" * 100_000,
    ],
)
def test_peer_ids_without_an_ed25519_key(text: str) -> None:
    assert public_of(text) is None
