"""Blocks on their way into the store, many to a transaction."""

from __future__ import annotations

from collections.abc import Callable

BATCH = 16 * 1024 * 1024  # bytes written per transaction
OBJECT = 256  # bytes a block costs beside its data while it waits to be written


class BlockWriter:
    """Collects up to 16 MiB of blocks per transaction. `put` fits as an importer's sink. One thread."""

    def __init__(self, put_many: Callable[[list[tuple[bytes, bytes]]], int]) -> None:
        self._put_many = put_many
        self._pending: list[tuple[bytes, bytes]] = []
        self._size = 0
        self.blocks = 0
        self.new = 0

    def put(self, cid: bytes, data: bytes) -> None:
        self._pending.append((cid, data))
        self._size += len(data) + OBJECT
        self.blocks += 1
        if self._size >= BATCH:
            self.flush()

    def flush(self) -> None:
        """Durable when it returns."""
        pending, self._pending, self._size = self._pending, [], 0
        if pending:
            self.new += self._put_many(pending)
