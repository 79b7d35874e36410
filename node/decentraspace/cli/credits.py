"""`decentraspace credits`: what a wallet has, was charged and has granted, and changing that by its key."""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from decentraspace.cli.amounts import Amount, words_of
from decentraspace.cli.completion import complete_label
from decentraspace.cli.output import emit, json_option, note, table
from decentraspace.errors import BadInput, Forbidden, NotFound, Unavailable

if TYPE_CHECKING:
    from decentraspace.cli.client import Api, Saved

F = TypeVar("F", bound=Callable[..., Any])

_DAY = 86400
_FINAL = 1800.0  # seconds to wait for a final block
_EVERY = 2.0
_PAGES_MOST = 10_000

_node_option = click.option("--node", help="URL of a node's API (default: where you logged in).")


def _signing(function: F) -> F:
    """Options of commands that change something on the chain."""
    for option in (
        click.option("--no-wait", is_flag=True, help="Do not wait for the final block."),
        click.option("--rpc", metavar="URL", help="JSON-RPC endpoint of the chain to send through."),
        click.option(
            "--key-stdin", is_flag=True, help="Sign with the private key on standard input, and send."
        ),
        click.option(
            "--keystore",
            type=click.Path(exists=True, dir_okay=False, path_type=Path),
            help="Sign with this Ethereum keystore file (JSON, version 3), and send.",
        ),
    ):
        function = option(function)
    return function


@click.group("credits", invoke_without_command=True)
@_node_option
@json_option
@click.pass_context
def credits_command(context: click.Context, node: str | None, as_json: bool) -> None:
    """Credits of your wallet: balance (shown without a command), use, statements, recharging, grants.

    \b
    Examples:
      decentraspace credits
      decentraspace credits recharge 5usd --keystore ~/wallet.json --rpc https://polygon-rpc.example
      decentraspace credits grant 5usd --days 30 --keystore ~/wallet.json --rpc https://polygon-rpc.example
    """
    if context.invoked_subcommand is None:
        _show_balance(node, as_json)


@credits_command.command()
@_node_option
@json_option
def balance(node: str | None, as_json: bool) -> None:
    """Show what you have on the chain, what you used, and what the node may take.

    \b
    Examples:
      decentraspace credits balance
      decentraspace credits balance --json
    """
    _show_balance(node, as_json)


def _show_balance(node: str | None, as_json: bool) -> None:
    with _api(node) as (api, _):
        found = api.get("/billing/balance/")
    chain = found["chain"]
    lines = [f"{found['owner']} is in the {found['tier']} tier."]
    if not found["billing"]:
        lines.append("  This node charges nothing.")
    if chain is not None:
        lines += [
            f"  In the vault  {words_of(chain['balance'])}",
            f"  Available     {words_of(chain['available'])}",
        ]
    lines += [
        f"  Not settled   {words_of(found['unsettled'])}",
        f"  This hour     {words_of(found['accrued'])}",
        f"  Still to use  {words_of(found['room'])}",
    ]
    for one in found["allocations"]:
        taken = one["settled"] + one["unsettled"]
        lines.append(f"  Granted {one['id']}: {taken} of {words_of(one['cap'])} until {one['expires']}")
    for one in found["cards"]:
        lines.append(f"  Card {one['reference']}: {words_of(one['credits'])}. {one['detail']}")
    emit(found, "\n".join(lines), as_json)


@credits_command.command()
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV.")
@_node_option
@json_option
def history(as_csv: bool, node: str | None, as_json: bool) -> None:
    """List what was used and charged, hour by hour.

    \b
    Examples:
      decentraspace credits history
      decentraspace credits history --csv > use.csv
    """
    if as_csv and as_json:
        raise BadInput("Name --csv or --json, not both.")
    with _api(node) as (api, _):
        uses = list(_uses(api))
    names = ("hour", "site", "service", "quantity", "free", "credits", "streamed", "waived")
    rows = [tuple(str(use[name]) for name in names) for use in uses]
    if as_csv:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([names, *rows])
        click.echo(text.getvalue(), nl=False)
        return
    emit({"uses": uses}, table(rows, names) if rows else "Nothing was used yet.", as_json)


def _uses(api: Api) -> Iterator[dict[str, Any]]:
    cursor: str | None = ""
    for _ in range(_PAGES_MOST):
        page = api.get("/billing/history/", limit=1000, cursor=cursor)
        yield from page["uses"]
        cursor = page["next"]
        if cursor is None:
            return


