"""A folder to a node in one pass: one thread reads and hashes, one asks what is missing, one sends it.

What is sent are the very bytes that were hashed, so a file that changes meanwhile cannot make a version
that fits together badly. At most a few batches are held; each request is a stream of blocks (a CAR).
"""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from decentraspace.cli.folder import SHOWN
from decentraspace.content import car
from decentraspace.content import cid as cids
from decentraspace.content.importer import CHUNK, Entry, FileTree, add_path
from decentraspace.errors import Unavailable

if TYPE_CHECKING:
    from decentraspace.cli.client import Api

_BATCH_BYTES, _BATCH_BLOCKS = 4 * 1024 * 1024, 2000  # asked about at once
_WAITING = 2  # batches between two threads
_PIECE = 512 * 1024  # bytes sent at once
_REQUEST = 512 * 1024 * 1024  # bytes per request at most
_TRIES = 4
_END = 5.0  # seconds that the other threads have to notice an interruption
KEPT = "What was sent is kept: run the command again, and it goes on from there."

_UPLOAD = "/storage/upload/"
_Batch = list[tuple[bytes, bytes]]  # (CID, block)


class Done(NamedTuple):
    """`blocks` of the DAG, each once; `sent`: bytes of those the node lacked."""

    root: Entry
    blocks: int
    sent: int


def transfer(
    api: Api,
    folder: Path,
    progress: Callable[[int], None],
    *,
    hidden: bool = False,
    request_most: int = _REQUEST,
) -> Done:
    """Bring `folder` to the node. A connection that breaks is taken up again where it broke.

    `progress` is told of bytes hashed. `request_most`: bytes that the node takes in one request.
    Errors: those of `add_path`, and what the node refuses with.
    """
    api.log_in()
    # A block may go beyond it, and each has some bytes around it.
    request = max(1, min(_REQUEST, request_most - 2 * CHUNK - request_most // 16))
    for attempt in range(1, _TRIES + 1):
        try:
            return _Pipeline(api, folder, progress, hidden, request).run()
        except Unavailable as error:
            if not api.connected:
                raise
            if attempt == _TRIES:
                raise Unavailable(f"The node at {api.node} stopped answering.", hint=KEPT) from error
            progress = _silent  # the bar has seen these bytes
            time.sleep(attempt)
    raise AssertionError("unreachable")


def _silent(_: int) -> None:
    return None


class _Stopped(Exception):
    """The other side of a queue is gone."""


class _Pipeline:
    def __init__(
        self, api: Api, folder: Path, progress: Callable[[int], None], hidden: bool, request: int
    ) -> None:
        self._api, self._folder, self._progress = api, folder, progress
        self._hidden, self._request = hidden, request
        self._hashed: queue.Queue[Any] = queue.Queue(_WAITING)
        self._missing: queue.Queue[Any] = queue.Queue(_WAITING)
        self._stop = threading.Event()
        self._root: Entry | None = None
        self._blocks = self._sent = 0

    def run(self) -> Done:
        threads = [
            threading.Thread(target=self._guard, args=(work, out), name=name, daemon=True)
            for name, work, out in (
                ("hash", self._hash, self._hashed),
                ("ask", self._ask, self._missing),
            )
        ]
        for thread in threads:
            thread.start()
        try:
            blocks = self._take(self._missing)
            first = next(blocks, None)
            while first is not None:  # a request is begun only when there is something to send
                pieces = _Pieces(first, blocks, self._request)
                self._api.stream(_UPLOAD, iter(pieces), "application/vnd.ipld.car", blocks="1")
                self._sent += pieces.sent
                first = next(blocks, None)
        finally:
            self._stop.set()
            for thread in threads:
                thread.join(_END)  # one may be waiting for a node that does not answer
        if self._root is None:
            raise AssertionError("the hashing thread ended without a root")
        return Done(self._root, self._blocks, self._sent)

    def _guard(self, work: Callable[[], None], out: queue.Queue[Any]) -> None:
        """Run a thread's work; its end, good or bad, is the last thing in its queue."""
        try:
            work()
            end: BaseException | None = None
        except _Stopped:
            return
        except BaseException as error:  # noqa: BLE001 - raised again by whoever reads the queue
            end = error
        try:
            self._put(out, (None, end))
        except _Stopped:
            return

    def _put(self, to: queue.Queue[Any], item: Any) -> None:
        while not self._stop.is_set():
            try:
                return to.put(item, timeout=0.2)
            except queue.Full:
                continue
        raise _Stopped

    def _batches(self, source: queue.Queue[Any]) -> Iterator[_Batch]:
        while True:
            try:
                item = source.get(timeout=0.2)
            except queue.Empty:
                if self._stop.is_set():
                    raise _Stopped from None
                continue
            if isinstance(item, tuple):
                if item[1] is not None:
                    raise item[1]
                return
            yield item

    def _take(self, source: queue.Queue[Any]) -> Iterator[tuple[bytes, bytes]]:
        for batch in self._batches(source):
            yield from batch

    def _hash(self) -> None:
        batch: _Batch = []
        size = 0
        seen: set[bytes] = set()

        def sink(cid: bytes, data: bytes) -> None:
            nonlocal batch, size
            if cid in seen:
                return
            seen.add(cid)
            batch.append((cid, data))
            size += len(data)
            if size >= _BATCH_BYTES or len(batch) >= _BATCH_BLOCKS:
                full, batch, size = batch, [], 0
                self._put(self._hashed, full)

        def add(file: Path) -> Entry:
            tree = FileTree(sink)
            descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                while chunk := _read(descriptor):
                    tree.add(chunk)
                    self._progress(len(chunk))
                    if len(chunk) < CHUNK:
                        break
            finally:
                os.close(descriptor)
            return tree.finish()

        self._root = add_path(self._folder, sink, add=add, hidden=self._hidden, shown=SHOWN)
        self._blocks = len(seen)
        if batch:
            self._put(self._hashed, batch)

    def _ask(self) -> None:
        with self._api.another() as api:
            for batch in self._batches(self._hashed):
                texts = {cids.to_text(cid): (cid, data) for cid, data in batch}
                missing = set(api.post(_UPLOAD, {"want": list(texts)})["missing"])
                if wanted := [pair for text, pair in texts.items() if text in missing]:
                    self._put(self._missing, wanted)


def _read(descriptor: int) -> bytes:
    """A full chunk unless the file ends."""
    chunk = os.read(descriptor, CHUNK)
    while 0 < len(chunk) < CHUNK and (more := os.read(descriptor, CHUNK - len(chunk))):
        chunk += more
    return chunk


class _Pieces:
    """One request's body out of a stream of blocks; it ends after `most` bytes, give or take a block."""

    def __init__(self, first: tuple[bytes, bytes], blocks: Iterator[tuple[bytes, bytes]], most: int) -> None:
        self._first, self._blocks, self._most = first, blocks, most
        self.sent = 0

    def __iter__(self) -> Iterator[bytes]:
        parts: list[bytes] = [car.header([])]
        size = 0
        block: tuple[bytes, bytes] | None = self._first
        while block is not None:
            cid, data = block
            parts += [cids.varint(len(cid) + len(data)), cid, data]
            size += len(data) + 64
            self.sent += len(data)
            if size >= _PIECE:
                yield b"".join(parts)
                parts, size = [], 0
            block = next(self._blocks, None) if self.sent < self._most else None
        yield b"".join(parts)
