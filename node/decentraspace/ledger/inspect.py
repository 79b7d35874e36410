"""Looking at the books from outside the node that keeps them, while it runs or not: nothing is written."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from decentraspace.database import reading
from decentraspace.errors import ConfigError
from decentraspace.ledger import journal
from decentraspace.ledger.tables import MIGRATIONS


def inspect(path: Path) -> list[str]:
    """What is wrong with the books. ConfigError for a file of another version; Unavailable for a damaged one."""
    with reading():
        db = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=10)
        try:
            version = db.execute("PRAGMA user_version").fetchone()[0]
            if version != len(MIGRATIONS):
                raise ConfigError(f"{path} is of version {version}; this program knows {len(MIGRATIONS)}")
            db.execute("BEGIN")  # one view of all tables
            return journal.check(db)
        finally:
            db.close()
