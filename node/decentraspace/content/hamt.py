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

FANOUT = 256
_BITS = 8
MAX_DEPTH = 64 // _BITS


def name_hash(name: str) -> bytes:
    """The eight bytes, in the order they are used, of the 64-bit MurmurHash3 (x64) of a name."""
    first, _ = mmh3.hash64(name.encode(), signed=False)
    return int(first).to_bytes(8, "big")


def slot_name(slot: int, name: str = "", fanout: int = FANOUT) -> str:
    width = len(f"{fanout - 1:X}")
    return f"{slot:0{width}X}{name}"


def build(links: list[Link], sink: Callable[[bytes, bytes], None]) -> tuple[bytes, int]:
    """Write the trie of these directory entries; (CID of its root, bytes of the whole DAG)."""
    return _node([(name_hash(link.name), link) for link in links], 0, sink)


def _node(
    entries: list[tuple[bytes, Link]], depth: int, sink: Callable[[bytes, bytes], None]
) -> tuple[bytes, int]:
    if depth >= MAX_DEPTH:
        raise ValueError("two names have the same hash")
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