@credits_command.command()
@click.argument("root", required=False)
@click.option("--allocation", help="Of which allocation, where the batch has several of yours.")
@_node_option
@json_option
def statements(root: str | None, allocation: str | None, node: str | None, as_json: bool) -> None:
    """List statements, or print that of the batch ROOT for `decentraspace verify-statement`.

    \b
    Examples:
      decentraspace credits statements
      decentraspace credits statements 0x… > statement.json
    """
    with _api(node) as (api, _):
        listed = api.get("/billing/history/", limit=1)["statements"]
        if root is not None:
            of_root = [s for s in listed if s["root"] == root and allocation in (None, s["allocation"])]
            if len(of_root) > 1:
                raise BadInput("The batch has several statements of yours.", hint="Name one by --allocation.")
            if not of_root and allocation is None:
                raise NotFound(f"There is no statement of batch {root[:80]}.")
            chosen = of_root[0]["allocation"] if of_root else allocation
            found = api.get("/billing/history/", root=root, allocation=chosen)["statement"]
            click.echo(json.dumps(found, indent=2))
            return
    rows = [(s["made"], str(s["credits"]), s["status"], s["root"], s["transaction"] or "-") for s in listed]
    text = table(rows, ("made", "credits", "status", "root", "transaction")) if rows else "No statement yet."
    emit({"statements": listed}, text, as_json)


@credits_command.command()
@_node_option
@json_option
def methods(node: str | None, as_json: bool) -> None:
    """List ways to pay at a node.

    \b
    Examples:
      decentraspace credits methods
    """
    with _api(node) as (api, _):
        found = api.get("/billing/payment-methods/")
    rows = [(m["id"], m["title"], m["currency"] or "", str(m["fee_credits"])) for m in found["methods"]]
    text = table(rows, ("method", "", "paid in", "fee")) if rows else "This node charges nothing."
    emit(found, text, as_json)


@credits_command.command()
@click.argument("amount", type=Amount())
@click.option("--method", default="token", help="One of `decentraspace credits methods` (default: token).")
@_signing
@_node_option
@json_option
def recharge(
    amount: int,
    method: str,
    keystore: Path | None,
    key_stdin: bool,
    rpc: str | None,
    no_wait: bool,
    node: str | None,
    as_json: bool,
) -> None:
    """Buy credits: AMOUNT is credits, or dollars as 5usd. Prints where to pay, or what your wallet is to send.

    \b
    Examples:
      decentraspace credits recharge 5usd --method paystack
      decentraspace credits recharge 5usd --keystore ~/wallet.json --rpc https://polygon-rpc.example
    """
    account = _account(keystore, key_stdin, rpc)
    with _api(node) as (api, saved):
        found = api.post("/billing/recharge/", {"method": method, "credits": amount})
        lines = [f"{words_of(amount)} for {saved.owner}: {found['status']}. {found['detail']}".rstrip()]
        if found["url"]:
            lines.append(f"Pay at {found['url']}")
        hashes = _send(api, saved, account, rpc, found["transactions"], as_json, no_wait)
    lines += _shown(found["transactions"], hashes)
    emit({**found, "sent": hashes}, "\n".join(lines), as_json)


