"""What is held and shown made to follow the rules: flags of the gateway's index, pins of sites and uploads."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import structlog
import trio

from decentraspace.content import cid as cids
from decentraspace.content import dagpb
from decentraspace.content.blockstore import BlockStore
from decentraspace.content.denied import DenyRules
from decentraspace.content.pins import UPLOAD
from decentraspace.errors import BadInput
from decentraspace.records.store import SiteHead

if TYPE_CHECKING:
    from decentraspace.copies import Copies
    from decentraspace.holdings import Holdings
    from decentraspace.moderation.service import Moderation

log = structlog.get_logger(__name__)

_STRETCH = 2000  # blocks looked at at once; others get their turn in between


async def enforce(moderation: Moderation, holdings: Holdings, copies: Copies, inside: bool) -> None:
    """Let go of what is blocked. `inside`: also where a block somewhere in the content is blocked, which looks
    at every block there is; then take up again what no longer is."""
    blocks, rules = holdings.blocks, moderation.rules
    if not inside:
        await holdings.flag()
        held = await trio.to_thread.run_sync(holdings.versions)
        await _release(holdings, [head for head in held if moderation.refused(head) is not None])
        await trio.to_thread.run_sync(
            _drop_uploads, moderation, blocks, lambda root: rules.find(root) is not None
        )
        return
    blocked = await _blocked_blocks(blocks, rules)
    if blocked:
        found = []
        for head in await trio.to_thread.run_sync(holdings.versions):
            if await trio.to_thread.run_sync(_reaches, blocks, head.root, blocked):
                moderation.taint(head)
                found.append(head)
        await _release(holdings, found)
        await trio.to_thread.run_sync(
            _drop_uploads, moderation, blocks, lambda root: _reaches(blocks, root, blocked)
        )
    await copies.look()


async def _release(holdings: Holdings, heads: list[SiteHead]) -> None:
    for head in heads:
        log.warning("blocked_site_released", site=head.site_id, seq=head.seq, root=cids.to_text(head.root))
        await holdings.refuse(head)


def _drop_uploads(moderation: Moderation, store: BlockStore, refused: Callable[[bytes], bool]) -> None:
    for root, name in list(store.pins()):
        if name.startswith(UPLOAD) and refused(root):
            log.warning("blocked_upload_released", root=cids.to_text(root))
            moderation.drop_upload(root, name)


async def _blocked_blocks(store: BlockStore, rules: DenyRules) -> set[bytes]:
    """Multihashes of all blocked blocks that a pin reaches."""
    found: set[bytes] = set()
    after = b""
    while True:
        after = await trio.to_thread.run_sync(_look, store, rules, after, found)
        if not after:
            return found


def _look(store: BlockStore, rules: DenyRules, after: bytes, found: set[bytes]) -> bytes:
    """One stretch of the keys of `refs`; where to go on, or b"" at the end."""
    with store.read() as txn:
        cursor = txn.cursor(db=store.db["refs"])
        more = cursor.set_range(after + b"\0") if after else cursor.first()
        for _ in range(_STRETCH):
            if not more:
                return b""
            after = bytes(cursor.key())
            multihash, codec = _parts(after)
            if rules.find_block(b"\x01" + codec + multihash, txn=txn) is not None:
                found.add(multihash)
            more = cursor.next()
    return after


def _parts(key: bytes) -> tuple[bytes, bytes]:
    """(multihash, codec as varint) of a key of `refs`."""
    _, offset = cids.read_varint(key)
    length, offset = cids.read_varint(key, offset)
    end = offset + length
    _, behind = cids.read_varint(key, end)
    return key[:end], key[end:behind]


def _reaches(store: BlockStore, root: bytes, blocked: set[bytes]) -> bool:
    """Whether a DAG has one of these blocks, as far as it is here."""
    seen, stack = {root}, [root]
    while stack:
        cid = stack.pop()
        if cids.multihash(cid) in blocked:
            return True
        if cids.codec(cid) == cids.RAW:
            continue
        block = store.get(cid)
        try:
            links = dagpb.links_of(cid, block) if block is not None else []
        except BadInput:
            continue
        for link in links:
            if link not in seen:
                seen.add(link)
                stack.append(link)
    return False
