"""Paystack's API, asked with patience and believed with care.

Bounded in time and size, no redirects, no proxies of the environment. GETs are repeated when nothing came of them,
and so is a POST of `initialize`: its reference makes Paystack take it once.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx
import trio

from decentraspace.errors import DecentraSpaceError, Unavailable
from decentraspace_billing_paystack import answers
from decentraspace_billing_paystack.secret import SecretKey

_ANSWER_MOST = 1024 * 1024
_TRIES = 3
_Form = TypeVar("_Form")
_PAUSE = 0.5  # seconds before the second try; doubled for the third


class Refused(DecentraSpaceError):
    """Paystack understood, and said no. `code`: such as "duplicate_reference", "transaction_not_found"."""

    slug, status, title = "paystack-refused", 422, "The payment service does not take this"

    def __init__(self, message: str, code: str, http_status: int) -> None:
        super().__init__(message)
        self.code, self.http_status = code, http_status

    @property
    def duplicate(self) -> bool:
        return self.code == "duplicate_reference" or "duplicate transaction reference" in self.detail.lower()

    @property
    def unknown(self) -> bool:
        """No such transaction."""
        return self.code == "transaction_not_found" or (
            self.http_status in (400, 404) and "reference not found" in self.detail.lower()
        )


class Paystack:
    """For one trio loop; made in a thread (it reads certificates)."""

    def __init__(self, api: str, key: SecretKey, timeout: float) -> None:
        self._key, self._timeout, self._host = key, timeout, urlsplit(api).hostname or "?"
        self._client = httpx.AsyncClient(
            base_url=api.rstrip("/"),
            timeout=httpx.Timeout(timeout),
            follow_redirects=False,
            trust_env=False,
            limits=httpx.Limits(max_connections=8),
        )

    async def aclose(self) -> None:
        await self._client.aclose()

    async def initialize(self, asked: dict[str, Any]) -> answers.Begun:
        """Refused (`duplicate` if the reference is known there) or Unavailable. It may have been taken when
        this raises Unavailable."""
        data = await self._ask("POST", "/transaction/initialize", body=asked)
        return self._formed(partial(answers.begun, data))

    async def verify(self, reference: str) -> answers.Transaction:
        """Refused (`unknown`) or Unavailable; also when the answer is about another reference."""
        data = await self._ask("GET", f"/transaction/verify/{reference}")
        found = self._formed(partial(answers.transaction, data))
        if found.reference != reference:
            raise Unavailable(f"{self._host} answers about another payment than was asked for")
        return found

    async def refunds(self, transaction: int) -> list[answers.Refund]:
        data = await self._ask("GET", "/refund", query={"transaction": str(transaction), "perPage": "100"})
        return self._formed(partial(answers.refunds, data, transaction))

    async def disputes(self, transaction: int) -> list[answers.Dispute]:
        data = await self._ask("GET", "/dispute", query={"transaction": str(transaction), "perPage": "100"})
        return self._formed(partial(answers.disputes, data, transaction))

    def _formed(self, form: Callable[[], _Form]) -> _Form:
        try:
            return form()
        except answers.Malformed as error:
            raise Unavailable(f"{self._host} answers in a form that is not published: {error}") from None

    async def _ask(
        self,
        method: str,
        path: str,
        *,
        body: dict[str, Any] | None = None,
        query: dict[str, str] | None = None,
    ) -> Any:
        pause = _PAUSE
        for left in reversed(range(_TRIES)):
            try:
                return await self._once(method, path, body, query)
            except Unavailable:
                if not left:
                    raise
            await trio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 only to spread tries
            pause *= 2
        raise AssertionError

    async def _once(
        self, method: str, path: str, body: dict[str, Any] | None, query: dict[str, str] | None
    ) -> Any:
        """The envelope's `data`. Every trouble is put into our own words: theirs might hold the key."""
        try:
            with trio.fail_after(self._timeout):
                status, raw = await self._exchange(method, path, body, query)
        except trio.TooSlowError:
            raise Unavailable(f"{self._host} did not answer within {self._timeout:g} s") from None
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
            raise Unavailable(f"{self._host} cannot be asked ({type(error).__name__})") from None
        if status == 429 or status >= 500 or 300 <= status < 400:
            raise Unavailable(f"{self._host} answers with HTTP {status}")
        try:
            envelope = json.loads(raw)
        except (ValueError, RecursionError):
            raise Unavailable(f"{self._host} answers with HTTP {status} and no JSON") from None
        if not isinstance(envelope, dict) or not isinstance(envelope.get("status"), bool):
            raise Unavailable(f"{self._host} answers with HTTP {status} in a form that is not published")
        if envelope["status"] and 200 <= status < 300:
            return envelope.get("data")
        message, code = envelope.get("message"), envelope.get("code")
        words = " ".join(message.split())[:300] if isinstance(message, str) else ""
        words = "".join(c for c in self._key.without(words) if c.isprintable())
        if status in (401, 403):
            raise Unavailable(
                f"{self._host} does not take this node's key: {words}",
                hint="The operator has to look at plugin.billing_paystack.key_file.",
            )
        raise Refused(
            words or f"{self._host} answers with HTTP {status}",
            code[:100] if isinstance(code, str) else "",
            status,
        )

    async def _exchange(
        self, method: str, path: str, body: dict[str, Any] | None, query: dict[str, str] | None
    ) -> tuple[int, bytes]:
        headers = {"Authorization": self._key.authorization, "Accept-Encoding": "identity"}
        data = bytearray()
        async with self._client.stream(method, path, json=body, params=query, headers=headers) as response:
            # `raw`: never unpack what was not asked for; a small answer could become a large one.
            async for chunk in response.aiter_raw():
                data += chunk
                if len(data) > _ANSWER_MOST:
                    raise Unavailable(f"{self._host} answers with more than {_ANSWER_MOST} bytes")
        return response.status_code, bytes(data)
