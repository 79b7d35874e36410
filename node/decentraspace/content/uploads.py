"""Uploads that may be interrupted: a file per upload on disk, its length the offset to go on from.

`append` returns after fsync, so an offset that was told survives `kill -9`. What nobody finishes is
removed after a day.
"""

from __future__ import annotations

import errno
import json
import os
import re
import secrets
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from io import FileIO
from pathlib import Path

from decentraspace.content.environment import sync_folder
from decentraspace.errors import Conflict, NotFound, QuotaExceeded, TooLarge

_ID = re.compile(r"[0-9a-f]{32}")
LIFETIME = 86400  # seconds


@dataclass(frozen=True)
class UploadInfo:
    """`owner`: hexadecimal address; `length`: bytes in all, None while not known."""

    owner: str
    content_type: str
    length: int | None
    created: int


class UploadStore:
    """Blocking. One writer per upload at a time, which the caller sees to."""

    def __init__(self, folder: Path, *, max_bytes: int) -> None:
        self._folder, self._max = folder, max_bytes
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def create(self, owner: bytes, content_type: str, length: int | None) -> str:
        """A new upload's id. TooLarge if `length` is beyond the limit."""
        if length is not None and length > self._max:
            raise TooLarge(f"An upload may have {self._max} bytes")
        name = secrets.token_hex(16)
        info = UploadInfo(owner.hex(), content_type, length, int(time.time()))
        fresh = self._folder / f"{name}.new"
        with _room():
            self.path(name).touch(0o600)
            with fresh.open("w") as file:
                file.write(json.dumps(asdict(info)))
                file.flush()
                os.fsync(file.fileno())
            fresh.rename(self._folder / f"{name}.json")
            sync_folder(self._folder)
        return name

    def count(self, owner: bytes) -> int:
        """How many uploads of `owner` are open."""
        infos = map(_read, self._folder.glob("*.json"))
        return sum(info is not None and info.owner == owner.hex() for info in infos)

    def spooled(self) -> tuple[int, int]:
        """How many uploads are open, of all owners, and the bytes of them on disk."""
        sizes = []
        with os.scandir(self._folder) as found:
            for entry in found:
                if entry.name.endswith(".part"):
                    with suppress(FileNotFoundError):  # finished meanwhile
                        sizes.append(entry.stat().st_size)
        return len(sizes), sum(sizes)

    def path(self, name: str) -> Path:
        """Where the bytes lie."""
        if not _ID.fullmatch(name):
            raise NotFound("There is no such upload")
        return self._folder / f"{name}.part"

    def info(self, name: str, owner: bytes) -> UploadInfo:
        """NotFound unless it exists and belongs to `owner`."""
        self.path(name)
        info = _read(self._folder / f"{name}.json")
        if info is None:
            raise NotFound("There is no such upload", hint="Begin it again.")
        if info.owner != owner.hex():
            raise NotFound("There is no such upload")
        return info

    def offset(self, name: str) -> int:
        try:
            return self.path(name).stat().st_size
        except FileNotFoundError as error:
            raise NotFound("There is no such upload", hint="Begin it again.") from error

    def append(self, name: str, offset: int, chunks: Iterable[bytes]) -> int:
        """Add bytes at `offset`, which must be where the upload ends; the new offset, synced.

        Conflict (with the right `offset`) otherwise; TooLarge beyond the limit, QuotaExceeded when the disk
        is full. What came before an error is kept.
        """
        here = self.offset(name)
        if offset != here:
            raise Conflict(f"The upload goes on at byte {here}", slug="wrong-offset", offset=here)
        # Without "a" and without a buffer: it is not made anew when it was removed meanwhile, and what a
        # full disk refuses is not tried again at the end.
        with self.path(name).open("r+b", buffering=0) as file:
            file.seek(here)
            try:
                for chunk in chunks:
                    if here + len(chunk) > self._max:
                        raise TooLarge(f"An upload may have {self._max} bytes")
                    with _room():
                        here += _write_all(file, chunk)
            finally:
                with _room():
                    os.fsync(file.fileno())
        return here

    def remove(self, name: str) -> None:
        """Nothing is left of it, at the latest when it expires: a kill in between leaves no listed upload."""
        part = self.path(name)
        for path in (part.with_suffix(".json"), part, part.with_suffix(".new")):
            path.unlink(missing_ok=True)

    def expire(self, now: float) -> int:
        """Remove what was not touched for a day; how many files."""
        gone = 0
        for path in self._folder.iterdir():
            part = path.with_suffix(".part")
            if path.suffix not in (".part", ".json", ".new") or not _ID.fullmatch(path.stem):
                continue  # not ours
            try:
                touched = (part if part.exists() else path).stat().st_mtime
            except FileNotFoundError:
                continue  # removed meanwhile
            if touched < now - LIFETIME:
                path.unlink(missing_ok=True)
                gone += 1
        return gone


def _read(path: Path) -> UploadInfo | None:
    """None for what is not there, and for what damage has made of it."""
    try:
        return UploadInfo(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError, RecursionError):
        return None


def _write_all(file: FileIO, chunk: bytes) -> int:
    left = memoryview(chunk)
    while left:
        left = left[file.write(left) or 0 :]
    return len(chunk)


@contextmanager
def _room() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        raise QuotaExceeded("The node has no room on disk for this upload") from error