@credits_command.command()
@click.argument("cap", type=Amount())
@click.option("--days", type=click.IntRange(1, 3650), default=30, show_default=True, help="For how long.")
@click.option("--rate", type=Amount(), default="0", help="Credits a second of it, for storage (default: 0).")
@_signing
@_node_option
@json_option
def grant(
    cap: int,
    days: int,
    rate: int,
    keystore: Path | None,
    key_stdin: bool,
    rpc: str | None,
    no_wait: bool,
    node: str | None,
    as_json: bool,
) -> None:
    """Let this node's operator take CAP at most, as credits or as 5usd. It is reserved while the grant lasts.

    With a key and no --rpc, or when the wallet has no coins for gas, the grant is signed and the operator sends it.

    \b
    Examples:
      decentraspace credits grant 5usd --days 30
      decentraspace credits grant 5usd --keystore ~/wallet.json
      decentraspace credits grant 5usd --keystore ~/wallet.json --rpc https://polygon-rpc.example
    """
    from decentraspace.cli import granting, sending

    account = _account(keystore, key_stdin, rpc, alone=True)
    with _api(node) as (api, saved):
        chain = api.get("/blockchain/credit/")
        start = int(time.time())
        arguments = {
            "operator": chain["operator"],
            "id": str(start),
            "cap": str(cap),
            "rate": str(rate),
            "start": start,
            "expires": start + days * _DAY,
        }
        made = api.post("/blockchain/credit/", {"action": "allocate", "arguments": arguments})
        handed: dict[str, Any] | None = None
        if account is not None and (rpc is None or not sending.has_coins(rpc, account, made)):
            signature = granting.sign(account, chain, arguments)
            handed = granting.hand_in(api, arguments, signature, as_json, no_wait)
            hashes = [handed["reference"]] if handed["reference"] else []
        else:
            hashes = _send(api, saved, account, rpc, [made], as_json, no_wait)
    lines = [f"Grant {start}: {words_of(cap)} to {chain['operator']} for {days} days."]
    if handed is None:
        lines += _shown([made], hashes)
    else:
        lines.append(f"  Signed; the operator sends it: {handed['status']}. {handed['detail']}".rstrip())
        lines += [f"  Sent {one}" for one in hashes]
    value = {"grant": arguments, "transactions": [made], "sent": hashes, "handed_in": handed}
    emit(value, "\n".join(lines), as_json)


@credits_command.command()
@click.argument("number", metavar="GRANT")
@_signing
@_node_option
@json_option
def end(
    number: str,
    keystore: Path | None,
    key_stdin: bool,
    rpc: str | None,
    no_wait: bool,
    node: str | None,
    as_json: bool,
) -> None:
    """End the grant of that number to this node's operator, after the notice that the contract gives it.

    \b
    Examples:
      decentraspace credits end 1767225600 --keystore ~/wallet.json --rpc https://polygon-rpc.example
    """
    if not number.isascii() or not number.isdecimal():
        raise BadInput(
            f"{number[:40]!r} is no grant's number.", hint="`decentraspace credits balance` has them."
        )
    account = _account(keystore, key_stdin, rpc)
    with _api(node) as (api, saved):
        operator = api.get("/blockchain/credit/")["operator"]
        arguments = {"operator": operator, "id": number}
        made = api.post("/blockchain/credit/", {"action": "end_allocation", "arguments": arguments})
        hashes = _send(api, saved, account, rpc, [made], as_json, no_wait)
    text = "\n".join([f"Grant {number} to {operator} ends.", *_shown([made], hashes)])
    emit({"grant": arguments, "transactions": [made], "sent": hashes}, text, as_json)


@credits_command.command()
@click.argument("amount", type=Amount(), required=False)
@click.option("--to", "to", metavar="ADDRESS", help="Whom to pay what was asked for before (default: you).")
@click.option("--cancel", is_flag=True, help="Take back what was asked for.")
@_signing
@_node_option
@json_option
def withdraw(
    amount: int | None,
    to: str | None,
    cancel: bool,
    keystore: Path | None,
    key_stdin: bool,
    rpc: str | None,
    no_wait: bool,
    node: str | None,
    as_json: bool,
) -> None:
    """Ask for AMOUNT out of the vault; without it, have what you asked for paid once its time has come.

    \b
    Examples:
      decentraspace credits withdraw 2usd --keystore ~/wallet.json --rpc https://polygon-rpc.example
      decentraspace credits withdraw --keystore ~/wallet.json --rpc https://polygon-rpc.example
    """
    from decentraspace.identity.ethereum import checksum_address, parse_address

    if sum((amount is not None, to is not None, cancel)) > 1:
        raise BadInput("Name an amount, --to or --cancel, only one of them.")
    account = _account(keystore, key_stdin, rpc)
    with _api(node) as (api, saved):
        action, arguments = "withdraw", {"to": checksum_address(parse_address(to)) if to else saved.owner}
        if cancel:
            action, arguments = "cancel_withdrawal", {}
        elif amount is not None:
            action, arguments = "request_withdrawal", {"amount": str(amount)}
        made = api.post("/blockchain/credit/", {"action": action, "arguments": arguments})
        hashes = _send(api, saved, account, rpc, [made], as_json, no_wait)
    text = "\n".join([f"{action.replace('_', ' ').capitalize()}.", *_shown([made], hashes)])
    emit({"action": action, "transactions": [made], "sent": hashes}, text, as_json)


