"""`decentraspace credits`: what a wallet has, was charged and has granted, and changing that by its key."""

from __future__ import annotations

import csv
import io
import json

import click

from decentraspace.cli.amounts import Amount, words_of
from decentraspace.cli.completion import complete_label
from decentraspace.cli.output import emit, json_option, table
from decentraspace.cli.signing import logged_in, node_option
from decentraspace.cli.wallet import end, grant, recharge, withdraw
from decentraspace.errors import BadInput, NotFound


@click.group("credits", invoke_without_command=True)
@node_option
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
@node_option
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
    with logged_in(node) as (api, _):
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
@node_option
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
    with logged_in(node) as (api, _):
        uses = [use for page in api.pages("/billing/history/") for use in page["uses"]]
    names = ("hour", "site", "service", "quantity", "free", "credits", "streamed", "waived")
    rows = [tuple(str(use[name]) for name in names) for use in uses]
    if as_csv:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([names, *rows])
        click.echo(text.getvalue(), nl=False)
        return
    emit({"uses": uses}, table(rows, names) if rows else "Nothing was used yet.", as_json)


@credits_command.command()
@click.argument("root", required=False)
@click.option("--allocation", help="Of which allocation, where the batch has several of yours.")
@node_option
@json_option
def statements(root: str | None, allocation: str | None, node: str | None, as_json: bool) -> None:
    """List statements, or print that of the batch ROOT for `decentraspace verify-statement`.

    \b
    Examples:
      decentraspace credits statements
      decentraspace credits statements 0x… > statement.json
    """
    with logged_in(node) as (api, _):
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
@node_option
@json_option
def methods(node: str | None, as_json: bool) -> None:
    """List ways to pay at a node.

    \b
    Examples:
      decentraspace credits methods
    """
    with logged_in(node) as (api, _):
        found = api.get("/billing/payment-methods/")
    rows = [(m["id"], m["title"], m["currency"] or "", str(m["fee_credits"])) for m in found["methods"]]
    text = table(rows, ("method", "", "paid in", "fee")) if rows else "This node charges nothing."
    emit(found, text, as_json)


@credits_command.command()
@click.argument("site", shell_complete=complete_label)
@click.argument("most", metavar="AMOUNT|default")
@node_option
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
    with logged_in(node) as (api, saved):
        found = api.patch("/billing/balance/", {"site": site_of(api, saved, site), "monthly_cap": cap})
    spent = f"{words_of(found['spent'])} are spent"
    emit(found, f"{site} may cost {words_of(found['monthly_cap'])} in a month; {spent}.", as_json)


@credits_command.command()
@node_option
@json_option
def settle(node: str | None, as_json: bool) -> None:
    """Have a node settle what is due now, however little (administrators), as before it is stopped for good.

    \b
    Examples:
      decentraspace credits settle
    """
    with logged_in(node) as (api, _):
        found = api.post("/billing/settle/", {})
    text = "Nothing is due."
    if found["root"]:
        text = f"Batch {found['root']}: {found['charges']} charges, {found['waiting']} not final yet."
    emit(found, text, as_json)


for command in (recharge, grant, end, withdraw):
    credits_command.add_command(command)
