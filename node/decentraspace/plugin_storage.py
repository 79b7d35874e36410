"""Small documents of a plugin: TinyDB in one JSON file that is never half-written.

    documents = open_documents(node.data_dir / "pins.json")
    documents.table("pins").upsert({"cid": cid, "state": "queued"}, where("cid") == cid)

Each change writes the whole file anew: a temporary file, synced to disk, then renamed over the old one, and
the folder synced. So after `kill -9` the file is the one before or the one after a change, and a change that
returned is there. Good for thousands of documents, not for millions. Blocking, and for one thread at a time.
"""

from __future__ import annotations

import fcntl
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from tinydb import TinyDB
from tinydb.storages import Storage

from decentraspace.errors import Conflict, TooLarge, Unprocessable

MAX_BYTES = 16 * 1024 * 1024


class AtomicStorage(Storage):
    """The file is readable by its owner only (0600), and open in one place at a time.

    Conflict when it is open elsewhere, Unprocessable when it is damaged (it is then left as it is),
    TooLarge beyond 16 MiB.
    """

    def __init__(self, path: Path | str) -> None:
        super().__init__()
        self.path = Path(path)
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._temporary = self.path.with_name(self.path.name + ".tmp")
        # Its own file, for the documents' file is replaced at every change.
        self._lock = os.open(self.path.with_name(self.path.name + ".lock"), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(self._lock)
            raise Conflict(f"{self.path} is open already", hint="Close it there first.") from error
        with suppress(FileNotFoundError):
            self._temporary.unlink()  # of a change that a crash cut off

    def read(self) -> dict[str, dict[str, Any]] | None:
        try:
            with self.path.open("rb") as file:
                raw = file.read(MAX_BYTES + 1)
        except FileNotFoundError:
            return None
        if len(raw) > MAX_BYTES:
            raise TooLarge(f"{self.path} has more than {MAX_BYTES} bytes")
        try:
            tables = json.loads(raw)
        except (ValueError, RecursionError) as error:
            raise Unprocessable(
                f"{self.path} is damaged: {error}", hint="Mend it, or move it away to begin anew."
            ) from error
        if not isinstance(tables, dict) or not all(isinstance(table, dict) for table in tables.values()):
            raise Unprocessable(f"{self.path} is no file of documents", hint="Move it away to begin anew.")
        return tables

    def write(self, data: dict[str, dict[str, Any]]) -> None:
        """Durable when it returns; nothing has changed when it raises."""
        raw = json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False).encode()
        if len(raw) > MAX_BYTES:
            raise TooLarge(f"{self.path} would have {len(raw)} bytes; {MAX_BYTES} are allowed")
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
        with open(os.open(self._temporary, flags, 0o600), "wb") as file:
            file.write(raw)
            file.flush()
            os.fsync(file.fileno())
        os.rename(self._temporary, self.path)
        folder = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def close(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def open_documents(path: Path | str) -> TinyDB:
    """The documents in `path`, made at the first change. Close it (or use `with`) to let others open it."""
    return TinyDB(path, storage=AtomicStorage)
