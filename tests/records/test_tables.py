"""Files of older and newer versions, and files that are no database."""

from __future__ import annotations

import sqlite3
import stat
from pathlib import Path

import pytest

from decentraspace.errors import ConfigError, DecentraSpaceError
from decentraspace.records.tables import MIGRATIONS
from tests.records import worlds

FIRST = """
CREATE TABLE records (
    cid BLOB PRIMARY KEY, kind TEXT NOT NULL, key BLOB NOT NULL, envelope BLOB NOT NULL, seen INTEGER NOT NULL);
CREATE TABLE versions (
    cid BLOB PRIMARY KEY, site TEXT NOT NULL, channel TEXT NOT NULL, label TEXT NOT NULL, owner BLOB NOT NULL,
    seq INTEGER NOT NULL, root BLOB NOT NULL, prev BLOB, key BLOB NOT NULL, issued_at INTEGER NOT NULL,
    created INTEGER NOT NULL, size INTEGER NOT NULL, flags INTEGER NOT NULL, refused TEXT);
CREATE TABLE heads (
    site TEXT NOT NULL, channel TEXT NOT NULL, cid BLOB NOT NULL, owner BLOB NOT NULL,
    PRIMARY KEY (site, channel));
CREATE TABLE revocations (
    cid BLOB PRIMARY KEY, owner BLOB NOT NULL, key BLOB NOT NULL, signer BLOB NOT NULL,
    issued_at INTEGER NOT NULL, site TEXT, after INTEGER NOT NULL);
CREATE TABLE statements (
    kind TEXT NOT NULL, key BLOB NOT NULL, about BLOB NOT NULL, rank INTEGER NOT NULL, cid BLOB NOT NULL,
    root BLOB, PRIMARY KEY (kind, key, about));
CREATE TABLE sponsors (
    sponsor BLOB NOT NULL, day INTEGER NOT NULL, records INTEGER NOT NULL, bytes INTEGER NOT NULL,
    refused INTEGER NOT NULL, PRIMARY KEY (sponsor, day));
"""
"""Version 1, kept here: whoever edits the first migration instead of adding one breaks the files there are."""


def filled(path: Path, envelopes: list[bytes]) -> None:
    store = worlds.open_store(path)
    store.add_many(envelopes, now=worlds.NOW)
    store.close()


def tables_of(path: Path) -> dict[str, list[tuple[str, str, int]]]:
    """Columns by table: name, type, whether NULL is refused."""
    db = sqlite3.connect(path)
    names = [
        row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")
    ]
    found = {name: [row[1:4] for row in db.execute(f"PRAGMA table_info({name})")] for name in names}
    db.close()
    return found


def test_the_first_version_is_what_it_was(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    db = sqlite3.connect(old)
    db.executescript(FIRST)
    db.close()
    db = sqlite3.connect(new)
    assert isinstance(MIGRATIONS[0], str)
    db.executescript(MIGRATIONS[0])
    db.close()
    assert tables_of(new) == tables_of(old)


def test_a_file_of_the_first_version_becomes_one_of_the_newest_with_all_it_held(tmp_path: Path) -> None:
    drawn = [
        step for step in worlds.drawn(300, 80) if step[0] % 16 != 11
    ]  # a version that knew no names' links
    envelopes = worlds.build(drawn)
    path, old = tmp_path / "records.sqlite", tmp_path / "old.sqlite"
    filled(path, envelopes)
    db = sqlite3.connect(old)
    assert isinstance(MIGRATIONS[0], str)
    db.executescript(MIGRATIONS[0])
    db.execute("PRAGMA user_version = 1")
    db.execute("ATTACH ? AS newest", (str(path),))
    for table, columns in tables_of(old).items():
        names = ", ".join(name for name, _, _ in columns)
        db.execute(f"INSERT INTO main.{table} ({names}) SELECT {names} FROM newest.{table}")
    db.commit()
    db.close()
    store = worlds.open_store(old)
    worlds.check(store, envelopes)
    assert {store.add(e, now=worlds.NOW).status for e in envelopes} <= {"known", "stale"}
    store.close()
    assert tables_of(old) == tables_of(path)


def test_opening_again_changes_nothing(tmp_path: Path) -> None:
    envelopes = worlds.build(worlds.drawn(301, 30))
    path = tmp_path / "records.sqlite"
    filled(path, envelopes)
    before = list(sqlite3.connect(path).iterdump())
    worlds.open_store(path).close()
    assert list(sqlite3.connect(path).iterdump()) == before
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_file_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "records.sqlite"
    filled(path, worlds.build(worlds.drawn(302, 10)))
    db = sqlite3.connect(path)
    db.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    db.close()
    before = path.read_bytes()
    with pytest.raises(ConfigError, match=f"version {len(MIGRATIONS) + 1}") as caught:
        worlds.open_store(path)
    assert "newer" in caught.value.hint
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [b"rubbish", b"rubbish " * 4096, b"SQLite format 3\0" + bytes(4080)])
def test_a_file_that_is_no_database_is_refused_in_words(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "records.sqlite"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        worlds.open_store(path)
    assert str(path) in str(caught.value)
    assert caught.value.hint
    assert path.read_bytes() == content


def test_what_cannot_be_opened_is_refused_in_words(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing" / "records.sqlite"):
        with pytest.raises(ConfigError, match=str(path)):
            worlds.open_store(path)


@pytest.mark.parametrize("page", [0, 1, 2, 5, 9])
def test_a_damaged_file_is_refused_in_words_or_told_when_met(tmp_path: Path, page: int) -> None:
    """Never another exception than one that a person can read, and never a wrong answer from a damaged page."""
    envelopes = worlds.build(worlds.drawn(303, 60))
    path = tmp_path / "records.sqlite"
    filled(path, envelopes)
    data = bytearray(path.read_bytes())
    data[page * 4096 + 100 * (page == 0) : page * 4096 + 4096] = b"\xa5" * (4096 - 100 * (page == 0))
    path.write_bytes(data)
    try:
        store = worlds.open_store(path)
    except ConfigError as error:
        message = str(error)
        assert str(path) in message
        return
    try:
        for envelope in envelopes:
            store.add(envelope, now=worlds.NOW)
        worlds.check(store, envelopes)
    except DecentraSpaceError as error:
        message = error.hint
        assert message
    finally:
        store.close()
