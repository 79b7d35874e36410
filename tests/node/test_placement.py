"""Rendezvous hashing: everybody agrees, shares are even, and only a leaver's share moves."""

from __future__ import annotations

import hashlib
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from decentraspace.placement import rank, ranked

NODES = [hashlib.sha256(b"node %d" % n).digest() for n in range(50)]
SITES = [f"site{n:012d}" for n in range(2000)]
R = 3


@given(st.permutations(NODES[:8]), st.text("abcdefghij234567", min_size=16, max_size=16))
def test_the_order_in_which_nodes_are_known_does_not_matter(nodes: list[bytes], site: str) -> None:
    expected = ranked(site, NODES[:8])
    assert ranked(site, [*nodes, nodes[0]]) == expected
    assert [rank(site, nodes, node) for node in expected] == list(range(8))


def test_shares_are_even() -> None:
    held = Counter(node for site in SITES for node in ranked(site, NODES)[:R])
    mean = R * len(SITES) / len(NODES)
    assert max(held.values()) < 1.4 * mean
    assert min(held.values()) > 0.6 * mean


def test_only_the_share_of_a_node_that_leaves_moves() -> None:
    gone = NODES[7]
    left = [node for node in NODES if node != gone]
    for site in SITES:
        before, after = ranked(site, NODES)[:R], ranked(site, left)[:R]
        assert [node for node in before if node != gone] == [node for node in after if node in before]
        assert len(set(after) - set(before)) == (gone in before)
