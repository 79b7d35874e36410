"""What contenthashes say."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plugins.dns_ens.tests.conftest import IPFS, IPFS_CID

from decentraspace.content import cid as cids
from decentraspace.errors import BadInput
from decentraspace_dns_ens import contenthash

DIGEST = hashlib.sha256(b"x").digest()
KEY = "k51qzi5uqu5dlvj2baxnqndepeb86cbk3ng7n3i46uzyxzyqj2xjonzllnv0v8"


def test_the_standards_own_example() -> None:
    assert contenthash.read(IPFS) == ("ipfs", IPFS_CID, "")
    assert contenthash.write(f"/ipfs/{IPFS_CID}") == IPFS


def test_a_key() -> None:
    raw = contenthash.write(f"/ipns/{KEY}")
    assert raw.hex().startswith("e5010172002408011220")  # EIP-1577: ipns-ns, CIDv1, libp2p-key, Ed25519
    assert contenthash.read(raw).path == f"/ipns/{KEY}"


@settings(deadline=None)
@given(st.binary(min_size=32, max_size=32), st.sampled_from([cids.RAW, cids.DAG_PB]))
def test_any_content_there_and_back(digest: bytes, codec: int) -> None:
    cid = cids.to_text(b"\x01" + bytes([codec]) + b"\x12\x20" + digest)
    assert contenthash.read(contenthash.write(f"/ipfs/{cid}")).path == f"/ipfs/{cid}"


@settings(deadline=None)
@given(st.binary(min_size=32, max_size=32))
def test_a_key_in_all_its_spellings(public: bytes) -> None:
    """Base36 as ENS and browsers have it; base58 as Kubo shows peers."""
    import base58

    hashed = b"\x00\x24\x08\x01\x12\x20" + public
    raw = contenthash.write("/ipns/" + base58.b58encode(hashed).decode())
    found = contenthash.read(raw)
    assert found.kind == "ipns"
    assert cids.parts(cids.parse(found.value)) == (cids.LIBP2P_KEY, cids.IDENTITY, hashed[2:])
    assert contenthash.write(found.path) == raw


def test_versions_of_old() -> None:
    assert contenthash.read(b"\xe3\x01\x12\x20" + DIGEST).kind == "ipfs"  # version 0
    old = contenthash.write("/ipfs/QmRAQB6YaCyidP37UdDnjFY5vQuiBrcqdyoW1CuDgwxkD4")
    assert contenthash.read(old).value.startswith("bafybei")
    rsa = contenthash.read(b"\xe5\x01\x01\x70\x12\x20" + DIGEST)  # a key from before keys had a codec
    assert cids.parts(cids.parse(rsa.value))[0] == cids.LIBP2P_KEY


def test_a_domain() -> None:
    raw = b"\xe5\x01\x01\x70\x00\x0fapp.uniswap.org"
    assert contenthash.read(raw) == ("ipns", "app.uniswap.org", "")
    assert contenthash.read(b"\xe5\x01\x01\x70\x00\x09127.0.0.1").kind == "none"
    assert contenthash.read(b"\xe5\x01\x01\x70\x00\x09localhost").kind == "none"


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        ("", "no contenthash"),
        ("e40101fa011b20" + "00" * 32, "Swarm"),
        ("90b2ca05" + "00" * 32, "Arweave"),
        ("bc03" + "00" * 16, "onion"),
        ("bd03" + "00" * 56, "onion3"),
        ("e3", "cut off"),
        ("e301", "cut off"),
        ("e30101701220" + "00" * 31, "cut off"),
        ("e30101701220" + "00" * 33, "too long"),
        ("e30102701220" + "00" * 32, "version 2"),
        ("e30101721220" + "00" * 32, "key"),
        ("e3010170a0e40220" + "00" * 32, "SHA-256"),
        ("e301017000", "cut off"),
        ("e30101700003010203", "SHA-256"),
        ("e501015512207f" + "00" * 31, "key"),
        ("80" * 20, "cut off"),
        ("e38001" + "00" * 32, "nobody here knows"),
        ("00" * 600, "more than 512"),
    ],
)
def test_what_is_not_served_is_said_in_words(raw: str, why: str) -> None:
    found = contenthash.read(bytes.fromhex(raw))
    assert (found.kind, found.value, found.path) == ("none", "", "")
    assert why in found.why


@settings(deadline=None)
@given(st.binary(max_size=80))
def test_whatever_a_resolver_says(raw: bytes) -> None:
    for given_ in (raw, b"\xe3\x01" + raw, b"\xe5\x01" + raw, b"\xe5\x01\x01\x70\x00" + raw):
        found = contenthash.read(given_)
        assert (found.kind == "none") == bool(found.why)
        assert len(found.value) <= 253 * 4


@pytest.mark.parametrize(
    "path", ["/ipfs/", "ipfs/x", "/ipns/0", "/ipfs/b!", "/ipns/example.com", "/ipfs/" + "b" * 5000]
)
def test_what_a_name_cannot_lead_to(path: str) -> None:
    with pytest.raises(BadInput):
        contenthash.write(path)
