"""A store of blocks in memory, and DAGs of any shape made by hand."""

from __future__ import annotations

from decentraspace.content import cid as cids
from decentraspace.content import dagpb
from decentraspace.content.cid import varint
from decentraspace.content.dagpb import Link
from decentraspace.content.reader import BlockMissing


class Blocks(dict[bytes, bytes]):
    """`sink` stores, `get` reads as reader's GetBlock and notes in `asked` what was read."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[bytes] = []

    def sink(self, cid: bytes, data: bytes) -> None:
        assert cids.digest_matches(cid, data)
        self[cid] = bytes(data)

    def read(self, cid: bytes) -> bytes:
        self.asked.append(cid)
        if cid not in self:
            raise BlockMissing(cid)
        return self[cid]

    def raw(self, data: bytes) -> bytes:
        return self._keep(cids.RAW, data)

    def node(self, links: list[Link], data: bytes | None) -> bytes:
        return self._keep(cids.DAG_PB, dagpb.encode(links, data))

    def _keep(self, codec: int, data: bytes) -> bytes:
        cid = cids.make(codec, data)
        self[cid] = data
        return cid


def message(*fields: tuple[int, int | bytes]) -> bytes:
    """A protobuf message, in the order given."""
    out = b""
    for number, value in fields:
        if isinstance(value, int):
            out += varint(number << 3) + varint(value)
        else:
            out += varint(number << 3 | 2) + varint(len(value)) + value
    return out
