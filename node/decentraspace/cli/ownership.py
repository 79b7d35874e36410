"""`decentraspace owner` and `transfer`: whose a site is, and giving it to another wallet on the chain."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from decentraspace.cli.completion import complete_label
from decentraspace.cli.output import emit, json_option
from decentraspace.errors import BadInput, Forbidden
from decentraspace.identity.ethereum import checksum_address, parse_address

_node_option = click.option("--node", help="URL of a node's API (default: where you logged in).")


@click.command()
@click.argument("site", shell_complete=complete_label)
@_node_option
@json_option
def owner(site: str, node: str | None, as_json: bool) -> None:
    """Say whose SITE is (a label of yours, a site id or a host), by its records and by the chain.

    \b
    Examples:
      decentraspace owner blog
      decentraspace owner docs--k3v5x2q7mbyzaolp
    """
    from decentraspace.cli import client
    from decentraspace.cli.sites import name_of

    name, url, session = name_of(site, node)
    with client.Api(url, session) as api:
        found = api.get("/blockchain/ownership/", site=name)
    chain = found["chain"]
    lines = [
        f"{found['label'] or site} ({found['site']}) is {found['owner'] or 'nobody'}'s.",
        f"  Founded by    {found['founder'] or 'not known here'}",
        f"  Published by  {found['publisher'] or 'nobody'}",
        f"  On the chain  {chain['owner']} since {chain['since']}, block {chain['block']}"
        if chain
        else "  On the chain  not entered: it is its founder's",
    ]
    if not found["follows_chain"]:
        lines.append("  This node follows no chain: a site that changed hands since looks as it did before.")
    emit(found, "\n".join(lines), as_json)


@click.command()
@click.argument("site", shell_complete=complete_label)
@click.option("--to", "to", required=True, metavar="ADDRESS", help="The wallet that is to own the site.")
@click.option(
    "--keystore",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Sign with this Ethereum keystore file (JSON, version 3), and send.",
)
@click.option("--key-stdin", is_flag=True, help="Sign with the private key on standard input, and send.")
@click.option("--rpc", metavar="URL", help="JSON-RPC endpoint of the chain to send through.")
@click.option("--yes", is_flag=True, help="Send without asking.")
@_node_option
@json_option
def transfer(
    site: str,
    to: str,
    keystore: Path | None,
    key_stdin: bool,
    rpc: str | None,
    yes: bool,
    node: str | None,
    as_json: bool,
) -> None:
    """Give SITE to the wallet ADDRESS. Without a key the transactions are printed, for your wallet to send.

    With --keystore or --key-stdin, and --rpc, they are signed here and sent, one after the other. No node sees the
    key. What you delegated for the site, deploys from Git included, ends when the last is final.

    \b
    Examples:
      decentraspace transfer blog --to 0x…
      decentraspace transfer blog --to 0x… --keystore ~/wallet.json --rpc https://polygon-rpc.example
    """
    from decentraspace.cli import client
    from decentraspace.cli.login import account_of
    from decentraspace.cli.sites import name_of

    signs = keystore is not None or key_stdin
    if signs != (rpc is not None):
        raise BadInput("Name a key (--keystore or --key-stdin) and --rpc together, or neither.")
    checksum_address(parse_address(to))
    saved = client.load()
    name, _, _ = name_of(site, node)
    with client.Api(node or saved.node, saved) as api:
        prepared = api.post("/blockchain/ownership/", {"site": name, "to": to})
    if not signs:
        emit({**prepared, "sent": []}, _printed(prepared), as_json)
        return
    account = account_of(keystore, key_stdin)
    if parse_address(account.address) != saved.address:
        raise Forbidden(f"The key is of {account.address}, and the login of {saved.owner}.")
    if not yes and not key_stdin and sys.stdin.isatty():
        click.confirm(_summary(prepared) + " Send it?", err=True, abort=True)
    from decentraspace.cli.calls import check
    from decentraspace.cli.sending import send

    assert rpc is not None
    check(prepared["transactions"], _calls(prepared, saved.owner, to))
    hashes = send(rpc, account, prepared["transactions"])
    text = "\n".join(
        [
            _summary(prepared),
            *(
                f"  {step['action']:14} {sent}"
                for step, sent in zip(prepared["transactions"], hashes, strict=True)
            ),
            "It is the new owner's when the last is final.",
        ]
    )
    emit({**prepared, "sent": hashes}, text, as_json)


def _calls(prepared: dict[str, Any], owner: str, to: str) -> list[str]:
    """What `transfer` signs: the fee it has shown, at most the site's entry, and the site's change to `to`."""
    from decentraspace.cli.calls import address, call, site

    steps = {step["action"]: step for step in prepared["transactions"]}
    registry = address(steps.get("transfer_site", {}).get("to"))
    fee = int(prepared["fee"])
    entered = str(steps.get("register_site", {}).get("data")).lower()
    wanted = {
        "approve_fee": call("approve(address,uint256)", registry, fee),
        # Whatever label it enters, it enters it as the owner's, and costs nothing but gas.
        "register_site": entered if entered.startswith(call("registerSite(string)")) else "",
        "transfer_site": call(
            "transferFrom(address,address,uint256)", address(owner), address(to), site(prepared["site"])
        ),
    }
    return [wanted.get(step["action"], "") for step in prepared["transactions"]]


def _summary(prepared: dict[str, Any]) -> str:
    return (
        f"{prepared['site']} goes from {prepared['owner']} to {prepared['to']}, for a fee of {prepared['fee']} "
        "credits."
    )


def _printed(prepared: dict[str, Any]) -> str:
    lines = [_summary(prepared), "To be sent by your wallet, in this order:"]
    for step in prepared["transactions"]:
        whole = {"chainId": step["chain_id"], "to": step["to"], "value": step["value"], "data": step["data"]}
        lines += ["", f"  {step['action']}: {step['detail']}", f"  {json.dumps(whole)}"]
    return "\n".join(lines)
