"""What two sets of record ids do not have in common, found by comparing fingerprints of ranges. No I/O.

A set is a tree that never changes (`Tree`): a change makes a new tree which shares what stayed the same,
so whoever holds a tree has a snapshot for nothing, and no reader needs a lock. A range is what begins with
the same half-bytes. A range of up to `LEAF` ids is a leaf; a larger one has 16 parts. So the tree, and with
it each fingerprint, follows from the set alone, in whatever order it grew.

The fingerprint of a range is a SHA-256 over its ids, or over counts and fingerprints of its parts, cut to
24 bytes. Ids are chosen by whoever makes records, so it must be hard to find two sets with one fingerprint:
sums of hashes modulo 2^256 are cheaper to keep, but with some ten thousand records of one's own to choose
from, two sums that are equal take only some 2^32 steps (Wagner, "A Generalized Birthday Problem", 2002),
and nodes with the one and the other would never find out. Here it takes a collision of the hash, 2^96 steps.
And one who describes a range is held to it: an answer must have the fingerprint that was announced.

    asks                                     answers
    Comparison(mine, root, most)             tree.summary
    question() -> split, names         ->    answer(tree, split, names)
    learn(split, names)                <-
    ... until question() is None: `wanted` is only there, `offered` only here

The number of questions grows with the logarithm of the sets, the bytes with the differences between them.
After the idea of range-based set reconciliation (A. Meyer, "Range-Based Set Reconciliation", 2023).
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from decentraspace.errors import BadInput

ID = 32  # bytes of a record's SHA-256
LEAF = 32  # ids of a range that is not divided further
FINGERPRINT = 24  # bytes
COUNT_MOST = 1 << 31
PARTS = 16
DEPTH_MOST = 2 * ID
SPLITS_MOST = 512  # ranges in a question
LISTED_MOST = 8192  # ids that one question may ask for
_LISTED_AT_ONCE = 4096  # larger ranges are split even where nothing of them is here


@dataclass(frozen=True, slots=True)
class Summary:
    """How many ids a range has, and its fingerprint."""

    count: int
    fingerprint: bytes


class Question(NamedTuple):
    """Ranges whose parts and ranges whose ids are asked for; each named by its half-bytes, one a byte."""

    split: list[bytes]
    names: list[bytes]


class Tree:
    """An immutable set of 32-byte ids in one range."""

    __slots__ = ("_fingerprint", "count", "ids", "parts")

    def __init__(self, ids: bytes, parts: tuple[Tree, ...] | None, count: int) -> None:
        self.ids, self.parts, self.count = ids, parts, count  # ids: of a leaf, one after the other, sorted
        self._fingerprint: bytes | None = None

    @property
    def fingerprint(self) -> bytes:
        """Worked out when first asked for: most trees are replaced before anybody asks."""
        if self._fingerprint is None:
            written = b"\x00" + self.ids if self.parts is None else b"\x01" + describe(self.parts)
            self._fingerprint = hashlib.sha256(written).digest()[:FINGERPRINT]
        return self._fingerprint

    @property
    def summary(self) -> Summary:
        return Summary(self.count, self.fingerprint)

    def __iter__(self) -> Iterator[bytes]:
        """Ascending."""
        if self.parts is None:
            yield from _separate(self.ids)
        else:
            for part in self.parts:
                yield from part

    def __len__(self) -> int:
        return self.count

    def __contains__(self, name: bytes) -> bool:
        tree, depth = self, 0
        while tree.parts is not None:
            tree = tree.parts[_half_byte(name, depth)]
            depth += 1
        return name in _separate(tree.ids)

    def below(self, prefix: bytes) -> Tree:
        """The part of this (whole) tree whose ids begin with the half-bytes `prefix`."""
        tree = self
        for depth, half in enumerate(prefix):
            if tree.parts is None:
                kept = [i for i in _separate(tree.ids) if _begins(i, prefix, depth)]
                return _leaf(kept)
            tree = tree.parts[half]
        return tree

    def changed(self, added: Iterable[bytes] = (), removed: Iterable[bytes] = ()) -> Tree:
        """With and without these ids; one that is in both is not in the result."""
        gone = set(removed)
        come = sorted(set(added) - gone)
        tree = _without(self, sorted(gone), 0) if gone else self
        return _with(tree, come, 0) if come else tree


def tree_of(ids: Iterable[bytes]) -> Tree:
    return _build(sorted(set(ids)), 0)


def describe(parts: Sequence[Tree]) -> bytes:
    """Count (4 bytes, big endian) and, unless that is 0, the fingerprint of each part: also what is hashed."""
    return b"".join(
        part.count.to_bytes(4, "big") + (part.fingerprint if part.count else b"") for part in parts
    )


# -- the answering side


def answer(tree: Tree, split: Sequence[bytes], names: Sequence[bytes]) -> tuple[list[bytes], list[bytes]]:
    """Descriptions of the ranges to split, ids of those to list. BadInput for what nobody needs to ask."""
    if len(split) + len(names) > SPLITS_MOST or not (split or names):
        raise BadInput("A peer asked for too many ranges at once, or for none")
    described, listed, total = [], [], 0
    for prefix in split:
        parts = tree.below(_checked(prefix)).parts
        if parts is None:
            raise BadInput("A peer asked for the parts of a range that has none")
        described.append(describe(parts))
    for prefix in names:
        found = tree.below(_checked(prefix))
        total += found.count
        if total > LISTED_MOST:
            raise BadInput("A peer asked for too many record names at once")
        listed.append(found.ids if found.parts is None else b"".join(found))
    return described, listed


def _checked(prefix: bytes) -> bytes:
    if not isinstance(prefix, bytes) or len(prefix) >= DEPTH_MOST or any(half >= PARTS for half in prefix):
        raise BadInput("A peer named a range that cannot be")
    return prefix


# -- the asking side


class _Open(NamedTuple):
    """A range that is known to differ."""

    prefix: bytes
    mine: Tree
    theirs: Summary


class Comparison:
    """Compares `mine` with a set that is known by its answers. At most about `most` names are found of
    either kind; `more` says that there are others. BadInput from `learn` when answers do not fit."""

    def __init__(self, mine: Tree, theirs: Summary, most: int) -> None:
        self._most = most
        self._open: list[_Open] = []
        self._asked_split: list[_Open] = []
        self._asked_list: list[_Open] = []
        self.wanted: list[bytes] = []
        self.offered: list[bytes] = []
        self.more = False
        self._compare(b"", mine, theirs)

    def question(self) -> Question | None:
        if len(self.wanted) >= self._most or len(self.offered) >= self._most:
            self.more = self.more or bool(self._open)
            return None
        split: list[_Open] = []
        names: list[_Open] = []
        listed = 0
        # The last first: what is open stays few, however large the sets are.
        while self._open and len(split) + len(names) < SPLITS_MOST:
            found = self._open[-1]
            if _to_be_listed(found):
                listed += found.theirs.count
                if listed > LISTED_MOST:
                    break
                names.append(found)
            else:
                split.append(found)
            self._open.pop()
        self._asked_split, self._asked_list = split, names
        if not split and not names:
            return None
        return Question([o.prefix for o in split], [o.prefix for o in names])

    def learn(self, split: Sequence[bytes], names: Sequence[bytes]) -> None:
        if len(split) != len(self._asked_split) or len(names) != len(self._asked_list):
            raise BadInput("A peer answered other questions than it was asked")
        for asked, listed in zip(self._asked_list, names, strict=True):
            self._learn_ids(asked, listed)
        for asked, described in zip(self._asked_split, split, strict=True):
            self._learn_parts(asked, described)
        self._asked_split, self._asked_list = [], []

    def _learn_ids(self, asked: _Open, listed: bytes) -> None:
        if not isinstance(listed, bytes) or len(listed) != ID * asked.theirs.count:
            raise BadInput("A peer listed more or fewer record names than it announced")
        theirs = _separate(listed)
        if any(a >= b for a, b in pairwise(theirs)) or not all(
            _begins(theirs[end], asked.prefix, 0) for end in (0, -1)
        ):
            raise BadInput("A peer listed record names out of order")
        if _build(theirs, len(asked.prefix)).fingerprint != asked.theirs.fingerprint:
            raise BadInput("A peer's record names do not have the fingerprint it announced")
        here, there = set(asked.mine), set(theirs)
        self._want([i for i in theirs if i not in here])
        self._offer(i for i in asked.mine if i not in there)

    def _learn_parts(self, asked: _Open, described: bytes) -> None:
        parts = _read_parts(asked, described)
        for half, theirs in enumerate(parts):
            mine = asked.mine.parts[half] if asked.mine.parts else None
            prefix = asked.prefix + bytes((half,))
            if mine is None:
                kept = [i for i in _separate(asked.mine.ids) if _begins(i, prefix, len(asked.prefix))]
                mine = _leaf(kept)
            self._compare(prefix, mine, theirs)

    def _compare(self, prefix: bytes, mine: Tree, theirs: Summary) -> None:
        if theirs.count == 0:
            self._offer(mine)
        elif theirs != mine.summary:
            self._open.append(_Open(prefix, mine, theirs))

    def _want(self, ids: list[bytes]) -> None:
        self.wanted += ids

    def _offer(self, ids: Iterable[bytes]) -> None:
        for name in ids:
            if len(self.offered) >= self._most:
                self.more = True
                return
            self.offered.append(name)


def _to_be_listed(found: _Open) -> bool:
    count = found.theirs.count
    return count <= LEAF or (found.mine.count == 0 and count <= _LISTED_AT_ONCE)


def _read_parts(asked: _Open, described: bytes) -> list[Summary]:
    if (
        not isinstance(described, bytes)
        or len(described) > PARTS * (4 + FINGERPRINT)
        or hashlib.sha256(b"\x01" + described).digest()[:FINGERPRINT] != asked.theirs.fingerprint
    ):
        raise BadInput("A peer's parts of a range do not have the fingerprint it announced")
    # A liar may have hashed nonsense: from here on nothing is taken for granted.
    parts, at = [], 0
    for _ in range(PARTS):
        count = int.from_bytes(described[at : at + 4], "big")
        at += 4
        fingerprint = described[at : at + FINGERPRINT] if count else b""
        at += len(fingerprint)
        parts.append(Summary(count, fingerprint))
    if at != len(described) or sum(part.count for part in parts) != asked.theirs.count:
        raise BadInput("A peer's parts of a range do not add up")
    if len(asked.prefix) + 1 >= DEPTH_MOST:
        raise BadInput("A peer divides a range that cannot be divided further")
    return parts


# -- trees


def _separate(ids: bytes) -> list[bytes]:
    return [ids[at : at + ID] for at in range(0, len(ids), ID)]


def _half_byte(name: bytes, depth: int) -> int:
    byte = name[depth >> 1]
    return byte & 15 if depth & 1 else byte >> 4


def _begins(name: bytes, prefix: bytes, known: int) -> bool:
    """Whether `name` begins with the half-bytes `prefix`, of which the first `known` are known to agree."""
    return all(_half_byte(name, depth) == prefix[depth] for depth in range(known, len(prefix)))


def _leaf(ids: Sequence[bytes]) -> Tree:
    return Tree(b"".join(ids), None, len(ids)) if ids else EMPTY


def _build(ids: Sequence[bytes], depth: int) -> Tree:
    """Of ascending ids that have `depth` half-bytes in common."""
    if len(ids) <= LEAF:
        return _leaf(ids)
    parts = tuple(_build(part, depth + 1) for part in _divided(ids, depth))
    return Tree(b"", parts, len(ids))


def _divided(ids: Sequence[bytes], depth: int) -> list[Sequence[bytes]]:
    """Ascending ids by the half-byte at `depth`."""
    bounds = [0]
    head = ids[0][: depth >> 1]
    for half in range(1, PARTS):
        byte = (ids[0][depth >> 1] & 0xF0) | half if depth & 1 else half << 4
        bounds.append(bisect_left(ids, head + bytes((byte,)), bounds[-1]))
    bounds.append(len(ids))
    return [ids[a:b] for a, b in pairwise(bounds)]


def _with(tree: Tree, ids: Sequence[bytes], depth: int) -> Tree:
    """`ids`: ascending, at least one."""
    if tree.parts is None:
        together = sorted({*_separate(tree.ids), *ids})
        return tree if len(together) == tree.count else _build(together, depth)
    parts = tuple(
        _with(part, come, depth + 1) if come else part
        for part, come in zip(tree.parts, _divided(ids, depth), strict=True)
    )
    count = sum(part.count for part in parts)
    return tree if count == tree.count else Tree(b"", parts, count)


def _without(tree: Tree, ids: Sequence[bytes], depth: int) -> Tree:
    """`ids`: ascending, at least one."""
    if tree.parts is None:
        gone = set(ids)
        kept = [i for i in _separate(tree.ids) if i not in gone]
        return tree if len(kept) == tree.count else _leaf(kept)
    parts = tuple(
        _without(part, gone, depth + 1) if gone and part.count else part
        for part, gone in zip(tree.parts, _divided(ids, depth), strict=True)
    )
    count = sum(part.count for part in parts)
    if count == tree.count:
        return tree
    whole = Tree(b"", parts, count)
    return _leaf(list(whole)) if count <= LEAF else whole


EMPTY = Tree(b"", None, 0)
