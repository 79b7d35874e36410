"""CCIP-Read (EIP-3668): answers that a resolver has others give, and verifies itself.

A resolver reverts with `OffchainLookup`: gateways to ask, what to ask, and the function of its own that judges what
they say. So a gateway cannot lie, but it is a URL that strangers chose: how many are asked, how long, for how much,
and where they may be is bounded (see fetching).
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import trio

from decentraspace.errors import Unavailable
from decentraspace_dns_ens.fetching import Failed, Fetcher
from decentraspace_dns_ens.lookup import REVERTED, Answer, Asking, call, decode

_SELECTOR = bytes.fromhex("556f1830")  # OffchainLookup(address,string[],bytes,bytes4,bytes)
_TYPES = ["address", "string[]", "bytes", "bytes4", "bytes"]
_NESTED_MOST = 4  # as EIP-3668 has it
_TEMPLATE_MOST = 2048  # characters of a gateway's URL


def wanted(said: Answer) -> bool:
    """Whether gateways are to be asked before `said` is an answer."""
    return said.outcome == REVERTED and said.result[:4] == _SELECTOR


class _Lookup(NamedTuple):
    sender: str
    urls: tuple[str, ...]
    data: bytes
    callback: bytes
    extra: bytes


class CcipRead:
    """`gateways`: most that are asked in turn for one answer; `seconds`: for each."""

    def __init__(self, asking: Asking, fetcher: Fetcher, *, gateways: int, seconds: float) -> None:
        self._asking, self._fetcher = asking, fetcher
        self._gateways, self._seconds = gateways, seconds

    async def follow(self, contract: str, said: Answer) -> Answer:
        """What `contract` says in the end, if it said `said`. Unavailable when gateways fail, or the rules are
        not kept."""
        for _ in range(_NESTED_MOST):
            if not wanted(said):
                return said
            lookup = _read(said.result)
            if lookup.sender.lower() != contract.lower():
                # Else whoever is called by a resolver could have it believe what its own gateways say.
                raise Unavailable("The name's resolver hands on an OffchainLookup that is not its own")
            response = await self._ask(lookup)
            back = lookup.callback + call("x(bytes,bytes)", response, lookup.extra)[4:]
            said = await self._asking.view(contract, back)
        if wanted(said):
            raise Unavailable(f"The name's resolver asks its gateways more than {_NESTED_MOST} times")
        return said

    async def _ask(self, lookup: _Lookup) -> bytes:
        troubles = []
        for template in lookup.urls[: self._gateways]:
            try:
                return await self._ask_one(template, lookup)
            except Failed as error:
                troubles.append(error.detail)
            await trio.lowlevel.checkpoint()
        more = len(lookup.urls) - self._gateways
        if more > 0:
            troubles.append(f"{more} more are not asked")
        raise Unavailable("No gateway of the name answers: " + ("; ".join(troubles)[:600] or "it has none"))

    async def _ask_one(self, template: str, lookup: _Lookup) -> bytes:
        """Failed when the next may be asked; Unavailable when this one says that there is nothing."""
        if len(template) > _TEMPLATE_MOST:
            raise Failed("a URL that is too long")
        sender, data = lookup.sender.lower(), "0x" + lookup.data.hex()
        url = template.replace("{sender}", sender)
        if "{data}" in template:
            status, body = await self._fetcher.fetch(
                "GET", url.replace("{data}", data), seconds=self._seconds
            )
        else:
            question = json.dumps({"data": data, "sender": sender}).encode()
            status, body = await self._fetcher.fetch("POST", url, question, seconds=self._seconds)
        host = urlsplit(url).hostname
        if 400 <= status < 500:  # EIP-3668: then no other gateway is asked
            raise Unavailable(f"The name's gateway {host} answers HTTP {status}")
        if not 200 <= status < 300:
            raise Failed(f"{host}: HTTP {status}" + (", which is not followed" if status < 400 else ""))
        return _response(host, body)


def _response(host: str | None, body: bytes) -> bytes:
    try:
        answer: Any = json.loads(body)
        text = answer["data"]
        if not isinstance(text, str) or text[:2] != "0x":
            raise ValueError("no data")
        return bytes.fromhex(text[2:])
    except (ValueError, TypeError, KeyError, RecursionError):
        raise Failed(f"{host}: an answer of a wrong form") from None


def _read(raw: bytes) -> _Lookup:
    try:
        sender, urls, data, callback, extra = decode(_TYPES, raw[4:])
    except ValueError as error:
        raise Unavailable("The name's resolver makes an OffchainLookup that cannot be read") from error
    return _Lookup(sender, urls, data, callback, extra)
