"""Finding and keeping peers: bootstrap addresses for ever, announced and discovered ones while peers are few."""

from __future__ import annotations

import random
import socket
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any

import structlog
import trio
from libp2p.peer.peerinfo import info_from_p2p_addr
from multiaddr import Multiaddr

from decentraspace.config import NetworkConfig
from decentraspace.network import mdns
from decentraspace.network.source import is_public

log = structlog.get_logger(__name__)

_DEADLINE = 10.0  # seconds to connect
_FIRST, _MOST = 0.5, 60.0  # seconds between attempts to reach one address
_WANTED = 8  # peers; with fewer, addresses that others announced are tried too
_DISCOVERED_MOST = 200


class Dialler:
    """`announced()` gives addresses out of the nodes' announcements: what strangers wrote; `members()` the
    connected peers that are nodes of this network (all of them, if it is not given)."""

    def __init__(
        self,
        config: NetworkConfig,
        peer_id: str,
        host: Any,
        announced: Callable[[], Awaitable[list[str]]],
        members: Callable[[], list[Any]] | None = None,
    ) -> None:
        self._members = members or host.get_connected_peers
        self._config, self._peer_id, self._host, self._announced = config, peer_id, host, announced
        self._discovered: OrderedDict[str, None] = OrderedDict()

    async def run(self, own: list[str]) -> None:
        """Until cancelled. `own`: addresses to tell the local network."""
        async with trio.open_nursery() as nursery:
            for address in (*self._config.bootstrap, *self._config.ipfs_peers):
                nursery.start_soon(self._keep, address)
            nursery.start_soon(self._fill_up)
            if self._config.mdns:
                nursery.start_soon(self._discover, own)

    async def _keep(self, address: str) -> None:
        """Stay connected to an address the operator has named."""
        delay = _FIRST
        while True:
            if await self.dial(address):
                delay = _FIRST
            else:
                delay = min(delay * 2, _MOST)
            await trio.sleep(delay * random.uniform(0.8, 1.2))  # noqa: S311 - jitter

    async def _fill_up(self) -> None:
        while True:
            await trio.sleep(random.uniform(1.0, 3.0))  # noqa: S311 - jitter
            if len(self._members()) >= min(_WANTED, self._config.max_peers):
                continue
            local = list(self._discovered)
            others = await self._announced()
            # Either kind has its turns, however many there are of the other.
            chosen = random.choice([kind for kind in (local, others) if kind] or [[]])  # noqa: S311
            if not chosen:
                continue
            address = random.choice(chosen)  # noqa: S311 - no secret
            if chosen is local or await self._may_dial(address):
                await self.dial(address)

    async def _may_dial(self, address: str) -> bool:
        """Whether what a stranger announced is on the open internet, as `network.allow_private` asks for."""
        if self._config.allow_private:
            return True
        try:
            name = _host_of(address)
            with trio.fail_after(_DEADLINE):
                found = await trio.socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
            return all(is_public(str(sockaddr[0]).partition("%")[0]) for *_, sockaddr in found)
        except (OSError, UnicodeError, ValueError, trio.TooSlowError):
            return False

    async def dial(self, address: str) -> bool:
        """Whether this node is connected to that address's peer afterwards."""
        try:
            info = info_from_p2p_addr(Multiaddr(address))
            if str(info.peer_id) == self._peer_id:
                return False
            if info.peer_id in self._host.get_connected_peers():
                return True
            with trio.fail_after(_DEADLINE):
                await self._host.connect(info)
        except Exception as error:  # noqa: BLE001 - a peer that cannot be reached is nothing unusual
            log.debug("dial_failed", address=address, reason=repr(error))
            return False
        return True

    async def _discover(self, own: list[str]) -> None:
        token = trio.lowlevel.current_trio_token()

        def found(address: str) -> None:
            def note() -> None:
                self._discovered[address] = None
                self._discovered.move_to_end(address)
                if len(self._discovered) > _DISCOVERED_MOST:
                    self._discovered.popitem(last=False)

            try:
                token.run_sync_soon(note)
            except trio.RunFinishedError:
                return

        watch = mdns.discover(own, found)
        await trio.to_thread.run_sync(watch.__enter__)
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 5):
                await trio.to_thread.run_sync(watch.__exit__, None, None, None)


def _host_of(address: str) -> str:
    """The IP address or name in a multiaddress. ValueError when it has none."""
    parts = address.split("/")
    if len(parts) < 3 or parts[1] not in ("ip4", "ip6", "dns", "dns4", "dns6", "dnsaddr"):
        raise ValueError(f"{address[:100]!r} has no host")
    return parts[2]
