"""Content from other nodes: CAR streams over HTTP, each block verified before it is stored.

Only blocks that the DAG asks for are taken, each once: a provider that sends anything else, or wrong
bytes, or too little in a while, is left, and the next one goes on from what is still missing. What is
wrong with the content itself (larger than its record says, malformed) ends the fetch: no provider is
to blame for it.
Source: https://specs.ipfs.tech/http-gateways/trustless-gateway/.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

import structlog
import trio

from decentraspace.content import cid as cids
from decentraspace.content import dagpb
from decentraspace.content.blockstore import BlockStore
from decentraspace.errors import BadInput, DecentraSpaceError, TooLarge, Unavailable
from decentraspace.network.intake import malformed, take_in
from decentraspace.network.source import AT_ONCE, Provider, ProviderFailed, Source, open_source

__all__ = ["FetchResult", "Fetcher", "Provider"]

log = structlog.get_logger(__name__)

_STALL = 10.0  # seconds without a new verified block
_VISITOR = 30.0  # seconds to bring a block for a visitor who waits
_PENALTY_FIRST, _PENALTY_MOST = 2.0, 300.0  # seconds a provider that failed is asked last
_PROVIDERS_MOST = 32  # asked for one fetch


@dataclass(frozen=True)
class FetchResult:
    """Bytes of blocks taken from others, and how many blocks."""

    bytes: int
    blocks: int


@dataclass
class _Budget:
    left: int
    bytes: int = 0
    blocks: int = 0

    def spend(self, size: int) -> None:
        """Raises TooLarge beyond what there is."""
        self.left -= size
        self.bytes += size
        self.blocks += 1
        if self.left < 0:
            raise TooLarge("The content is larger than its record says")


@dataclass
class _Reputation:
    failures: int = 0
    until: float = -math.inf


@dataclass
class _Flight:
    """A block that someone is fetching already; others wait for the same answer."""

    landed: trio.Event
    present: bool | None = None  # None: whoever fetched it was cancelled


class Exchange(Protocol):
    """Where blocks may come from when no gateway gives them: Bitswap."""

    async def fetch(
        self, root: bytes, budget: _Budget, *, whole: bool = True, of: bytes | None = None
    ) -> None:
        """Store the DAG, or the one block `of` a site's root. ProviderFailed; Unprocessable; what the budget raises."""


