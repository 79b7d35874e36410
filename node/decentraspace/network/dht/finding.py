"""Content that nobody of this network gives: the DHT is asked who has it, and those are asked by Bitswap.

Only for what an accepted record names: this node brings nothing else for anybody, and a search takes the
time of many others. As only roots are announced, the holders of a root are asked for what is below it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

import structlog
import trio

from decentraspace.content import cid as cids
from decentraspace.network.bitswap.service import Bitswap
from decentraspace.network.bitswap.session import Budget
from decentraspace.network.dht.client import Dht
from decentraspace.network.source import ProviderFailed

log = structlog.get_logger(__name__)

_CONNECT = 10.0  # seconds
_NOT_AGAIN = 60.0  # seconds after which a root may be searched for again
_REMEMBERED = 1000  # roots


class Finding:
    """In place of Bitswap, for the fetcher. `named(root)` says, blocking, whether a record names it."""

    def __init__(self, bitswap: Bitswap, dht: Dht, named: Callable[[bytes], bool]) -> None:
        self._bitswap, self._dht, self._named = bitswap, dht, named
        self._searched: OrderedDict[bytes, float] = OrderedDict()
        self._under_way: dict[bytes, trio.Event] = {}

    async def fetch(self, cid: bytes, budget: Budget, *, whole: bool = True, of: bytes | None = None) -> None:
        """As Bitswap.fetch; `of`: root of the site that it belongs to."""
        try:
            await self._bitswap.fetch(cid, budget, whole=whole)
        except ProviderFailed:
            if not await self._find(of or cid):
                raise
        else:
            return
        await self._bitswap.fetch(cid, budget, whole=whole)

    async def _find(self, root: bytes) -> bool:
        """Whether this node is connected with somebody who was not asked yet and is said to have it. Many
        blocks of one site may be asked for at once: one search is for all of them."""
        if (ended := self._under_way.get(root)) is not None:
            await ended.wait()
            return True
        self._under_way[root] = trio.Event()
        try:
            return await self._search(root)
        finally:
            self._under_way.pop(root).set()

    async def _search(self, root: bytes) -> bool:
        now = trio.current_time()
        if now - self._searched.get(root, -_NOT_AGAIN) < _NOT_AGAIN:
            return False
        self._searched[root] = now
        self._searched.move_to_end(root)
        if len(self._searched) > _REMEMBERED:
            self._searched.popitem(last=False)
        if not await trio.to_thread.run_sync(self._named, root):
            return False
        self._dht.counts.sought += 1
        providers = await self._dht.find(root)
        connected = 0
        for provider in providers:
            try:
                with trio.fail_after(_CONNECT):
                    await self._dht.connect(provider)
                connected += 1
            except Exception as error:  # noqa: BLE001 - whatever libp2p raises: the next one may be there
                log.debug("provider_not_reached", peer=str(provider.id), reason=repr(error))
        self._dht.counts.found += bool(connected)
        log.info("searched_dht", root=cids.to_text(root), providers=len(providers), connected=connected)
        return connected > 0
