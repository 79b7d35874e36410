"""The gateway's index: which content a site's host shows, in the block store's own environment.

One key per host label (`LABEL--SITEID`), replaced in one transaction: a visitor sees the old version or
the new one, never a mixture, and never an older one afterwards.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import libipld

from decentraspace.content.blockstore import BlockStore
from decentraspace.errors import BadInput

MAX_LABEL = 63  # characters; RFC 1035 section 2.3.4
FLAG_PAUSED = 1  # nothing is served: 402
FLAG_BLOCKED = 2  # nothing is served: 451
FLAG_GONE = 4  # with FLAG_BLOCKED: 410 instead


class SiteEntry(NamedTuple):
    """`owner`: 20 bytes; `root`: CID; `seq`: sequence number of the manifest that says so."""

    site_id: str
    label: str
    owner: bytes
    root: bytes
    seq: int
    flags: int = 0


class SiteIndex:
    """Reads are one short transaction: made for a worker that asks on every request."""

    def __init__(self, store: BlockStore) -> None:
        self._store = store
        self._db = store.db["hosts"]

    def get_raw(self, host_label: str) -> bytes | None:
        """The stored bytes of an entry: equal bytes, equal entry. None for what cannot be a host, too."""
        if not 0 < len(host_label) <= MAX_LABEL or not host_label.isascii():
            return None
        with self._store.read() as txn:
            found: bytes | None = txn.get(host_label.encode(), db=self._db)
            return found

    def get(self, host_label: str) -> SiteEntry | None:
        raw = self.get_raw(host_label)
        return decode(raw) if raw is not None else None

    def put(self, host_label: str, entry: SiteEntry) -> None:
        """Durable when it returns. BadInput for what no host can be."""
        if not 0 < len(host_label) <= MAX_LABEL or not host_label.isascii():
            raise BadInput(f"{host_label[:80]!r} cannot be a host's label")
        with self._store.write() as txn:
            txn.put(host_label.encode(), libipld.encode_dag_cbor(list(entry)), db=self._db)

    def delete(self, host_label: str) -> None:
        """Durable when it returns; nothing when it is not there."""
        if self.get_raw(host_label) is None:
            return
        with self._store.write() as txn:
            txn.delete(host_label.encode(), db=self._db)

    def all(self) -> Iterator[tuple[str, SiteEntry]]:
        with self._store.read() as txn:
            found = [(bytes(k).decode(), bytes(v)) for k, v in txn.cursor(db=self._db)]
        for label, raw in found:
            yield label, decode(raw)


def decode(raw: bytes) -> SiteEntry:
    return SiteEntry(*libipld.decode_dag_cbor(raw))
