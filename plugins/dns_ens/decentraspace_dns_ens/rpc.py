"""Several JSON-RPC endpoints as one: the next when one is silent or fails, and several that must say the same.

An endpoint can lie about what a name shows. With `quorum` above 1 none can alone. Endpoints are named by their
host, because keys stand in their paths; they are the operator's choice, and may be on a private network.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import urlsplit

import trio

from decentraspace.errors import DecentraSpaceError, Unavailable
from decentraspace_dns_ens.fetching import Failed, Fetcher

_ANSWER_MOST = 1 << 20  # bytes
_REST_FIRST, _REST_MOST = 1.0, 60.0  # seconds an endpoint that failed is asked last

_T = TypeVar("_T")


class Refused(DecentraSpaceError):
    """The chain does not do what was asked: a call reverts."""

    slug, status, title = "ens-refused", 422, "The chain does not take this"


class Disagree(Unavailable):
    """Enough endpoints answered, and not the same. `answers`: what they said."""

    def __init__(self, detail: str, answers: Sequence[Any]) -> None:
        super().__init__(detail, hint="Look at plugin.dns_ens.rpc and its endpoints.")
        self.answers = answers


@dataclass
class _Endpoint:
    url: str
    failures: int = 0
    rests_until: float = 0.0
    trouble: str = ""

    @property
    def name(self) -> str:
        return urlsplit(self.url).hostname or "?"


@dataclass
class _Heard:
    """What was said to one question."""

    answers: list[Any] = field(default_factory=list)
    refusals: list[Refused] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)


class Endpoints:
    """For one trio loop. `quorum`: how many must say the same; `patience`: seconds after which another is asked
    besides one that is silent; `timeout`: seconds for one answer."""

    def __init__(self, urls: Sequence[str], *, quorum: int, patience: float, timeout: float) -> None:
        self._all = [_Endpoint(url) for url in urls]
        self.quorum, self._patience, self._timeout = quorum, patience, timeout
        self._fetcher = Fetcher(allow_private=True, most=_ANSWER_MOST)
        self._number = 0
        self.asked = 0  # requests sent

    async def aclose(self) -> None:
        await self._fetcher.aclose()

    @property
    def troubles(self) -> dict[str, str]:
        """Host and what is wrong with it, of those that failed the last time."""
        return {e.name: e.trouble for e in self._all if e.trouble}

    async def ask(
        self,
        method: str,
        params: Sequence[Any],
        form: Callable[[Any], _T],
        same: Callable[[_T], Hashable] = lambda answer: answer,
    ) -> _T:
        """What `quorum` endpoints say, brought into `form` (ValueError for no answer), and compared by `same`.

        Refused when as many refuse; Disagree when none of them is said often enough; Unavailable when too few
        answer in time."""
        heard = _Heard()
        waiting = self._ordered()
        silent: list[_Endpoint] = []  # asked, and not heard of yet
        changed = trio.Event()

        def missing() -> int:
            most = max(_most_alike(heard.answers, same), len(heard.refusals))
            return max(0, self.quorum - most)

        async def one(endpoint: _Endpoint) -> None:
            try:
                heard.answers.append(await self._formed(endpoint, method, params, form))
            except Refused as error:
                heard.refusals.append(error)
            except Unavailable as error:
                heard.troubles.append(error.detail)
            silent.remove(endpoint)
            changed.set()

        async with trio.open_nursery() as nursery:

            def start() -> None:
                silent.append(waiting.pop(0))
                nursery.start_soon(one, silent[-1])

            while missing() and (waiting or silent):
                while waiting and len(silent) < missing():
                    start()
                changed = trio.Event()
                with trio.move_on_after(self._patience) as patience:
                    await changed.wait()
                if patience.cancelled_caught and waiting:
                    for endpoint in silent:
                        self._failed(endpoint, "slow")
                    start()
            nursery.cancel_scope.cancel()
        return self._verdict(method, heard, same)

    def _verdict(self, method: str, heard: _Heard, same: Callable[[_T], Hashable]) -> _T:
        answers: list[_T] = heard.answers
        for group in _groups(answers, same):
            if len(group) >= self.quorum:
                return group[0]
        if len(heard.refusals) >= self.quorum:
            raise heard.refusals[0]
        if len(heard.answers) + len(heard.refusals) >= self.quorum:
            raise Disagree(
                f"{self.quorum} endpoints must say the same to {method}, and they differ", heard.answers
            )
        raise Unavailable(
            "; ".join(heard.troubles)[:1000] or "No endpoint answers",
            hint="Look at plugin.dns_ens.rpc and its endpoints.",
        )

    def _ordered(self) -> list[_Endpoint]:
        now = trio.current_time()
        return sorted(self._all, key=lambda e: e.rests_until > now)

    async def _formed(
        self, endpoint: _Endpoint, method: str, params: Sequence[Any], form: Callable[[Any], _T]
    ) -> _T:
        answer = await self._ask(endpoint, method, params)
        try:
            formed = form(answer)
        except (ValueError, TypeError) as error:
            raise self._failed(endpoint, f"{method}: an answer of a wrong form ({error})") from error
        except Unavailable as error:
            raise self._failed(endpoint, error.detail) from error
        endpoint.failures, endpoint.rests_until, endpoint.trouble = 0, 0.0, ""
        return formed

    async def _ask(self, endpoint: _Endpoint, method: str, params: Sequence[Any]) -> Any:
        self._number += 1
        self.asked += 1
        question = {"jsonrpc": "2.0", "id": self._number, "method": method, "params": list(params)}
        body = json.dumps(question).encode()
        try:
            status, data = await self._fetcher.fetch("POST", endpoint.url, body, seconds=self._timeout)
            answer = json.loads(data)
        except Failed as error:
            raise self._failed(endpoint, error.detail.removeprefix(f"{endpoint.name}: ")) from None
        except (ValueError, RecursionError):
            raise self._failed(endpoint, f"HTTP {status}, and no JSON") from None
        if not isinstance(answer, dict):
            raise self._failed(endpoint, "an answer that is no object")
        if (no := answer.get("error")) is not None:
            return self._no(endpoint, no)
        if "result" not in answer:
            raise self._failed(endpoint, f"HTTP {status}, and no result")
        return answer["result"]

    def _failed(self, endpoint: _Endpoint, trouble: str) -> Unavailable:
        endpoint.failures += 1
        rest = min(_REST_FIRST * 2 ** min(endpoint.failures, 10), _REST_MOST)
        endpoint.rests_until, endpoint.trouble = trio.current_time() + rest, trouble[:300]
        return Unavailable(f"{endpoint.name}: {endpoint.trouble}")

    def _no(self, endpoint: _Endpoint, error: Any) -> Any:
        error = error if isinstance(error, dict) else {"message": str(error)}
        message = str(error.get("message", ""))[:300]
        # 3: the code that clients gave calls that revert; there is no other sign that all of them use.
        if error.get("code") == 3 or "revert" in message.lower():
            raise Refused(message)
        raise self._failed(endpoint, message or f"error {error.get('code')}")


def _groups(answers: Sequence[_T], same: Callable[[_T], Hashable]) -> list[list[_T]]:
    found: dict[Hashable, list[_T]] = {}
    for answer in answers:
        found.setdefault(same(answer), []).append(answer)
    return list(found.values())


def _most_alike(answers: Sequence[Any], same: Callable[[Any], Hashable]) -> int:
    return max((len(group) for group in _groups(answers, same)), default=0)
