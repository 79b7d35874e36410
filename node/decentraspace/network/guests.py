"""Connected peers that are not nodes of this network, such as IPFS peers: how many there may be.

A guest speaks libp2p but not this network's set exchange, as it says itself (identify). It gets blocks, no
gossip and no set exchange, and takes none of the places that are kept for nodes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from typing import Any

import trio
from libp2p.peer.id import ID

_LOOK = 0.5  # seconds between counts


def protocols(host: Any, peer: ID, *unknown: str) -> set[str]:
    """What a connected peer says it speaks, or `unknown` as long as it has not said so."""
    try:
        return set(host.get_peerstore().get_protocols(peer)) or set(unknown)
    except Exception:  # noqa: BLE001 - whatever the store raises for a peer it does not know
        return set(unknown)


class Guests:
    """`own`: the protocol that all nodes of this network speak. `kept`: peer ids that do not count."""

    def __init__(self, host: Any, own: str, most: int, kept: Collection[str]) -> None:
        self._host, self._own, self._most, self._kept = host, own, most, kept

    def has(self, peer: ID) -> bool:
        return self._own not in protocols(self._host, peer, self._own)

    def members(self) -> list[ID]:
        """Connected peers that are nodes of this network, or have not said yet what they are."""
        return [peer for peer in self._host.get_connected_peers() if not self.has(peer)]

    async def run(self, disconnect: Callable[[ID], Awaitable[None]]) -> None:
        """Until cancelled: of guests beyond the limit, those that came last have to go."""
        here: dict[ID, None] = {}  # in the order in which they came
        while True:
            connected = self._host.get_connected_peers()  # in the order in which they came, too
            found = {p: None for p in connected if self.has(p) and str(p) not in self._kept}
            here = {peer: None for peer in here if peer in found} | found
            for peer in list(here)[self._most :]:
                await disconnect(peer)
            await trio.sleep(_LOOK)
