"""What this node refuses, in the block store's own environment, where node and gateway workers both read it.

    slot · digest           -> line (u32) · status (u16, 0: allowed) · reason     a rule (denylist.py)
    slot · digest of prefix -> lengths (u16 each) · exceptions (u8)   what prefix rules of a subject compare, but 0
    state                   -> generation, kinds of own rules, lists in order

Slot 0 has the operator's own decisions, each list has another. A list is loaded into a slot nobody reads,
then the state is switched: readers see all of the old list or all of the new one. The last rule of a list
that matches decides, a later list before an earlier one, the operator's own decisions before all lists.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Any, NamedTuple

import libipld

from decentraspace.content import cid as cids
from decentraspace.content import denylist
from decentraspace.content.blockstore import BlockStore
from decentraspace.content.denylist import DOUBLE, EXACT, LEGACY, NAMES, PREFIX, Rule
from decentraspace.errors import Blocked, BlockedByLaw

OWN = 0
LISTS_MOST = 64
_STATE = b"\xffstate"
_VALUE = struct.Struct(">IH")
_BATCH = 20_000  # rules per transaction
_LENGTHS_MOST = 64  # lengths of prefix rules of one subject: each costs a look-up
_REASON_MOST = 1000  # bytes
_DIGEST = 20


class Denied(NamedTuple):
    """`by`: the name of a list, empty for the operator."""

    status: int
    by: str = ""
    reason: str = ""

    def error(self, what: str) -> Blocked:
        """To be raised; `what` begins the sentence."""
        kind = BlockedByLaw if self.status == denylist.LEGAL else Blocked
        who = f"the denylist {self.by!r}, which this node follows" if self.by else "this node's operator"
        why = f": {self.reason}" if self.reason else ""
        return kind(
            f"{what} is blocked by {who}{why}",
            hint="The operator can be asked: see /moderation/ of the node's API.",
            by=self.by or "operator",
        )


class ListState(NamedTuple):
    """A list as it was loaded last. `size` bytes, up to the end of a line, whose SHA-256 is `digest`; `mtime`
    in ns; `kinds`: bits of denylist.py; `faults`: lines that are no rules."""

    slot: int
    path: str
    name: str
    size: int
    digest: bytes
    mtime: int
    lines: int
    rules: int
    kinds: int
    faults: int
    samples: list[str]
    loaded: int
    whole: int = 0  # bytes of the file, a last line without its end included


class State(NamedTuple):
    generation: int
    own: int
    lists: tuple[ListState, ...]


def site_digest(site_id: str) -> bytes:
    return denylist.double("site:" + site_id)


def owner_digest(owner: bytes) -> bytes:
    return denylist.double("owner:" + owner.hex())


class DenyRules:
    """Thread-safe. Reading is for any process, writing for the node alone; both block."""

    def __init__(self, store: BlockStore) -> None:
        self._store, self._db = store, store.db["denied"]
        self.state = State(0, 0, ())
        self.any = False  # whether anything is blocked at all
        self._raw = b""
        self.refresh()

    def refresh(self) -> bool:
        """Take notice of what was written; whether anything was."""
        with self._store.read() as txn:
            raw = txn.get(_STATE, db=self._db)
        if raw is None or raw == self._raw:
            return False
        generation, own, lists = libipld.decode_dag_cbor(raw)
        self.state = State(generation, own, tuple(ListState(*one) for one in lists))
        self.any = bool(own) or any(one.rules for one in self.state.lists)
        self._raw = raw
        return True

    # -- questions

    def find(self, cid: bytes, path: str = "", *, txn: Any = None) -> Denied | None:
        """Whether `/ipfs/CID/path` is refused. `path` is decoded; slashes that change nothing do not count."""
        return self._content(cid, path, False, txn)

    def find_block(self, cid: bytes, *, txn: Any = None) -> Denied | None:
        """Whether the block itself is refused, wherever it is met. A rule for a CID and all paths below it
        does so unless the list has exceptions for some of these paths: they could not be read."""
        return self._content(cid, "", True, txn)

    def _content(self, cid: bytes, path: str, alone: bool, txn: Any) -> Denied | None:
        state = self.state
        if not self.any:
            return None
        if txn is None:
            with self._store.read() as txn:
                return self._content(cid, path, alone, txn)
        subject = denylist.content(cid)
        text = denylist.modern(subject, "") if self._any(DOUBLE) else ""
        if state.own:
            for digest in (denylist.exact(subject, ""), denylist.double(text) if text else b""):
                if digest and (value := txn.get(b"\0" + digest, db=self._db)) is not None:
                    return _denied(value, "")
        clean = _clean(path)
        return self._in_lists(
            txn,
            subject,
            clean,
            [(DOUBLE, text + "/" + clean if clean else text), (LEGACY, _legacy(cid, clean))] if text else [],
            alone,
            names=False,
        )

    def find_name(self, name: str, path: str = "") -> Denied | None:
        """Whether `/ipns/NAME/path` is refused: a key (CID or multihash) or a domain. A rule for the name
        alone is one for all its paths. BadInput for what is no name."""
        state = self.state
        if not any(one.kinds & (NAMES | DOUBLE) for one in state.lists):
            return None
        subject = denylist.name(name)
        hashed = [(DOUBLE, denylist.modern(subject, ""))]
        if subject[:1] == b"d":
            hashed.append((LEGACY, subject[1:].decode() + "/"))
        else:
            hashed.append((LEGACY, cids.to_text(b"\x01" + bytes((cids.LIBP2P_KEY,)) + subject[1:]) + "/"))
        with self._store.read() as txn:
            return self._in_lists(txn, subject, _clean(path), hashed, False, names=True)

    def _in_lists(
        self, txn: Any, subject: bytes, path: str, hashed: list[tuple[int, str]], alone: bool, *, names: bool
    ) -> Denied | None:
        exact = [denylist.exact(subject, path)]
        if names and path:
            exact.append(denylist.exact(subject, ""))
        doubles = [(kind, denylist.double(text)) for kind, text in hashed]
        for one in reversed(self.state.lists):
            slot, best = bytes((one.slot,)), b""
            keys = exact if one.kinds & EXACT else []
            keys = keys + [digest for kind, digest in doubles if one.kinds & kind]
            if one.kinds & PREFIX:
                keys = keys + self._prefixes(txn, slot, subject, path.encode(), alone)
            for digest in keys:
                value = txn.get(slot + digest, db=self._db)
                if value is not None and value[:4] >= best[:4]:
                    best = value
            if best:
                return _denied(best, one.name)
        return None

    def _prefixes(self, txn: Any, slot: bytes, subject: bytes, path: bytes, alone: bool) -> list[bytes]:
        found = txn.get(slot + _measure(subject), db=self._db)
        if alone and found is not None and found[0]:
            return []
        lengths = struct.unpack(f">{len(found) // 2}H", found[1:]) if found is not None else ()
        return [denylist.prefix(subject, path[:n]) for n in (0, *lengths) if n <= len(path)]

    def imposed(self, digest: bytes) -> Denied | None:
        """The operator's decision about a site or an owner (`site_digest`, `owner_digest`)."""
        with self._store.read() as txn:
            value = txn.get(b"\0" + digest, db=self._db)
        return None if value is None else _denied(value, "")

    def _any(self, kind: int) -> bool:
        return bool(self.state.own & kind) or any(one.kinds & kind for one in self.state.lists)

    # -- the operator's own

    def set_own(self, rules: Iterable[tuple[bytes, int, int, str]]) -> None:
        """Make the decisions these: (digest, kind: EXACT or DOUBLE, status, reason). Durable, and all at once."""
        wanted, own = {}, 0
        for digest, kind, status, reason in rules:
            wanted[b"\0" + digest] = _VALUE.pack(0, status) + reason.encode()[:_REASON_MOST]
            own |= kind
        with self._store.read() as txn:
            there = {}
            cursor = txn.cursor(db=self._db)
            more = cursor.set_range(b"\0")
            while more and cursor.key()[0] == OWN:
                there[cursor.key()] = cursor.value()
                more = cursor.next()
        if there == wanted and own == self.state.own:
            return
        with self._store.write() as txn:
            for key in there.keys() - wanted.keys():
                txn.delete(key, db=self._db)
            for key, value in wanted.items():
                if there.get(key) != value:
                    txn.put(key, value, db=self._db)
            self._switch(txn, own=own)
        self.refresh()

    # -- lists

    def load(self, slot: int, rules: Iterable[tuple[int, Rule]]) -> tuple[int, int]:
        """Add rules to a slot, in order; (how many, kinds). Durable, but in use only after `use`."""
        count = kinds = 0
        start = bytes((slot,))
        batch: dict[bytes, bytes] = {}
        lengths: dict[bytes, set[int]] = {}
        for line, rule in rules:
            batch[start + rule.digest] = _VALUE.pack(line, rule.status)
            count += 1
            kinds |= rule.kind
            if rule.kind & PREFIX and rule.length:
                lengths.setdefault(rule.subject, set()).add(rule.length)
            if rule.below and not rule.status:
                lengths.setdefault(rule.subject, set()).add(-1)
            if len(batch) >= _BATCH:
                self._write(start, batch, lengths)
        self._write(start, batch, lengths)
        return count, kinds

    def _write(self, start: bytes, batch: dict[bytes, bytes], lengths: dict[bytes, set[int]]) -> None:
        with self._store.write() as txn:
            # In order, a million keys take a tenth of the time.
            txn.cursor(db=self._db).putmulti(sorted(batch.items()), overwrite=True)
            for subject, new in lengths.items():
                key = start + _measure(subject)
                old = txn.get(key, db=self._db) or b"\0"
                known = set(struct.unpack(f">{len(old) // 2}H", old[1:])) | {n for n in new if n >= 0}
                # Of too many the shortest stay: they refuse the most.
                kept = sorted(known)[:_LENGTHS_MOST]
                exceptions = bytes((old[0] | (-1 in new),))
                txn.put(key, exceptions + struct.pack(f">{len(kept)}H", *kept), db=self._db)
        batch.clear()
        lengths.clear()

    def use(self, lists: Iterable[ListState]) -> None:
        """Have these lists count, in this order, all at once; then remove what is in no slot of theirs."""
        with self._store.write() as txn:
            self._switch(txn, lists=tuple(lists))
        self.refresh()
        self.tidy()

    def free_slot(self, taken: Iterable[int] = ()) -> int:
        """An empty slot that no list is in, nor is `taken`."""
        used = {*taken, *(one.slot for one in self.state.lists)}
        slot = next(slot for slot in range(1, _STATE[0]) if slot not in used)
        self._empty(slot)
        return slot

    def tidy(self) -> None:
        """Remove the rules of slots that are not in use, such as a crash leaves."""
        used = {one.slot for one in self.state.lists}
        for slot in range(1, _STATE[0]):
            if slot not in used:
                self._empty(slot)

    def _empty(self, slot: int) -> None:
        while self._clear(bytes((slot,))):
            pass

    def _clear(self, start: bytes) -> bool:
        """One transaction's share of emptying a slot; whether there is more."""
        with self._store.read() as txn:
            cursor = txn.cursor(db=self._db)
            if not cursor.set_range(start) or cursor.key()[:1] != start:
                return False
        with self._store.write() as txn:
            cursor = txn.cursor(db=self._db)
            more = cursor.set_range(start)
            for _ in range(_BATCH):
                if not more or cursor.key()[:1] != start:
                    return False
                more = cursor.delete() and bool(cursor.key())
        return True

    def _switch(
        self, txn: Any, *, own: int | None = None, lists: tuple[ListState, ...] | None = None
    ) -> None:
        state = self.state
        changed = State(
            state.generation + 1,
            state.own if own is None else own,
            state.lists if lists is None else lists,
        )
        raw = libipld.encode_dag_cbor([changed.generation, changed.own, [list(one) for one in changed.lists]])
        txn.put(_STATE, raw, db=self._db)


def _denied(value: bytes, by: str) -> Denied | None:
    _, status = _VALUE.unpack_from(value)
    return Denied(status, by, value[_VALUE.size :].decode("utf-8", "replace")) if status else None


def _measure(subject: bytes) -> bytes:
    return denylist.exact(b"#" + subject, "")


def _legacy(cid: bytes, path: str) -> str:
    return f"{cids.to_text(cid)}/{path}"


def _clean(path: str) -> str:
    return "/".join(part for part in path.split("/") if part) if path else ""
