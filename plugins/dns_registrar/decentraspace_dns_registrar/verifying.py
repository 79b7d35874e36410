"""Who may link a name, by what most of several name servers say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import trio

from decentraspace.errors import Unavailable
from decentraspace_dns_registrar import domains
from decentraspace_dns_registrar.asking import Silent, of_system
from decentraspace_dns_registrar.chain import Chain
from decentraspace_dns_registrar.looking import Looking, Proof, Way
from decentraspace_dns_registrar.settings import Server, Settings, anchor, server

_TTL_LEAST, _TTL_MOST = 30, 3600


@dataclass
class _Seen:
    server: Server
    proof: Proof | None = None
    way: Way | None = None
    trouble: str = ""


class Verifier:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._servers = [server(text) for text in settings.resolvers]
        self._chain = Chain(anchor(text) for text in settings.trust_anchors)

    async def verify(self, name: str, owner: str, gateway: str) -> dict[str, Any]:
        """As `name_verify` answers. Unavailable when too few servers say anything that counts."""
        servers = self._servers or await trio.to_thread.run_sync(of_system)
        gateways = {g.lower().removesuffix(".") for g in (gateway, *self._settings.gateways) if g}
        seen = [_Seen(one) for one in servers]
        async with trio.open_nursery() as nursery:
            for one in seen:
                nursery.start_soon(self._look, one, name, gateways)
        return _judged(name, owner.lower(), seen)

    async def _look(self, seen: _Seen, name: str, gateways: set[str]) -> None:
        looking = Looking(seen.server, self._chain)
        seen.trouble = f"did not answer within {self._settings.timeout:g} s"
        with trio.move_on_after(self._settings.timeout):
            try:
                seen.proof = await looking.proof(name)
                seen.way = await looking.way(name, gateways, self._settings.addresses)
            except Silent as error:
                seen.trouble = str(error)


def _judged(name: str, owner: str, seen: Sequence[_Seen]) -> dict[str, Any]:
    heard = [one for one in seen if one.proof is not None]
    if len(heard) * 2 <= len(seen):
        raise Unavailable(
            f"Too few name servers could say who may link {name}: "
            + "; ".join(f"{one.server.text} {one.trouble}" for one in seen if one.proof is None)
        )
    proofs = [one.proof for one in heard if one.proof is not None]
    yes = [one for one in proofs if owner in one.owners]
    others = [one for one in proofs if one.owners and owner not in one.owners]
    way = _way(seen)
    result: dict[str, Any] = {
        "method": "txt",
        "ttl": int(min(max(min(one.ttl for one in proofs), _TTL_LEAST), _TTL_MOST)),
        "seen": [_told(one, owner) for one in seen],
    }
    if way is not None:
        result["points"] = way.points
    if len(yes) * 2 > len(seen):
        signed = ", signed (DNSSEC)" if all(one.signed for one in yes) else ""
        result |= {
            "state": "held",
            "detail": f"{len(yes)} of {len(seen)} name servers see the record{signed}.",
        }
        if way is not None and not way.points:
            # After "… does not lead visitors here yet", which is what the node says.
            result["detail"] += f" {way.detail[:1].upper()}{way.detail[1:]}."
    elif len(others) * 2 > len(seen):
        result |= {
            "state": "stranger",
            "detail": f"The TXT record of {domains.proof_host(name)} names another wallet.",
        }
    else:
        trouble = next((one.trouble for one in proofs if one.trouble), "")
        some = f" {len(yes)} of {len(seen)} name servers see it already." if yes else ""
        result |= {
            "state": "missing",
            "detail": f"Most name servers see no TXT record of {domains.proof_host(name)} that says "
            f"{domains.proof(owner)}{': ' + trouble if trouble else ''}.{some}",
        }
    return result


def _way(seen: Sequence[_Seen]) -> Way | None:
    """What more than half of all say; None where too few say anything."""
    ways = [one.way for one in seen if one.way is not None]
    if len(ways) * 2 <= len(seen):
        return None
    if sum(way.points for way in ways) * 2 > len(seen):
        return Way(True)
    return next(
        (way for way in ways if not way.points), Way(False, "not all name servers agree where it leads")
    )


def _told(seen: _Seen, owner: str) -> dict[str, str]:
    text = seen.server.text
    if seen.proof is None:
        return {"server": text, "state": "silent", "detail": seen.trouble}
    if owner in seen.proof.owners:
        return {"server": text, "state": "yes", "detail": "signed (DNSSEC)" if seen.proof.signed else ""}
    detail = seen.proof.trouble or ("it names another wallet" if seen.proof.owners else "no such record")
    return {"server": text, "state": "no", "detail": detail}
