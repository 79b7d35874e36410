"""`decentraspace leave`: have other nodes take over what a node holds, before it is stopped."""

from __future__ import annotations

import time
from typing import Any

import click

from decentraspace.cli.output import emit, json_option, note, progress, size_of

_EVERY = 1.0  # seconds between looks


@click.command()
@click.option("--node", help="URL of a node's API (default: where you logged in).")
@click.option("--stay", is_flag=True, help="Stay after all.")
@click.option("--no-wait", is_flag=True, help="Say how far it is, and return.")
@json_option
def leave(node: str | None, stay: bool, no_wait: bool, as_json: bool) -> None:
    """Leave the network in good order: returns when the node may be stopped. For its administrators.

    The node takes no deploys and no further sites, and goes on serving until it is stopped. Ctrl-C ends the
    waiting, not the leave: run the command again, or with --stay. A restart of the node takes it back, too.

    \b
    Examples:
      decentraspace leave && systemctl stop decentraspace
      decentraspace leave --no-wait --json | jq .waiting
      decentraspace leave --stay
    """
    from decentraspace.cli import client

    saved = client.load()
    with client.Api(node or saved.node, saved) as api:
        if stay:
            emit(api.delete("/node/leave/"), "The node stays.", as_json)
            return
        found = api.post("/node/leave/", {})
        if not no_wait:
            found = _wait(api, found, as_json)
    emit(found, _text(found), as_json)


def _wait(api: Any, found: dict[str, Any], quiet: bool) -> dict[str, Any]:
    """Until it is safe to stop the node."""
    total = found["waiting_bytes"]
    if found["waiting"]:
        note(_text(found), quiet)
    with progress("Handing over", total, quiet) as advance:
        shown = 0
        while not found["safe"]:
            time.sleep(_EVERY)
            found = api.get("/node/leave/")
            if not found["leaving"]:
                from decentraspace.errors import Conflict

                raise Conflict("The node stays: it was started again, or told to.", hint="Run `leave` again.")
            done = max(0, total - found["waiting_bytes"])
            advance(done - shown)
            shown = done
    return found


def _text(found: dict[str, Any]) -> str:
    if found["safe"]:
        return f"Safe to stop: others hold all of {found['sites']} version(s)."
    if not found["waiting"]:
        return "Others hold all of it; they are told that this node leaves."
    if not found["others"]:
        return f"No other node takes sites: {found['waiting']} version(s) are held by this one alone."
    text = (
        f"{found['waiting']} of {found['sites']} version(s), {size_of(found['waiting_bytes'])}, "
        f"wait for one of {found['others']} other node(s)."
    )
    if found["leaving"] and found.get("silent"):
        text += f" Not shown yet to hold what they signed for: {', '.join(found['silent'])}."
    return text
