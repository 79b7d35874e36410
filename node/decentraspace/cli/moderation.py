"""`decentraspace block`: what an operator refuses."""

from __future__ import annotations

import base64
from typing import Any

import click

from decentraspace.cli.output import emit, json_option, table
from decentraspace.errors import BadInput

node_option = click.option("--node", help="URL of a node's API (default: where you logged in).")
_cid = click.option("--cid", help="Content, by its CID.")
_site = click.option("--site", help="A site: its id, host or URL.")
_owner = click.option("--owner", help="All sites of a wallet, by its address.")


@click.group(invoke_without_command=True)
@node_option
@json_option
@click.pass_context
def block(context: click.Context, node: str | None, as_json: bool) -> None:
    """What your node refuses to hold and to serve: list it, `add`, `rm`; `log` is what everybody can read.

    \b
    Examples:
      decentraspace block
      decentraspace block add --cid bafybei… --status 451 --reason "Court order 17/2025"
      decentraspace block add --site blog--bkqx3fmw5zr2a4sd
      decentraspace block rm --cid bafybei…
      decentraspace block log --verify https://api.node.example
    """
    if context.invoked_subcommand is not None:
        if as_json or node:
            raise BadInput("Write options behind the command.")
        return
    _list(node, as_json)


@block.command()
@_cid
@_site
@_owner
@click.option(
    "--status",
    type=click.Choice(["410", "451"]),
    default="410",
    show_default=True,
    help="gone, or for legal reasons",
)
@click.option("--reason", default="", help="Shown to visitors, and in the public log.")
@click.option("--hidden", is_flag=True, help="Do not name it in the log, but its double hash.")
@node_option
@json_option
def add(
    cid: str | None,
    site: str | None,
    owner: str | None,
    status: str,
    reason: str,
    hidden: bool,
    node: str | None,
    as_json: bool,
) -> None:
    """Block content, a site or a wallet at your node.

    \b
    Examples:
      decentraspace block add --cid bafybei… --status 451 --reason "Court order 17/2025"
      decentraspace block add --owner 0x… --hidden
    """
    from decentraspace.cli import client

    saved = client.load()
    body = {**_named(cid, site, owner), "status": int(status), "reason": reason, "hidden": hidden}
    with client.Api(node or saved.node, saved) as api:
        made = api.post("/moderation/blocks/", body)
    emit(made, "\n".join(_made(made)), as_json)


def _made(made: dict[str, Any]) -> list[str]:
    """What a decision has done, also where there was one before."""
    if not made["changed"]:
        return [f"Blocked already, nothing changed: {_decision(made)}"]
    lines = [f"Blocked ({made['status']}): {made['kind']} {made['target']}"]
    if made.get("before"):
        lines += [f"Before: {_decision(made['before'])}", f"Now:    {_decision(made)}"]
    return lines


def _decision(one: dict[str, Any]) -> str:
    hidden = ", hidden" if one["hidden"] else ""
    return f"decision {one['id']} of {one['created']} ({one['status']}{hidden}), {one['reason'] or 'no reason given'}"


@block.command()
@click.argument("number", type=click.IntRange(1), required=False)
@_cid
@_site
@_owner
@click.option("--reason", default="", help="For the log.")
@node_option
@json_option
def rm(
    number: int | None,
    cid: str | None,
    site: str | None,
    owner: str | None,
    reason: str,
    node: str | None,
    as_json: bool,
) -> None:
    """Take back a decision, by its NUMBER or by what it blocks.

    \b
    Examples:
      decentraspace block rm 3 --reason "The order was lifted"
      decentraspace block rm --site blog--bkqx3fmw5zr2a4sd
    """
    from decentraspace.cli import client

    saved = client.load()
    query: dict[str, Any] = {"id": number} if number else _named(cid, site, owner)
    with client.Api(node or saved.node, saved) as api:
        gone = api.delete("/moderation/blocks/", reason=reason, **query)
    emit(gone, f"No longer blocked: {gone['kind']} {gone['target']}", as_json)


