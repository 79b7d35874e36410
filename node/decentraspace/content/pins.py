"""Pins and reference counts: which blocks must stay.

A pin counts one reference on its root; a block that gains its first reference counts one on each of its
links, and gives them back when it loses its last. The counting of a large DAG is cut into transactions;
what is left to do is in `queue`, so that a crash in between is finished at the next start. `expanded`
says whether a block's links were counted: a block that is referenced but not here cannot be.

Uploads are kept like sites, but counted apart (`_KEPT_ONLY` ends their keys in `refs`): no record names
them, so nobody may ask for them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import structlog

from decentraspace.content import cid as cids
from decentraspace.content import dagpb
from decentraspace.content.blockstore import BlockStore
from decentraspace.content.reader import BlockMissing
from decentraspace.errors import BadInput, DecentraSpaceError, Unprocessable

log = structlog.get_logger(__name__)

_OPERATIONS = 5000  # per transaction
_AT_ONCE = 1000  # of one block's references
_READ = 16 * 1024 * 1024  # bytes of blocks looked through per transaction
_PENDING, _DONE = b"pending", b"done"
_MAX_NAME = 200

UPLOAD = "upload:"
"""How the names of pins start that keep content without its being served."""
_KEPT_ONLY = b"\xff"  # no varint ends so

COUNTS = b"counts"
"""In `meta`: whether the counts are known to be right, see recount.py."""
_UNSURE = b"unsure"

Work = list[tuple[int, bytes, bytes]]
"""(+1 or -1, how the key ends, CID), last in, first out: short however wide the DAG is."""
_SIGNS = {(1, b""): b"+", (-1, b""): b"-", (1, _KEPT_ONLY): b">", (-1, _KEPT_ONLY): b"<"}
_MEANS = {sign: meaning for meaning, sign in _SIGNS.items()}
Failures = list[DecentraSpaceError]  # a block that is not here or malformed: the pin cannot be


def prefix(root: bytes) -> bytes:
    """How the keys of all pins of a root start."""
    return bytes((len(cids.validate(root)),)) + root


def _key(root: bytes, name: str) -> bytes:
    encoded = name.encode()
    if len(encoded) > _MAX_NAME:
        raise BadInput(f"A pin's name has more than {_MAX_NAME} bytes")
    return prefix(root) + encoded


def kind_of(name: str) -> bytes:
    """How the keys end under which a pin of that name counts its references."""
    return _KEPT_ONLY if name.startswith(UPLOAD) else b""


def is_served(store: BlockStore, txn: Any, key: bytes) -> bool:
    """Whether a pin other than an upload's reaches the block with this multihash."""
    cursor = txn.cursor(db=store.db["refs"])
    more = cursor.set_range(key)
    while more and bytes(cursor.key()).startswith(key):
        if not bytes(cursor.key()).endswith(_KEPT_ONLY):
            return True
        more = cursor.next()
    return False


def names_of(store: BlockStore, txn: Any, key: bytes) -> list[bytes]:
    """CIDs under which references to the block with this multihash are counted."""
    found: dict[bytes, None] = {}
    cursor = txn.cursor(db=store.db["refs"])
    more = cursor.set_range(key)
    while more and bytes(cursor.key()).startswith(key):
        codec = bytes(cursor.key())[len(key) :].removesuffix(_KEPT_ONLY)
        found[b"\x01" + codec + key] = None
        more = cursor.next()
    return list(found)


def read_ref(key: bytes) -> tuple[bytes, bytes]:
    """(CID, kind) of a key in `refs`."""
    _, at = cids.read_varint(key)
    length, at = cids.read_varint(key, at)
    multihash, rest = key[: at + length], key[at + length :]
    codec = rest.removesuffix(_KEPT_ONLY)
    return b"\x01" + codec + multihash, rest[len(codec) :]


def listed(store: BlockStore, start: bytes, state: bytes = _DONE) -> list[tuple[bytes, str]]:
    """(root, name) of the pins whose keys start so."""
    found = []
    with store.read() as txn:
        cursor = txn.cursor(db=store.db["pins"])
        more = cursor.set_range(start) if start else cursor.first()
        while more and cursor.key().startswith(start):
            key = cursor.key()
            if cursor.value() == state:
                found.append((key[1 : 1 + key[0]], key[1 + key[0] :].decode()))
            more = cursor.next()
    return found


def pin(store: BlockStore, root: bytes, name: str) -> None:
    """See BlockStore.pin."""
    key = _key(root, name)
    failures: Failures = []
    with counting(store):
        with store.write() as txn:
            if txn.get(key, db=store.db["pins"]) == _DONE:
                return
            done = not _work(store, txn, [(1, kind_of(name), root)], failures) and not failures
            txn.put(key, _DONE if done else _PENDING, db=store.db["pins"])
        if store.recounting is not None:
            store.recounting.pinned(root, kind_of(name), 1)
        if done:
            return
        _drain(store, failures)
        if failures:
            _remove(store, key, root, kind_of(name))
        else:
            with store.write() as txn:
                txn.put(key, _DONE, db=store.db["pins"])
    if failures:
        raise failures[0]


def unpin(store: BlockStore, root: bytes, name: str) -> None:
    """See BlockStore.unpin."""
    key = _key(root, name)
    with counting(store):
        _remove(store, key, root, kind_of(name))


def change(store: BlockStore, cid: bytes, kind: bytes, by: int) -> None:
    """Put right how often a block is counted. Call it under `counting`."""
    failures: Failures = []
    while by:
        step = max(-_AT_ONCE, min(by, _AT_ONCE))
        with store.write() as txn:
            left = _work(store, txn, [(1 if by > 0 else -1, kind, cid)] * abs(step), failures)
        if left:
            _drain(store, failures)
        by -= step