class Fetcher:
    """`providers(root)` gives the gateways to ask, best first; what none of them gives, `exchange` may."""

    def __init__(
        self,
        store: BlockStore,
        providers: Callable[[bytes], Awaitable[list[Provider]]],
        allow_private: bool = False,
        *,
        stall: float = _STALL,
        exchange: Exchange | None = None,
    ) -> None:
        self._exchange = exchange
        self._store, self._providers, self._allow_private, self._stall = (
            store,
            providers,
            allow_private,
            stall,
        )
        self._under_way: dict[bytes, trio.Event] = {}
        self._flights: dict[bytes, _Flight] = {}
        self._reputation: dict[str, _Reputation] = {}

    async def fetch(self, root: bytes, *, deadline: float, max_bytes: int) -> FetchResult:
        """Make the whole DAG present. Unavailable when no provider could give it in `deadline` seconds;
        TooLarge beyond `max_bytes`; Unprocessable when the content is malformed; Blocked when this node
        refuses a block of it. One fetch per root at a
        time: others wait for it and then look again."""
        asked: list[Provider] = []
        with trio.move_on_after(deadline):
            async with self._alone(root), self._held():
                return await self._fetch(root, _Budget(max_bytes), asked)
        if asked:
            self._failed(asked[-1], TimeoutError("it was too slow for the deadline"))
        raise Unavailable(f"Fetching {cids.to_text(root)} took more than {deadline:.0f} s")

    async def fetch_block(self, cid: bytes, root: bytes, *, deadline: float = _VISITOR) -> bool:
        """Make one block present for a visitor who waits, within `deadline` seconds; whether it is."""
        with trio.move_on_after(deadline):
            while (flight := self._flights.get(cid)) is not None:
                await flight.landed.wait()
                if flight.present is not None:
                    return flight.present
            flight = self._flights[cid] = _Flight(trio.Event())
            try:
                flight.present = await self._fetch_block(cid, root)
                return flight.present
            except DecentraSpaceError as error:  # the store is full, or the content is malformed
                log.warning("block_not_fetched", cid=cids.to_text(cid), reason=str(error))
                flight.present = False
            finally:
                del self._flights[cid]
                flight.landed.set()
        return False

    async def _fetch_block(self, cid: bytes, root: bytes) -> bool:
        if await trio.to_thread.run_sync(self._sound, cid):
            return True
        await trio.to_thread.run_sync(self._refuse, cid)
        for provider in self._ranked(await self._providers(root)):
            try:
                async with open_source(provider, self._allow_private, self._stall) as source:
                    await self._block(source, cid, _Budget(cids.MAX_BLOCK))
            except ProviderFailed as error:
                self._failed(provider, error)
                continue
            return True
        return await self._exchanged(cid, _Budget(cids.MAX_BLOCK), whole=False, of=root)

    async def _exchanged(
        self, cid: bytes, budget: _Budget, *, whole: bool = True, of: bytes | None = None
    ) -> bool:
        """Whether IPFS peers gave it."""
        if self._exchange is None:
            return False
        try:
            await self._exchange.fetch(cid, budget, whole=whole, of=of)
        except ProviderFailed as error:
            log.info("exchange_failed", cid=cids.to_text(cid), reason=str(error))
            return False
        return True

    def _sound(self, cid: bytes) -> bool:
        """Whether the block is here. One that is damaged is no longer."""
        data = self._store.get(cid)
        if data is None or cids.digest_matches(cid, data):
            return data is not None
        log.error("block_damaged", cid=cids.to_text(cid))
        self._store.drop_damaged(cids.multihash(cid))
        return False

    async def _fetch(self, root: bytes, budget: _Budget, asked: list[Provider]) -> FetchResult:
        if not await self._missing(root):
            return FetchResult(0, 0)
        providers = self._ranked(await self._providers(root))
        for provider in providers:
            asked.append(provider)
            try:
                async with open_source(provider, self._allow_private, self._stall) as source:
                    await self._from(source, root, budget)
            except ProviderFailed as error:
                self._failed(provider, error)
                continue
            self._reputation.pop(provider.url, None)
            return FetchResult(budget.bytes, budget.blocks)
        if await self._exchanged(root, budget):
            return FetchResult(budget.bytes, budget.blocks)
        if not providers:
            raise Unavailable("No other node is known that could have the content")
        raise Unavailable(f"None of {len(providers)} nodes gave all of {cids.to_text(root)}")

    async def _from(self, source: Source, root: bytes, budget: _Budget) -> None:
        """All that is missing, from one provider: whole, or only the parts that are not here."""
        missing = await self._missing(root)
        if missing == [root]:
            block = await self._received(source, root, budget)
            if await trio.to_thread.run_sync(self._lacks_all_below, root, block):
                # One stream is faster than many requests. The root comes in it again, and is kept then: to have
                # the disk sync that one block before takes as long as the next four megabytes.
                await self._car(source, root, budget)
            else:
                await trio.to_thread.run_sync(self._store.put_many, [(root, block)])
            missing = await self._missing(root)
        while missing:
            await self._parts(source, missing, budget)
            missing = await self._missing(root)

    async def _parts(self, source: Source, missing: list[bytes], budget: _Budget) -> None:
        """Several at once. The first failure ends all; it is raised by itself, not in a group."""
        limit = trio.CapacityLimiter(AT_ONCE)
        failures: list[Exception] = []

        async def part(cid: bytes) -> None:
            async with limit:
                try:
                    if cids.codec(cid) == cids.RAW:
                        await self._block(source, cid, budget)
                    else:
                        await self._car(source, cid, budget)
                except (ProviderFailed, DecentraSpaceError) as error:
                    failures.append(error)
                    nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            for cid in missing:
                nursery.start_soon(part, cid)
        if failures:
            raise failures[0]

    async def _missing(self, root: bytes) -> list[bytes]:
        try:
            return await trio.to_thread.run_sync(self._look, root)
        except BadInput as error:
            raise malformed(root, error) from error

    def _look(self, root: bytes) -> list[bytes]:
        """Blocked for content with a block that this node may not have: it is not asked for."""
        missing = self._store.missing(root, 1000)
        for cid in missing:
            self._refuse(cid)
        return missing

    def _lacks_all_below(self, root: bytes, block: bytes) -> bool:
        """Whether the root has links, and none of what they name is here. Unprocessable, Blocked."""
        try:
            links = list(dict.fromkeys(dagpb.links_of(root, block)))
        except BadInput as error:
            raise malformed(root, error) from error
        for cid in links:
            self._refuse(cid)
        return bool(links) and not any(self._store.has_many(links))

    def _refuse(self, cid: bytes) -> None:
        if self._store.guard is not None and (refusal := self._store.guard(cid, None)) is not None:
            raise refusal

    async def _block(self, source: Source, cid: bytes, budget: _Budget) -> None:
        block = await self._received(source, cid, budget)
        await trio.to_thread.run_sync(self._store.put_many, [(cid, block)])

    async def _received(self, source: Source, cid: bytes, budget: _Budget) -> bytes:
        """A block, verified."""
        data = bytearray()
        # A block is the smallest progress there is, so it is what has to come before the stall limit.
        async with source.get(cid, "raw", "application/vnd.ipld.raw") as chunks:
            with trio.fail_after(self._stall):
                async for chunk in chunks:
                    data += chunk
                    if len(data) > cids.MAX_BLOCK:
                        raise ProviderFailed("a block is too large")
        block = bytes(data)
        if not cids.digest_matches(cid, block):
            raise ProviderFailed("a block does not match its CID")
        budget.spend(len(block))
        return block

    async def _car(self, source: Source, root: bytes, budget: _Budget) -> None:
        """A DAG as one stream."""
        async with source.get(root, "car", "application/vnd.ipld.car; version=1") as chunks:
            await take_in(chunks, root, self._store, budget, self._stall)

    def _ranked(self, providers: list[Provider]) -> list[Provider]:
        now = trio.current_time()
        unique = {provider.url: provider for provider in reversed(providers)}  # of two alike, the first
        ranked = [p for p in providers if unique[p.url] is p]
        ranked.sort(key=lambda p: self._reputation.get(p.url, _Reputation()).until > now)
        return ranked[:_PROVIDERS_MOST]

    def _failed(self, provider: Provider, error: Exception) -> None:
        known = self._reputation.setdefault(provider.url, _Reputation())
        known.failures += 1
        penalty = min(_PENALTY_FIRST * 2 ** min(known.failures, 16), _PENALTY_MOST)
        known.until = trio.current_time() + penalty
        if len(self._reputation) > 10_000:
            self._reputation.clear()
        log.info("provider_failed", url=provider.url, reason=str(error))

    @asynccontextmanager
    async def _alone(self, cid: bytes) -> AsyncIterator[None]:
        while (event := self._under_way.get(cid)) is not None:
            await event.wait()
        self._under_way[cid] = trio.Event()
        try:
            yield
        finally:
            self._under_way.pop(cid).set()

    @asynccontextmanager
    async def _held(self) -> AsyncIterator[None]:
        """Garbage collection must leave alone what is being fetched."""
        hold = self._store.hold()
        await trio.to_thread.run_sync(hold.__enter__)
        try:
            yield
        finally:
            hold.__exit__(None, None, None)
