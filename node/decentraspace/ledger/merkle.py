"""Merkle trees in the form of OpenZeppelin's "standard" trees, and the two kinds of leaves a statement has.

    leaf   keccak256(keccak256(abi.encode(…)))
    node   keccak256(the smaller of two ‖ the larger)

Twice hashed, a leaf can be no inner node; sorted, a proof needs no left and right. The tree is the one of
@openzeppelin/merkle-tree's `StandardMerkleTree`, whose order of leaves is by their hash: 2n - 1 nodes in an
array, node i's children at 2i + 1 and 2i + 2, the leaves at its end in descending order.
Source: https://github.com/OpenZeppelin/merkle-tree#standard-merkle-trees
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Final

from sha3 import keccak_256

from decentraspace.errors import BadInput

EMPTY: Final = bytes(32)
"""The root of no leaves."""
_STRING_MOST = 32  # bytes of a service's name: one word


def _node(one: bytes, other: bytes) -> bytes:
    digest: bytes = keccak_256(one + other if one < other else other + one).digest()
    return digest


def _leaf(data: bytes) -> bytes:
    digest: bytes = keccak_256(keccak_256(data).digest()).digest()
    return digest


class Tree:
    """Over leaves' hashes, 32 bytes each, in any order; those that are the same count once each."""

    def __init__(self, leaves: Sequence[bytes]) -> None:
        count = len(leaves)
        tree = [EMPTY] * max(0, 2 * count - 1)
        for place, leaf in enumerate(sorted(leaves)):
            tree[len(tree) - 1 - place] = leaf
        for place in range(count - 2, -1, -1):
            tree[place] = _node(tree[2 * place + 1], tree[2 * place + 2])
        self._tree = tree
        self._places: dict[bytes, int] | None = None

    @property
    def root(self) -> bytes:
        return self._tree[0] if self._tree else EMPTY

    def proof(self, leaf: bytes) -> list[bytes]:
        """The siblings on the way from a leaf to the root. KeyError for what is no leaf."""
        if self._places is None:
            first = len(self._tree) // 2
            self._places = {self._tree[place]: place for place in range(first, len(self._tree))}
        place = self._places[leaf]
        siblings = []
        while place > 0:
            siblings.append(self._tree[place + 1 if place % 2 else place - 1])
            place = (place - 1) // 2
        return siblings


def root_from(leaf: bytes, proof: Sequence[bytes]) -> bytes:
    """The root that a proof leads to."""
    for sibling in proof:
        leaf = _node(leaf, sibling)
    return leaf


def _word(value: int) -> bytes:
    try:
        return value.to_bytes(32, "big")
    except OverflowError:
        raise BadInput("An amount is below zero, or has more than 256 bits") from None


def site_bytes(site: str) -> bytes:
    """A site id as bytes10, to the right of nothing: 32 bytes. "" (no site of its own): zeros. BadInput."""
    try:
        raw = base64.b32decode(site.upper()) if site else bytes(10)
    except (ValueError, UnicodeError):
        raw = b""
    if len(raw) != 10 or site != site.lower():
        raise BadInput(f"{site[:40]!r} is no site id")
    return raw + bytes(22)


def usage_leaf(site: str, hour: int, service: str, quantity: int, credits: int) -> bytes:
    """abi.encode(bytes10 as bytes32, uint64 hour, string service, uint256 quantity, uint256 credits), hashed."""
    return usage_leaf_of(site_bytes(site), hour, service_words(service), quantity, credits)


_FIFTH = (5 * 32).to_bytes(32, "big")  # where the string begins


def service_words(service: str) -> bytes:
    """A string as ABI has it: its length and its bytes, padded. BadInput."""
    raw = service.encode()
    if not 0 < len(raw) <= _STRING_MOST:
        raise BadInput(f"{service[:40]!r} is no service: its name has 1 to {_STRING_MOST} bytes")
    return len(raw).to_bytes(32, "big") + raw.ljust(32, b"\0")


def usage_leaf_of(site: bytes, hour: int, service: bytes, quantity: int, credits: int) -> bytes:
    """`usage_leaf` with what many leaves have in common made beforehand: `site_bytes` and `service_words`."""
    return _leaf(site + _word(hour) + _FIFTH + _word(quantity) + _word(credits) + service)


def charge_leaf(allocation: bytes, cumulative: int, usage_root: bytes) -> bytes:
    """abi.encode(bytes32 allocation, uint256 cumulative, bytes32 usageRoot), hashed."""
    if len(allocation) != 32 or len(usage_root) != 32:
        raise BadInput("An allocation and a root have 32 bytes")
    return _leaf(allocation + _word(cumulative) + usage_root)
