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


@given(
    st.lists(st.binary(min_size=32, max_size=32), min_size=1, max_size=12, unique=True),
    st.text("abcdefghij234567", min_size=16, max_size=16),
    st.integers(0, 14),
)
def test_more_copies_are_more_of_the_same_nodes(nodes: list[bytes], site: str, copies: int) -> None:
    """Who holds a site with R copies holds it with R + 1 as well: a plan that grows moves nothing."""
    holding = {node for node in nodes if rank(site, nodes, node) < copies}
    assert len(holding) == min(copies, len(nodes))
    assert holding == set(ranked(site, nodes)[:copies])
    more = {node for node in nodes if rank(site, nodes, node) < copies + 1}
    assert holding <= more
    assert len(more - holding) == (copies < len(nodes))
    for gone in holding:
        left = [node for node in nodes if node != gone]
        now = {node for node in left if rank(site, left, node) < copies}
        assert holding - {gone} <= now <= more | set(ranked(site, nodes)[: copies + 1])


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
