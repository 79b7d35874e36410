"""The rules of state.py on trees drawn by hand; tests/records/test_order.py does it with generated ones."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from decentraspace.records.state import Revoked, Version, equivocations, resolve_site, standing

SITE, OTHER = "a" * 16, "b" * 16


def version(name: str, seq: int, prev: str | None, key: str = "k", issued: int = 10) -> Version:
    return Version(name.encode(), seq, prev.encode() if prev else None, key.encode(), issued)


def revoked(key: str, signer: str, issued: int, site: str | None = None, after: int = 0) -> Revoked:
    return Revoked(key.encode(), signer.encode(), issued, site, after)


def outcome(
    versions: list[Version], revocations: list[Revoked] | None = None
) -> tuple[str | None, dict[str, str]]:
    """(head, refused); the same for every order in which a few of them come."""
    orders = itertools.islice(itertools.permutations(versions), 200)
    states = [resolve_site(order, {b"": revocations or []}, SITE) for order in orders]
    states += [
        resolve_site(versions, {b"": order}, SITE) for order in itertools.permutations(revocations or [])
    ]
    assert all(state == states[0] for state in states)
    state = states[0]
    assert state.valid == {v.cid for v in versions} - set(state.refused)
    return state.head.decode() if state.head else None, {c.decode(): why for c, why in state.refused.items()}


def test_nothing_known_is_no_head() -> None:
    assert outcome([]) == (None, {})


def test_the_highest_number_of_a_chain_is_its_head() -> None:
    assert outcome([version("a", 1, None), version("b", 2, "a"), version("c", 3, "b")]) == ("c", {})


def test_of_two_with_one_number_the_lower_cid_wins_and_both_are_evidence() -> None:
    both = [version("a", 1, None), version("c", 2, "a"), version("b", 2, "a")]
    assert outcome(both) == ("b", {})
    assert equivocations(both) == {(b"b", b"c")}


def test_a_longer_branch_wins_over_a_lower_cid() -> None:
    assert outcome(
        [version("a", 1, None), version("b", 2, "a"), version("c", 2, "a"), version("d", 3, "c")]
    ) == (
        "d",
        {},
    )


def test_a_newer_delegation_wins_over_a_higher_number() -> None:
    """Whoever holds an old key may number to 2^53: the owner's next login still has the last word."""
    stolen = [
        version("a", 1, None, "old", 10),
        version("b", 2, "a", "old", 10),
        version("c", 3, "b", "old", 10),
    ]
    assert outcome([*stolen, version("z", 2, "a", "new", 11)]) == ("z", {})
    assert outcome([version("a", 2**53 - 1, "?", "old", 10), version("z", 1, None, "new", 11)]) == ("z", {})


def test_delegations_never_get_older_along_a_chain() -> None:
    chain = [
        version("a", 1, None, "new", 11),
        version("b", 2, "a", "old", 10),
        version("c", 3, "b", "new", 11),
    ]
    assert outcome(chain) == ("a", {"b": "older-delegation", "c": "refused-parent"})
    assert outcome([version("a", 1, None, "k", 11), version("b", 2, "a", "l", 11)]) == ("b", {})


@pytest.mark.parametrize("seq", [1, 2, 4, 2**53 - 1])
def test_numbers_follow_each_other(seq: int) -> None:
    chain = [version("a", 2, "?"), version("b", seq, "a")]
    assert outcome(chain) == ("a", {"b": "wrong-sequence"})


def test_a_parent_that_is_not_known_is_not_held_against_a_version() -> None:
    assert outcome([version("c", 3, "b"), version("d", 4, "c")]) == ("d", {})


def test_what_follows_a_refused_version_is_refused_to_the_end() -> None:
    chain = [version(str(seq), seq, str(seq - 1) if seq > 1 else None, "new", 11) for seq in range(1, 6)]
    chain[1] = version("2", 2, "1", "old", 10)
    head, refused = outcome(chain)
    assert head == "1"
    assert refused == {
        "2": "older-delegation",
        "3": "refused-parent",
        "4": "refused-parent",
        "5": "refused-parent",
    }


