"""Opening a SQLite file that must not lose what was acknowledged, and bringing it to the current version.

    with lock, transaction(db):      # all of it is on disk afterwards, or none of it
        db.execute("INSERT …")
    with lock, reading():
        rows = db.execute("SELECT …").fetchall()

Both turn what the disk or the file is to blame for into an error that says so: QuotaExceeded where there is
no room, Unavailable for the rest. Whatever else SQLite raises is a bug, and is left as it is.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from decentraspace.errors import ConfigError, DecentraSpaceError, QuotaExceeded, Unavailable

Migration = str | Callable[[sqlite3.Connection], None]
"""SQL statements, or a function that runs its own; one transaction each."""

_MAKE_ROOM = "Make room on the disk that holds the node's data folder."
# Primary result codes. Source: https://www.sqlite.org/rescode.html
_TROUBLES: dict[int, tuple[type[DecentraSpaceError], str, str]] = {
    sqlite3.SQLITE_FULL: (QuotaExceeded, "There is no room on the node's disk", _MAKE_ROOM),
    sqlite3.SQLITE_IOERR: (Unavailable, "The node's disk does not read or write", "See the system's log."),
    sqlite3.SQLITE_READONLY: (Unavailable, "The node's database cannot be written", "Is its disk read-only?"),
    sqlite3.SQLITE_CANTOPEN: (Unavailable, "The node's database cannot be opened", "See the system's log."),
    sqlite3.SQLITE_BUSY: (Unavailable, "Another program uses the node's database", "Close it there."),
    sqlite3.SQLITE_CORRUPT: (Unavailable, "The node's database is damaged", "Restore it from a backup."),
    sqlite3.SQLITE_NOTADB: (Unavailable, "The node's database is damaged", "Restore it from a backup."),
    sqlite3.SQLITE_NOMEM: (Unavailable, "The node has run out of memory", ""),
}


def open_database(path: Path, migrations: Sequence[Migration]) -> sqlite3.Connection:
    """WAL, synchronous=FULL: a transaction that has returned survives `kill -9` and loss of power.

    Migration number n brings version n - 1 to version n; the version is SQLite's `user_version`. For use
    behind a lock, from any thread. ConfigError for a newer version and for what is no database.
    """
    try:
        db = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=30)
    except sqlite3.OperationalError as error:
        raise ConfigError(f"{path} cannot be opened: {error}") from error
    try:
        # SQLite gives its -wal and -shm files the mode of this one.
        path.chmod(0o600)
        with reading():
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("PRAGMA synchronous=FULL")
        _migrate(db, path, migrations)
    except (QuotaExceeded, Unavailable) as error:
        db.close()
        raise ConfigError(f"{path} cannot be used: {error.__cause__}", hint=error.hint) from error
    except sqlite3.DatabaseError as error:
        db.close()
        raise ConfigError(f"{path} cannot be used: {error}", hint="Restore it from a backup.") from error
    except BaseException:
        db.close()
        raise
    return db


@contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """Committed and synced when it ends, undone when anything is raised. QuotaExceeded, Unavailable."""
    with reading():
        db.execute("BEGIN IMMEDIATE")
        try:
            yield db
            db.execute("COMMIT")
        except BaseException:
            # Where the disk is full SQLite may have undone it already, or be unable to say so.
            with suppress(sqlite3.Error):
                db.rollback()
            raise


@contextmanager
def reading() -> Iterator[None]:
    """QuotaExceeded, Unavailable: a failure of the disk or the file, in words."""
    try:
        yield
    except sqlite3.Error as error:
        # An extended code has the primary one in its lowest byte. Errors of the module itself have none.
        trouble = _TROUBLES.get(getattr(error, "sqlite_errorcode", 0) & 0xFF)
        if trouble is None:
            raise
        kind, what, hint = trouble
        raise kind(what, hint=hint) from error


class Database:
    """A connection and the lock that every thread takes before it. Blocking, call it in a thread."""

    def __init__(self, path: Path, migrations: Sequence[Migration]) -> None:
        self._lock = threading.Lock()
        self._db = open_database(path, migrations)

    def close(self) -> None:
        with self._lock:
            self._db.close()

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """The database, alone, in a transaction. QuotaExceeded, Unavailable."""
        with self._lock, transaction(self._db):
            yield self._db

    @contextmanager
    def looking(self) -> Iterator[sqlite3.Connection]:
        """The database, alone, without writing. QuotaExceeded, Unavailable."""
        with self._lock, reading():
            yield self._db


def _migrate(db: sqlite3.Connection, path: Path, migrations: Sequence[Migration]) -> None:
    with reading():
        version = db.execute("PRAGMA user_version").fetchone()[0]
    if version > len(migrations):
        raise ConfigError(
            f"{path} is of version {version}; this program knows {len(migrations)}",
            hint="Run the newer version of decentraspace that wrote it.",
        )
    for number, migration in enumerate(migrations[version:], version + 1):
        with transaction(db):
            if callable(migration):
                migration(db)
            else:
                for statement in migration.split(";"):
                    db.execute(statement)
            db.execute(f"PRAGMA user_version = {number}")
