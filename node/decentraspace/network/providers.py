"""Whom to ask for content: those most likely to have it, and least likely to be made up, first."""

from __future__ import annotations

from collections.abc import Collection

from decentraspace.network.source import Provider
from decentraspace.records.store import RecordStore


def ranked(
    records: RecordStore, root: bytes, connected: Collection[str], own: bytes, now: int
) -> list[Provider]:
    """Gateways of announced nodes other than `own` (a key), best first. Blocking.

    Who took a version with this root in had all of it, and had to answer for it. A receipt is only what a
    node says of itself, and made-up nodes are free where a network lets anybody in: so nodes that this one
    is connected with come before the rest. `connected`: peer ids.
    """
    sponsors = set(records.sponsors_of(root))
    holders = {receipt.key for receipt in records.receipts(root)}
    nodes = [n for n in records.nodes(now) if n.key != own and n.body.gateway]
    nodes.sort(key=lambda n: (n.key not in sponsors, n.peer_id not in connected, n.key not in holders))
    return [Provider(n.body.gateway, n.peer_id) for n in nodes]
