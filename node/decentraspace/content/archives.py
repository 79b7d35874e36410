"""Zip and tar archives into a directory tree, believing nothing they say."""

from __future__ import annotations

import io
import stat
import struct
import zipfile
import zlib
from typing import BinaryIO, NamedTuple

from decentraspace.content import tar
from decentraspace.content.importer import TreeBuilder
from decentraspace.errors import BadInput, TooLarge

_RATIO_MOST = 1000  # plain bytes per packed byte; DEFLATE itself cannot pass 1032
_SYMLINK_MOST = 4096
_TAR_OVERHEAD = 2048  # bytes beside its content that an ordinary member needs
_TAR_END = 1024 * 1024
_ZIP_END = 64 * 1024 + 1024  # bytes at the end of a zip file that may be its last record
_ZIP_ENTRY = 400  # bytes of an ordinary entry in the table of contents
_ZIP_FAULTS = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    NotImplementedError,
    OSError,
    OverflowError,
    RuntimeError,
    ValueError,
)


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


class _Directory(io.RawIOBase):
    """A zip file for reading its table of contents, which the reader takes into memory in one piece."""

    def __init__(self, inner: BinaryIO, limits: Limits) -> None:
        self._inner, self._limits = inner, limits
        self.opening = True

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._inner.seek(offset, whence)

    def tell(self) -> int:
        return self._inner.tell()

    def read(self, size: int = -1) -> bytes:
        if self.opening and size > _ZIP_END + self._limits.max_files * _ZIP_ENTRY:
            raise TooLarge("The archive's table of contents is too large")
        data = self._inner.read(size)
        if self.opening and data.count(b"PK\x01\x02") > self._limits.max_files:
            raise TooLarge(f"The archive has more than {self._limits.max_files} entries")
        return data


def add_zip(file: BinaryIO, builder: TreeBuilder, limits: Limits) -> None:
    """BadInput for damage, encryption and unsafe names; TooLarge for bombs and counts."""
    source = _Directory(file, limits)
    try:
        with zipfile.ZipFile(source) as archive:
            source.opening = False
            infos = archive.infolist()
            if len(infos) > limits.max_files:
                raise TooLarge(f"The archive has more than {limits.max_files} entries")
            if sum(info.file_size for info in infos) > limits.max_bytes:
                raise TooLarge(f"The archive unpacks to more than {limits.max_bytes} bytes")
            for info in infos:
                _zip_member(archive, info, builder, limits)
    except _ZIP_FAULTS as error:
        raise BadInput(f"The zip archive cannot be read: {error}") from error


def _zip_member(
    archive: zipfile.ZipFile, info: zipfile.ZipInfo, builder: TreeBuilder, limits: Limits
) -> None:
    name = info.filename
    if info.flag_bits & 1:
        raise BadInput(f"{name[:200]!r} is encrypted")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        # The others may want gigabytes of memory to unpack, by what their headers say.
        raise BadInput(f"{name[:200]!r} is packed by a method that is not taken", hint="Use deflate.")
    if name.endswith("/"):
        builder.put_directory(name)
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
    count = 0
    most = limits.max_bytes + limits.max_files * _TAR_OVERHEAD + _TAR_END
    for member in tar.members(stream, max_bytes=most):
        count += 1
        if count > limits.max_files:
            raise TooLarge(f"The archive has more than {limits.max_files} entries")
        if member.size > limits.max_bytes:
            raise TooLarge(f"The archive unpacks to more than {limits.max_bytes} bytes")
        if member.kind == tar.DIRECTORY:
            builder.put_directory(member.name)
        elif member.kind == tar.SYMLINK:
            builder.put_symlink(member.name, member.target)
        else:
            builder.put_file(member.name, member.content)  # type: ignore[arg-type]
    if not count:
        raise BadInput("The tar archive is empty")


def _target(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise BadInput("A symlink's target is not UTF-8") from error
