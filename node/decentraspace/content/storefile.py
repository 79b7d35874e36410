"""The databases of a block store in one LMDB environment: opened once, read and written in transactions.

What the disk is to blame for becomes an error that says so: QuotaExceeded, Unavailable, ConfigError.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import lmdb

from decentraspace.content import environment
from decentraspace.errors import ConfigError, QuotaExceeded, Unavailable

SCHEMA = 1
_DATABASES = ("blocks", "refs", "loose", "since", "pins", "queue", "meta", "hosts", "denied")
UNREADABLE = (lmdb.MapResizedError, lmdb.ReadersFullError)
# How a commit that the disk refuses ends. LMDB keeps no number in its error, and calls a write that was cut
# short, as a disk without room first does, an input/output error.
_UNWRITABLE = tuple(os.strerror(n) for n in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO))

_open_paths: set[Path] = set()  # LMDB forbids opening one environment twice in a process
_open_lock = threading.Lock()


class StoreFile:
    """`db`: the databases by name."""

    def __init__(self, env: Any, path: Path, quota: int, readonly: bool) -> None:
        self.env, self.path, self.quota, self.readonly = env, path, quota, readonly
        self.db: dict[str, Any] = {}
        self._closed = False

    @classmethod
    def open(cls, path: Path, *, quota: int = 0, readonly: bool = False) -> Self:
        """Open or make the store in folder `path`. ConfigError when it is newer than this program.

        `quota` bytes of blocks at most; a reader needs to name none.
        """
        path = path.resolve()
        with _open_lock:
            if path in _open_paths:
                raise ConfigError(f"The block store {path} is open already in this process")
            try:
                env = environment.open_environment(path, quota, readonly, databases=len(_DATABASES))
            except (lmdb.Error, OSError) as error:
                raise ConfigError(
                    f"The block store {path} cannot be opened: {error}",
                    hint="Is it the right folder, made by a node that has run here?",
                ) from error
            store = cls(env, path, quota, readonly)
            _open_paths.add(path)
        try:
            store._prepare()
        except BaseException:
            store.close()
            raise
        return store

    def _prepare(self) -> None:
        try:
            self.db = {n: self.env.open_db(n.encode(), create=not self.readonly) for n in _DATABASES}
        except lmdb.NotFoundError as error:
            raise ConfigError(f"The block store {self.path} was never finished: {error}") from error
        self._check_schema()

    def _check_schema(self) -> None:
        with self.env.begin(write=not self.readonly) as txn:
            found = txn.get(b"schema", db=self.db["meta"])
            if found is None and not self.readonly:
                txn.put(b"schema", str(SCHEMA).encode(), db=self.db["meta"])
            elif found is not None and int(found) > SCHEMA:
                raise ConfigError(
                    f"The block store {self.path} is of version {int(found)}; this program knows {SCHEMA}",
                    hint="Run the newer version of decentraspace that wrote it.",
                )

    def close(self) -> None:
        """Twice does no harm, not even to another opening of the same folder since."""
        with _open_lock:
            if not self._closed:
                self._closed = True
                _open_paths.discard(self.path)
                self.env.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def write(self, *, buffers: bool = False) -> Iterator[Any]:
        """A write transaction, durable when it ends. QuotaExceeded, and nothing done, where there is no room."""
        try:
            with self.env.begin(write=True, buffers=buffers) as txn:
                yield txn
        except lmdb.MapFullError as error:
            raise QuotaExceeded(f"The block store is full: {error}") from error
        except lmdb.Error as error:
            if not str(error).endswith(_UNWRITABLE):
                raise
            raise QuotaExceeded(
                f"The block store cannot be written: {error}", hint="Is the disk full, or failing?"
            ) from error

    @contextmanager
    def read(self, *, buffers: bool = False) -> Iterator[Any]:
        """A snapshot. Keep it short: pages freed since it began cannot be used again before it ends."""
        try:
            txn = self.env.begin(buffers=buffers)
        except UNREADABLE as error:
            # The map is never exchanged under other readers' feet: that would crash the process.
            raise Unavailable(f"The block store cannot be read just now: {error}") from error
        with txn:
            yield txn