def test_equivocation_is_of_one_key() -> None:
    assert equivocations([version("a", 1, None, "k"), version("b", 1, None, "l")]) == frozenset()
    three = [version(name, 1, None) for name in "cab"]
    assert equivocations(three) == {(b"a", b"b"), (b"a", b"c")}


# -- revocations


CHAIN = [version("a", 1, None, "k", 10), version("b", 2, "a", "k", 10), version("c", 3, "b", "k", 10)]


def test_a_revoked_key_counts_for_nothing() -> None:
    head, refused = outcome(CHAIN, [revoked("k", "l", 11)])
    assert head is None
    assert refused == dict.fromkeys("abc", "revoked-key")


def test_a_revocation_spares_what_came_before_its_number() -> None:
    head, refused = outcome(CHAIN, [revoked("k", "l", 11, SITE, after=2)])
    assert (head, refused) == ("b", {"c": "revoked-key"})


def test_a_revocation_of_another_site_means_nothing_here() -> None:
    assert outcome(CHAIN, [revoked("k", "l", 11, OTHER, after=0)]) == ("c", {})


def test_a_revocation_of_another_key_means_nothing_to_this_one() -> None:
    assert outcome(CHAIN, [revoked("x", "l", 11)]) == ("c", {})


@pytest.mark.parametrize("issued", [9, 10])
def test_only_a_newer_delegation_revokes(issued: int) -> None:
    assert outcome(CHAIN, [revoked("k", "l", issued)]) == ("c", {})


def test_the_owner_goes_on_from_what_was_spared() -> None:
    after = [*CHAIN, version("d", 3, "b", "l", 11)]
    assert outcome(after, [revoked("k", "l", 11, SITE, after=2)]) == ("d", {"c": "revoked-key"})


def test_a_version_whose_parent_was_voided_falls_with_it() -> None:
    after = [*CHAIN, version("d", 4, "c", "l", 11)]
    assert outcome(after, [revoked("k", "l", 11, SITE, after=2)]) == (
        "b",
        {"c": "revoked-key", "d": "refused-parent"},
    )


def test_the_same_key_under_a_newer_delegation_is_another_matter() -> None:
    again = [*CHAIN, version("d", 4, "c", "k", 12)]
    head, refused = outcome(again, [revoked("k", "l", 11)])
    assert (head, refused["d"]) == (None, "refused-parent")
    assert outcome([version("d", 1, None, "k", 12)], [revoked("k", "l", 11)]) == ("d", {})


def test_two_revocations_reach_as_far_as_the_further() -> None:
    both = [revoked("k", "l", 12, SITE, after=2), revoked("k", "m", 11, SITE, after=1)]
    assert outcome(CHAIN, both)[0] == "a"
    both = [revoked("k", "l", 12, SITE, after=1), revoked("k", "m", 11, SITE, after=2)]
    assert outcome(CHAIN, both)[0] == "a"
    assert outcome(CHAIN, [revoked("k", "l", 12, SITE, after=1), revoked("k", "m", 11)])[0] is None


def test_an_older_revocation_still_holds_where_the_newer_spares() -> None:
    """The newer revokes from 3 on under delegations before 12, the older all of them before 11."""
    versions = [version("a", 1, None, "k", 10), version("b", 1, None, "k", 11)]
    both = [revoked("k", "l", 12, SITE, after=2), revoked("k", "m", 11, SITE, after=0)]
    assert outcome(versions, both) == ("b", {"a": "revoked-key"})


def test_a_thief_cannot_revoke_the_owners_newer_key() -> None:
    assert outcome([version("a", 1, None, "new", 12)], [revoked("new", "stolen", 11)]) == ("a", {})


