"""A transaction is whole or nothing, and says in words when the disk is to blame: full disks are real here."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from decentraspace.database import open_database, reading, transaction
from decentraspace.errors import BadInput, ConfigError, Unavailable
from decentraspace.identity import sessions
from decentraspace.ledger import usage
from decentraspace.records.verdict import NetworkRules
from tests.node.disks import on_small_disk
from tests.support import ROOT

TABLE = ("CREATE TABLE things (name TEXT PRIMARY KEY, body BLOB)",)


@pytest.fixture
def db(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    opened = open_database(tmp_path / "db", TABLE)
    yield opened
    opened.close()


def names(db: sqlite3.Connection) -> list[str]:
    return [row[0] for row in db.execute("SELECT name FROM things ORDER BY name")]


def test_a_transaction_is_whole_or_nothing(db: sqlite3.Connection, tmp_path: Path) -> None:
    with transaction(db):
        db.execute("INSERT INTO things VALUES ('a', NULL)")
        db.execute("INSERT INTO things VALUES ('b', NULL)")
    with pytest.raises(BadInput), transaction(db):
        db.execute("DELETE FROM things")
        raise BadInput("no")
    assert not db.in_transaction
    other = sqlite3.connect(tmp_path / "db")
    assert names(other) == ["a", "b"]
    other.close()


def test_what_is_no_fault_of_the_disk_is_raised_as_it_is(db: sqlite3.Connection) -> None:
    with pytest.raises(sqlite3.OperationalError, match="no such table"), transaction(db):
        db.execute("INSERT INTO nowhere VALUES (1)")
    with transaction(db):
        db.execute("INSERT INTO things VALUES ('a', NULL)")
        with pytest.raises(sqlite3.IntegrityError):
            db.execute("INSERT INTO things VALUES ('a', NULL)")
        db.execute("INSERT INTO things VALUES ('b', NULL)")
    assert names(db) == ["a", "b"]
    db.close()
    with pytest.raises(sqlite3.ProgrammingError), reading():
        db.execute("SELECT 1")


def test_a_lock_held_elsewhere_is_said_in_words(db: sqlite3.Connection, tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / "db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    db.execute("PRAGMA busy_timeout = 10")
    with pytest.raises(Unavailable, match="Another program"), transaction(db):
        db.execute("INSERT INTO things VALUES ('a', NULL)")
    other.execute("ROLLBACK")
    other.close()
    with transaction(db):
        db.execute("INSERT INTO things VALUES ('a', NULL)")


def test_a_damaged_file_is_said_in_words(tmp_path: Path) -> None:
    db = open_database(tmp_path / "db", TABLE)
    with transaction(db):
        db.executemany("INSERT INTO things VALUES (?, zeroblob(9000))", [(f"{n}",) for n in range(50)])
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()
    with (tmp_path / "db").open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 40_960)
    db = open_database(tmp_path / "db", TABLE)
    with pytest.raises(Unavailable, match="damaged") as caught, reading():
        db.execute("SELECT name, body FROM things").fetchall()
    assert "backup" in caught.value.hint
    db.close()
    (tmp_path / "text").write_text("no database at all, " * 500)
    with pytest.raises(ConfigError, match="not a database") as refused:
        open_database(tmp_path / "text", TABLE)
    assert "backup" in refused.value.hint


def test_a_read_only_file_is_said_in_words(tmp_path: Path) -> None:
    open_database(tmp_path / "db", TABLE).close()
    db = sqlite3.connect(f"file:{tmp_path / 'db'}?mode=ro", uri=True, isolation_level=None)
    with pytest.raises(Unavailable, match="cannot be written"), transaction(db):
        db.execute("INSERT INTO things VALUES ('a', NULL)")
    db.close()


def test_threads_take_turns(db: sqlite3.Connection) -> None:
    lock = threading.Lock()

    def add(first: int) -> None:
        for number in range(first, first + 50):
            with lock, transaction(db):
                db.execute("INSERT INTO things VALUES (?, NULL)", (f"{number:05}",))

    threads = [threading.Thread(target=add, args=(n * 100,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(names(db)) == 200


STORES = """
import resource, signal, sys, time
from pathlib import Path
from decentraspace.api.state import Answer, State
from decentraspace.errors import ConfigError, QuotaExceeded, Unavailable
from decentraspace.identity.sessions import Sessions
from decentraspace.ledger.usage import UsageRow, UsageStore
from decentraspace.records.store import RecordStore
from tests.node.disks import fill
from decentraspace.identity.keys import NodeKey
from tests.records.factory import RULES, make_session, make_site, make_wallet, take
folder, limit = Path(sys.argv[1]), int(sys.argv[2])
wallet = make_wallet()
session = make_session(wallet, RULES)
now = int(time.time())
key = NodeKey.load_or_create(folder / "node.key", None)
envelopes = [take(make_site(wallet, session, RULES, label=f"s{n}"), key, now) for n in range(400)]
state, sessions = State(folder / "api"), Sessions(folder / "sessions", RULES, "me")
usage, records = UsageStore(folder / "usage"), RecordStore(folder / "records", RULES)

