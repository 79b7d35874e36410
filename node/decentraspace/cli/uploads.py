"""`decentraspace uploads`: what a node keeps of yours besides sites."""

from __future__ import annotations

from typing import Any

import click

from decentraspace.cli.output import emit, json_option, size_of, table
from decentraspace.errors import BadInput

_node_option = click.option("--node", help="URL of a node's API (default: where you logged in).")


@click.group(invoke_without_command=True)
@_node_option
@json_option
@click.pass_context
def uploads(context: click.Context, node: str | None, as_json: bool) -> None:
    """List what you have uploaded without a site, with its size and when it ends. `rm` gives some up.

    \b
    Examples:
      decentraspace uploads
      decentraspace uploads --json
      decentraspace uploads rm bafybei…
    """
    if context.invoked_subcommand is not None:
        if as_json or node:
            raise BadInput("Write options behind `rm`.")
        return
    from decentraspace.cli import client

    saved = client.load()
    with client.Api(node or saved.node, saved) as api:
        pages = list(api.pages("/storage/upload/"))
    found: list[dict[str, Any]] = [one for page in pages for one in page["uploads"]]
    page = pages[-1]
    found.sort(key=lambda one: (one["created"], one["cid"]), reverse=True)
    rows = [(one["cid"], size_of(one["bytes"]), one["created"], one["expires"] or "-") for one in found]
    listed = table(rows, ("CID", "SIZE", "UPLOADED", "ENDS")) if rows else "No uploads."
    text = f"{listed}\n{size_of(page['bytes'])} of {size_of(page['limit'])}"
    emit({"uploads": found, "bytes": page["bytes"], "limit": page["limit"]}, text, as_json)


@uploads.command()
@click.argument("cids", metavar="CID…", nargs=-1, required=True)
@_node_option
@json_option
def rm(cids: tuple[str, ...], node: str | None, as_json: bool) -> None:
    """Give up uploads. What a site of yours shows stays.

    \b
    Examples:
      decentraspace uploads rm bafybei…
    """
    from decentraspace.cli import client

    saved = client.load()
    with client.Api(node or saved.node, saved) as api:
        for cid in cids:
            api.delete("/storage/upload/", cid=cid)
    emit({"removed": list(cids)}, "\n".join(f"{cid} is no longer kept for you." for cid in cids), as_json)
