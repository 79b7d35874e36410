"""`decentraspace tier`: what a wallet may have at a node, and, for its operators, which tier it is in."""

from __future__ import annotations

from typing import Any

import click

from decentraspace.cli.output import emit, json_option, size_of


@click.command()
@click.argument("address", required=False)
@click.argument("tier", type=click.Choice(["free", "paid"]), required=False)
@click.option("--node", help="URL of a node's API (default: where you logged in).")
@json_option
def tier(address: str | None, tier: str | None, node: str | None, as_json: bool) -> None:
    """Show the tier of your wallet at a node; operators: of the wallet ADDRESS, or set it.

    Operators are the wallets in node.operator and node.admins of the node's configuration.

    \b
    Examples:
      decentraspace tier
      decentraspace tier 0x2c7536E3605D9C16a7a3D7b1898e529396a65c23
      decentraspace tier 0x2c7536E3605D9C16a7a3D7b1898e529396a65c23 paid
    """
    from decentraspace.cli import client
    from decentraspace.identity.ethereum import checksum_address, parse_address

    saved = client.load()
    owner = checksum_address(parse_address(address)) if address else None
    with client.Api(node or saved.node, saved) as api:
        if owner and tier:
            found = api.patch("/auth/tier/", {"owner": owner, "tier": tier})
        else:
            found = api.get("/auth/tier/", **({"owner": owner} if owner else {}))
    emit(found, describe(found), as_json)


def describe(found: dict[str, Any]) -> str:
    limits, used = found["limits"], found["used"]
    return "\n".join(
        [
            f"{found['owner']} is in the {found['tier']} tier{', suspended' if found.get('suspended') else ''}.",
            f"  Sites  {used['sites']} of {limits['sites']}",
            f"  Bytes  {size_of(used['bytes'])} of {size_of(limits['bytes'])}",
            *([f"  Copies {limits['replicas']} of each site"] if "replicas" in limits else []),
        ]
    )