@credits_command.command()
@click.argument("site", shell_complete=complete_label)
@click.argument("most", metavar="AMOUNT|default")
@_node_option
@json_option
def limit(site: str, most: str, node: str | None, as_json: bool) -> None:
    """Set what SITE may cost in a month: credits, dollars as 5usd, or `default` for the node's own limit.

    \b
    Examples:
      decentraspace credits limit blog 5usd
      decentraspace credits limit blog default
    """
    from decentraspace.cli.users import site_of

    cap = None if most == "default" else Amount().convert(most, None, None)
    with _api(node) as (api, saved):
        found = api.patch("/billing/balance/", {"site": site_of(api, saved, site), "monthly_cap": cap})
    spent = f"{words_of(found['spent'])} are spent"
    emit(found, f"{site} may cost {words_of(found['monthly_cap'])} in a month; {spent}.", as_json)


@credits_command.command()
@_node_option
@json_option
def settle(node: str | None, as_json: bool) -> None:
    """Have a node settle what is due now, however little (administrators), as before it is stopped for good.

    \b
    Examples:
      decentraspace credits settle
    """
    with _api(node) as (api, _):
        found = api.post("/billing/settle/", {})
    text = "Nothing is due."
    if found["root"]:
        text = f"Batch {found['root']}: {found['charges']} charges, {found['waiting']} not final yet."
    emit(found, text, as_json)


# -- what they share


class _api:
    """Logged in at a node: (api, saved)."""

    def __init__(self, node: str | None) -> None:
        from decentraspace.cli import client

        self._saved = client.load()
        self._api = client.Api(node or self._saved.node, self._saved)

    def __enter__(self) -> tuple[Api, Saved]:
        return self._api, self._saved

    def __exit__(self, *_: object) -> None:
        self._api.__exit__()


def _account(keystore: Path | None, key_stdin: bool, rpc: str | None, *, alone: bool = False) -> Any:
    """None where the wallet sends by itself. `alone`: a key is of use without an endpoint. BadInput, Forbidden for
    another wallet's key."""
    from decentraspace.cli import client
    from decentraspace.cli.login import account_of
    from decentraspace.identity.ethereum import parse_address

    has_key = keystore is not None or key_stdin
    if (rpc is None) == has_key and not (alone and has_key):
        raise BadInput("Name a key (--keystore or --key-stdin) and --rpc together, or neither.")
    if not has_key:
        return None
    saved = client.load()
    account = account_of(keystore, key_stdin)
    if parse_address(account.address) != saved.address:
        raise Forbidden(f"The key is of {account.address}, and the login of {saved.owner}.")
    return account


def _send(
    api: Api, saved: Saved, account: Any, rpc: str | None, steps: list[Any], quiet: bool, no_wait: bool
) -> list[str]:
    """Hashes of what was sent; final when this returns, unless `no_wait`. Unavailable."""
    from decentraspace.cli.sending import send

    if account is None or rpc is None or not steps:
        return []
    hashes = send(rpc, account, steps)
    if not no_wait:
        _until_final(api, rpc, hashes[-1], quiet)
    return hashes


def _until_final(api: Api, rpc: str, digest: str, quiet: bool) -> None:
    import httpx

    from decentraspace.ledger.rpc import ask

    until, said = time.monotonic() + _FINAL, -1
    with httpx.Client(timeout=20.0) as client:
        block = int(ask(client, rpc, "eth_getTransactionReceipt", digest)["blockNumber"], 16)
    while time.monotonic() < until:
        final = api.get("/blockchain/credit/")["final_block"]
        if final is not None and final >= block:
            return
        if final is not None and final != said:
            note(f"Sent in block {block}; the node has {final} as final.", quiet)
            said = final
        time.sleep(_EVERY)
    raise Unavailable(
        f"Block {block} is not final after {_FINAL:g} s.", hint="It counts as soon as it is: look later."
    )


def _shown(steps: list[Any], hashes: list[str]) -> list[str]:
    if hashes:
        return [f"  Sent {one}" for one in hashes]
    lines = ["To be sent by your wallet, in this order:"] if steps else []
    for step in steps:
        whole = {"chainId": step["chain_id"], "to": step["to"], "value": step["value"], "data": step["data"]}
        lines.append(f"  {json.dumps(whole)}")
    return lines
