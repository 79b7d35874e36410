"""Counting references anew after a block was let go that could not be read.

Such a block's links are not known, so what it counted on its children stays on them, and they would never be
garbage. Where that has happened is not known either: so the references of all blocks are counted from the
pins and the blocks, and what differs is put right. It is rare, and it is put off while a block is lacking
whose links count: what it refers to must stay.

Nobody has to wait for it: the references are looked at a few at a time, in the order of their keys, and what
changes behind that place meanwhile is told to the recount (pins.py). Pinning and unpinning change a block's count
by as much as what refers to it, so that only the difference there was before is left in the end.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Generator, Iterator
from itertools import islice

import structlog

from decentraspace.content import cid as cids
from decentraspace.content import dagpb, pins
from decentraspace.content.blockstore import BlockStore

log = structlog.get_logger(__name__)

_AT_ONCE = 250_000  # counts in memory, at about 200 bytes each; more are taken in several goes
_STRETCH = 200  # references looked at before others have their turn
_MENDED = 8  # counts put right before others have their turn
_PAUSE = 0.002  # seconds for others: a lock that is taken again at once is given to nobody else
_SOUND, _COUNTING = b"sound", b"counting"

Ref = tuple[bytes, bytes]
"""CID, how the keys of its kind of references end."""


def is_due(store: BlockStore) -> bool:
    """Whether a block was let go unread since the last recount (or there never was one)."""
    with store.read() as txn:
        return bool(txn.get(pins.COUNTS, db=store.db["meta"]) != _SOUND)


def recount(store: BlockStore, at_once: int = _AT_ONCE) -> int | None:
    """How many references were put right; None when it is put off, because a block is lacking or the store
    could not be written. Blocking, for long; everything else goes on meanwhile."""
    steps = in_steps(store, at_once)
    while True:
        try:
            next(steps)
        except StopIteration as done:
            changed: int | None = done.value
            return changed
        time.sleep(_PAUSE)


def in_steps(
    store: BlockStore, at_once: int = _AT_ONCE, stretch: int = _STRETCH
) -> Generator[None, None, int | None]:
    """`recount`, with nothing locked between its steps. One at a time for a store."""
    with store.write() as txn:
        txn.put(pins.COUNTS, _COUNTING, db=store.db["meta"])
    with store.read() as txn:
        goes = txn.stat(store.db["refs"])["entries"] // at_once + 1
    changed = 0
    for go in range(goes):
        with pins.counting(store):
            task = store.recounting = Recount(store, go, goes)
        try:
            while task.looks or task.wrong:
                yield
                with pins.counting(store):
                    if store.recounting is not task:
                        return None
                    if not task.looks:
                        changed += task.mend(_MENDED)
                    elif not task.look(stretch):
                        return None
        finally:
            with store.pin_lock:
                store.recounting = None
    with store.write() as txn:
        if txn.get(pins.COUNTS, db=store.db["meta"]) == _COUNTING:  # else another was let go since
            txn.put(pins.COUNTS, _SOUND, db=store.db["meta"])
    return changed


class Recount:
    """Of one share of the blocks; all under `pin_lock`. `wrong`: by how much counts are to be changed, as far as
    it has looked."""

    def __init__(self, store: BlockStore, go: int, goes: int) -> None:
        self._store, self._go, self._goes = store, go, goes
        self.wrong: dict[Ref, int] = {}
        self.looks = True  # there is more to look at
        self._at = b""  # the last key looked at
        for root, name in store.pins():
            self.pinned(root, pins.kind_of(name), 1)

    def pinned(self, root: bytes, kind: bytes, change: int) -> None:
        """A pin has come (+1) or gone (-1)."""
        for cid in _stored([root]):
            self._add(cid, kind, change)

    def counted(self, ref: bytes, change: int, links: list[bytes]) -> None:
        """The count of a key in `refs` has changed; `links`: those of its block, if they are now counted for the
        first time, or no longer."""
        if self.looks and ref > self._at:
            return  # it is looked at later
        cid, kind = pins.read_ref(ref)
        self._add(cid, kind, -change)
        for link in _stored(links):
            self._add(link, kind, change)

    def _add(self, cid: bytes, kind: bytes, by: int) -> None:
        if zlib.crc32(cids.multihash(cid)) % self._goes == self._go:
            left = self.wrong.pop((cid, kind), 0) + by
            if left:
                self.wrong[cid, kind] = left

    def look(self, most: int) -> bool:
        """At some more references; whether all of their blocks are here whose links count."""
        store = self._store
        entries: list[tuple[bytes, bytes]] = []
        with store.read() as txn:
            cursor = txn.cursor(db=store.db["refs"])
            more = cursor.set_range(self._at + b"\0") if self._at else cursor.first()
            while more and len(entries) < most:
                entries.append((bytes(cursor.key()), bytes(cursor.value())))
                more = cursor.next()
        for ref, value in entries:
            cid, kind = pins.read_ref(ref)
            self._add(cid, kind, -int.from_bytes(value[:8], "big"))
            if value[8:] == b"\1" and cids.codec(cid) != cids.RAW:
                block = store.get(cid)
                if block is None or not cids.digest_matches(cid, block):
                    return False
                for link in _stored(dagpb.links_of(cid, block)):
                    self._add(link, kind, 1)
            self._at = ref
        self.looks = more
        return True

    def mend(self, most: int) -> int:
        """Put some counts right; how many. Each change is told to `counted` like any other."""
        done = 0
        for cid, kind in list(islice(self.wrong, most)):
            by = self.wrong.get((cid, kind), 0)
            if by:  # else another has put it right
                done += 1
                log.warning("references_recounted", cid=cids.to_text(cid), by=by)
                pins.change(self._store, cid, kind, by)
                self.wrong.pop((cid, kind), None)
        return done


def _stored(links: list[bytes]) -> Iterator[bytes]:
    """What is counted for these links: those that inline their block stand for its links."""
    todo = list(links)
    while todo:
        cid = todo.pop()
        inlined = cids.identity_data(cid)
        if inlined is None:
            yield cid
        else:
            todo.extend(dagpb.links_of(cid, inlined))
