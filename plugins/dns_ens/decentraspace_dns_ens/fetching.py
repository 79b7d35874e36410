"""HTTP for what others name: bounded in bytes and time, without redirects, and never into private networks.

A host name is looked up once, its addresses are judged, and the connection goes to one of those that passed: a name
that has another address a moment later (DNS rebinding) changes nothing. Proxies of the environment are not used.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

import httpcore
import trio

from decentraspace.errors import DecentraSpaceError

_ADDRESSES_MOST = 3  # that are tried
_URL_MOST = 64 * 1024  # characters: calls travel in it
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_SIX = ipaddress.ip_network("2000::/3")  # where the internet's addresses of version 6 are


class Failed(DecentraSpaceError):
    """Nothing came that could be used. `detail` names the host alone: keys may stand in a path."""

    slug, status, title = "ens-fetch-failed", 502, "What a name's resolver points at cannot be had"


class Fetcher:
    """For one trio loop. `allow_private`: also to loopback and private addresses; `most`: bytes of an answer."""

    def __init__(self, *, allow_private: bool, most: int) -> None:
        self._most = most
        backend = httpcore.TrioBackend() if allow_private else _Guarded()
        self._pool = httpcore.AsyncConnectionPool(
            max_connections=32, max_keepalive_connections=8, keepalive_expiry=30.0, network_backend=backend
        )

    async def aclose(self) -> None:
        await self._pool.aclose()

    async def fetch(
        self, method: str, url: str, body: bytes | None = None, *, seconds: float
    ) -> tuple[int, bytes]:
        """(status, body), whatever the status. Failed when nothing whole comes in `seconds`."""
        host = _host(url)
        headers = [(b"Accept", b"application/json"), (b"User-Agent", b"decentraspace")]
        if body is not None:
            headers.append((b"Content-Type", b"application/json"))
        try:
            with trio.fail_after(seconds):
                try:
                    return await self._exchange(method, url, headers, body)
                except httpcore.RemoteProtocolError:
                    # A connection that was kept, and that the server has closed meanwhile. All that is asked are
                    # questions: once more changes nothing.
                    return await self._exchange(method, url, headers, body)
        except trio.TooSlowError:
            raise Failed(f"{host}: no answer within {seconds:g} s") from None
        except _TooMuch:
            raise Failed(f"{host}: an answer of more than {self._most} bytes") from None
        except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException, OSError) as error:
            why = str(error).replace(url, host)[:200] or type(error).__name__
            raise Failed(f"{host}: {why}") from None
        except (httpcore.UnsupportedProtocol, ValueError, TypeError) as error:
            raise Failed(f"{host}: no URL that can be asked ({type(error).__name__})") from None

    async def _exchange(self, method: str, url: str, headers: Any, body: bytes | None) -> tuple[int, bytes]:
        data = bytearray()
        async with self._pool.stream(method, url, headers=headers, content=body) as response:
            async for chunk in response.aiter_stream():
                data += chunk
                if len(data) > self._most:
                    raise _TooMuch
            return response.status, bytes(data)


class _TooMuch(Exception):
    pass


def _host(url: str) -> str:
    """Of a URL that may be asked. Failed for another."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host or len(url) > _URL_MOST or parts.scheme not in ("http", "https"):
        raise Failed("it names what is no http or https URL")
    if not url.isascii() or any(c <= " " or c == "\x7f" for c in url) or parts.username is not None:
        raise Failed(f"{host[:100]}: no URL that can be asked")
    return host


class _Guarded(httpcore.AsyncNetworkBackend):
    """Connects to public addresses alone."""

    def __init__(self) -> None:
        self._inner = httpcore.TrioBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109  # httpcore's own
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        failure: Exception = httpcore.ConnectError("its name has no address")
        for address in await public_addresses(host, port):
            try:
                return await self._inner.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure

    async def connect_unix_socket(self, *_: Any, **__: Any) -> httpcore.AsyncNetworkStream:
        raise httpcore.ConnectError("not over a socket of this machine")

    async def sleep(self, seconds: float) -> None:
        await trio.sleep(seconds)


async def public_addresses(host: str, port: int) -> list[str]:
    """Where to connect for a host name or an address, at most three. httpcore.ConnectError without any."""
    try:
        found = await trio.socket.getaddrinfo(host, port, type=trio.socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise httpcore.ConnectError("its name does not resolve") from error
    addresses = dict.fromkeys(str(sockaddr[0]).partition("%")[0] for *_, sockaddr in found)
    public = [address for address in addresses if is_public(address)]
    if addresses and not public:
        raise httpcore.ConnectError("its address is private (plugin.dns_ens.allow_private)")
    return public[:_ADDRESSES_MOST]


def is_public(text: str) -> bool:
    """Whether an IP address is one of the open internet; one that carries an IPv4 address is what that one is."""
    address = ipaddress.ip_address(text)
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo or (None, None))[1]
        if inner is None and (address in _NAT64 or not int(address) >> 32):
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
        if address not in _SIX:
            return False
    return address.is_global and not address.is_multicast
