"""Zip and tar archives into a directory tree, believing nothing they say."""

from __future__ import annotations

import io
import stat
import tarfile
import zipfile
import zlib
from typing import BinaryIO, NamedTuple

from decentraspace.content.importer import TreeBuilder
from decentraspace.errors import BadInput, TooLarge

_RATIO_MOST = 1000  # plain bytes per packed byte; DEFLATE itself cannot pass 1032
_SYMLINK_MOST = 4096


class Limits(NamedTuple):
    max_bytes: int
    max_files: int


class _Bounded(io.RawIOBase):
    """A stream that gives up beyond a number of bytes, whatever an archive's header claimed."""

    def __init__(self, inner: BinaryIO, most: int, what: str) -> None:
        self._inner, self._left, self._what = inner, most, what

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        data = self._inner.read(size)
        self._left -= len(data)
        if self._left < 0:
            raise TooLarge(f"{self._what} unpacks to more than it may")
        return data


def add_zip(file: BinaryIO, builder: TreeBuilder, limits: Limits) -> None:
    """BadInput for damage, encryption and unsafe names; TooLarge for bombs and counts."""
    try:
        with zipfile.ZipFile(file) as archive:
            infos = archive.infolist()
            if len(infos) > limits.max_files:
                raise TooLarge(f"The archive has more than {limits.max_files} entries")
            if sum(info.file_size for info in infos) > limits.max_bytes:
                raise TooLarge(f"The archive unpacks to more than {limits.max_bytes} bytes")
            for info in infos:
                _zip_member(archive, info, builder, limits)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError) as error:
        raise BadInput(f"The zip archive cannot be read: {error}") from error


def _zip_member(
    archive: zipfile.ZipFile, info: zipfile.ZipInfo, builder: TreeBuilder, limits: Limits
) -> None:
    name = info.filename
    if info.flag_bits & 1:
        raise BadInput(f"{name[:200]!r} is encrypted")
    if info.is_dir():
        return
    if info.file_size > max(info.compress_size, 1) * _RATIO_MOST + 1024:
        raise TooLarge(f"{name[:200]!r} is packed more than {_RATIO_MOST} to one")
    mode = info.external_attr >> 16
    with archive.open(info) as member:
        if stat.S_ISLNK(mode):
            builder.put_symlink(name, _target(member.read(_SYMLINK_MOST + 1)))
        elif mode and stat.S_IFMT(mode) and not stat.S_ISREG(mode):
            raise BadInput(f"{name[:200]!r} is neither a file nor a folder nor a symlink")
        else:
            builder.put_file(name, _Bounded(member, info.file_size, repr(name[:200])))  # type: ignore[arg-type]


def add_tar(stream: BinaryIO, builder: TreeBuilder, limits: Limits) -> None:
    """Plain or gzip-packed tar, read once from front to back. Errors as with add_zip."""
    members = 0
    try:
        with tarfile.open(fileobj=stream, mode="r|*") as archive:
            for member in archive:
                members += 1
                if members > limits.max_files:
                    raise TooLarge(f"The archive has more than {limits.max_files} entries")
                if member.isdir():
                    continue
                if member.issym():
                    builder.put_symlink(member.name, member.linkname)
                elif member.isreg() and not member.issparse():
                    if member.size > limits.max_bytes:
                        raise TooLarge(f"The archive unpacks to more than {limits.max_bytes} bytes")
                    content = archive.extractfile(member)
                    if content is None:
                        raise BadInput(f"{member.name[:200]!r} has no content")
                    builder.put_file(member.name, content)  # type: ignore[arg-type]
                else:
                    raise BadInput(f"{member.name[:200]!r} is neither a file nor a folder nor a symlink")
    except (tarfile.TarError, zlib.error, EOFError, OSError, ValueError) as error:
        raise BadInput(f"The tar archive cannot be read: {error}") from error
    if not members:
        raise BadInput("The tar archive is empty")


def _target(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise BadInput("A symlink's target is not UTF-8") from error
