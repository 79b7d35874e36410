"""Which versions stay."""

from __future__ import annotations

import pytest

from decentraspace.records.store import SiteHead
from decentraspace.retention import kept


def version(
    seq: int,
    *,
    site: str = "one",
    channel: str = "production",
    size: int = 10,
    root: bytes = b"",
    refused: str = "",
) -> SiteHead:
    name = f"{site}/{channel}/{seq}".encode()
    return SiteHead(
        site, channel, site, b"o" * 20, seq, root or name, name, None, 1000 + seq, size, 0, refused or None
    )


def seqs(found: set[bytes]) -> list[int]:
    return sorted(int(name.rpartition(b"/")[2]) for name in found)


def test_the_newest_versions_of_a_channel_stay() -> None:
    others = [version(n) for n in range(1, 10)]
    assert seqs(kept([version(10)], others, most_versions=4, most_bytes=1000)) == [7, 8, 9, 10]


def test_the_head_stays_even_when_it_is_older_than_what_was_signed_by_a_lost_login() -> None:
    assert seqs(kept([version(3)], [version(9), version(8)], most_versions=2, most_bytes=1000)) == [3, 9]


def test_old_versions_give_way_to_what_the_tier_has_room_for() -> None:
    others = [version(n, size=40) for n in range(1, 6)]
    assert seqs(kept([version(6, size=40)], others, most_versions=20, most_bytes=100)) == [5, 6]


def test_a_smaller_older_version_may_stay_where_a_larger_one_does_not_fit() -> None:
    others = [version(2, size=90), version(1, size=30)]
    assert seqs(kept([version(3, size=50)], others, most_versions=20, most_bytes=100)) == [1, 3]


def test_one_content_is_counted_once() -> None:
    others = [version(n, size=60, root=b"same") for n in range(1, 4)]
    assert seqs(kept([version(4, size=60, root=b"same")], others, most_versions=20, most_bytes=100)) == [
        1,
        2,
        3,
        4,
    ]


def test_every_head_stays_whatever_it_takes() -> None:
    heads = [version(1, site=s, channel=c, size=90) for s in ("one", "two") for c in ("production", "pr-1")]
    assert len(kept(heads, [], most_versions=1, most_bytes=100)) == 4


@pytest.mark.parametrize("refused", ["revoked-key", "wrong-sequence"])
def test_what_does_not_count_goes(refused: str) -> None:
    assert seqs(kept([version(2)], [version(1, refused=refused)], most_versions=9, most_bytes=100)) == [2]