def write(n):
    # One of each store; what was done, by name, is in `done`.
    yield "usage", lambda: usage.add_batch("w", n, [UsageRow(f"site{n}", 1, 2, 3, 4)])
    yield "state", lambda: state.begin(b"o" * 20, f"key{n}", b"r" * 3000)
    yield "upload", lambda: state.count_upload(b"o" * 20, 7, 3600, now + 60 * n)
    yield "sessions", lambda: sessions.set_tier(n.to_bytes(20, "big"), "paid", b"o" * 20)
    yield "records", lambda: records.add(envelopes[n], now=now, local=True)

for name, work in write(0):
    work()
if limit:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
else:
    fill(folder / "filler")
failed, done = {}, {}
n = 1
while len(failed) < 5 and n < 350:
    for name, work in write(n):
        try:
            work()
            done[name] = n
        except (QuotaExceeded, Unavailable) as error:
            assert error.hint
            failed.setdefault(name, type(error).__name__)
            # What was there before can be read.
            assert usage.totals("site0") == (3, 4)
            assert sessions.tier(bytes(20)) == "paid"
            assert records.ids()
            state.uploaded(b"o" * 20, 3600, now)
    n += 1
print(sorted(failed), sorted(set(failed.values())))
try:
    UsageStore(folder / "another")
except ConfigError as error:
    print("another", error, error.hint)
# Room again: all goes on as if nothing had been.
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
else:
    (folder / "filler").unlink()
before = len(records.ids())
for name, work in write(n):
    work()
assert len(records.ids()) == before + 1
assert usage.totals(f"site{n}") == (3, 4)
for store in (state, sessions, usage, records):
    store.close()
"""


def test_every_store_says_that_the_disk_is_full_and_goes_on_afterwards(tmp_path: Path) -> None:
    output = on_small_disk(tmp_path, 6, STORES, 0)
    assert output.startswith("['records', 'sessions', 'state', 'upload', 'usage'] ['QuotaExceeded'")
    assert "another" in output
    assert "Make room" in output


def test_a_file_that_cannot_grow_is_said_in_words(tmp_path: Path) -> None:
    """As with a disk quota of the system: SQLite calls it an input/output error."""
    done = subprocess.run(
        [sys.executable, "-c", STORES, str(tmp_path), str(200_000)],
        cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("['records', 'sessions', 'state', 'upload', 'usage'] ['Unavailable']")


@pytest.mark.parametrize("store", ["usage", "sessions"])
def test_a_file_of_before_the_migrations_were_numbered_is_taken_over(tmp_path: Path, store: str) -> None:
    """Its tables are there, and its version is 0."""
    path = tmp_path / store
    old = sqlite3.connect(path)
    for statement in (usage if store == "usage" else sessions).MIGRATIONS[0].split(";"):
        old.execute(statement.replace("IF NOT EXISTS ", ""))
    if store == "usage":
        old.execute("INSERT INTO usage VALUES ('site', 1, 2, 30, 40)")
    else:
        old.execute("INSERT INTO users (owner, tier) VALUES (?, 'paid')", (bytes(20),))
    old.commit()
    assert old.execute("PRAGMA user_version").fetchone() == (0,)
    old.close()
    if store == "usage":
        counts = usage.UsageStore(path)
        assert counts.totals("site") == (30, 40)
        counts.close()
    else:
        logins = sessions.Sessions(path, NetworkRules("devnet", 1, "localhost"), "me")
        assert logins.tier(bytes(20)) == "paid"
        logins.close()


def test_a_newer_file_is_refused(tmp_path: Path) -> None:
    db = sqlite3.connect(tmp_path / "db")
    db.execute("PRAGMA user_version = 7")
    db.close()
    with pytest.raises(ConfigError, match="version 7; this program knows 1"):
        open_database(tmp_path / "db", TABLE)


def test_a_migration_that_fails_leaves_the_version_before(tmp_path: Path) -> None:
    second = "CREATE TABLE more (x); INSERT INTO nowhere VALUES (1)"
    with pytest.raises(ConfigError, match="no such table"):
        open_database(tmp_path / "db", (*TABLE, second))
    db = open_database(tmp_path / "db", (*TABLE, "CREATE TABLE more (x)"))
    assert db.execute("PRAGMA user_version").fetchone() == (2,)
    db.close()