def recover(store: BlockStore) -> None:
    """Finish what a crash interrupted: counting to its end, then pins that were never acknowledged undone."""
    with store.pin_lock:
        _drain(store, [])
        for root, name in listed(store, b"", _PENDING):
            _remove(store, _key(root, name), root, kind_of(name))
        store.unsettled = False


@contextmanager
def counting(store: BlockStore) -> Iterator[None]:
    """Alone, and after whatever an error left unfinished: the queue then holds one operation's work only."""
    with store.pin_lock:
        if store.unsettled:
            recover(store)
        try:
            yield
        except BaseException:
            store.unsettled, store.recounting = True, None  # it may have been told of what was then undone
            raise


def _remove(store: BlockStore, key: bytes, root: bytes, kind: bytes) -> None:
    with store.write() as txn:
        if not txn.delete(key, db=store.db["pins"]):
            return
        left = _work(store, txn, [(-1, kind, root)], [])
    if store.recounting is not None:
        store.recounting.pinned(root, kind, -1)
    if left:
        _drain(store, [])


def _drain(store: BlockStore, failures: Failures) -> None:
    with store.read() as txn:
        if not txn.stat(store.db["queue"])["entries"]:
            return
    while True:
        with store.write() as txn:
            if not _work(store, txn, [], failures):
                return


def _work(store: BlockStore, txn: Any, work: Work, failures: Failures) -> bool:
    """One transaction's share of the queue, `work` first; whether anything is left in the queue."""
    queue = txn.cursor(db=store.db["queue"])
    now, read = store.now(), 0
    for _ in range(_OPERATIONS):
        if not work:
            if not queue.last():
                return False
            entry = queue.value()
            queue.delete()
            work.append((*_MEANS[entry[:1]], entry[1:]))
        change, kind, cid = work.pop()
        links, size = _count(store, txn, change, kind, cid, now, failures)
        work.extend((change, kind, link) for link in links)
        read += size
        if read > _READ or len(work) > _OPERATIONS:
            break
    start = int.from_bytes(queue.key(), "big") + 1 if queue.last() else 0
    for number, (change, kind, cid) in enumerate(work, start):
        entry = _SIGNS[change, kind] + cid
        txn.put(number.to_bytes(8, "big"), entry, db=store.db["queue"], append=True)
    return bool(work or start)


def _count(
    store: BlockStore, txn: Any, change: int, kind: bytes, cid: bytes, now: int, failures: Failures
) -> tuple[list[bytes], int]:
    """Apply one reference; the links to which the change goes on, and how many bytes were read for them."""
    inlined = cids.identity_data(cid)
    if inlined is not None:  # not stored, so not counted: every reference goes on to its links
        return _links(cid, inlined, failures) or [], len(inlined)
    refs = store.db["refs"]
    key = cids.multihash(cid)
    ref = key + cids.varint(cids.codec(cid)) + kind
    found = txn.get(ref, db=refs)
    count, expanded = (int.from_bytes(found[:8], "big"), found[8:] == b"\1") if found else (0, False)
    links: list[bytes] | None = []
    block = b""
    if change > 0:
        if store.guard is not None and (refusal := store.guard(cid, txn)) is not None:
            _fail(failures, refusal)  # counted all the same, as giving the pin up counts it back
        if not expanded:
            block, links = _look(store, txn, cid, key, failures)
            expanded = links is not None
        if count == 0:
            since = txn.get(key, db=store.db["since"])
            if since is not None:
                txn.delete(since + key, db=store.db["loose"])
                txn.delete(key, db=store.db["since"])
    elif count <= 1:
        txn.delete(ref, db=refs)
        if txn.cursor(db=store.db["blocks"]).set_key(key):
            store.touch(txn, key, now)
        if expanded:
            block, links = _look(store, txn, cid, key, failures)
            if block and not cids.digest_matches(cid, block):
                links = None
            if links is None and cids.codec(cid) != cids.RAW:
                # It is gone, or has other bytes than were counted: what it counted on its links stays on them.
                log.error("counted_block_damaged", cid=cids.to_text(cid))
                txn.put(COUNTS, _UNSURE, db=store.db["meta"])
    if change > 0 or count > 1:
        state = b"\1" if expanded else b"\0"
        txn.put(ref, (count + change).to_bytes(8, "big") + state, db=refs)
    if store.recounting is not None:
        store.recounting.counted(ref, max(change, -count), links or [])
    return links or [], len(block)


def _look(
    store: BlockStore, txn: Any, cid: bytes, key: bytes, failures: Failures
) -> tuple[bytes, list[bytes] | None]:
    """A stored block and its links; links None when it is not here or malformed. Leaves are not read."""
    if cids.codec(cid) == cids.RAW:
        if txn.cursor(db=store.db["blocks"]).set_key(key):
            return b"", []
        block = None
    else:
        block = txn.get(key, db=store.db["blocks"])
    if block is None:
        _fail(failures, BlockMissing(cid))
        return b"", None
    return block, _links(cid, block, failures)


def _links(cid: bytes, block: bytes, failures: Failures) -> list[bytes] | None:
    try:
        return dagpb.links_of(cid, block)
    except BadInput as error:
        _fail(failures, Unprocessable(f"Block {cids.to_text(cid)}: {error.detail}"))
        return None


def _fail(failures: Failures, error: DecentraSpaceError) -> None:
    if not failures:  # one is enough; a hostile DAG could have millions
        failures.append(error)
