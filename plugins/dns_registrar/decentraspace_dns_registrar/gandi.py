"""Gandi's API, version 5 (https://api.gandi.net/docs/domains/, …/livedns/): asked with patience, believed with care.

Bounded in time, size and number (Gandi takes 30 requests a minute), no redirects, no proxies of the environment. Only
what buys nothing is repeated.
"""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import ROUND_CEILING, Decimal
from typing import Any
from urllib.parse import quote, urlsplit

import httpx
import trio

from decentraspace.errors import Unavailable
from decentraspace_dns_registrar.registrars import Entry, Holding, Lost, Offer, Process, Refused
from decentraspace_dns_registrar.settings import Settings
from decentraspace_dns_registrar.token import Token

_ANSWER_MOST = 1024 * 1024
_REQUESTS_MOST, _MINUTE = 25, 60.0
_TRIES, _PAUSE = 3, 0.25
_TTL = 300
_PRICE_MOST = Decimal(10**9)
# https://api.gandi.net/docs/domains/#get-v5-domain-check: what the statuses of a product mean.
_TRY_AGAIN = frozenset({"pending", "error_refused", "error_timeout", "error_unknown"})


class Gandi:
    """For one trio loop; made in a thread (it reads certificates)."""

    name = "gandi"

    def __init__(self, settings: Settings, token: Token) -> None:
        self._settings, self._token = settings, token
        self._host = urlsplit(settings.api).hostname or "?"
        self._asked: deque[float] = deque()
        self._client = httpx.AsyncClient(
            base_url=settings.api.rstrip("/"),
            timeout=httpx.Timeout(settings.api_timeout),
            follow_redirects=False,
            trust_env=False,
            limits=httpx.Limits(max_connections=4),
        )

    async def aclose(self) -> None:
        await self._client.aclose()

    async def offer(self, name: str, years: int, process: Process) -> Offer:
        query = {
            "name": name,
            "processes": process,
            "currency": self._settings.currency,
            "max_duration": str(years),
            "duration_unit": "y",
        }
        answer = await self._read("/v5/domain/check", query)
        products = answer.get("products") if isinstance(answer, dict) else None
        found = [p for p in products or [] if isinstance(p, dict) and p.get("process") == process]
        found = [p for p in found if str(p.get("name", "")).lower() == name]
        if not found:
            return Offer(False, detail="the registrar does not sell names like this one")
        product = found[0]
        status = product.get("status")
        if status in _TRY_AGAIN:
            raise Unavailable(f"{self._host} cannot say yet whether {name} is free")
        if process == "create" and status != "available":
            return Offer(False, detail=f"the registrar says: {str(status)[:60]}")
        if answer.get("currency") != self._settings.currency:
            raise Unavailable(f"{self._host} gives its price in another currency than was asked for")
        for price in product.get("prices") or []:
            hundredths = _price(price, years)
            if hundredths is not None:
                return Offer(True, hundredths)
        return Offer(
            False, detail=f"the registrar does not sell it for {years} years, or only as a premium name"
        )

    async def holding(self, name: str) -> Holding | None:
        try:
            answer = await self._read(f"/v5/domain/domains/{quote(name)}", {})
        except Refused as error:
            if error.members.get("http") == 404:
                return None
            raise Unavailable(error.detail) from None
        dates = answer.get("dates") if isinstance(answer, dict) else None
        if not isinstance(dates, dict) or str(answer.get("fqdn", "")).lower() != name:
            raise Unavailable(f"{self._host} answers about another name than was asked for")
        try:
            ends = int(datetime.fromisoformat(str(dates.get("registry_ends_at"))).timestamp())
        except (ValueError, OverflowError):
            raise Unavailable(f"{self._host} does not say when {name} ends") from None
        return Holding(name, ends)

    async def buy(self, name: str, years: int, contact: Mapping[str, str], *, rehearse: bool) -> None:
        body = {
            "fqdn": name,
            "duration": years,
            "currency": self._settings.currency,
            "owner": dict(contact),
        }
        await self._order("/v5/domain/domains", body, rehearse, hidden=contact.values())

    async def renew(self, name: str, years: int, *, rehearse: bool) -> None:
        await self._order(f"/v5/domain/domains/{quote(name)}/renew", {"duration": years}, rehearse)

    async def enter(self, name: str, entries: Sequence[Entry]) -> None:
        for host, kind, values in entries:
            try:
                await self.put(name, host, kind, values)
            except Refused as error:
                if error.members.get("http") == 404:
                    raise Unavailable(f"{self._host} has not made the zone of {name} yet") from None
                raise

    async def zone_of(self, name: str) -> str:
        """The zone in the account that `name` is in. Refused."""
        labels = name.split(".")
        for i in range(len(labels) - 1):
            zone = ".".join(labels[i:])
            try:
                await self._read(f"/v5/livedns/domains/{quote(zone)}", {})
            except Refused as error:
                if error.members.get("http") not in (403, 404):
                    raise
            else:
                return zone
        raise Refused(f"{self._host} does not let this token change {name}", http=403)

    async def records(self, zone: str, host: str) -> dict[str, list[str]]:
        """Values by kind."""
        found = await self._read(_path(zone, host), {})
        if not isinstance(found, list):
            raise Unavailable(f"{self._host} answers in a form that is not published")
        return {
            str(one.get("rrset_type")): [str(value) for value in one.get("rrset_values") or ()]
            for one in found
            if isinstance(one, dict)
        }

    async def put(self, zone: str, host: str, kind: str, values: Sequence[str]) -> None:
        body = {"rrset_values": list(values), "rrset_ttl": _TTL}
        await self._once("PUT", f"{_path(zone, host)}/{kind}", body, {})

    async def remove(self, zone: str, host: str, kind: str) -> None:
        try:
            await self._once("DELETE", f"{_path(zone, host)}/{kind}", None, {})
        except Refused as error:
            if error.members.get("http") != 404:
                raise

    async def _order(self, path: str, body: dict[str, Any], rehearse: bool, hidden: Any = ()) -> None:
        try:
            answer = await self._once("POST", path, body, {}, rehearse=rehearse)
        except Refused as error:
            raise Refused(_hide(error.detail, hidden), http=error.members["http"]) from None
        # A rehearsal that found fault is answered with HTTP 200, too.
        if rehearse and isinstance(answer, dict) and answer.get("status") == "error":
            raise Refused(_hide(self._words(answer), hidden), http=200)

    async def _read(self, path: str, query: dict[str, str]) -> Any:
        pause = _PAUSE
        for left in reversed(range(_TRIES)):
            try:
                return await self._once("GET", path, None, query)
            except Unavailable:
                if not left:
                    raise
            await trio.sleep(pause)
            pause *= 2
        raise AssertionError

    async def _once(
        self, method: str, path: str, body: Any, query: dict[str, str], rehearse: bool = False
    ) -> Any:
        """What it answers. Every trouble is put into our own words: theirs might hold the token."""
        trouble = Lost if method == "POST" and not rehearse else Unavailable
        self._turn()
        try:
            with trio.fail_after(self._settings.api_timeout):
                status, raw = await self._exchange(method, path, body, query, rehearse)
        except (httpx.ConnectError, httpx.ConnectTimeout):
            raise Unavailable(f"{self._host} cannot be reached") from None
        except trio.TooSlowError:
            raise trouble(f"{self._host} did not answer within {self._settings.api_timeout:g} s") from None
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
            raise trouble(f"{self._host} cannot be asked ({type(error).__name__})") from None
        if status == 429:
            raise Unavailable(f"{self._host} is asked too often")
        if status >= 500 or 300 <= status < 400 or status < 200:
            raise trouble(f"{self._host} answers with HTTP {status}")
        try:
            answer = json.loads(raw, parse_float=Decimal)
        except (ValueError, RecursionError):
            answer = None
        if status < 300:
            if answer is None and method == "GET":
                raise Unavailable(f"{self._host} answers with no JSON")
            return answer
        words = self._words(answer)
        if status == 401 and self._token.own:
            raise Unavailable(
                f"{self._host} does not take this node's token",
                hint="The operator has to look at plugin.dns_registrar.key_file.",
            )
        if status == 401:
            words = "The token is not taken"
        raise Refused(words or f"{self._host} answers with HTTP {status}", http=status)

    def _words(self, answer: Any) -> str:
        """Of an error: {"message": …} or {"errors": [{"location", "name", "description"}]}."""
        if not isinstance(answer, dict):
            return ""
        listed = answer.get("errors")
        found = [
            f"{str(one.get('name', ''))[:60]}: {str(one.get('description', ''))[:200]}"
            for one in (listed if isinstance(listed, list) else [])[:5]
            if isinstance(one, dict)
        ] or [str(answer.get("message", ""))[:300]]
        return "".join(c for c in self._token.without("; ".join(found)) if c.isprintable())

    def _turn(self) -> None:
        now = time.monotonic()
        while self._asked and self._asked[0] <= now - _MINUTE:
            self._asked.popleft()
        if len(self._asked) >= _REQUESTS_MOST:
            raise Unavailable(
                f"Too much is asked of {self._host} at the moment", hint="Try again in a minute."
            )
        self._asked.append(now)

    async def _exchange(
        self, method: str, path: str, body: Any, query: dict[str, str], rehearse: bool
    ) -> tuple[int, bytes]:
        headers = {"Authorization": self._token.authorization, "Accept-Encoding": "identity"}
        if rehearse:
            headers["Dry-Run"] = "1"
        paying = self._settings.sharing_id if self._token.own else ""
        params = {**query, "sharing_id": paying} if paying else query
        data = bytearray()
        async with self._client.stream(method, path, json=body, params=params, headers=headers) as response:
            # `raw`: never unpack what was not asked for; a small answer could become a large one.
            async for chunk in response.aiter_raw():
                data += chunk
                if len(data) > _ANSWER_MOST:
                    raise httpx.StreamError("too long")
        return response.status_code, bytes(data)


def _path(zone: str, host: str) -> str:
    return f"/v5/livedns/domains/{quote(zone)}/records/{quote(host, safe='@*')}"


def _price(price: Any, years: int) -> int | None:
    """Hundredths for all the years, rounded up; None where the price is not for as many, or a premium one."""
    if (
        not isinstance(price, dict)
        or price.get("duration_unit", "y") != "y"
        or "premium" in str(price.get("type"))
    ):
        return None
    least, most, each = price.get("min_duration"), price.get("max_duration"), price.get("price_after_taxes")
    if type(least) is not int or type(most) is not int or not least <= years <= most:
        return None
    if isinstance(each, bool) or not isinstance(each, int | Decimal) or not 0 < each < _PRICE_MOST:
        return None
    return int((Decimal(each) * 100 * years).to_integral_value(ROUND_CEILING))


def _hide(words: str, values: Any) -> str:
    """Without anything of a person's data that the registrar repeats."""
    for value in sorted((str(v) for v in values), key=len, reverse=True):
        if len(value) > 2:
            words = words.replace(value, "…")
    return words
