"""What a name leads to, and whose it is: what the chain says, and the name servers it names, put together."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import trio

from decentraspace.errors import Unavailable
from decentraspace_dns_handshake import guidance, texts
from decentraspace_dns_handshake.chain import Chain, NameState
from decentraspace_dns_handshake.delegated import Delegated
from decentraspace_dns_handshake.records import Dns, Records
from decentraspace_dns_handshake.recursive import Recursive
from decentraspace_dns_handshake.rpc import Endpoints
from decentraspace_dns_handshake.settings import Settings, server

_MISSING_FOR = 60  # seconds that a proof that is lacking is not looked for again
_MOST = 86_400  # seconds that anything holds

Answer = dict[str, Any]


@dataclass
class _Said:
    """What DNS says of a host: its records, or why nobody can say."""

    records: Records | None = None
    trouble: str = ""

    @property
    def values(self) -> tuple[str, ...]:
        return self.records.values if self.records is not None else ()


class Handshake:
    """For one trio loop. Names are in lower case, without a dot at the end; owners in lower case."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.endpoints = Endpoints(
            settings.rpc, settings.api_keys(), settings.network, settings.stale_after, settings.timeout
        )
        self.chain = Chain(self.endpoints, settings.safe)
        self.dns: Dns = (
            Recursive(server(settings.dns), settings.timeout)
            if settings.dns
            else Delegated(self.chain.name, settings)
        )

    async def aclose(self) -> None:
        await self.endpoints.aclose()

    async def resolve(self, name: str) -> Answer:
        """As the hook `name_resolve`. Unavailable when nobody can say."""
        async with self._in_time(name):
            state = await self.chain.name(_top(name))
            if _top(name) == name:
                # One round to hsd: what stands on chain needs no name server.
                on_chain = texts.target(state.resource.texts)
                if on_chain is not None or not state.resource.delegated:
                    return self._leads(on_chain, self.settings.ttl)
            elif not state.resource.delegated:
                return self._leads(None, self.settings.ttl)
            link, own = await self._both(name, state)
        if own.records is None or (link.records is None and texts.target(own.values) is None):
            raise Unavailable(own.trouble or link.trouble)
        site = texts.target(value for value in own.values if value.startswith("decentraspace-site="))
        found = site or texts.target(value for value in link.values if value.startswith("dnslink="))
        source = own.records if site else link.records
        assert source is not None
        return self._leads(found, min(own.records.ttl, source.ttl))

    async def verify(self, name: str, owner: str, proof: str = "", gateway: str = "") -> Answer:
        """As the hook `name_verify`. Unavailable when nobody can say."""
        points: bool | None = None
        async with self._in_time(name):
            state = await self.chain.name(_top(name), proof, texts.statement(name, owner))
            if not state.held:
                return _verdict("missing", "chain", guidance.availability(name, state)[1], ttl=_MISSING_FOR)
            on_chain = state.resource.texts if _top(name) == name else ()
            said = _Said(Records((), self.settings.ttl, True))

            async def look() -> None:
                nonlocal points
                points = await self._points(name, gateway, state)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(look)
                if state.resource.delegated and owner not in texts.owners(on_chain):
                    said = await self._say(f"_decentraspace.{name}", state)
        found = self._judge(name, owner, state, on_chain, said)
        return found if points is None else {**found, "points": points}

    async def owner(self, name: str) -> str | None:
        """The wallet that the name's records give; of several the first. Unavailable when nobody can say."""
        async with self._in_time(name):
            state = await self.chain.name(_top(name))
            found = texts.owners(state.resource.texts) if _top(name) == name else set()
            if not found and state.resource.delegated:
                said = await self._say(f"_decentraspace.{name}", state)
                if said.records is None:
                    raise Unavailable(said.trouble)
                found = texts.owners(said.values)
        return min(found, default=None)

    async def quote(self, name: str, years: int) -> Answer:
        """As the hook `name_quote`: never to be had for credits, but how it is to be had."""
        async with self._in_time(name):
            state = await self.chain.name(_top(name))
        _, words = guidance.availability(name, state)
        return {
            "available": False,
            "credits": 0,
            "years": years,
            "detail": f"{words} {guidance.buying(name)}",
        }

    def _judge(
        self, name: str, owner: str, state: NameState, on_chain: tuple[str, ...], said: _Said
    ) -> Answer:
        """Records first: an owner who has signed for a wallet takes it back by naming another one."""
        named, seen = texts.owners(on_chain), []
        if on_chain or not state.resource.delegated:
            seen.append(_seen(f"Handshake, block {state.height}", owner, named))
        if state.resource.delegated and owner not in named:
            where = f"name servers of {state.name}"
            if said.records is None:
                seen.append({"server": where, "state": "silent", "detail": said.trouble[:500]})
            else:
                seen.append(_seen(where, owner, texts.owners(said.values), said.records))
                named |= texts.owners(said.values)
        more: dict[str, Any] = {"seen": seen}
        if (expires := guidance.expires(state, time.time())) is not None:
            more["expires"] = expires
        ttl = self.settings.ttl if said.records is None else min(self.settings.ttl, int(said.records.ttl))
        if owner in named:
            return _verdict("held", "txt", f"A TXT record of {name} names this wallet.", ttl=ttl, **more)
        if named:
            words = f"The TXT records of {name} name another wallet: {', '.join(sorted(named)[:3])}."
            return _verdict("stranger", "txt", words, ttl=_MISSING_FOR, **more)
        # Where only name servers could take a signature back, their silence is no reason to believe it.
        if state.signed and (said.records is not None or _top(name) == name):
            words = f"The owner of {state.name} on Handshake signed that this wallet may link {name}."
            return _verdict("held", "hns-owner", words, ttl=ttl, **more)
        if said.records is None:
            raise Unavailable(said.trouble)
        lacking = f"No TXT record of {name} names a wallet"
        if state.signed is False:
            lacking += f", and the proof is no signature by the present owner of {state.name} for this wallet"
        moving = " The name is being transferred to another owner just now." if state.transfer else ""
        return _verdict("missing", "txt", f"{lacking}.{moving}", ttl=_MISSING_FOR, **more)

    async def _both(self, name: str, state: NameState) -> tuple[_Said, _Said]:
        """The texts of both hosts that may say where a name leads, asked at once."""
        found: dict[str, _Said] = {}

        async def ask(prefix: str) -> None:
            found[prefix] = await self._say(f"{prefix}.{name}", state)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, "_dnslink")
            nursery.start_soon(ask, "_decentraspace")
        return found["_dnslink"], found["_decentraspace"]

    async def _points(self, name: str, gateway: str, state: NameState) -> bool | None:
        """Whether the name has an address of the gateway's; None where that cannot be told, or not soon."""
        if "." not in gateway or not _well_formed(name) or not _well_formed(gateway):
            return None
        if not state.resource.delegated:
            return False  # the chain has no addresses
        found: dict[str, set[str]] = {name: set(), gateway: set()}
        silent: list[str] = []

        async def ask(host: str, kind: str) -> None:
            try:
                found[host].update((await self.dns.lookup(host, kind, state)).values)
            except Unavailable:
                silent.append(host)

        with trio.move_on_after(self.settings.timeout) as waiting:
            async with trio.open_nursery() as nursery:
                for host in found:
                    for kind in ("A", "AAAA"):
                        nursery.start_soon(ask, host, kind)
        if waiting.cancelled_caught or silent or not found[gateway]:
            return None
        return bool(found[name] & found[gateway])

    async def _say(self, host: str, state: NameState) -> _Said:
        if not _well_formed(host):
            return _Said(Records((), self.settings.ttl, True))
        try:
            records = await self.dns.lookup(host, "TXT", state)
        except Unavailable as error:
            return _Said(trouble=error.detail)
        if self.settings.require_dnssec and records.values and not records.secure:
            return _Said(
                trouble=f"{host} is not signed (DNSSEC), and this node believes signed answers alone"
            )
        return _Said(records)

    def _leads(self, target: texts.Target | None, ttl: float) -> Answer:
        kind, value, path = target or texts.Target("none", "")
        found = {"kind": kind, "value": value, "ttl": max(0, min(int(ttl), _MOST))}
        return {**found, "path": path} if path else found

    @asynccontextmanager
    async def _in_time(self, name: str) -> AsyncIterator[None]:
        try:
            with trio.fail_after(self.settings.deadline):
                yield
        except trio.TooSlowError as error:
            raise Unavailable(f"Looking up {name} took more than {self.settings.deadline:g} s") from error


