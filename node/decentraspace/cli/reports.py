"""`decentraspace reports`: what people report to an operator."""

from __future__ import annotations

import click

from decentraspace.cli.moderation import node_option
from decentraspace.cli.output import emit, json_option
from decentraspace.errors import BadInput


@click.group(invoke_without_command=True)
@click.option("--closed", is_flag=True, help="Those that were closed.")
@node_option
@json_option
@click.pass_context
def reports(context: click.Context, closed: bool, node: str | None, as_json: bool) -> None:
    """What people have reported to your node. `close` ends one with a decision.

    \b
    Examples:
      decentraspace reports
      decentraspace reports close 17 "Blocked: it is malware"
    """
    if context.invoked_subcommand is not None:
        if as_json or node or closed:
            raise BadInput("Write options behind the command.")
        return
    _reports(closed, node, as_json)


@reports.command("list")
@click.option("--closed", is_flag=True, help="Those that were closed.")
@node_option
@json_option
def list_reports(closed: bool, node: str | None, as_json: bool) -> None:
    """List reports, the oldest first.

    \b
    Examples:
      decentraspace reports list --closed
    """
    _reports(closed, node, as_json)


def _reports(closed: bool, node: str | None, as_json: bool) -> None:
    from decentraspace.cli import client

    saved = client.load()
    with client.Api(node or saved.node, saved) as api:
        query = {"closed": 1} if closed else {}
        found = [one for page in api.pages("/moderation/reports/", **query) for one in page["reports"]]
    parts = []
    for one in found:
        times = f", {one['times']} times" if one["times"] > 1 else ""
        parts.append(f"{one['id']}  {one['created']}  {one['category']}{times}\n  {one['target']}")
        parts += [f"  {line}" for line in one["text"].splitlines()]
        if one["contact"]:
            parts.append(f"  from {one['contact']}")
        if one["decision"] is not None:
            parts.append(f"  closed: {one['decision']}")
    emit({"reports": found}, "\n".join(parts) if parts else "No reports.", as_json)


@reports.command()
@click.argument("number", type=click.IntRange(1))
@click.argument("decision")
@node_option
@json_option
def close(number: int, decision: str, node: str | None, as_json: bool) -> None:
    """Close report NUMBER with a DECISION. To block what it names, use `decentraspace block add`.

    \b
    Examples:
      decentraspace reports close 17 "Blocked: it is malware"
    """
    from decentraspace.cli import client

    saved = client.load()
    with client.Api(node or saved.node, saved) as api:
        made = api.patch("/moderation/reports/", {"id": number, "decision": decision})
    emit(made, f"Report {number} is closed.", as_json)
