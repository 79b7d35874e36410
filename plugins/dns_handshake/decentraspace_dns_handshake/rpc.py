"""hsd over JSON-RPC: several endpoints as one, the next when one fails.

What is asked about one name goes into one request (a batch), and so does which chain the endpoint is on and how far
it is: every answer says for itself whether it can be believed. Answers are bounded in size and time, and endpoints
are named by host alone.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import httpx
import trio

from decentraspace.errors import DecentraSpaceError, Unavailable

_ANSWER_MOST = 256 * 1024  # bytes; a resource has 512
_REST_FIRST, _REST_MOST = 1.0, 60.0  # seconds that an endpoint that failed is asked last
_STATE = ("getblockchaininfo", ())

Call = tuple[str, Sequence[Any]]
"""Method and parameters."""


class Refused(DecentraSpaceError):
    """hsd answered one call with an error. `code`: as of lib/node/rpc.js of hsd."""

    slug, status, title = "handshake-refused", 502, "hsd does not answer this"

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Answers:
    """`height`: of the endpoint's chain; `given`: for each call its result, or Refused."""

    height: int
    given: tuple[Any, ...]


@dataclass
class _Endpoint:
    url: str
    headers: dict[str, str] = field(repr=False)
    auth: httpx.BasicAuth | None = field(repr=False)
    failures: int = 0
    rests_until: float = 0.0
    trouble: str = ""

    @property
    def name(self) -> str:
        return urlsplit(self.url).hostname or "?"


class Endpoints:
    """For one trio loop. `keys`: an API key for each URL, or ""; `network` as hsd calls it; `stale_after`: seconds
    that the chain's median time may be old, 0 for any; `timeout`: seconds for one answer."""

    def __init__(
        self, urls: Sequence[str], keys: Sequence[str], network: str, stale_after: float, timeout: float
    ) -> None:
        headers = {"user-agent": "decentraspace", "accept-encoding": "identity"}
        self._all = [
            _Endpoint(url, headers, httpx.BasicAuth("x", key) if key else None)
            for url, key in zip(urls, keys, strict=True)
        ]
        self._network = "test" if network == "testnet" else network
        self._stale_after, self._timeout = stale_after, timeout
        self._client = httpx.AsyncClient(
            timeout=httpx.Timeout(timeout),
            follow_redirects=False,
            trust_env=False,
            limits=httpx.Limits(max_connections=64),
        )

    async def aclose(self) -> None:
        await self._client.aclose()

    @property
    def troubles(self) -> dict[str, str]:
        """Host and what is wrong with it, of those that failed the last time."""
        return {e.name: e.trouble for e in self._all if e.trouble}

    async def ask(self, *calls: Call) -> Answers:
        """What the first endpoint that can be believed says. Unavailable when there is none."""
        for endpoint in self._ordered():
            try:
                with trio.fail_after(self._timeout):
                    data = await self._post(endpoint, [*calls, _STATE])
                answers = self._read(data, len(calls) + 1)
                endpoint.failures, endpoint.rests_until, endpoint.trouble = 0, 0.0, ""
                return answers
            except trio.TooSlowError:
                self._failed(endpoint, f"no answer within {self._timeout:g} s")
            except (httpx.HTTPError, httpx.InvalidURL, ValueError, RecursionError) as error:
                self._failed(
                    endpoint, str(error).replace(endpoint.url, endpoint.name) or type(error).__name__
                )
        raise Unavailable(
            "; ".join(f"{host}: {trouble}" for host, trouble in self.troubles.items())[:1000],
            hint="Look at plugin.dns_handshake.rpc and the hsd behind it.",
        )

    def _ordered(self) -> list[_Endpoint]:
        now = trio.current_time()
        return sorted(self._all, key=lambda e: e.rests_until > now)

    @staticmethod
    def _failed(endpoint: _Endpoint, trouble: str) -> None:
        endpoint.failures += 1
        rest = min(_REST_FIRST * 2 ** min(endpoint.failures, 10), _REST_MOST)
        endpoint.rests_until, endpoint.trouble = trio.current_time() + rest, trouble[:200]

    async def _post(self, endpoint: _Endpoint, calls: Sequence[Call]) -> bytes:
        body = [
            {"jsonrpc": "2.0", "id": number, "method": method, "params": list(params)}
            for number, (method, params) in enumerate(calls)
        ]
        data = bytearray()
        auth = endpoint.auth if endpoint.auth is not None else httpx.USE_CLIENT_DEFAULT
        async with self._client.stream(
            "POST", endpoint.url, json=body, headers=endpoint.headers, auth=auth
        ) as response:
            if response.status_code in (401, 403):
                raise ValueError("it does not take the API key")
            if response.status_code != 200:
                raise ValueError(f"HTTP {response.status_code}")
            async for chunk in response.aiter_raw():
                data += chunk
                if len(data) > _ANSWER_MOST:
                    raise ValueError(f"an answer of more than {_ANSWER_MOST} bytes")
        return bytes(data)

    def _read(self, data: bytes, count: int) -> Answers:
        """ValueError for what is no answer to `count` calls, or that of an endpoint not to be believed."""
        items = json.loads(data)
        if not isinstance(items, list) or len(items) != count:
            raise ValueError("what answers is not hsd")
        found: dict[int, Any] = {}
        for item in items:
            if not isinstance(item, dict) or type(item.get("id")) is not int or item["id"] in found:
                raise ValueError("what answers is not hsd")
            found[item["id"]] = _result(item)
        given = [found.get(number, _NONE) for number in range(count)]
        if _NONE in given:
            raise ValueError("an answer is missing")
        state = given.pop()
        if isinstance(state, Refused):
            raise ValueError(state.detail)
        return Answers(self._height(state), tuple(given))

    def _height(self, state: Any) -> int:
        if not isinstance(state, dict):
            raise ValueError("what answers is not hsd")
        chain, height, median = state.get("chain"), state.get("blocks"), state.get("mediantime")
        if type(height) is not int or type(median) is not int or not 0 <= height < 2**32:
            raise ValueError("what answers is not hsd")
        if chain != self._network:
            raise ValueError(f"it is on the network {str(chain)[:20]!r}, not {self._network!r}")
        age = time.time() - median
        if self._stale_after and age > self._stale_after:
            raise ValueError(f"its chain is {age / 3600:.0f} hours behind")
        return height


_NONE = object()


def _result(item: dict[str, Any]) -> Any:
    error = item.get("error")
    if error is None:
        if "result" not in item:
            raise ValueError("an answer without a result")
        return item["result"]
    error = error if isinstance(error, dict) else {}
    code = error.get("code")
    return Refused(str(error.get("message", "an error"))[:300], code if type(code) is int else 0)
