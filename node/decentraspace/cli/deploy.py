"""`decentraspace deploy`: hash here, upload what is missing, sign, publish."""

from __future__ import annotations

import base64
import re
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from decentraspace.cli.completion import complete_label
from decentraspace.cli.output import (
    EXIT_INTERRUPTED,
    emit,
    hidden_option,
    json_option,
    note,
    progress,
    size_of,
)
from decentraspace.cli.versions import (
    all_sites,
    check_name,
    copies_are_due,
    current,
    founder_of,
    name_is_due,
    same,
    sign_next,
    site_named,
    unchanged,
)
from decentraspace.errors import BadInput, Conflict, PaymentRequired

if TYPE_CHECKING:
    from decentraspace.cli.client import Api, Saved
    from decentraspace.cli.folder import Survey
    from decentraspace.content.importer import Entry

_TRIES = 3


@click.command()
@click.argument("folder", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--site",
    "label",
    shell_complete=complete_label,
    help="Label of the site (default: the folder's name); of one that was given to you, LABEL--ID.",
)
@click.option("--preview", "channel", help="Publish as a preview of this name, not in production.")
@click.option("--node", help="URL of a node's API (default: where you logged in).")
@hidden_option
@click.option(
    "--include-secrets", is_flag=True, help="Publish keys and passwords, too. Everybody can read them."
)
@click.option(
    "--replicas",
    type=click.IntRange(1),
    help="How many nodes should hold it (default: as many as your tier gives).",
)
@click.option("--force", is_flag=True, help="Publish a new version even if nothing has changed.")
@json_option
def deploy(
    folder: Path,
    label: str | None,
    channel: str | None,
    node: str | None,
    include_hidden: bool,
    include_secrets: bool,
    replicas: int | None,
    force: bool,
    as_json: bool,
) -> None:
    """Publish FOLDER as a site. Only what the node lacks is uploaded; run it again after an interruption.

    Files and folders whose name begins with a dot are left out, but for .well-known. Keys and passwords
    are refused.

    \b
    Examples:
      decentraspace deploy ./public
      decentraspace deploy ./public --site blog --node https://api.node.example
      decentraspace deploy ./public --preview pr-12
    """
    from decentraspace.cli import client
    from decentraspace.cli.transfer import transfer
    from decentraspace.records.schema import PRODUCTION, check_channel

    saved = client.load()
    label = check_name(label) if label else slug(folder.resolve().name)
    if channel == PRODUCTION:
        raise BadInput(
            "No preview can be called production.", hint="Leave --preview out to publish the site."
        )
    channel = check_channel(channel or PRODUCTION)
    look = examine(folder, include_hidden, include_secrets)
    warnings = [*(f"{link}: visitors will not find it" for link in look.links), *look.ignored]
    for warning in warnings:
        note(f"warning: {warning}.", as_json)
    began = time.monotonic()
    with client.Api(node or saved.node, saved) as api:
        tier = api.get("/auth/tier/")
        check_room(api, saved, label, look, tier)
        copies = wanted_copies(tier, replicas)
        try:
            with progress("Deploying", look.bytes, as_json) as advance:
                done = transfer(
                    api,
                    folder,
                    advance,
                    hidden=include_hidden,
                    request_most=int(tier["limits"]["upload_bytes"]),
                )
        except KeyboardInterrupt:
            interrupted()
        head = current(api, saved, label, channel, versions=1)
        changed = True
        if (
            head is not None
            and same(head, done.root.cid)
            and not force
            and not name_is_due(head, saved)
            and not copies_are_due(head, copies, asked=replicas is not None)
        ):
            changed, answer = False, unchanged(head)
        else:
            answer = publish(api, saved, done.root, label, channel, folder, head, include_hidden, copies)
            for said in answer.get("warnings", []):
                if said not in warnings:  # by a node whose rules differ from ours
                    warnings.append(said)
                    note(f"warning: {said}.", as_json)
    seconds = time.monotonic() - began
    urls = answer["urls"]
    size = f"{done.blocks} blocks, {size_of(done.root.tsize)}, {size_of(done.sent)} uploaded, {seconds:.1f} s"
    if channel == PRODUCTION:
        what = f"Version {answer['seq']} of {label}"
    else:
        what = f"Preview {channel} of {label}, version {answer['seq']},"
    state = f"{what} is live: {size}." if changed else f"Nothing changed: {what.rstrip(',')} shows the same."
    text = "\n".join(
        [
            state,
            *([f"Hidden, so left out: {listed(look.left_out)}."] if look.left_out else []),
            "",
            *(f"  {kind.title():8} {urls[kind]}" for kind in ("site", "preview") if kind in urls),
            f"  Version  {urls['version']}",
            f"  Path     {urls['path']}",
            *([f"  IPNS     /ipns/{answer['ipns']['name']}"] if answer.get("ipns") else []),
        ]
    )
    value = {"changed": changed, "uploaded": done.sent, "left_out": look.left_out, "warnings": warnings}
    emit({**answer, **value}, text, as_json)