def instructions(name: str, site: str, owner: str, gateway: str) -> list[dict[str, str]]:
    """As the hook `name_instructions`."""
    top = _top(name)
    if top == name:
        where = f"Among the records of {name} on chain (`sendupdate {name} RECORDS` replaces all that are there); "
        host = name
    else:
        where, host = f"At the name servers that {top} is delegated to; ", f"_decentraspace.{name}"
    records = [
        {
            "type": "TXT",
            "host": host,
            "value": f"decentraspace-owner={owner}",
            "note": where + "it proves that your wallet may link the name.",
        },
        {
            "type": "SIGN",
            "host": name,
            "value": texts.statement(name, owner),
            "note": f"Instead of that record: sign this text with the owner address of {top} "
            f"(`hsw-rpc signmessagewithname {top} TEXT`) and hand in the signature as the proof of the link. It holds "
            "until the name goes to another address, or a record names another wallet.",
        },
        {
            "type": "TXT",
            "host": host,
            "value": f"decentraspace-site={site}",
            "note": "For nodes that have not heard of the link: the name then leads to the site there, too.",
        },
    ]
    if gateway not in ("", "localhost"):
        if top == name:
            note = (
                "Browsers find a name by its addresses, and the chain holds none: delegate the name (records NS and "
                "GLUE4) to a name server, and have that answer with the addresses of this host."
            )
            records.append({"type": "A or AAAA", "host": name, "value": gateway, "note": note})
        else:
            records.append({"type": "CNAME", "host": name, "value": gateway, "note": "Leads visitors here."})
    return records


def _top(name: str) -> str:
    return name.rpartition(".")[2]


def _well_formed(host: str) -> bool:
    """Whether DNS can be asked for it (RFC 1035 section 2.3.4)."""
    return len(host) <= 253 and host.isascii() and all(0 < len(label) < 64 for label in host.split("."))


def _verdict(state: str, method: str, detail: str, *, ttl: int, **more: Any) -> Answer:
    return {"state": state, "method": method, "detail": detail[:2000], "ttl": max(0, min(ttl, _MOST)), **more}


def _seen(where: str, owner: str, named: set[str], records: Records | None = None) -> dict[str, str]:
    if owner in named:
        detail = "It names this wallet."
    elif named:
        detail = "It names another wallet."
    else:
        detail = "It names no wallet."
    if records is not None and records.values:
        detail += (
            " The answer is signed (DNSSEC)." if records.secure else " The answer is not signed (DNSSEC)."
        )
    return {"server": where, "state": "yes" if owner in named else "no", "detail": detail}
