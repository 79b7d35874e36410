"""How much work a record makes; that its outcome is right, tests/records/test_order.py says."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from decentraspace.database import open_database
from decentraspace.records import chains
from decentraspace.records.state import Revoked, Version, resolve_site
from decentraspace.records.tables import MIGRATIONS

OWNER = b"o" * 20
SITE = "a" * 16
COUNT = 300


def key(number: int) -> bytes:
    return number.to_bytes(32, "big")


def version_of(cid: bytes, seq: int, prev: bytes | None, by: bytes, issued_at: int) -> Version:
    return Version(cid, seq, prev, by, issued_at, OWNER)


def insert_version(db: sqlite3.Connection, version: Version) -> None:
    db.execute(
        "INSERT INTO versions VALUES (?, ?, 'production', 'l', ?, ?, ?, ?, ?, ?, 1, 0, 0, NULL, ?, 0, 0, NULL, NULL)",
        (version.cid, SITE, OWNER, version.seq, b"root", version.prev, version.key, version.issued_at, OWNER),
    )


def insert_revocation(db: sqlite3.Connection, revoked: Revoked) -> None:
    cid = b"r" + revoked.key + revoked.signer
    db.execute("INSERT INTO revocations VALUES (?, ?, ?, ?, ?, ?, ?)", (cid, OWNER, *revoked))


def check(db: sqlite3.Connection, versions: list[Version], revocations: list[Revoked]) -> None:
    state = resolve_site(versions, {OWNER: revocations}, SITE)
    refused = db.execute("SELECT cid, refused FROM versions WHERE refused IS NOT NULL").fetchall()
    assert dict(refused) == state.refused
    assert db.execute("SELECT cid FROM heads").fetchone() == ((state.head,) if state.head else None)


@pytest.mark.parametrize("site", [None, SITE])
def test_a_long_line_of_revocations_is_walked_once(tmp_path: Path, site: str | None) -> None:
    """A key revokes the one before it, three hundred times; the last one turns the fate of all over."""
    db = open_database(tmp_path / "records.sqlite", MIGRATIONS)
    versions = [version_of(b"v" + key(n), 1, None, key(n), 10) for n in range(COUNT)]
    revocations = [Revoked(key(n), key(n + 1), 11 + n, site, 0) for n in range(COUNT + 1)]
    for version in versions:
        insert_version(db, version)
    for revocation in revocations:
        insert_revocation(db, revocation)
    settled = chains.Settler(db).added_revocation(OWNER, revocations[-1])
    assert COUNT <= settled.work < 5 * COUNT
    assert settled.changed == [(SITE, "production")]
    check(db, versions, revocations)
    db.close()


def test_a_version_of_an_owner_with_many_others_is_one_versions_work(tmp_path: Path) -> None:
    db = open_database(tmp_path / "records.sqlite", MIGRATIONS)
    versions = [version_of(b"v" + key(n), 1, None, key(n), 10) for n in range(COUNT)]
    revocations = [Revoked(key(n), key(n + COUNT), 11, None, 0) for n in range(1, COUNT)]
    for version in versions:
        insert_version(db, version)
    for revocation in revocations:
        insert_revocation(db, revocation)
    chains.settle(db, [version.cid for version in versions])
    check(db, versions, revocations)
    versions.append(version_of(b"new", 2, versions[0].cid, key(0), 10))
    insert_version(db, versions[-1])
    added = chains.Settler(db).added_version(versions[-1], SITE, "production", OWNER)
    assert added == ([(SITE, "production")], 1, True)
    check(db, versions, revocations)
    db.close()


@pytest.mark.parametrize("backwards", [False, True])
def test_a_chain_is_judged_in_proportion_to_its_length(tmp_path: Path, backwards: bool) -> None:
    db = open_database(tmp_path / "records.sqlite", MIGRATIONS)
    versions = [
        version_of(b"v" + key(n), n, b"v" + key(n - 1) if n > 1 else None, key(0), 10)
        for n in range(1, COUNT + 1)
    ]
    for version in reversed(versions) if backwards else versions:
        insert_version(db, version)
        chains.Settler(db).added_version(version, SITE, "production", OWNER)
    check(db, versions, [])
    revocation = Revoked(key(0), key(1), 11, SITE, 5)
    insert_revocation(db, revocation)
    assert COUNT - 5 <= chains.Settler(db).added_revocation(OWNER, revocation).work < 3 * COUNT
    check(db, versions, [revocation])
    db.close()


def test_what_a_transaction_knows_of_revocations_ends_with_the_next_one(tmp_path: Path) -> None:
    db = open_database(tmp_path / "records.sqlite", MIGRATIONS)
    settler = chains.Settler(db)
    first, second = (version_of(b"v" + key(n), n, None, key(0), 10) for n in (1, 2))
    insert_version(db, first)
    assert settler.added_version(first, SITE, "production", OWNER).raised
    revocation = Revoked(key(0), key(1), 11, None, 0)
    insert_revocation(db, revocation)
    assert settler.added_revocation(OWNER, revocation).changed == [(SITE, "production")]
    insert_version(db, second)
    assert settler.added_version(second, SITE, "production", OWNER).changed == []
    check(db, [first, second], [revocation])
    db.close()


def test_a_version_that_comes_late_does_not_take_the_head(tmp_path: Path) -> None:
    """The newer delegation goes first, then the higher number, then the lower CID."""
    db = open_database(tmp_path / "records.sqlite", MIGRATIONS)
    versions = [
        version_of(b"b", 2, None, key(0), 10),
        version_of(b"a", 1, None, key(0), 10),
        version_of(b"c", 2, None, key(0), 10),
        version_of(b"0", 2, None, key(0), 10),
        version_of(b"z", 1, None, key(1), 11),
        version_of(b"y", 9, None, key(0), 10),
    ]
    raised = []
    for number, version in enumerate(versions, 1):
        insert_version(db, version)
        raised.append(chains.Settler(db).added_version(version, SITE, "production", OWNER).raised)
        check(db, versions[:number], [])
    assert raised == [True, False, False, True, True, False]
    db.close()
