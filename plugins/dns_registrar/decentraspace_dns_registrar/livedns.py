"""Entering records for an owner whose name is kept at Gandi (LiveDNS), with an access token of theirs.

The token goes to Gandi and nowhere else, and is forgotten.
"""

from __future__ import annotations

from collections.abc import Sequence

import dns.name
import dns.rdatatype
import trio
from dns.rdatatype import TXT

from decentraspace.errors import BadInput, Unavailable
from decentraspace_dns_registrar.choosing import Record, choose
from decentraspace_dns_registrar.gandi import Gandi
from decentraspace_dns_registrar.registrars import Refused
from decentraspace_dns_registrar.settings import Settings
from decentraspace_dns_registrar.token import Token, checked

_SECONDS = 50.0  # within the hook's 60
_ALIAS = "ALIAS"


async def enter(
    name: str, wanted: Sequence[Record], aliases: Sequence[tuple[str, str]], token: str, settings: Settings
) -> str:
    """What was done, in words. Refused; Unavailable. `aliases`: hosts and targets of ALIAS records, which Gandi has."""
    gandi = await trio.to_thread.run_sync(Gandi, settings, _token(token))
    try:
        with trio.fail_after(_SECONDS):
            return await _enter(gandi, name, wanted, aliases)
    except trio.TooSlowError:
        raise Unavailable("Gandi did not answer in time") from None
    finally:
        with trio.CancelScope(shield=True):
            await gandi.aclose()


def _token(text: str) -> Token:
    try:
        return checked(text)
    except ValueError:
        raise BadInput("gandi_token is no access token") from None


async def _enter(
    gandi: Gandi, name: str, wanted: Sequence[Record], aliases: Sequence[tuple[str, str]]
) -> str:
    zone = await gandi.zone_of(name)
    origin = dns.name.from_text(zone)
    known: dict[dns.name.Name, dict[str, list[str]]] = {}

    def place(host: dns.name.Name) -> str:
        return host.relativize(origin).to_text()

    async def records(host: dns.name.Name) -> dict[str, list[str]]:
        if host not in known:
            known[host] = await gandi.records(zone, place(host))
        return known[host]

    async def present(host: dns.name.Name, kind: dns.rdatatype.RdataType) -> bool:
        return dns.rdatatype.to_text(kind) in await records(host)

    choice = await choose(origin, wanted, present)
    entries: dict[tuple[dns.name.Name, str], list[str]] = {}
    for host, data in choice.records:
        kind = dns.rdatatype.to_text(data.rdtype)
        kept = list((await records(host)).get(kind, ())) if data.rdtype == TXT else []
        values = entries.setdefault((host, kind), kept)
        if data.to_text() not in values:
            values.append(data.to_text())
    replaced = [(host, dns.rdatatype.to_text(kind)) for host, kind in choice.replaced]
    led = {host for host, kind in entries if kind != "TXT"}
    for text, target in aliases:
        host = dns.name.from_text(text)
        if host not in led:  # where there can be no CNAME
            entries[host, _ALIAS] = [target.removesuffix(".") + "."]
            replaced += [(host, kind) for kind in ("A", "AAAA", "CNAME")]
            led.add(host)
    replaced += [(host, _ALIAS) for host in led]
    if not entries:
        raise Refused("None of these records can be entered there", http=0)
    for host, kind in replaced:
        if (host, kind) not in entries and kind in await records(host):
            await gandi.remove(zone, place(host), kind)
    for (host, kind), values in entries.items():
        await gandi.put(zone, place(host), kind, values)
    done = (f"{kind} of {host.to_text(omit_final_dot=True)}" for host, kind in entries)
    return f"Entered at Gandi: {', '.join(done)}."
