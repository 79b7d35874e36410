"""Content from other nodes: CAR streams over HTTP, each block verified before it is stored.

Only blocks that the DAG asks for are taken, each once: a provider that sends anything else, or wrong
bytes, or too little in a while, is left, and the next one goes on from what is still missing. What is
wrong with the content itself (larger than its record says, malformed) ends the fetch: no provider is
to blame for it.
Source: https://specs.ipfs.tech/http-gateways/trustless-gateway/.
"""

from __future__ import annotations

import ipaddress
import math
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import httpx
import structlog
import trio

from decentraspace.content import car, dagpb
from decentraspace.content import cid as cids
from decentraspace.content.blockstore import BlockStore
from decentraspace.errors import BadInput, TooLarge, Unavailable, Unprocessable

log = structlog.get_logger(__name__)

_STALL = 10.0  # seconds without a new verified block
_SLOWEST = 4 * 1024  # verified bytes a second, on average over `_STALL` and longer
_CONNECT = 5.0
_VISITOR = 30.0  # seconds to bring a block for a visitor who waits
_BATCH = 4 * 1024 * 1024  # bytes stored at once
_AT_ONCE = 8  # requests for parts of one DAG
_BLOCKS_MOST = 500_000  # of one DAG under way; bounds what its links take in memory
_PENALTY_FIRST, _PENALTY_MOST = 2.0, 300.0  # seconds a provider that failed is asked last
_PROVIDERS_MOST = 32  # asked for one fetch


class Provider(NamedTuple):
    """`url`: base URL of a gateway, without a slash at the end."""

    url: str
    peer_id: str


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
        self.left -= size
        self.bytes += size
        self.blocks += 1
        if self.left < 0:
            raise TooLarge("The content is larger than its record says")


@dataclass
class _Reputation:
    failures: int = 0
    until: float = -math.inf


