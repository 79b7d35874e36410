"""Commands for operators: their key, and their entry in OperatorRegistry. web3 is loaded when one runs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import trio

from decentraspace.errors import BadInput, ConfigError

if TYPE_CHECKING:
    from decentraspace_billing_polygon.registering import Registrar

_PASSWORD_LEAST = 8

_as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_config = click.option(
    "--config", "config_path", type=click.Path(path_type=Path), help="Configuration file (TOML)."
)
_data_dir = click.option("--data-dir", help="Folder that holds everything the node keeps.")
_wait = click.option("--wait", default=120, show_default=True, help="Seconds to wait until it is final.")


def add(group: click.Group) -> None:
    group.add_command(operator_key)
    group.add_command(operator)


@click.command("operator-key")
@click.argument("file", type=click.Path(path_type=Path))
@_as_json
def operator_key(file: Path, as_json: bool) -> None:
    """Make a new key for the operator, encrypted with a password.

    The password is asked for twice, without an echo, and written nowhere. FILE must not exist; it is readable
    by you alone (0600). Keep a copy of it: whoever has file and password has the operator's credits.

    \b
    Example:
      decentraspace operator-key /etc/decentraspace/operator.json
    """
    if file.exists():
        raise BadInput(f"{file} exists already", hint="Name another file; this one is left as it is.")
    password = click.prompt("Password for the key", hide_input=True, confirmation_prompt=True, err=True)
    if len(password) < _PASSWORD_LEAST:
        raise BadInput(f"The password needs {_PASSWORD_LEAST} characters at least")
    from decentraspace_billing_polygon.signer import make_keystore

    address = make_keystore(file, password)
    text = (
        f"{address}\nSend it some of the chain's own coin for fees, and set in the configuration:\n"
        f'[plugin.billing_polygon]\nkeystore = "{file.absolute()}"\n'
        'password_file = "…"   # a file with the password in its first line, mode 0600'
    )
    _emit({"address": address, "keystore": str(file.absolute())}, text, as_json)


@click.group("operator")
def operator() -> None:
    """This node's entry in OperatorRegistry.

    Each command reads [plugin.billing_polygon] of the node's configuration. Those that send stop when the node
    has the plugin's memory open: stop the node first.

    \b
    Examples:
      decentraspace operator status
      decentraspace operator register --stake 100000000 --http https://node.example --deposit
      decentraspace operator leave
    """


@operator.command("status")
@_config
@_data_dir
@_as_json
@click.pass_context
def status(context: click.Context, config_path: Path | None, data_dir: str | None, as_json: bool) -> None:
    """Say how the operator stands: stake, credits, coins for fees.

    \b
    Example:
      decentraspace operator status --json
    """
    found = _with_registrar(context, config_path, data_dir, lambda registrar: registrar.status())
    text = "\n".join(f"{name.replace('_', ' ') + ':':<16} {value}" for name, value in found.items())
    _emit(found, text, as_json)


@operator.command("register")
@click.option("--stake", type=click.IntRange(1), help="Credits at stake; by default the least allowed.")
@click.option("--http", required=True, help="URL under which the node's API is reached.")
@click.option("--peer-id", help="The node's libp2p peer id; by default the one of this node's key.")
@click.option("--prices", type=click.Path(exists=True, dir_okay=False, path_type=Path),
              help="Price list whose SHA-256 is registered.")  # fmt: skip
@click.option("--deposit", is_flag=True, help="Deposit what the stake lacks from the operator's own tokens.")
@click.option("--yes", is_flag=True, help="Send without asking.")
@_wait
@_config
@_data_dir
@_as_json
@click.pass_context
def register(
    context: click.Context,
    stake: int | None,
    http: str,
    peer_id: str | None,
    prices: Path | None,
    deposit: bool,
    yes: bool,
    wait: int,
    config_path: Path | None,
    data_dir: str | None,
    as_json: bool,
) -> None:
    """Register this node's operator, with a stake of credits; again: change what is told of it.

    Sends up to four transactions: the approval of tokens and the deposit with --deposit, the approval of the
    stake, and the registration.

    \b
    Example:
      decentraspace operator register --http https://node.example --deposit --yes
    """
    digest = hashlib.sha256(prices.read_bytes()).digest() if prices else bytes(32)

    async def work(registrar: Registrar) -> dict[str, Any]:
        plan = await registrar.plan(stake, http, peer_id, digest, deposit)
        if not yes:
            click.confirm("\n".join([*plan.words, "Send?"]), abort=True, err=True)
        return await registrar.carry_out(plan, wait)

    found = _with_registrar(context, config_path, data_dir, work)
    _emit(
        found, f"{found['operator']} is {found['standing']} with {found['stake']} credits at stake", as_json
    )


@operator.command("leave")
@click.option("--yes", is_flag=True, help="Send without asking.")
@_wait
@_config
@_data_dir
@_as_json
@click.pass_context
def leave(
    context: click.Context,
    yes: bool,
    wait: int,
    config_path: Path | None,
    data_dir: str | None,
    as_json: bool,
) -> None:
    """Leave the registry; 14 days later, run it again to take the stake back.

    \b
    Example:
      decentraspace operator leave
    """

    async def work(registrar: Registrar) -> dict[str, Any]:
        plan = await registrar.plan_to_leave()
        if not yes:
            click.confirm("\n".join([*plan.words, "Send?"]), abort=True, err=True)
        return await registrar.carry_out(plan, wait)

    found = _with_registrar(context, config_path, data_dir, work)
    until = f"; the stake may be taken back from {found['leaves_at']} on (Unix seconds)"
    text = f"{found['operator']} is {found['standing']}" + (until if found["leaves_at"] else "")
    _emit(found, text, as_json)


@operator.command("trust-chain")
@click.option("--yes", is_flag=True, help="Without asking.")
@_config
@_data_dir
@_as_json
@click.pass_context
def trust_chain(
    context: click.Context, yes: bool, config_path: Path | None, data_dir: str | None, as_json: bool
) -> None:
    """Go on although a block that was final has changed.

    First make sure that plugin.billing_polygon.rpc is of the right chain, by other means than these endpoints.
    What the ledger has taken over from blocks that are no more is not taken back: restore ledger.sqlite from
    before, or start with `decentraspace doctor`.

    \b
    Example:
      decentraspace operator trust-chain
    """
    if not yes:
        click.confirm("Forget which block was final last?", abort=True, err=True)

    async def work(registrar: Registrar) -> dict[str, Any]:
        return {"forgotten": await registrar.forget_final()}

    found = _with_registrar(context, config_path, data_dir, work)
    _emit(found, f"Forgotten: {found['forgotten'] or 'nothing, none was known'}", as_json)


def _with_registrar(
    context: click.Context,
    config_path: Path | None,
    data_dir: str | None,
    work: Callable[[Registrar], Awaitable[dict[str, Any]]],
) -> dict[str, Any]:
    from decentraspace.config import default_path, load
    from decentraspace_billing_polygon.settings import read

    given = context.find_root().params
    data_dir = data_dir or given.get("data_dir")
    overrides = {"node": {"data_dir": data_dir}} if data_dir else {}
    config = load(config_path or given.get("config_path") or default_path(data_dir), overrides=overrides)
    settings = read(config.plugin.get("billing_polygon", {}))
    if not settings.rpc or not settings.operators:
        raise ConfigError(
            "plugin.billing_polygon.rpc and operators must be set",
            hint="See docs/how-to/get-paid.md, or name the file with --config.",
        )
    from decentraspace_billing_polygon.registering import Registrar

    folder = config.data_dir

    async def run() -> dict[str, Any]:
        registrar = await trio.to_thread.run_sync(Registrar, settings, folder)
        try:
            return await work(registrar)
        finally:
            await registrar.aclose()

    return trio.run(run)


def _emit(value: dict[str, Any], text: str, as_json: bool) -> None:
    click.echo(json.dumps(value, indent=2) if as_json else text)
