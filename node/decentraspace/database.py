"""Opening a SQLite file that must not lose what was acknowledged, and bringing it to the current version."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path

from decentraspace.errors import ConfigError

Migration = str | Callable[[sqlite3.Connection], None]
"""SQL statements, or a function that runs its own; one transaction each."""


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
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=FULL")
        _migrate(db, path, migrations)
    except sqlite3.DatabaseError as error:
        db.close()
        raise ConfigError(f"{path} cannot be used: {error}", hint="Restore it from a backup.") from error
    except BaseException:
        db.close()
        raise
    return db


def _migrate(db: sqlite3.Connection, path: Path, migrations: Sequence[Migration]) -> None:
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if version > len(migrations):
        raise ConfigError(
            f"{path} is of version {version}; this program knows {len(migrations)}",
            hint="Run the newer version of decentraspace that wrote it.",
        )
    for number, migration in enumerate(migrations[version:], version + 1):
        with db:
            db.execute("BEGIN IMMEDIATE")
            if callable(migration):
                migration(db)
            else:
                for statement in migration.split(";"):
                    db.execute(statement)
            db.execute(f"PRAGMA user_version = {number}")
