"""One provider of content: its gateway over HTTP, at an address that was checked.

What a stranger announces is a URL this node will request: only public addresses are connected to
(unless network.allow_private), the very address that was checked, and no redirect is followed.
"""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from typing import Any, NamedTuple

import httpcore
import httpx
import trio

from decentraspace.content import cid as cids

_CONNECT = 5.0  # seconds, as for looking up a name
AT_ONCE = 8  # requests to one provider
_READ = 512 * 1024  # bytes read at once, if as many have come


class Provider(NamedTuple):
    """`url`: base URL of a gateway, without a slash at the end."""

    url: str
    peer_id: str


class ProviderFailed(Exception):
    """The next one may do better. `status`: what it answered by HTTP, 0 when it did not."""

    def __init__(self, reason: str = "", *, status: int = 0) -> None:
        super().__init__(reason)
        self.status = status


@asynccontextmanager
async def open_source(provider: Provider, allow_private: bool, stall: float) -> AsyncIterator[Source]:
    """A provider to ask as often as needed, over connections that are kept. ProviderFailed."""
    try:
        url = httpx.URL(provider.url)
        with trio.fail_after(_CONNECT):
            addresses = await _checked_addresses(url, allow_private)
        pool = httpcore.AsyncConnectionPool(
            ssl_context=_tls() if url.scheme == "https" else None,
            max_connections=AT_ONCE,
            max_keepalive_connections=AT_ONCE,
            network_backend=_Backend(),
        )
    except (httpx.InvalidURL, trio.TooSlowError) as error:
        raise ProviderFailed(repr(error)) from error
    async with pool:
        yield Source(provider.url, pool, addresses, stall)


_FAILURES = (
    httpx.InvalidURL,
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.TimeoutException,
    httpcore.UnsupportedProtocol,
    OSError,
    trio.TooSlowError,
)


class Source:
    """One provider's gateway, at addresses that were checked."""

    def __init__(
        self, base: str, pool: httpcore.AsyncConnectionPool, addresses: list[str], stall: float
    ) -> None:
        self._base, self._pool, self._addresses, self._stall = base, pool, addresses, stall
        self._timeouts = {"connect": _CONNECT, "pool": stall, "read": stall, "write": stall}

    @asynccontextmanager
    async def get(
        self, cid: bytes, form: str, accept: str, *, if_cached: bool = False
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """The body of its answer as it is sent, in chunks, each within the stall limit. `if_cached`: only if it
        has it by itself. ProviderFailed."""
        try:
            response = await self._response(cid, form, accept, if_cached)
            try:
                if response.status != 200:
                    raise ProviderFailed(f"it answers {response.status}", status=response.status)
                yield response.aiter_stream()
            finally:
                await response.aclose()
        except _FAILURES as error:
            raise ProviderFailed(repr(error)) from error

    async def _response(self, cid: bytes, form: str, accept: str, if_cached: bool) -> httpcore.Response:
        url = httpx.URL(f"{self._base}/ipfs/{cids.to_text(cid)}", params={"format": form})
        headers = [
            (b"Host", url.netloc),
            (b"Accept", accept.encode()),
            (b"Accept-Encoding", b"identity"),
            (b"User-Agent", b"decentraspace"),
        ]
        if if_cached:
            headers.append((b"Cache-Control", b"only-if-cached"))
        while True:
            # To the address that was checked, not to what its name may mean by now.
            request = httpcore.Request(
                b"GET",
                httpcore.URL(
                    scheme=url.raw_scheme,
                    host=self._addresses[0].encode(),
                    port=url.port,
                    target=url.raw_path,
                ),
                headers=headers,
                extensions={"sni_hostname": url.host, "timeout": self._timeouts},
            )
            try:
                # Endless headers, or "103 Early Hints" again and again, come within the read timeout.
                with trio.fail_after(_CONNECT + self._stall):
                    return await self._pool.handle_async_request(request)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                if len(self._addresses) == 1:
                    raise
                self._addresses = self._addresses[1:]  # often IPv6 where there is none


class _Backend(httpcore.TrioBackend):
    """Reads more at once than httpcore asks for: 50 MB in pieces of 64 KiB cost twice the time in here."""

    async def connect_tcp(self, *args: Any, **kwargs: Any) -> httpcore.AsyncNetworkStream:
        return _Stream(await super().connect_tcp(*args, **kwargs))


class _Stream(httpcore.AsyncNetworkStream):
    def __init__(self, inner: httpcore.AsyncNetworkStream) -> None:
        self._inner = inner

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109 - httpcore's
        return await self._inner.read(max(max_bytes, _READ), timeout)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109 - the same
        await self._inner.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._inner.aclose()

    async def start_tls(self, *args: Any, **kwargs: Any) -> httpcore.AsyncNetworkStream:
        return _Stream(await self._inner.start_tls(*args, **kwargs))

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


@cache
def _tls() -> ssl.SSLContext:
    return httpx.create_ssl_context()  # reading all root certificates takes longer than a request


async def _checked_addresses(url: httpx.URL, allow_private: bool) -> list[str]:
    """Addresses of the URL's host to connect to. ProviderFailed when all are private, unless allowed:
    what a stranger announces must not make this node talk to its operator's own machines."""
    try:
        found = await trio.socket.getaddrinfo(url.host, url.port or 443, type=trio.socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise ProviderFailed(f"its name does not resolve: {error}") from error
    addresses = [str(sockaddr[0]).partition("%")[0] for *_, sockaddr in found]
    allowed = [a for a in addresses if allow_private or is_public(a)]
    if not allowed:
        raise ProviderFailed("its address is private (network.allow_private)")
    return allowed


_NAT64 = ipaddress.ip_network("64:ff9b::/96")


def is_public(text: str) -> bool:
    """Whether an IP address is one of the open internet; those that carry an IPv4 address are what it is."""
    address = ipaddress.ip_address(text)
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if inner is None and address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
    return address.is_global and not address.is_multicast