@block.command("list")
@node_option
@json_option
def list_(node: str | None, as_json: bool) -> None:
    """List your decisions, and the denylists your node follows.

    \b
    Examples:
      decentraspace block list --json
    """
    _list(node, as_json)


def _list(node: str | None, as_json: bool) -> None:
    from decentraspace.cli import client

    saved = client.load()
    found: list[dict[str, Any]] = []
    with client.Api(node or saved.node, saved) as api:
        for page in api.pages("/moderation/blocks/"):
            found += page["blocks"]
    lists = page["lists"]
    rows = [
        (str(one["id"]), one["kind"], one["target"], str(one["status"]), one["created"], one["reason"])
        for one in found
    ]
    lists_hold = sum(one["rules"] for one in lists)
    if rows:
        lines = [table(rows, ("ID", "KIND", "TARGET", "STATUS", "SINCE", "REASON"))]
    elif lists_hold:
        lines = ["No decisions of your own. What the denylists name is blocked."]
    else:
        lines = ["Nothing is blocked."]
    for one in lists:
        faults = f", {one['faults']} lines are no rules" if one["faults"] else ""
        lines.append(f"Denylist {one['name'] or one['path']}: {one['rules']} rules{faults}")
        lines += [f"  {sample}" for sample in one["samples"]]
        if "error" in one:
            lines.append(f"  not in force as it is now: {one['error']}")
    emit({"blocks": found, "lists": lists}, "\n".join(lines), as_json)


@block.command()
@click.option("--verify", "url", help="URL of any node's API: verify its whole log.")
@click.option("--known", default="", help="Hash of an entry seen before, which must still be there.")
@click.option("--peer", default="", help="Peer id that must have signed the log.")
@node_option
@json_option
def log(url: str | None, known: str, peer: str, node: str | None, as_json: bool) -> None:
    """Show a node's signed log of decisions, or verify that of any node. No login is needed with --verify.

    \b
    Examples:
      decentraspace block log
      decentraspace block log --verify https://api.node.example
      decentraspace block log --verify https://api.node.example --known 5f0c…
    """
    from decentraspace.cli import client

    if url is None and (known or peer):
        raise BadInput("--known and --peer go with --verify.")
    with client.Api(url or node or client.load().node) as api:
        entries = [one for page in api.pages("/moderation/log/") for one in page["entries"]]
    if url is not None:
        _verify(entries, known, peer, as_json)
        return
    rows = [
        (str(e["seq"]), e["time"], e["action"], str(e["status"]), f"{e['kind']} {e['target']}", e["reason"])
        for e in entries
    ]
    text = (
        table(rows, ("SEQ", "TIME", "ACTION", "STATUS", "TARGET", "REASON")) if rows else "The log is empty."
    )
    emit({"entries": entries}, text, as_json)


def _verify(entries: list[dict[str, Any]], known: str, peer: str, as_json: bool) -> None:
    from decentraspace.moderation.takedowns import verify_log

    try:
        remembered = bytes.fromhex(known)
        raw = [base64.b64decode(one["entry"], validate=True) for one in entries]
    except (ValueError, KeyError, TypeError) as error:
        raise BadInput(f"The hash, or an entry of the log, is malformed: {error}.") from error
    found = verify_log(raw, peer_id=peer, known=remembered)
    value = {"entries": found.entries, "peer_id": found.peer_id, "head": found.head.hex()}
    text = (
        f"{found.entries} entries, all signed by {found.peer_id}, none missing.\n"
        f"Remember the last one's hash, to see later that nothing was taken out: {found.head.hex()}"
        if found.entries
        else "The log is empty."
    )
    emit(value, text, as_json)


def _named(cid: str | None, site: str | None, owner: str | None) -> dict[str, str]:
    given = {"cid": cid, "site": site, "owner": owner}
    named = {kind: text for kind, text in given.items() if text is not None}
    if len(named) != 1:
        raise BadInput("Name one of --cid, --site and --owner.")
    return named
