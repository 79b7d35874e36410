"""Uploads into blocks, in a worker thread: what each content type means, and what is checked before "stored".

multipart/form-data, zip, tar and gzip-packed tar become a directory, application/octet-stream a file; a CAR
brings its own root, whose whole DAG must be there. Everything is durable when `ingest` returns.
"""

from __future__ import annotations

import io
import shutil
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO, NamedTuple, Protocol, cast

from decentraspace.api import multipart
from decentraspace.content import archives, car, reader
from decentraspace.content import cid as cids
from decentraspace.content.archives import Limits
from decentraspace.content.blockstore import BlockStore
from decentraspace.content.importer import Entry, TreeBuilder, add_file
from decentraspace.errors import BadInput, QuotaExceeded, Unprocessable, UnsupportedMedia

CAR = "application/vnd.ipld.car"
ZIP = "application/zip"
FORM = "multipart/form-data"
FILE = "application/octet-stream"
TARS = (
    "application/x-tar",
    "application/tar",
    "application/gzip",
    "application/x-gzip",
    "application/x-gtar",
)
_ALIASES = {"application/x-zip-compressed": ZIP, "application/car": CAR}
_SPARE_DISK = 64 * 1024 * 1024  # bytes left free beside a spooled upload
_COPY = 1024 * 1024
_BATCH = 16 * 1024 * 1024  # bytes of blocks stored at once


class Source(Protocol):
    """A body, from the network or from disk."""

    def chunks(self) -> Iterator[bytes]: ...
    def read(self, size: int = -1, /) -> bytes: ...


class Ingested(NamedTuple):
    """`size`: bytes of files (of all blocks for the folder of a CAR); `blocks`: how many came."""

    cid: bytes
    size: int
    blocks: int


def kind_of(media: str) -> str:
    """The content type by its main name. UnsupportedMedia for one that is not taken."""
    media = _ALIASES.get(media, media)
    if media in (CAR, ZIP, FORM, FILE, *TARS):
        return media
    raise UnsupportedMedia(
        f"{media[:80] or 'No content type'} is not taken here",
        hint=f"Send {FORM}, {ZIP}, application/x-tar, {CAR} or {FILE}.",
    )


