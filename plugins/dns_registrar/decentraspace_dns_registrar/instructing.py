"""What the owner of a name has to enter, in words. Pure."""

from __future__ import annotations

import ipaddress

from decentraspace_dns_registrar import domains
from decentraspace_dns_registrar.settings import Settings


def instructions(name: str, owner: str, gateway: str, settings: Settings) -> list[dict[str, str]]:
    """The records that link `name`: one that proves who may, and one of several ways to lead visitors here."""
    proof = {
        "type": "TXT",
        "host": domains.proof_host(name),
        "value": domains.proof(owner),
        "note": "Proves that your wallet may say what the name shows. Of use to no other wallet.",
    }
    records = [proof]
    gates = [g for g in (gateway.lower().removesuffix("."), *settings.gateways) if g]
    apex = len(name.split(".")) == 2
    if gates:
        alias = {
            "type": "CNAME",
            "host": name,
            "value": gates[0],
            "note": "Leads visitors here. Not possible for the domain itself (such as example.org), only for names "
            "below it (such as www.example.org), and beside no other record of the host.",
        }
        flat = {
            "type": "ALIAS",
            "host": name,
            "value": gates[0],
            "note": "Instead of the CNAME, for the domain itself, where your provider has it; others call it ANAME or "
            "CNAME flattening.",
        }
        records += [flat] if apex else [alias, flat]
    for address in settings.addresses:
        records.append(
            {
                "type": "A" if ipaddress.ip_address(address).version == 4 else "AAAA",
                "host": name,
                "value": address,
                "note": "Instead of a CNAME or ALIAS, where your provider has neither; remove other addresses.",
            }
        )
    return records
