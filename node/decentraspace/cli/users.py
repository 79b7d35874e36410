"""`decentraspace renew`, and for administrators `users`, `suspend` and `restore`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from decentraspace.cli.completion import complete_label
from decentraspace.cli.output import emit, json_option, table

if TYPE_CHECKING:
    from decentraspace.cli.client import Api, Saved

_node_option = click.option("--node", help="URL of a node's API (default: where you logged in).")


def site_of(api: Api, saved: Saved, site: str) -> str:
    """The id of a label of the wallet's, LABEL--ID, or a site id, as the node knows it."""
    from decentraspace.cli.sites import name_of

    name, _, _ = name_of(site, saved.node)
    return str(api.get("/hosting/status/", site=name, limit=1)["site"])


@click.command()
@click.argument("site", shell_complete=complete_label)
@_node_option
@json_option
def renew(site: str, node: str | None, as_json: bool) -> None:
    """Renew SITE of the free tier at a node: its time begins again.

    \b
    Examples:
      decentraspace renew blog
    """
    from decentraspace.cli import client

    saved = client.load()
    with client.Api(node or saved.node, saved) as api:
        found = api.post("/hosting/expire/", {"site": site_of(api, saved, site)})
    until = f"until {found['expires']}" if found["expires"] else "without an end"
    emit(found, f"{site} is {found['state']}, {until}.", as_json)


@click.command()
@_node_option
@json_option
def users(node: str | None, as_json: bool) -> None:
    """List the wallets of a node (administrators).

    \b
    Examples:
      decentraspace users
    """
    from decentraspace.cli import client

    saved = client.load()
    with client.Api(node or saved.node, saved) as api:
        pages = list(api.pages("/auth/manage/"))
    found = [user for page in pages for user in page["users"]]
    rows = [(u["owner"], u["tier"], "suspended" if u["suspended"] else "") for u in found]
    emit({"users": found, "policies": pages[-1]["policies"]}, table(rows, ("wallet", "tier", "")), as_json)


@click.command()
@click.argument("address")
@_node_option
@json_option
def suspend(address: str, node: str | None, as_json: bool) -> None:
    """Let the wallet ADDRESS neither log in nor deploy at a node (administrators). Its sites stay.

    \b
    Examples:
      decentraspace suspend 0x2c7536E3605D9C16a7a3D7b1898e529396a65c23
    """
    _set(address, True, node, as_json)


@click.command()
@click.argument("address")
@_node_option
@json_option
def restore(address: str, node: str | None, as_json: bool) -> None:
    """Undo `decentraspace suspend` (administrators).

    \b
    Examples:
      decentraspace restore 0x2c7536E3605D9C16a7a3D7b1898e529396a65c23
    """
    _set(address, False, node, as_json)


def _set(address: str, suspended: bool, node: str | None, as_json: bool) -> None:
    from decentraspace.cli import client
    from decentraspace.identity.ethereum import checksum_address, parse_address

    saved = client.load()
    owner = checksum_address(parse_address(address))
    with client.Api(node or saved.node, saved) as api:
        found = api.patch("/auth/manage/", {"owner": owner, "suspended": suspended})
    emit(found, f"{owner} is {'suspended' if found['suspended'] else 'restored'}.", as_json)
