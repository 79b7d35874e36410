"""Compressed bodies, made once."""

from __future__ import annotations

import gzip
import threading
from collections import OrderedDict
from collections.abc import Callable

import brotli
import zstandard


class Variants:
    """Bodies by entity tag: a body compressed once serves every path it is found under, such as all those
    of a single-page application. Thread-safe. `most`: bytes kept."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, bytes] = OrderedDict()
        self._size = 0

    def get(self, etag: str, make: Callable[[], bytes]) -> bytes:
        with self._lock:
            if (found := self._kept.get(etag)) is not None:
                self._kept.move_to_end(etag)
                return found
        made = make()
        with self._lock:
            if etag not in self._kept and len(made) <= self._most // 8:
                self._kept[etag] = made
                self._size += len(made)
                while self._size > self._most:
                    self._size -= len(self._kept.popitem(last=False)[1])
            return self._kept.get(etag, made)


def compress(body: bytes, encoding: str) -> bytes:
    if encoding == "br":
        return bytes(brotli.compress(body, quality=6))
    if encoding == "zstd":
        return zstandard.ZstdCompressor(level=9).compress(body)
    return gzip.compress(body, 6, mtime=0)