class FileSource:
    """An upload that lies on disk."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.read = file.read

    def chunks(self) -> Iterator[bytes]:
        while chunk := self.file.read(_COPY):
            yield chunk


def ingest(
    store: BlockStore,
    source: Source,
    content_type: str,
    media: str,
    limits: Limits,
    spool: Path,
    on_stored: Callable[[int], None],
) -> Ingested:
    """Blocking. `on_stored(bytes)` is told of each block before it is written, and raises to refuse it.

    BadInput, TooLarge, Unprocessable, UnsupportedMedia, QuotaExceeded. What was written before an error is
    referenced by nothing and collected later.
    """
    media = kind_of(media)
    with Writer(store, on_stored) as writer:
        if media == CAR:
            root = _car(store, writer, source)
            return Ingested(root, _size(store, root), writer.blocks)
        if media == FILE:
            entry = add_file(cast(BinaryIO, _Limited(source, limits.max_bytes)), writer.put)
        else:
            builder = TreeBuilder(writer.put, max_files=limits.max_files, max_bytes=limits.max_bytes)
            if media == FORM:
                _form(source, multipart.boundary_of(content_type), builder)
            elif media == ZIP:
                _zip(source, builder, limits, spool)
            else:
                archives.add_tar(cast(BinaryIO, source), builder, limits)
            entry = _root(builder)
        writer.flush()
        return Ingested(entry.cid, entry.size, writer.blocks)


class Writer:
    """Stores blocks in durable batches, each in another thread while the next one is collected.

    At most two batches are held. Use it as a context manager; `flush` is what makes all of it durable.
    """

    def __init__(self, store: BlockStore, on_stored: Callable[[int], None]) -> None:
        self._store, self._on_stored = store, on_stored
        self._thread = ThreadPoolExecutor(1, "blocks")
        self._under_way: Future[int] | None = None
        self._batch: list[tuple[bytes, bytes]] = []
        self._size = 0
        self.blocks = self.bytes = self.new = 0

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown(wait=True)

    def put(self, cid: bytes, data: bytes) -> None:
        """A verified block."""
        self._on_stored(len(data))
        self._batch.append((cid, data))
        self._size += len(data) + 256  # what a tiny block costs in Python objects
        self.blocks += 1
        self.bytes += len(data)
        if self._size >= _BATCH:
            self._hand_over()

    def _hand_over(self) -> None:
        self._wait()
        batch, self._batch, self._size = self._batch, [], 0
        self._under_way = self._thread.submit(self._store.put_many, batch)

    def _wait(self) -> None:
        under_way, self._under_way = self._under_way, None
        if under_way is not None:
            self.new += under_way.result()

    def flush(self) -> None:
        """Durable when it returns."""
        if self._batch:
            self._hand_over()
        self._wait()


class Stored(NamedTuple):
    """`blocks` and their `bytes` that came; how many of them were `new`."""

    blocks: int
    new: int
    bytes: int


def store_blocks(store: BlockStore, source: Source, on_stored: Callable[[int], None]) -> Stored:
    """A CAR of any blocks, without asking for whole DAGs. Blocking; errors as `ingest`."""
    decoder = car.CarDecoder()
    with Writer(store, on_stored) as writer:
        try:
            for chunk in source.chunks():
                for cid, data in decoder.feed(chunk):
                    writer.put(cid, data)
            decoder.close()
        finally:
            writer.flush()  # what came before a fault is verified, and need not be sent again
    return Stored(writer.blocks, writer.new, writer.bytes)


def _car(store: BlockStore, writer: Writer, source: Source) -> bytes:
    """The root, all of whose blocks are here."""
    decoder = car.CarDecoder()
    for chunk in source.chunks():
        for cid, data in decoder.feed(chunk):
            writer.put(cid, data)
    decoder.close()
    writer.flush()
    roots = decoder.roots or []
    if len(roots) != 1:
        raise BadInput(
            f"The CAR names {len(roots)} roots; one is needed",
            hint="With ?blocks=1 the blocks are stored without a root.",
        )
    root = roots[0]
    missing = store.missing(root)
    if missing:
        raise Unprocessable(
            f"The CAR is not whole: {len(missing)} or more blocks of {cids.to_text(root)} are not here",
            slug="missing-blocks",
            missing=[cids.to_text(c) for c in missing[:1000]],
        )
    return root


def _size(store: BlockStore, root: bytes) -> int:
    """Bytes of file content when the root is a file, else of all its blocks."""
    try:
        found = reader.stat(store.get_or_raise, root)
    except BadInput:
        return store.dag_size(root)
    return found.size if found.kind == "file" else store.dag_size(root)


def _form(source: Source, boundary: bytes, builder: TreeBuilder) -> None:
    for part in multipart.parts(source.chunks(), boundary):
        if part.filename is None:
            if part.stream.read(_COPY + 1)[_COPY:]:
                raise BadInput(f"The form field {part.name[:80]!r} is too long for one that is no file")
            continue
        builder.put_file(part.filename, cast(BinaryIO, part.stream))


def _zip(source: Source, builder: TreeBuilder, limits: Limits, spool: Path) -> None:
    """A zip's table of contents is at its end, so it must lie on disk first; the file has no name there."""
    if isinstance(source, FileSource):
        archives.add_zip(source.file, builder, limits)
        return
    with tempfile.TemporaryFile(dir=spool) as file:
        written = 0
        for chunk in source.chunks():
            if written // _COPY != (written + len(chunk)) // _COPY and (
                shutil.disk_usage(spool).free < _SPARE_DISK
            ):
                raise QuotaExceeded("The node has no room on disk to unpack this upload")
            file.write(chunk)
            written += len(chunk)
        file.seek(0)
        archives.add_zip(cast(BinaryIO, file), builder, limits)


def _root(builder: TreeBuilder) -> Entry:
    if not builder.files:
        raise BadInput("There is no file in the upload")
    return builder.finish()


class _Limited(io.RawIOBase):
    def __init__(self, source: Source, most: int) -> None:
        self._source, self._left = source, most

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        data = self._source.read(size)
        self._left -= len(data)
        if self._left < 0:
            raise BadInput("The file is larger than it may be", slug="too-large")
        return data
