"""Going through whole DAGs in the block store without reading their leaves."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from decentraspace.content import cid as cids
from decentraspace.content import dagpb

if TYPE_CHECKING:
    from decentraspace.content.blockstore import BlockStore

_STRETCH = 1000  # blocks per read transaction: short ones let the writer use freed pages again


def visit(
    store: BlockStore,
    root: bytes,
    found: Callable[[int], None],
    absent: Callable[[bytes], None],
    enough: Callable[[], bool],
) -> None:
    """Every block of a DAG once, until `enough`: `found(length in bytes)` or `absent(CID)` is called for each.

    BadInput when a block is malformed. Memory: about 150 bytes per block.
    """
    seen, stack = {root}, [root]
    while stack and not enough():
        with store.read(buffers=True) as txn:
            for _ in range(min(_STRETCH, len(stack))):
                cid = stack.pop()
                block = cids.identity_data(cid)  # which may be empty
                if block is None:
                    block = txn.get(cids.multihash(cid), db=store.db["blocks"])
                if block is None:
                    absent(cid)
                    continue
                found(len(block))
                if cids.codec(cid) != cids.RAW:
                    for link in dagpb.links_of(cid, bytes(block)):
                        if link not in seen:
                            seen.add(link)
                            stack.append(link)
