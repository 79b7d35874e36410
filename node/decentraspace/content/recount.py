"""Counting references anew after a block was let go that could not be read.

Such a block's links are not known, so what it counted on its children stays on them, and they would never be
garbage. Where that has happened is not known either: so the references of all blocks are counted from the
pins and the blocks, and what differs is put right. It is rare, and it is put off while a block is lacking
whose links count: what it refers to must stay.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterator

import structlog

from decentraspace.content import cid as cids
from decentraspace.content import dagpb, pins
from decentraspace.content.blockstore import BlockStore

log = structlog.get_logger(__name__)

_AT_ONCE = 250_000  # counts in memory, at about 200 bytes each; more are taken in several goes
_STRETCH = 1000  # references per read transaction
_SOUND, _COUNTING = b"sound", b"counting"

Ref = tuple[bytes, bytes]
"""CID, how the keys of its kind of references end."""


def is_due(store: BlockStore) -> bool:
    """Whether a block was let go unread since the last recount (or there never was one)."""
    with store.read() as txn:
        return bool(txn.get(pins.COUNTS, db=store.db["meta"]) != _SOUND)


def recount(store: BlockStore, at_once: int = _AT_ONCE) -> int | None:
    """How many references were put right; None when it is put off, because a block is lacking. Blocking.

    Reading goes on meanwhile; pinning, unpinning and collecting wait for one go through the references.
    """
    with store.write() as txn:
        txn.put(pins.COUNTS, _COUNTING, db=store.db["meta"])
    with store.read() as txn:
        goes = txn.stat(store.db["refs"])["entries"] // at_once + 1
    changed = 0
    for go in range(goes):
        with pins.counting(store):
            wrong = _wrong(store, go, goes)
            if wrong is None:
                return None
            for (cid, kind), by in wrong.items():
                changed += 1
                log.warning("references_recounted", cid=cids.to_text(cid), by=by)
                pins.change(store, cid, kind, by)
    with store.write() as txn:
        if txn.get(pins.COUNTS, db=store.db["meta"]) == _COUNTING:  # else another was let go since
            txn.put(pins.COUNTS, _SOUND, db=store.db["meta"])
    return changed


def _wrong(store: BlockStore, go: int, goes: int) -> dict[Ref, int] | None:
    """By how much counts of this go's share of the blocks are to be changed; None when a block is lacking."""
    found: Counter[Ref] = Counter()

    def add(cid: bytes, kind: bytes, by: int) -> None:
        if zlib.crc32(cids.multihash(cid)) % goes == go:
            found[cid, kind] += by

    for root, name in store.pins():
        for cid in _stored([root]):
            add(cid, pins.kind_of(name), 1)
    for cid, kind, count, expanded in _references(store):
        add(cid, kind, -count)
        if expanded and cids.codec(cid) != cids.RAW:
            block = store.get(cid)
            if block is None or not cids.digest_matches(cid, block):
                return None
            for link in _stored(dagpb.links_of(cid, block)):
                add(link, kind, 1)
    return {ref: by for ref, by in found.items() if by}


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


def _references(store: BlockStore) -> Iterator[tuple[bytes, bytes, int, bool]]:
    """(CID, kind, count, whether its links were counted) of all; no transaction is open in between."""
    after = b""
    while True:
        entries: list[tuple[bytes, bytes]] = []
        with store.read() as txn:
            cursor = txn.cursor(db=store.db["refs"])
            more = cursor.set_range(after + b"\0") if after else cursor.first()
            while more and len(entries) < _STRETCH:
                entries.append((bytes(cursor.key()), bytes(cursor.value())))
                more = cursor.next()
        for key, value in entries:
            yield *pins.read_ref(key), int.from_bytes(value[:8], "big"), value[8:] == b"\1"
        if not more:
            return
        after = entries[-1][0]
