"""One name: what it shows, whose it is, and what its owner signs to change that."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import trio

from decentraspace.errors import Forbidden, Unavailable, Unprocessable
from decentraspace_dns_ens import ccip, contenthash, naming
from decentraspace_dns_ens.ccip import CcipRead
from decentraspace_dns_ens.contenthash import Content
from decentraspace_dns_ens.fetching import Fetcher
from decentraspace_dns_ens.lookup import (
    NOBODY,
    NOT_FOUND_OUT,
    RETURNED,
    REVERTED,
    TOO_LONG,
    Answer,
    Asking,
    Found,
    call,
    decode,
)
from decentraspace_dns_ens.rpc import Endpoints, Refused
from decentraspace_dns_ens.settings import Settings

_GRACE = 90 * 86400  # seconds after a .eth name has run out in which nobody else can have it
_TTL_MOST = 86_400
_EXPIRES_MOST = 2**40


now = time.time


@dataclass(frozen=True)
class Holders:
    """Who may say what a name shows: (address, how that is known), the owner before the manager. `expires`: Unix
    seconds, 0 where names do not run out; `why`: in words, where there is nobody."""

    all: tuple[tuple[str, str], ...]
    expires: int
    why: str = ""

    def method(self, wallet: str) -> str:
        """How it is known that `wallet` is one of them, or ""."""
        return next((how for address, how in self.all if address == wallet.lower()), "")


class Names:
    """For one trio loop."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.endpoints = Endpoints(
            settings.rpc, quorum=settings.agreeing, patience=settings.patience, timeout=settings.timeout
        )
        self._gateways = Fetcher(allow_private=settings.allow_private, most=settings.gateway_bytes)
        self._asking = Asking(
            self.endpoints,
            settings.chain_id,
            settings.registry.lower(),
            settings.wrapper.lower(),
            settings.universal.lower(),
        )
        self._ccip = CcipRead(
            self._asking, self._gateways, gateways=settings.gateways, seconds=settings.gateway_timeout
        )

    async def aclose(self) -> None:
        await self.endpoints.aclose()
        await self._gateways.aclose()

    # -- what a name shows

    async def shows(self, name: str) -> tuple[Content, int]:
        """Of a name in its one spelling: what, and for how many seconds. Unavailable when nobody could say."""
        with _in_time(name, self.settings.timeout):
            found = await self._found(name)
            return await self._content(found), self._ttl(found)

    async def _found(self, name: str) -> Found:
        found = await self._asking.name(name)
        if found.said.outcome == NOT_FOUND_OUT:
            raise Unavailable(
                "ENS's Universal Resolver does not find resolvers",
                hint="Look at plugin.dns_ens.universal; where it is empty, the registry alone is asked.",
            )
        return found

    async def _content(self, found: Found) -> Content:
        return _read(found, await self._ccip.follow(found.resolver, found.said))

    @staticmethod
    def _on_chain(found: Found) -> Content | None:
        """None where gateways would have to be asked."""
        return None if ccip.wanted(found.said) else _read(found, found.said)

    def _ttl(self, found: Found) -> int:
        return min(found.ttl or self.settings.ttl, _TTL_MOST)

    # -- whose it is

    async def holders(self, name: str) -> Holders:
        """Unavailable when nobody could say."""
        with _in_time(name, self.settings.timeout):
            return self._holders(name, await self._found(name))

    def _holders(self, name: str, found: Found) -> Holders:
        wrapper = self.settings.wrapper.lower()
        expires = min(found.expires, _EXPIRES_MOST)
        if expires and expires + _GRACE < now():
            # The registry knows the last manager until somebody registers the name anew.
            return Holders(
                (), expires, f"{name} ran out on {_day(expires)}, and may be registered by anybody."
            )
        if _moved(name, found):
            why = f"{name} has moved to a registry of ENS that this node cannot read yet."
            return Holders((), expires, why)
        said = (found.holder, "ens-wrapper"), (found.registrant, "ens-owner"), (found.owner, "ens-manager")
        people = tuple((address, how) for address, how in said if address not in (NOBODY, wrapper))
        why = ""
        if not people and found.owner == wrapper and wrapper:
            why = f"{name} is wrapped, and has run out there: its parent may give it to anybody."
        elif not people and found.resolver != NOBODY and found.extended and found.above:
            why = (
                f"ENS's registry has no owner of {name}: it is answered by the resolver of the domain above. "
                f"Have {name} created as a subname with an owner."
            )
        elif not people:
            why = f"Nobody has {name}."
        return Holders(people, expires, why)

    async def verdict(self, name: str, wallet: str) -> dict[str, Any]:
        """As the hook `name_verify` tells it."""
        with _in_time(name, self.settings.timeout):
            found = await self._found(name)
        content = self._on_chain(found)
        holders = self._holders(name, found)
        how = holders.method(wallet)
        told: dict[str, Any] = {"ttl": self._ttl(found)}
        if holders.expires:
            told["expires"] = holders.expires
        if content is not None and content.kind == "none":
            told["points"] = False
        if not holders.all:
            return {"state": "missing", "method": "ens-owner", "detail": holders.why, **told}
        if not how:
            known = holders.all[0]
            detail = f"ENS knows {known[0]} as the {_ROLES[known[1]]} of {name}, not {wallet}."
            return {"state": "stranger", "method": known[1], "detail": detail, **told}
        detail = f"{wallet} is the {_ROLES[how]} of {name}. " + _leads(name, content)
        if holders.expires and holders.expires < now():
            detail += f" It ran out on {_day(holders.expires)}: renew it before others can have it."
        return {"state": "held", "method": how, "detail": detail[:2000], **told}

    # -- what its owner signs

    async def transaction(self, name: str, wallet: str, target: str) -> dict[str, Any]:
        """As the hook `name_transaction` tells it. BadInput for a target that no name of ENS leads to, Forbidden
        for a wallet that the name is not of, Unprocessable where the chain would not take it."""
        raw = contenthash.write(target)
        with _in_time(name, self.settings.timeout):
            found = await self._found(name)
            holders = self._holders(name, found)
            how = holders.method(wallet)
            if not how:
                raise Forbidden(holders.why or f"{name} is another's: {holders.all[0][0]}'s")
            node = naming.namehash(name)
            if found.own_above or found.own == NOBODY:
                to, data, detail = self._first(name, found, node)
            else:
                to, data = found.own, call("setContenthash(bytes32,bytes)", node, raw)
                detail = f"Has {name} lead to {target}, by its resolver {to}."
                if target.startswith("/ipns/"):
                    detail += " What is deployed later needs no other transaction."
                if contenthash.read(raw) == self._on_chain(found):
                    detail = f"{name} leads to {target} already: there is nothing to sign."
            await self._taken(name, wallet, how, to, data)
        return {
            "chain_id": self.settings.chain_id,
            "to": to,
            "data": "0x" + data.hex(),
            "value": 0,
            "detail": detail,
        }

    def _first(self, name: str, found: Found, node: bytes) -> tuple[str, bytes, str]:
        """Of a name that has no resolver of its own: it is given one."""
        resolver = self.settings.public_resolver.lower()
        if not resolver:
            raise Unprocessable(f"{name} has no resolver", hint="Give it one where its ENS name is managed.")
        wrapped = found.owner == self.settings.wrapper.lower()
        to = (self.settings.wrapper if wrapped else self.settings.registry).lower()
        detail = (
            f"The first of two: gives {name} the resolver {resolver}. When it is mined, ask for the second one, "
            "which sets where the name leads."
        )
        return to, call("setResolver(bytes32,address)", node, resolver), detail

    async def _taken(self, name: str, wallet: str, how: str, to: str, data: bytes) -> None:
        try:
            await self._asking.simulate(wallet, to, data)
        except Refused as error:
            if how == "ens-owner":
                hint = (
                    "It has another manager: take that role back where the name is managed, then ask again."
                )
            else:
                hint = f"Give {name} the public resolver of ENS, {self.settings.public_resolver}, then ask again."
            raise Unprocessable(f"{to} would not take it from {wallet}: {error.detail}", hint=hint) from error


