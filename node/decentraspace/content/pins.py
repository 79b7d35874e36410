"""Pins and reference counts: which blocks must stay.

A pin counts one reference on its root; a block that gains its first reference counts one on each of its
links, and gives them back when it loses its last. The counting of a large DAG is cut into transactions;
what is left to do is in `queue`, so that a crash in between is finished at the next start. `expanded`
says whether a block's links were counted: a block that is referenced but not here cannot be.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from decentraspace.content import cid as cids
from decentraspace.content import dagpb
from decentraspace.content.blockstore import BlockStore
from decentraspace.content.reader import BlockMissing
from decentraspace.errors import BadInput, DecentraSpaceError, Unprocessable

_OPERATIONS = 5000  # per transaction
_PENDING, _DONE = b"pending", b"done"
_MAX_NAME = 200

Work = deque[tuple[int, bytes]]  # (+1 or -1, CID)
Failures = list[DecentraSpaceError]  # blocks that are not here or malformed: the pin cannot be


def _key(root: bytes, name: str) -> bytes:
    encoded = name.encode()
    if len(encoded) > _MAX_NAME:
        raise BadInput(f"A pin's name has more than {_MAX_NAME} bytes")
    return bytes((len(root),)) + cids.validate(root) + encoded


def pin(store: BlockStore, root: bytes, name: str) -> None:
    """See BlockStore.pin."""
    key = _key(root, name)
    with store.pin_lock:
        with store.write() as txn:
            if txn.get(key, db=store.db["pins"]) == _DONE:
                return
            txn.put(key, _PENDING, db=store.db["pins"])
            failures: Failures = []
            todo = _work(store, txn, deque([(1, root)]), failures)
            if not todo and not failures:
                txn.put(key, _DONE, db=store.db["pins"])
                return
        _drain(store, failures)
        if failures:
            _remove(store, key, root)
            raise failures[0]
        with store.write() as txn:
            txn.put(key, _DONE, db=store.db["pins"])


def unpin(store: BlockStore, root: bytes, name: str) -> None:
    """See BlockStore.unpin."""
    key = _key(root, name)
    with store.pin_lock:
        _remove(store, key, root)


def _remove(store: BlockStore, key: bytes, root: bytes) -> None:
    with store.write() as txn:
        if not txn.delete(key, db=store.db["pins"]):
            return
        _work(store, txn, deque([(-1, root)]), [])
    _drain(store, [])


def recover(store: BlockStore) -> None:
    """Finish what a crash interrupted: counting to its end, then pins that were never acknowledged undone."""
    with store.pin_lock:
        _drain(store, [])
        with store.read() as txn:
            pending = [bytes(k) for k, state in txn.cursor(db=store.db["pins"]) if bytes(state) == _PENDING]
        for key in pending:
            _remove(store, key, key[1 : 1 + key[0]])


def _drain(store: BlockStore, failures: Failures) -> None:
    while True:
        with store.write() as txn:
            if not _work(store, txn, deque(), failures):
                return


def _work(store: BlockStore, txn: Any, work: Work, failures: Failures) -> bool:
    """One transaction's share of the queue, `work` first; whether anything is left in the queue."""
    queue = txn.cursor(db=store.db["queue"])
    now = store.now()
    for _ in range(_OPERATIONS):
        if not work:
            if not queue.first():
                return False
            entry = bytes(queue.value())
            queue.delete()
            work.append((1 if entry[:1] == b"+" else -1, entry[1:]))
        change, cid = work.popleft()
        work.extend((change, link) for link in _count(store, txn, change, cid, now, failures))
    if work:
        start = int.from_bytes(bytes(queue.key()), "big") + 1 if queue.last() else 0
        for number, (change, cid) in enumerate(work, start):
            sign = b"+" if change > 0 else b"-"
            txn.put(number.to_bytes(8, "big"), sign + cid, db=store.db["queue"], append=True)
    return bool(queue.first())


def _count(store: BlockStore, txn: Any, change: int, cid: bytes, now: int, failures: Failures) -> list[bytes]:
    """Apply one reference; the links to which the change goes on."""
    if cids.identity_data(cid) is not None:
        return _inlined_links(cid, failures)
    refs, blocks = store.db["refs"], store.db["blocks"]
    key = cids.multihash(cid)
    ref = key + cids.varint(cids.codec(cid))
    found = txn.get(ref, db=refs)
    count, expanded = (int.from_bytes(found[:8], "big"), found[8:] == b"\1") if found else (0, False)
    links: list[bytes] = []
    if change > 0:
        if not expanded:
            block = txn.get(key, db=blocks)
            if block is None:
                failures.append(BlockMissing(cid))
            else:
                try:
                    links = dagpb.links_of(cid, block) if cids.codec(cid) != cids.RAW else []
                    expanded = True
                except BadInput as error:
                    failures.append(Unprocessable(f"Block {cids.to_text(cid)}: {error.detail}"))
        if count == 0:
            since = txn.get(key, db=store.db["since"])
            if since is not None:
                txn.delete(bytes(since) + key, db=store.db["loose"])
                txn.delete(key, db=store.db["since"])
    elif count <= 1:
        txn.delete(ref, db=refs)
        block = txn.get(key, db=blocks)
        if block is not None:
            store.touch(txn, key, now)
            if expanded and cids.codec(cid) != cids.RAW:
                links = dagpb.links_of(cid, block)
        return links
    txn.put(ref, (count + change).to_bytes(8, "big") + (b"\1" if expanded else b"\0"), db=refs)
    return links


def _inlined_links(cid: bytes, failures: Failures) -> list[bytes]:
    try:
        return dagpb.links_of(cid, cids.identity_data(cid) or b"")
    except BadInput as error:
        failures.append(Unprocessable(f"Block {cids.to_text(cid)}: {error.detail}"))
        return []
