"""Who may say what a name shows: what the naming system itself says. Asked of a plugin, or of TXT records.

    _decentraspace.NAME  TXT  decentraspace-owner=0xADDRESS

It names the wallet that owns the site, so it is of no use to any other. Several name servers are asked side by side,
and what most of those say that answer counts: one that lies, or is behind, decides nothing alone.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import trio

from decentraspace.names.links import NotResolved

if TYPE_CHECKING:
    from decentraspace.names.dns import Asked, Dns

HELD, MISSING, STRANGER = "held", "missing", "stranger"
State = Literal["held", "missing", "stranger"]
LABEL = "_decentraspace"
PREFIX = "decentraspace-owner="
_ADDRESS = re.compile(r"0x[0-9a-f]{40}")
_OWNERS_MOST = 20  # that the records of a name are read for


@dataclass(frozen=True)
class Seen:
    """What one server says. `state`: yes, no or silent."""

    server: str
    state: str
    detail: str = ""


@dataclass(frozen=True)
class Proof:
    """As in the hook `name_verify`; `ttl`: seconds it holds. `points`: None where nobody looked."""

    state: State
    method: str
    detail: str
    ttl: float = 300.0
    expires: int | None = None
    seen: tuple[Seen, ...] = field(default_factory=tuple)
    points: bool | None = None


def from_hook(value: Mapping[str, Any]) -> Proof:
    return Proof(
        value["state"],
        value["method"],
        value["detail"],
        float(value.get("ttl", 300)),
        value.get("expires"),
        tuple(Seen(one["server"], one["state"], one.get("detail", "")) for one in value.get("seen", ())),
        value.get("points"),
    )


def owners(texts: Iterable[str]) -> frozenset[str]:
    """Wallets (lower case) that TXT records name."""
    found = (text.strip()[len(PREFIX) :].strip().lower() for text in texts if text.strip().startswith(PREFIX))
    return frozenset(sorted(owner for owner in found if _ADDRESS.fullmatch(owner))[:_OWNERS_MOST])


class TxtProofs:
    """Proofs by TXT record, where no plugin speaks for a name. Over the servers of `dns`."""

    def __init__(self, dns: Dns) -> None:
        self._dns = dns

    async def owners(self, name: str) -> frozenset[str]:
        """Wallets that the records of a name prove. NotResolved when no server answers."""
        asked = await self._dns.texts(f"{LABEL}.{name}")
        _need_an_answer(asked, name)
        return _agreed(asked)

    async def verify(self, name: str, owner: str, gateway: str) -> Proof:
        """`owner` in lower case. NotResolved when no server answers."""
        points: bool | None = None
        warning = ""

        async def look() -> None:
            nonlocal points, warning
            points, warning = await self._pointing(name, gateway)

        asked: list[Asked] = []
        trouble: NotResolved | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(look)
            try:
                asked = await self._dns.texts(f"{LABEL}.{name}")
            except NotResolved as error:
                trouble = error  # not from inside: a nursery would wrap it
        if trouble is not None:
            raise trouble
        _need_an_answer(asked, name)
        named = _agreed(asked)
        record = f"TXT record {PREFIX}{owner} at {LABEL}.{name}"
        if owner in named:
            state, detail = HELD, f"The {record} is there."
        elif named:
            state, detail = (
                STRANGER,
                (f"The TXT record at {LABEL}.{name} names another wallet: {', '.join(sorted(named))}."),
            )
        else:
            state, detail = MISSING, f"The {record} is not there yet."
        seen = tuple(_seen(one, owner) for one in asked)
        ttl = min((one.ttl for one in asked if one.texts is not None), default=60.0)
        return Proof(
            "held" if state == HELD else "stranger" if state == STRANGER else "missing",
            "txt",
            f"{detail} {warning}".strip(),
            ttl,
            seen=seen,
            points=points,
        )

    async def _pointing(self, name: str, gateway: str) -> tuple[bool | None, str]:
        """Whether the name has an address of the gateway's, and what is to be said about its addresses."""
        here = await self._dns.addresses(name)
        if here is None:
            return None, ""
        if not here:
            return False, f"{name} has no address yet, so visitors do not find it."
        private = sorted(a for a in here if not ipaddress.ip_address(a).is_global)
        warning = ""
        if private:
            warning = f"{name} points at {', '.join(private[:3])}, which nobody reaches from elsewhere."
        there = await self._dns.addresses(gateway) if "." in gateway else None
        return (bool(here & there) if there else None), warning


def _need_an_answer(asked: list[Asked], name: str) -> None:
    """NotResolved."""
    if all(one.texts is None for one in asked):
        raise NotResolved(f"No name server could tell what is at {LABEL}.{name}")


def _agreed(asked: list[Asked]) -> frozenset[str]:
    """The wallets that more than half of the servers name that answered."""
    said = [owners(one.texts) for one in asked if one.texts is not None]
    return frozenset(
        owner for each in said for owner in each if 2 * sum(owner in s for s in said) > len(said)
    )


def _seen(one: Asked, owner: str) -> Seen:
    if one.texts is None:
        return Seen(one.server, "silent", "It did not answer.")
    named = owners(one.texts)
    if owner in named:
        return Seen(one.server, "yes")
    return Seen(
        one.server, "no", f"It names {', '.join(sorted(named))}." if named else "It has no such record."
    )


def instructions(name: str, owner: str, gateway: str) -> list[dict[str, str]]:
    """Records to enter for a name of DNS. `owner`: as text; `gateway`: where visitors are to be led, or ""."""
    records = [
        {
            "type": "TXT",
            "host": f"{LABEL}.{name}",
            "value": PREFIX + owner.lower(),
            "note": "Proves that your wallet may say what the name shows. Leave it there.",
        }
    ]
    if gateway:
        apex = name.count(".") < 2
        records.append(
            {
                "type": "ALIAS" if apex else "CNAME",
                "host": name,
                "value": gateway,
                "note": "Leads visitors here."
                + (
                    " Where your DNS has no ALIAS (or ANAME): A and AAAA with the gateway's addresses."
                    if apex
                    else ""
                ),
            }
        )
    return records
