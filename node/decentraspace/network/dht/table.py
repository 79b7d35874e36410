"""Servers of the DHT that have answered this node: up to twenty for each distance, few of one network."""

from __future__ import annotations

import ipaddress
from collections import defaultdict

from libp2p.peer.id import ID

from decentraspace.network.dht.wire import K, Known, position
from decentraspace.network.source import is_public

_OF_NETWORK = 2  # of one distance in one /24 (IPv6: /48): many peer ids at one place cost nothing


class Servers:
    """Bounded by distances (256) times `K`; in a network of n servers about log2(n) distances have any."""

    def __init__(self, own: ID) -> None:
        self._own = position(own.to_bytes())
        self._far: defaultdict[int, dict[ID, Known]] = defaultdict(dict)

    def __len__(self) -> int:
        return sum(map(len, self._far.values()))

    def note(self, server: Known) -> None:
        """It has answered. One that is here already takes no further place; where there is none, it is left:
        those that have answered for long will go on."""
        near = self._far[self._distance(server.id)]
        if server.id not in near:
            group = _group(server)
            if len(near) >= K or (group and sum(_group(s) == group for s in near.values()) >= _OF_NETWORK):
                return
        near[server.id] = server

    def failed(self, server: ID) -> None:
        self._far[self._distance(server)].pop(server, None)

    def closest(self, target: int, most: int = K) -> list[Known]:
        """`target`: a position."""
        everyone = [server for near in self._far.values() for server in near.values()]
        return sorted(everyone, key=lambda s: position(s.id.to_bytes()) ^ target)[:most]

    def _distance(self, peer: ID) -> int:
        return (position(peer.to_bytes()) ^ self._own).bit_length()


def _group(server: Known) -> str:
    """The network of its first address, "" for one that is not on the open internet."""
    if not server.addresses:
        return ""
    ip = ipaddress.ip_address(server.addresses[0].split("/")[2])
    if not is_public(str(ip)):
        return ""
    return str(ipaddress.ip_network((ip, 24 if ip.version == 4 else 48), strict=False))