def examine(folder: Path, hidden: bool, secrets: bool) -> Survey:
    """What is in the folder, unless it cannot or should not be published: said before anything is sent."""
    from decentraspace.cli.folder import check_rules, refuse_secrets, refuse_unfit, survey

    if not folder.is_dir():
        raise BadInput(f"{folder} is a file.", hint="Deploy the folder it is in.")
    refuse_unfit(folder)
    look = survey(folder, hidden=hidden)
    if not look.files:
        raise BadInput(
            f"{folder} has no files to publish.",
            hint="Files whose name begins with a dot are left out; --include-hidden takes them along."
            if look.left_out
            else "Name the folder with the site.",
        )
    if not secrets:
        refuse_secrets(folder, look)
    look.ignored = check_rules(folder)
    return look


def listed(paths: list[str]) -> str:
    from decentraspace.cli.folder import named

    return named(paths)


def interrupted() -> NoReturn:
    """Ctrl-C during the upload."""
    from decentraspace.cli.transfer import KEPT

    click.echo(f"Interrupted. {KEPT}", err=True)
    sys.exit(EXIT_INTERRUPTED)


def check_room(api: Api, saved: Saved, label: str, look: Survey, tier: dict[str, Any]) -> None:
    """PaymentRequired for what the node would refuse after the upload.

    Only what is certain is refused here: the node counts again.
    """

    limits, used = tier["limits"], tier["used"]
    if used["sites"] >= limits["sites"] or used["bytes"] + look.bytes > limits["bytes"]:
        others = [s for s in all_sites(api) if s["site"] != site_named(saved, label)]
        names = sorted({s["label"] for s in others})
        if len(names) >= limits["sites"]:
            raise PaymentRequired(
                f"The {tier['tier']} tier of this node has room for {limits['sites']} site(s), "
                f"and you have {listed(names)}.",
                hint=f"Deploy with --site {names[0]}, at another node, or ask the operator for the paid tier."
                if names
                else "Deploy at another node, or ask the operator for the paid tier.",
            )
        total = sum({s["root"]: s["size"] for s in others}.values()) + look.bytes
        if total > limits["bytes"]:
            raise PaymentRequired(
                f"The {tier['tier']} tier of this node stores {size_of(limits['bytes'])}; "
                f"with this deploy it would be {size_of(total)}.",
                hint="Make the site smaller, or ask the operator for the paid tier.",
            )


def wanted_copies(tier: dict[str, Any], asked: int | None = None) -> int | None:
    """How many nodes should hold a site: `asked`, or what the tier gives. None at an older node, which knows no such
    thing. PaymentRequired beyond the tier."""
    most: int | None = tier["limits"].get("replicas")
    if asked is None or most is None:
        return most
    if asked > most:
        raise PaymentRequired(
            f"The {tier['tier']} tier of this node has {most} node(s) hold a site.",
            hint=f"Deploy with --replicas {most}, or ask the operator for the paid tier.",
        )
    return asked


def slug(name: str) -> str:
    """A label out of a folder's name."""
    plain = re.sub(r"-{2,}", "-", re.sub(r"[^a-z0-9]+", "-", name.lower())).strip("-")[:45].strip("-")
    return plain or "site"


def publish(
    api: Api,
    saved: Saved,
    root: Entry,
    label: str,
    channel: str,
    folder: Path,
    head: dict[str, Any] | None,
    hidden: bool,
    replicas: int | None,
) -> Any:
    """Sign the version after `head` and have it taken; uploads again what was collected meanwhile."""
    from decentraspace.cli.client import ApiProblem
    from decentraspace.cli.transfer import transfer

    for attempt in range(_TRIES):
        record = sign_next(
            saved,
            label,
            channel,
            head,
            root=root.cid,
            size=root.tsize,
            has_headers=(folder / "_headers").is_file(),
            has_redirects=(folder / "_redirects").is_file(),
            replicas=replicas,
            founder=founder_of(api, saved, label) if head is None else None,
        )
        try:
            return api.post("/hosting/deploy/", {"record": base64.b64encode(record).decode()})
        except ApiProblem as error:
            if attempt == _TRIES - 1 or error.reason not in ("missing-blocks", "stale-sequence"):
                raise
            if error.reason == "missing-blocks":
                again = transfer(api, folder, lambda amount: None, hidden=hidden)
                if again.root.cid != root.cid:
                    raise Conflict(f"{folder} changed during the deploy.", hint="Deploy again.") from error
        head = current(api, saved, label, channel, versions=1)
    raise Conflict(
        "The site is being published from elsewhere at the same time.", hint="Run the command again."
    )
