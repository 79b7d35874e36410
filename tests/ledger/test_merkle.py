"""Trees: equal to those of @openzeppelin/merkle-tree 1.0, proofs that prove, leaves encoded as Solidity does."""

from __future__ import annotations

import base64

import pytest
from eth_abi.abi import encode
from hypothesis import given
from hypothesis import strategies as st

from decentraspace.errors import BadInput
from decentraspace.identity.ethereum import keccak256
from decentraspace.ledger.merkle import EMPTY, Tree, charge_leaf, root_from, site_bytes, usage_leaf

A, B = (
    base64.b32encode(bytes.fromhex(h)).decode().lower()
    for h in ("00112233445566778899", "ffeeddccbbaa99887766")
)
LEAVES = [
    usage_leaf(A, 492000, "storage", 12345, 7),
    usage_leaf(A, 492001, "egress", 1000000, 1),
    usage_leaf("", 492001, "names", 1, 5000000),
    usage_leaf(B, 492002, "requests", 17, 0),
    usage_leaf(B, 492003, "a-service-of-thirty-two-bytes-xx", 1, 1),
]
# What StandardMerkleTree.of gives for these, with ["bytes32", "uint64", "string", "uint256", "uint256"].
THEIR_ROOT = "2eeabf458292cdc4e99a3ecd1ca97d9c152efafed2e382f0d2a37217ddf70ed8"
THEIR_PROOF = [
    "12ab7c3780ecad906f19463335d9f7b4dfcc740abd5b2c0f2a4ddd30cda8e7e8",
    "bfd378d38386610740ac8c7db6c64b6913ca8cd479086f9b5eb012ef8c9f54fd",
    "778619841a424c0787fa5c704ce6d246beb10ba2e63b8d90b427891d7ba9d492",
]


def test_the_same_as_openzeppelins() -> None:
    tree = Tree(LEAVES)
    assert tree.root.hex() == THEIR_ROOT
    assert [sibling.hex() for sibling in tree.proof(LEAVES[0])] == THEIR_PROOF
    charges = [
        charge_leaf(b"\x11" * 32, 123456789, tree.root),
        charge_leaf(b"\x22" * 32, 1, bytes(32)),
        charge_leaf(b"\x33" * 32, 2, tree.root),
    ]
    assert Tree(charges).root.hex() == "253b9a3c57121a4d70aae1c8e756dd37589a74c8f43f3abac10c60f501b66e13"


hashes = st.binary(min_size=32, max_size=32)


@given(leaves=st.lists(hashes, min_size=1, max_size=40, unique=True), other=hashes)
def test_a_proof_proves_its_leaf_and_no_other(leaves: list[bytes], other: bytes) -> None:
    tree = Tree(leaves)
    for leaf in leaves:
        assert root_from(leaf, tree.proof(leaf)) == tree.root
    if other not in leaves:
        assert all(root_from(other, tree.proof(leaf)) != tree.root for leaf in leaves)
        with pytest.raises(KeyError):
            tree.proof(other)


@given(leaves=st.lists(hashes, unique=True, max_size=20), data=st.data())
def test_the_order_of_leaves_does_not_matter(leaves: list[bytes], data: st.DataObject) -> None:
    assert Tree(data.draw(st.permutations(leaves))).root == Tree(leaves).root


def test_no_leaves_have_a_root_of_zeros() -> None:
    assert Tree([]).root == EMPTY


amounts = st.integers(0, 2**256 - 1)


@given(
    raw=st.binary(min_size=10, max_size=10),
    hour=st.integers(0, 2**64 - 1),
    service=st.text("abcxyz-_.19", min_size=1, max_size=32),
    quantity=amounts,
    credits=amounts,
)
def test_leaves_are_encoded_as_solidity_does(
    raw: bytes, hour: int, service: str, quantity: int, credits: int
) -> None:
    site = base64.b32encode(raw).decode().lower()
    encoded = encode(
        ["bytes32", "uint64", "string", "uint256", "uint256"],
        [raw.ljust(32, b"\0"), hour, service, quantity, credits],
    )
    assert usage_leaf(site, hour, service, quantity, credits) == keccak256(keccak256(encoded))


@given(allocation=hashes, cumulative=amounts, root=hashes)
def test_charges_too(allocation: bytes, cumulative: int, root: bytes) -> None:
    encoded = encode(["bytes32", "uint256", "bytes32"], [allocation, cumulative, root])
    assert charge_leaf(allocation, cumulative, root) == keccak256(keccak256(encoded))


@pytest.mark.parametrize("site", ["a", "A" * 16, "1" * 16, "a" * 17, "ä" * 16])
def test_what_is_no_site_id_is_refused(site: str) -> None:
    with pytest.raises(BadInput):
        site_bytes(site)


@pytest.mark.parametrize("service", ["", "x" * 33])
def test_what_is_no_service_is_refused(service: str) -> None:
    with pytest.raises(BadInput):
        usage_leaf(A, 1, service, 1, 1)
