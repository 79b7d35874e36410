"""Nodes for tests, reduced to records and network: real libp2p hosts on loopback ports the OS chose."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio
from libp2p.peer.peerinfo import info_from_p2p_addr
from multiaddr import Multiaddr

from decentraspace.config import NetworkConfig, RecordsConfig
from decentraspace.identity.keys import NodeKey
from decentraspace.network.bitswap.service import Bitswap
from decentraspace.network.host import Network
from decentraspace.network.swarm import listening, make_host
from decentraspace.records.store import AddResult, RecordStore
from tests.records.factory import RULES, make_session, make_site, make_wallet, take

DEADLINE = 30.0  # seconds; a test that waits longer has failed


@dataclass
class Peer:
    """A node's records and network. `accepted`: CIDs in the order in which they were handed on."""

    key: NodeKey
    store: RecordStore
    network: Network
    accepted: list[bytes] = field(default_factory=list)

    @property
    def address(self) -> str:
        return self.network.addresses()[0]

    def take(self, record: bytes, at: int | None = None) -> bytes:
        """Store a record as its sponsor; the envelope."""
        envelope = take(record, self.key, at)
        self.store.add(envelope, now=int(time.time()) if at is None else at, local=True)
        return envelope

    def connected(self) -> set[str]:
        return {peer.peer_id for peer in self.network.peers()}


class Factory:
    """Makes peers in a folder, and keeps their stores from one run to the next."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stores: list[RecordStore] = []

    def make(
        self,
        *,
        name: str = "",
        bootstrap: Iterable[str] = (),
        key: NodeKey | None = None,
        records: RecordsConfig | None = None,
        on_accepted: Callable[[Sequence[AddResult]], Any] | None = None,
        bitswap: Bitswap | None = None,
        **settings: Any,
    ) -> Peer:
        store = RecordStore(self._folder / f"{name or len(self._stores)}.sqlite", RULES, records)
        self._stores.append(store)
        accepted: list[bytes] = []

        async def note(results: Sequence[AddResult]) -> None:
            accepted.extend(result.record.cid for result in results)
            if on_accepted is not None:
                await on_accepted(results)

        values: dict[str, Any] = {
            "listen": ("/ip4/127.0.0.1/tcp/0",),
            "bootstrap": tuple(bootstrap),
            "mdns": False,
            "allow_private": True,
            "sync_interval": 600.0,
        }
        key = key or NodeKey.generate()
        network = Network(NetworkConfig(**{**values, **settings}), key, store, note, bitswap)
        return Peer(key, store, network, accepted)

    def close(self) -> None:
        for store in self._stores:
            store.close()


@asynccontextmanager
async def running(*peers: Peer) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        for peer in peers:
            await nursery.start(peer.network.run)
        yield
        nursery.cancel_scope.cancel()


async def until(condition: Callable[[], bool], deadline: float = DEADLINE) -> None:
    """Poll; TooSlowError after `deadline` seconds."""
    with trio.fail_after(deadline):
        while not condition():
            await trio.sleep(0.02)


def ordered_keys(count: int) -> list[NodeKey]:
    """Keys by ascending peer id: of two peers, the one with the higher id begins an exchange."""
    return sorted((NodeKey.generate() for _ in range(count)), key=lambda key: key.peer_id)


def sites(count: int, **changes: Any) -> list[bytes]:
    """Signed manifests of so many sites of one wallet."""
    wallet = make_wallet()
    session = make_session(wallet, **{k: changes.pop(k) for k in ("issued_at", "expires_at") if k in changes})
    return [make_site(wallet, session, label=f"site{n}", **changes) for n in range(count)]


@asynccontextmanager
async def stranger(target: Peer, *, connect: bool = True) -> AsyncIterator[Any]:
    """A bare libp2p host connected to a peer, to do with it what honest nodes do not."""
    host = make_host(NodeKey.generate(), 10)
    async with listening(host, [Multiaddr("/ip4/127.0.0.1/tcp/0")]):
        if connect:
            with trio.fail_after(DEADLINE):
                await host.connect(info_from_p2p_addr(Multiaddr(target.address)))
        yield host
