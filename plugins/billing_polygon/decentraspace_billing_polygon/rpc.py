"""Several JSON-RPC endpoints as one: the next when one fails, and several that agree where money is moved.

Everything an endpoint says is hostile until enough of them say the same: answers are bounded in size and time,
and what they say is compared after it was brought into one form. Endpoints are named by their host alone,
because keys stand in their paths.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import httpx
import trio

from decentraspace.errors import DecentraSpaceError, Unavailable

_ANSWER_MOST = 64 * 1024 * 1024
_REST_FIRST, _REST_MOST = 1.0, 60.0  # seconds an endpoint that failed is asked last


_GRACE = 1.0  # seconds that others get once enough have answered, where the more the better


class Refused(DecentraSpaceError):
    """An endpoint answered with an error: the call reverts, the nonce is used, … `code`, `data`: EIP-1474."""

    slug, status, title = "chain-refused", 502, "The chain does not take this"

    def __init__(self, message: str, code: int = 0, data: str = "") -> None:
        super().__init__(message)
        self.code, self.data = code, data

    @property
    def reverts(self) -> bool:
        """Whether the contract said no, rather than the endpoint."""
        return self.code == 3 or "revert" in self.detail.lower()


@dataclass
class _Answers:
    """What endpoints said to one question."""

    given: list[Any] = field(default_factory=list)
    refusals: list[Refused] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)


@dataclass
class _Endpoint:
    url: str
    failures: int = 0
    rests_until: float = 0.0
    trouble: str = ""

    @property
    def name(self) -> str:
        return urlsplit(self.url).hostname or "?"


class Endpoints:
    """For one trio loop. `quorum`: endpoints that must agree in `agreed`; `timeout`: seconds for one answer."""

    def __init__(self, urls: tuple[str, ...], quorum: int, timeout: float) -> None:
        self._all = [_Endpoint(url) for url in urls]
        self.quorum, self.timeout = quorum, timeout
        self._client = httpx.AsyncClient(
            timeout=httpx.Timeout(timeout), follow_redirects=False, limits=httpx.Limits(max_connections=32)
        )
        self._number = 0

    async def aclose(self) -> None:
        await self._client.aclose()

    @property
    def troubles(self) -> dict[str, str]:
        """Host and what is wrong with it, of those that failed the last time."""
        return {e.name: e.trouble for e in self._all if e.trouble}

    async def any(self, method: str, *params: Any, form: Callable[[Any], Any] = lambda answer: answer) -> Any:
        """What the first endpoint that answers says, brought into `form`. Refused if it says no, Unavailable if
        none answers."""
        troubles = []
        for endpoint in self._ordered():
            try:
                return await self._formed(endpoint, method, params, form)
            except Unavailable as error:
                troubles.append(error.detail)
        raise Unavailable("; ".join(troubles) or "There is no endpoint")

    async def agreed(self, method: str, *params: Any, form: Callable[[Any], Hashable]) -> Any:
        """What at least `quorum` endpoints say, brought into `form`. Refused when as many say no (their first
        reason), Unavailable when too few agree or answer; what does not have that form is no answer."""

        def decided(answers: _Answers) -> bool:
            return _most_common(answers.given)[1] >= self.quorum or len(answers.refusals) >= self.quorum

        answers = await self._everywhere(method, params, form, decided, 0.0)
        found, count = _most_common(answers.given)
        if count >= self.quorum:
            return found
        if len(answers.refusals) >= self.quorum:
            raise answers.refusals[0]
        raise self._too_few(method, answers)

    async def least_known(self, method: str, *params: Any, form: Callable[[Any], int]) -> int:
        """The highest number that `quorum` endpoints have reached. Unavailable when fewer answer."""
        answers = await self._numbers(method, params, form)
        return int(sorted(answers.given, reverse=True)[self.quorum - 1])

    async def middle(self, method: str, *params: Any, form: Callable[[Any], int]) -> int:
        """The number in the middle (the lower of two) of what at least `quorum` endpoints say, so that none makes
        it up alone. Refused when as many say no, Unavailable when too few answer."""
        answers = await self._numbers(method, params, form)
        return int(sorted(answers.given)[(len(answers.given) - 1) // 2])

    async def told(self, method: str, *params: Any) -> None:
        """Tell all endpoints; fine if one takes it. Refused with the reason of the first that did not."""

        def taken(answers: _Answers) -> bool:
            return bool(answers.given)

        answers = await self._everywhere(method, params, lambda _: 0, taken, _GRACE)
        if not answers.given:
            raise answers.refusals[0] if answers.refusals else Unavailable("; ".join(answers.troubles))

    async def _numbers(self, method: str, params: tuple[Any, ...], form: Callable[[Any], int]) -> _Answers:
        def enough(answers: _Answers) -> bool:
            return len(answers.given) >= self.quorum or len(answers.refusals) >= self.quorum

        answers = await self._everywhere(method, params, form, enough, _GRACE)
        if len(answers.given) < self.quorum:
            if len(answers.refusals) >= self.quorum:
                raise answers.refusals[0]
            raise self._too_few(method, answers)
        return answers

    def _too_few(self, method: str, answers: _Answers) -> Unavailable:
        said = f"{len(answers.given)} of {len(self._all)} endpoints answer {method}, {self.quorum} must agree"
        reasons = [*answers.troubles, *(refusal.detail for refusal in answers.refusals)]
        return Unavailable(
            "; ".join([said, *reasons])[:1000], hint="Look at plugin.billing_polygon.rpc and its endpoints."
        )

    async def _everywhere(
        self,
        method: str,
        params: tuple[Any, ...],
        form: Callable[[Any], Any],
        enough: Callable[[_Answers], bool],
        grace: float,
    ) -> _Answers:
        """Ask all at once. Once there is `enough`, the others get `grace` seconds, unless they failed lately."""
        answers, asked = _Answers(), set(range(len(self._all)))
        scope = trio.CancelScope()

        async def one(number: int, endpoint: _Endpoint) -> None:
            try:
                answers.given.append(await self._formed(endpoint, method, params, form))
            except Refused as error:
                answers.refusals.append(error)
            except Unavailable as error:
                answers.troubles.append(error.detail)
            asked.discard(number)
            if enough(answers):
                now = trio.current_time()
                promising = any(self._all[other].rests_until <= now for other in asked)
                scope.deadline = min(scope.deadline, now + grace if promising else now)

        with scope:
            async with trio.open_nursery() as nursery:
                for number, endpoint in enumerate(self._all):
                    nursery.start_soon(one, number, endpoint)
        if grace and scope.cancelled_caught:
            for number in asked:
                self._failed(self._all[number], "slower than others")
        return answers

    async def _formed(
        self, endpoint: _Endpoint, method: str, params: tuple[Any, ...], form: Callable[[Any], Any]
    ) -> Any:
        answer = await self._ask(endpoint, method, params)
        try:
            return form(answer)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            self._failed(endpoint, f"{method}: an answer of a wrong form ({error})")
            raise Unavailable(f"{endpoint.name}: {endpoint.trouble}") from error

    def _ordered(self) -> list[_Endpoint]:
        now = trio.current_time()
        return sorted(self._all, key=lambda e: e.rests_until > now)

    def _failed(self, endpoint: _Endpoint, trouble: str) -> None:
        endpoint.failures += 1
        rest = min(_REST_FIRST * 2 ** min(endpoint.failures, 10), _REST_MOST)
        endpoint.rests_until, endpoint.trouble = trio.current_time() + rest, trouble

    async def _ask(self, endpoint: _Endpoint, method: str, params: tuple[Any, ...]) -> Any:
        self._number += 1
        body = {"jsonrpc": "2.0", "id": self._number, "method": method, "params": list(params)}
        try:
            with trio.fail_after(self.timeout):
                status, data = await self._post(endpoint.url, body)
            answer = json.loads(data)
            if not isinstance(answer, dict):
                raise ValueError("not a JSON object")
        except (httpx.HTTPError, httpx.InvalidURL, trio.TooSlowError, ValueError, RecursionError) as error:
            reason = "no answer in time" if isinstance(error, trio.TooSlowError) else str(error)
            self._failed(endpoint, reason.replace(endpoint.url, endpoint.name)[:200] or type(error).__name__)
            raise Unavailable(f"{endpoint.name}: {endpoint.trouble}") from None
        if (no := answer.get("error")) is not None:
            raise self._no(endpoint, no, status)
        if "result" not in answer:
            self._failed(endpoint, "an answer without a result")
            raise Unavailable(f"{endpoint.name}: {endpoint.trouble}")
        endpoint.failures, endpoint.rests_until, endpoint.trouble = 0, 0.0, ""
        return answer["result"]

    async def _post(self, url: str, body: dict[str, Any]) -> tuple[int, bytes]:
        data = bytearray()
        async with self._client.stream("POST", url, json=body) as response:
            async for chunk in response.aiter_bytes():
                data += chunk
                if len(data) > _ANSWER_MOST:
                    raise ValueError(f"an answer of more than {_ANSWER_MOST} bytes")
            # Errors of JSON-RPC come with any status; a body that is none says no more than the status.
            if response.status_code >= 400 and not data.lstrip().startswith(b"{"):
                raise ValueError(f"HTTP {response.status_code}")
        return response.status_code, bytes(data)

    def _no(self, endpoint: _Endpoint, error: Any, status: int) -> DecentraSpaceError:
        """Refused, or Unavailable where the endpoint means itself: it is out of requests, or of order."""
        error = error if isinstance(error, dict) else {"message": str(error)}
        code, message, data = error.get("code"), str(error.get("message", ""))[:500], error.get("data")
        code = code if isinstance(code, int) else 0
        refusal = Refused(message or f"error {code}", code, data[:2000] if isinstance(data, str) else "")
        # EIP-1474: -32005 limit exceeded, -32603 internal error, -32002 resource unavailable; 429 of providers.
        own = code in (-32005, -32002, 429, -32601, -32603, -32097) or status in (401, 402, 403, 404, 429)
        if own and not refusal.reverts:
            self._failed(endpoint, refusal.detail)
            return Unavailable(f"{endpoint.name}: {endpoint.trouble}")
        return refusal


def _most_common(answers: Sequence[Any]) -> tuple[Any, int]:
    return Counter(answers).most_common(1)[0] if answers else (None, 0)
