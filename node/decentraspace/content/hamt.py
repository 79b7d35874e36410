"""HAMT-sharded directories: a directory too large for one block, as a trie over the hash of the names.

Each node has `fanout` slots (256, eight bits of the hash); a link's name is the slot in hexadecimal,
followed by the entry's name where the slot holds an entry and not a deeper node.
Source: https://specs.ipfs.tech/unixfs/#hamt-structure-and-parameters.
"""

from __future__ import annotations

from collections.abc import Callable

import mmh3

from decentraspace.content import cid as cids
from decentraspace.content import dagpb, unixfs
from decentraspace.content.dagpb import Link
from decentraspace.errors import BadInput, Unprocessable

FANOUT = 256  # of what is written
MAX_FANOUT = 1024  # of what is read, as in boxo
HASH_BITS = 64
_BITS = 8
MAX_DEPTH = HASH_BITS // _BITS


def name_hash(name: str) -> bytes:
    """The eight bytes, in the order they are used, of the 64-bit MurmurHash3 (x64) of a name."""
    first, _ = mmh3.hash64(name.encode("utf-8", "surrogatepass"), signed=False)
    return int(first).to_bytes(8, "big")


class Path:
    """The slots that a name takes, from the root down; nodes may differ in fanout."""

    def __init__(self, name: str) -> None:
        self._hash = int.from_bytes(name_hash(name), "big")
        self._left = HASH_BITS

    def next(self, fanout: int) -> int | None:
        """The slot in the next node, or None when the hash is used up."""
        self._left -= fanout.bit_length() - 1
        return None if self._left < 0 else (self._hash >> self._left) & (fanout - 1)


def check_fanout(fanout: int | None, hash_type: int | None) -> int:
    """Unprocessable unless the node can be read."""
    if (
        fanout is None
        or not 8 <= fanout <= MAX_FANOUT
        or fanout & (fanout - 1)
        or hash_type != unixfs.MURMUR3_X64_64
    ):
        raise Unprocessable("A sharded directory uses a fanout or hash that is not supported")
    return fanout


def slot_name(slot: int, name: str = "", fanout: int = FANOUT) -> str:
    return f"{slot:0{slot_width(fanout)}X}{name}"


def slot_width(fanout: int) -> int:
    """Hexadecimal digits before a name."""
    return len(f"{fanout - 1:X}")


def build(links: list[Link], sink: Callable[[bytes, bytes], None]) -> tuple[bytes, int]:
    """Write the trie of these directory entries; (CID of its root, bytes of the whole DAG)."""
    return _node([(name_hash(link.name), link) for link in links], 0, sink)


def _node(
    entries: list[tuple[bytes, Link]], depth: int, sink: Callable[[bytes, bytes], None]
) -> tuple[bytes, int]:
    if depth >= MAX_DEPTH:
        # 64-bit MurmurHash3 has no secret: colliding names can be made, and no implementation can shard them.
        raise BadInput("Two names in a large folder cannot be told apart by their hash", hint="Rename one.")
    slots: dict[int, list[tuple[bytes, Link]]] = {}
    for entry in entries:
        slots.setdefault(entry[0][depth], []).append(entry)
    children: list[Link] = []
    bits = 0
    for slot in sorted(slots):
        bits |= 1 << slot
        inside = slots[slot]
        if len(inside) == 1:
            link = inside[0][1]
            children.append(Link(link.cid, slot_name(slot, link.name), link.tsize))
        else:
            cid, size = _node(inside, depth + 1, sink)
            children.append(Link(cid, slot_name(slot), size))
    bitfield = bits.to_bytes((bits.bit_length() + 7) // 8, "big")
    block = dagpb.encode(children, unixfs.encode_shard(bitfield, FANOUT))
    cid = cids.make(cids.DAG_PB, block)
    sink(cid, block)
    return cid, len(block) + sum(link.tsize for link in children)