_ROLES = {"ens-wrapper": "owner (NameWrapper)", "ens-owner": "owner", "ens-manager": "manager"}


def _moved(name: str, found: Found) -> bool:
    """Whether ENS has the name in a registry other than the one whose owners are known here: then those count no
    more. What is found at the top-level domain may be the way back into that one."""
    same = (found.resolver, found.above) == (found.own, found.own_above)
    return not same and found.resolver != NOBODY and found.above < name.count(".")


def _read(found: Found, said: Answer) -> Content:
    """What `said`, the resolver's last word, means."""
    if found.resolver == NOBODY:
        return Content("none", "", "it has no resolver")
    if found.above and not found.extended:
        return Content("none", "", "it has no resolver, and that of the domain above is not for names below")
    if said.outcome == TOO_LONG:
        return Content("none", "", "its resolver says more than is read")
    if said.outcome == REVERTED:
        return Content("none", "", "its resolver refuses to say")
    if said.outcome != RETURNED or not said.result:
        return Content("none", "", "its resolver is no resolver")
    try:
        (raw,) = decode(["bytes"], said.result)
        if found.extended and raw:
            (raw,) = decode(["bytes"], raw)
    except ValueError:
        return Content("none", "", "what its resolver says cannot be read")
    return contenthash.read(raw)


def _leads(name: str, content: Content | None) -> str:
    if content is None:
        return f"Gateways of its own say what other gateways show under {name}."
    if content.kind == "none":
        return f"As to what other gateways show: {content.why}."
    return f"Other gateways show {content.path} under {name}."


def _day(seconds: int) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(seconds))


@contextmanager
def _in_time(name: str, seconds: float) -> Iterator[None]:
    """Unavailable when what is inside takes longer."""
    try:
        with trio.fail_after(seconds):
            yield
    except trio.TooSlowError:
        raise Unavailable(f"ENS did not say within {seconds:g} s what {name} is") from None
