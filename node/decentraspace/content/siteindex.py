"""The gateway's index: which content a site's host shows, in the block store's own environment.

One key per host label (`LABEL--SITEID`), replaced in one transaction: a visitor sees the old version or
the new one, never a mixture, and never an older one afterwards. Beside it one key per content that a host shows,
for those who ask by CID.
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
        label = host_label.encode()
        with self._store.write() as txn:
            before = txn.get(label, db=self._db)
            if before is not None and (old := decode(before)).root != entry.root:
                txn.delete(_shown(old.root, label), db=self._db)
            txn.put(label, libipld.encode_dag_cbor(list(entry)), db=self._db)
            txn.put(_shown(entry.root, label), bytes((entry.flags & 0xFF,)), db=self._db)

    def delete(self, host_label: str) -> None:
        """Durable when it returns; nothing when it is not there."""
        if self.get_raw(host_label) is None:
            return
        label = host_label.encode()
        with self._store.write() as txn:
            before = txn.get(label, db=self._db)
            if before is not None:
                txn.delete(_shown(decode(before).root, label), db=self._db)
            txn.delete(label, db=self._db)

    def all(self) -> Iterator[tuple[str, SiteEntry]]:
        with self._store.read() as txn:
            cursor = txn.cursor(db=self._db)
            cursor.set_range(b"\x01")
            found = [(bytes(k).decode(), bytes(v)) for k, v in cursor]
        for label, raw in found:
            yield label, decode(raw)

    def paused(self, root: bytes) -> str | None:
        """A host that shows this content, where all that do are paused; else None."""
        start, host = _shown(root, b""), None
        with self._store.read() as txn:
            cursor = txn.cursor(db=self._db)
            more = cursor.set_range(start)
            while more and bytes(cursor.key()).startswith(start):
                if not bytes(cursor.value())[0] & FLAG_PAUSED:
                    return None
                host = bytes(cursor.key())[len(start) :].decode()
                more = cursor.next()
        return host

    def complete(self) -> None:
        """Of entries that an earlier version wrote, note which content they show. Durable when it returns."""
        for label, entry in list(self.all()):
            with self._store.read() as txn:
                known = txn.get(_shown(entry.root, label.encode()), db=self._db)
            if known is None:
                self.put(label, entry)


def _shown(root: bytes, label: bytes) -> bytes:
    """The key that says that a host shows some content; its value has the host's flags. No label begins with 0."""
    return b"\x00" + bytes((len(root),)) + root + label


def decode(raw: bytes) -> SiteEntry:
    return SiteEntry(*libipld.decode_dag_cbor(raw))