def test_a_revoked_thiefs_revocations_fall() -> None:
    thief = revoked("k", "stolen", 11)
    assert outcome(CHAIN, [thief])[0] is None
    assert outcome(CHAIN, [thief, revoked("stolen", "new", 12)])[0] == "c"
    assert outcome(CHAIN, [thief, revoked("stolen", "new", 12, SITE, after=9)])[0] == "c"


def test_a_thief_revoked_for_another_site_is_still_heard_here() -> None:
    assert outcome(CHAIN, [revoked("k", "stolen", 11), revoked("stolen", "new", 12, OTHER)])[0] is None


def test_two_keys_of_one_moment_cannot_overrule_each_other() -> None:
    both = [revoked("l", "m", 11), revoked("m", "l", 11)]
    versions = [version("a", 1, None, "l", 10), version("b", 1, None, "m", 10)]
    assert outcome(versions, both) == (None, {"a": "revoked-key", "b": "revoked-key"})


def test_overruling_goes_back_and_forth() -> None:
    line = [revoked("k", "a", 11), revoked("a", "b", 12), revoked("b", "c", 13), revoked("c", "d", 14)]
    heads = [outcome(CHAIN, line[:count])[0] for count in range(len(line) + 1)]
    assert heads == ["c", None, "c", None, "c"]


KEYS = st.sampled_from([b"k", b"l", b"m", b"n"])
REVOKED = st.builds(
    Revoked, KEYS, KEYS, st.integers(10, 16), st.sampled_from([None, SITE, OTHER]), st.integers(0, 3)
)


@given(st.lists(REVOKED, max_size=8), st.randoms())
def test_what_stands_does_not_depend_on_order_or_repetition(
    revocations: list[Revoked], random: object
) -> None:
    expected = resolve_site(CHAIN, {b"": revocations}, SITE)
    shuffled = revocations + revocations[:3]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert resolve_site(CHAIN, {b"": shuffled}, SITE) == expected


@given(st.lists(REVOKED, max_size=8))
def test_what_is_left_out_never_decides(revocations: list[Revoked]) -> None:
    """`standing` thins out; judging by every revocation that is not overruled gives the same."""

    def heard(one: Revoked) -> bool:
        return one.site in (None, SITE) and not any(
            other.key == one.signer and other.issued_at > one.issued_at and heard(other)
            for other in revocations
        )

    voids = standing(revocations, SITE)
    for key, issued, seq in itertools.product((b"k", b"l", b"m", b"n"), range(9, 17), range(1, 5)):
        expected = any(
            r.key == key and r.issued_at > issued and seq > r.after and heard(r) for r in revocations
        )
        found = any(r.issued_at > issued and seq > r.after for r in voids.get(key, ()))
        assert found == expected


def test_the_example_of_the_documentation() -> None:
    """docs/discussion/records.md, Example: Monday is 10, Wednesday 12."""
    site = [
        version("A", 1, None, "mon", 10),
        version("B", 2, "A", "mon", 10),
        version("C", 3, "B", "mon", 10),
    ]
    assert outcome(site)[0] == "C"
    site += [version("X", 3, "B", "mon", 10), version("Y", 4, "X", "mon", 10)]
    assert outcome(site)[0] == "Y"
    assert equivocations(site) == {(b"C", b"X")}
    site += [version("D", 3, "B", "wed", 12)]
    assert outcome(site) == ("D", {})
    site += [version("E", 4, "D", "wed", 12), version("Z", 5, "E", "mon", 10)]
    assert outcome(site) == ("E", {"Z": "older-delegation"})
    assert outcome(site, [revoked("mon", "wed", 12, SITE, after=2)]) == (
        "E",
        dict.fromkeys("CXYZ", "revoked-key"),
    )
    instead = [v for v in site if v.cid not in (b"D", b"E", b"Z")] + [version("D", 4, "C", "wed", 12)]
    assert outcome(instead, [revoked("mon", "wed", 12, SITE, after=2)])[1]["D"] == "refused-parent"