class Fetcher:
    """`providers(root)` gives the gateways to ask, best first."""

    def __init__(
        self,
        store: BlockStore,
        providers: Callable[[bytes], Awaitable[list[Provider]]],
        allow_private: bool = False,
        *,
        stall: float = _STALL,
    ) -> None:
        self._store, self._providers, self._allow_private, self._stall = (
            store,
            providers,
            allow_private,
            stall,
        )
        self._under_way: dict[bytes, trio.Event] = {}
        self._reputation: dict[str, _Reputation] = {}

    async def fetch(self, root: bytes, *, deadline: float, max_bytes: int) -> FetchResult:
        """Make the whole DAG present. Unavailable when no provider could give it in `deadline` seconds;
        TooLarge beyond `max_bytes`. One fetch per root at a time: others wait for it and then look again."""
        with trio.move_on_after(deadline):
            async with self._alone(root), self._held():
                return await self._fetch(root, _Budget(max_bytes))
        raise Unavailable(f"Fetching {cids.to_text(root)} took more than {deadline:.0f} s")

    async def fetch_block(self, cid: bytes, root: bytes) -> bool:
        """Make one block present for a visitor who waits; whether it is."""
        async with self._alone(cid):
            if await trio.to_thread.run_sync(self._store.has, cid):
                return True
            for provider in self._ranked(await self._providers(root)):
                try:
                    await self._block(provider, cid, _Budget(cids.MAX_BLOCK))
                except _ProviderFailed as error:
                    self._failed(provider, error)
                    continue
                return True
        return False

    async def _fetch(self, root: bytes, budget: _Budget) -> FetchResult:
        providers = self._ranked(await self._providers(root))
        if not providers and await self._missing(root):
            raise Unavailable("No other node is known that could have the content")
        for provider in providers:
            try:
                await self._from(provider, root, budget)
            except _ProviderFailed as error:
                self._failed(provider, error)
                continue
            self._reputation.pop(provider.url, None)
            break
        if await self._missing(root):
            raise Unavailable(f"None of {len(providers)} nodes gave all of {cids.to_text(root)}")
        return FetchResult(budget.bytes, budget.blocks)

    async def _from(self, provider: Provider, root: bytes, budget: _Budget) -> None:
        """All that is missing, from one provider: whole, or only the parts that are not here."""
        missing = await self._missing(root)
        if missing == [root]:
            await self._block(provider, root, budget)
            missing = await self._missing(root)
            links = dagpb.links_of(root, await trio.to_thread.run_sync(self._store.get_or_raise, root))
            if missing and len(missing) >= len(set(links)):
                # Nothing below is here: one stream is faster than many requests.
                await self._car(provider, root, budget)
                missing = await self._missing(root)
        while missing:
            limit = trio.CapacityLimiter(_AT_ONCE)
            async with trio.open_nursery() as nursery:
                for cid in missing:
                    nursery.start_soon(self._part, provider, cid, budget, limit)
            missing = await self._missing(root)

    async def _part(
        self, provider: Provider, cid: bytes, budget: _Budget, limit: trio.CapacityLimiter
    ) -> None:
        async with limit:
            if cids.codec(cid) == cids.RAW:
                await self._block(provider, cid, budget)
            else:
                await self._car(provider, cid, budget)

    async def _missing(self, root: bytes) -> list[bytes]:
        return await trio.to_thread.run_sync(self._store.missing, root, 1000)

    async def _block(self, provider: Provider, cid: bytes, budget: _Budget) -> None:
        data = b""
        async with self._get(provider, cid, "raw", "application/vnd.ipld.raw") as chunks:
            async for chunk in chunks:
                data += chunk
                if len(data) > cids.MAX_BLOCK:
                    raise _ProviderFailed("a block is too large")
        if not cids.digest_matches(cid, data):
            raise _ProviderFailed("a block does not match its CID")
        budget.spend(len(data))
        await trio.to_thread.run_sync(self._store.put_many, [(cid, data)])

    async def _car(self, provider: Provider, root: bytes, budget: _Budget) -> None:
        decoder = car.CarDecoder()
        expected = {root}
        batch: list[tuple[bytes, bytes]] = []
        size = 0
        try:
            async with self._get(provider, root, "car", "application/vnd.ipld.car; version=1") as chunks:
                progress = trio.current_time()
                async for chunk in chunks:
                    for cid, data in decoder.feed(chunk):
                        if cid not in expected:
                            raise _ProviderFailed("it sends blocks that nobody asked for")
                        expected.discard(cid)
                        expected.update(dagpb.links_of(cid, data))
                        budget.spend(len(data))
                        batch.append((cid, data))
                        size += len(data)
                        progress = trio.current_time()
                    if trio.current_time() - progress > self._stall:
                        raise _ProviderFailed("it stalls")
                    if size >= _BATCH:
                        full, batch, size = batch, [], 0
                        await trio.to_thread.run_sync(self._store.put_many, full)
                decoder.close()
        except (BadInput, Unprocessable) as error:
            raise _ProviderFailed(str(error)) from error
        finally:
            if batch:  # verified, and the next provider need not send it again
                with trio.CancelScope(shield=True):
                    await trio.to_thread.run_sync(self._store.put_many, batch)

    @asynccontextmanager
    async def _get(
        self, provider: Provider, cid: bytes, form: str, accept: str
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """The body of a gateway's answer, in chunks, each within the stall limit. _ProviderFailed."""
        url = httpx.URL(f"{provider.url}/ipfs/{cids.to_text(cid)}", params={"format": form})
        try:
            address = await _checked_address(url, self._allow_private)
            headers = {"Host": url.netloc.decode(), "Accept": accept, "Accept-Encoding": "identity"}
            extensions = {"sni_hostname": url.host}
            timeout = httpx.Timeout(self._stall, connect=_CONNECT)
            async with (
                httpx.AsyncClient(timeout=timeout, trust_env=False, follow_redirects=False) as client,
                client.stream(
                    "GET", url.copy_with(host=address), headers=headers, extensions=extensions
                ) as response,
            ):
                if response.status_code != 200:
                    raise _ProviderFailed(f"it answers {response.status_code}")
                yield response.aiter_raw()
        except (httpx.HTTPError, httpx.InvalidURL, OSError, trio.TooSlowError) as error:
            raise _ProviderFailed(repr(error)) from error

    def _ranked(self, providers: list[Provider]) -> list[Provider]:
        now = trio.current_time()
        return sorted(providers, key=lambda p: self._reputation.get(p.url, _Reputation()).until > now)

    def _failed(self, provider: Provider, error: Exception) -> None:
        known = self._reputation.setdefault(provider.url, _Reputation())
        known.failures += 1
        known.until = trio.current_time() + min(_PENALTY_FIRST * 2**known.failures, _PENALTY_MOST)
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


class _ProviderFailed(Exception):
    """The next one may do better."""


async def _checked_address(url: httpx.URL, allow_private: bool) -> str:
    """An address of the URL's host to connect to. _ProviderFailed for private ones, unless allowed:
    what a stranger announces must not make this node talk to its operator's own machines."""
    try:
        found = await trio.socket.getaddrinfo(url.host, url.port or 443, type=trio.socket.SOCK_STREAM)
    except OSError as error:
        raise _ProviderFailed(f"its name does not resolve: {error}") from error
    for *_, sockaddr in found:
        address = ipaddress.ip_address(str(sockaddr[0]).partition("%")[0])
        if allow_private or (address.is_global and not address.is_multicast):
            return str(address)
    raise _ProviderFailed("its address is private (network.allow_private)")
