"""`decentraspace init`: a configuration, after three questions."""

from __future__ import annotations

import json
from pathlib import Path

import click

from decentraspace.cli.options import data_dir_option, key_passphrase
from decentraspace.cli.output import emit, json_option, program, size_of
from decentraspace.errors import BadInput, Conflict, in_words

_TEMPLATE = """\
# A DecentraSpace node. All settings: docs/reference/settings.md.
[node]
data_dir = {data_dir}
name = {name}
operator = {operator}

[network]
name = "devnet"

[storage]
quota = {quota}
"""


def _wallet(text: str) -> str:
    """At the prompt: asked again until it is an address, or nothing."""
    from decentraspace.identity.ethereum import parse_address

    address = text.strip()
    try:
        if address:
            parse_address(address)
    except BadInput as error:
        raise click.UsageError(in_words(error)) from error
    return address


@click.command()
@data_dir_option
@click.option("--name", help="Name shown to people.")
@click.option("--operator", help="Your wallet (0x…): it may administer the node.")
@click.option("--quota-gb", type=click.IntRange(1, 1_000_000), help="Gigabytes of content kept at most.")
@click.option("--yes", is_flag=True, help="Ask nothing; take the defaults.")
@click.option("--force", is_flag=True, help="Replace a configuration that is there.")
@json_option
def init(
    data_dir: str | None,
    name: str | None,
    operator: str | None,
    quota_gb: int | None,
    yes: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Write a configuration for a node, and make its key.

    The key is encrypted where DECENTRASPACE_KEY_PASSPHRASE is set, which `run` then needs as well.

    \b
    Examples:
      decentraspace init
      decentraspace init --yes --data-dir /srv/decentraspace --quota-gb 100
    """
    import platform

    from decentraspace.config import NodeConfig, load
    from decentraspace.identity.ethereum import parse_address
    from decentraspace.identity.keys import NodeKey

    folder = Path(data_dir or NodeConfig().data_dir).expanduser()
    path = folder / "config.toml"
    if path.exists() and not force:
        raise Conflict(f"{path} is there already.", hint="Edit it, or use --force to replace it.")
    if not yes:
        name = (
            name
            if name is not None
            else click.prompt("A name for this node", default=platform.node(), err=True)
        )
        if operator is None:
            operator = click.prompt(
                "Your wallet address, to administer it (empty: nobody)",
                default="",
                show_default=False,
                err=True,
                value_proc=_wallet,
            )
        quota_gb = quota_gb or click.prompt(
            "Gigabytes of content it may keep", default=10, type=click.IntRange(1, 1_000_000), err=True
        )
    if operator:
        parse_address(operator)
    if name and (len(name) > 64 or not name.isprintable()):
        raise BadInput("A name has up to 64 printable characters.")
    quota = (quota_gb or 10) * 10**9
    text = _TEMPLATE.format(
        data_dir=json.dumps(str(folder)),
        name=json.dumps(name or ""),
        operator=json.dumps(operator or ""),
        quota=quota,
    )
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = path.with_suffix(".new")
    fresh.write_text(text, "utf-8")
    try:
        load(fresh, environ={})
        key = NodeKey.load_or_create(folder / "node.key", key_passphrase())
    except BaseException:
        fresh.unlink()
        raise
    fresh.rename(path)
    value = {"config": str(path), "peer_id": key.peer_id, "quota": quota}
    text = f"Wrote {path} for node {key.peer_id}, which keeps up to {size_of(quota)}.\nStart it with: {program()} run"
    if data_dir:
        text += f" --config {path}"
    emit(value, text, as_json)
