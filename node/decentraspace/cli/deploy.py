"""`decentraspace deploy`: hash here, upload what is missing, sign, publish."""

from __future__ import annotations

import base64
import os
import re
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from decentraspace.cli.output import emit, json_option, progress, size_of
from decentraspace.errors import BadInput, Conflict

if TYPE_CHECKING:
    from decentraspace.cli.client import Api, Saved
    from decentraspace.content.importer import Entry

_TRIES = 3


@click.command()
@click.argument("folder", type=click.Path(exists=True, path_type=Path))
@click.option("--site", "label", help="Label of the site (default: the folder's name).")
@click.option("--preview", "channel", help="Publish as a preview of this name, not in production.")
@click.option("--node", help="URL of a node's API (default: where you logged in).")
@json_option
def deploy(folder: Path, label: str | None, channel: str | None, node: str | None, as_json: bool) -> None:
    """Publish FOLDER as a site. Only what the node lacks is uploaded; run it again after an interruption.

    \b
    Examples:
      decentraspace deploy ./public
      decentraspace deploy ./public --site blog --node https://api.node.example
      decentraspace deploy ./public --preview pr-12
    """
    from decentraspace.cli import client
    from decentraspace.cli.transfer import transfer
    from decentraspace.records.schema import check_channel, check_label

    saved = client.load()
    label = check_label(label or slug(folder.resolve().name))
    channel = check_channel(channel or "production")
    if not folder.is_dir():
        raise BadInput(f"{folder} is a file.", hint="Deploy the folder it is in.")
    began = time.monotonic()
    with client.Api(node or saved.node, saved) as api:
        with progress("Deploying", total_of(folder, as_json), as_json) as advance:
            done = transfer(api, folder, advance)
        answer = publish(api, saved, done.root, label, channel, folder)
    seconds = time.monotonic() - began
    urls = answer["urls"]
    text = "\n".join(
        [
            f"Version {answer['seq']} of {label} is live: {done.blocks} blocks, "
            f"{size_of(done.root.tsize)}, {size_of(done.sent)} uploaded, {seconds:.1f} s.",
            "",
            *([f"  Site     {urls['site']}"] if "site" in urls else []),
            f"  Version  {urls['version']}",
            f"  Path     {urls['path']}",
        ]
    )
    emit({**answer, "uploaded": done.sent}, text, as_json)


def slug(name: str) -> str:
    """A label out of a folder's name."""
    plain = re.sub(r"-{2,}", "-", re.sub(r"[^a-z0-9]+", "-", name.lower())).strip("-")[:45].strip("-")
    return plain or "site"


def total_of(folder: Path, quiet: bool) -> int | None:
    """Bytes of all files, for the bar; None when nobody looks at one."""
    if quiet or not sys.stderr.isatty():
        return None
    return sum(
        os.lstat(os.path.join(here, name)).st_size for here, _, files in os.walk(folder) for name in files
    )


def publish(api: Api, saved: Saved, root: Entry, label: str, channel: str, folder: Path) -> Any:
    """Sign the next version and have it taken; uploads again what was collected meanwhile."""
    from decentraspace.cli.client import ApiProblem
    from decentraspace.cli.transfer import transfer

    for attempt in range(_TRIES):
        head = current(api, saved, label, channel)
        record = sign_next(
            saved,
            label,
            channel,
            head,
            root=root.cid,
            size=root.tsize,
            has_headers=(folder / "_headers").is_file(),
            has_redirects=(folder / "_redirects").is_file(),
        )
        try:
            return api.post("/hosting/deploy/", {"record": base64.b64encode(record).decode()})
        except ApiProblem as error:
            if attempt == _TRIES - 1 or error.reason not in ("missing-blocks", "stale-sequence"):
                raise
            if error.reason == "missing-blocks":
                again = transfer(api, folder, lambda amount: None)
                if again.root.cid != root.cid:
                    raise Conflict(f"{folder} changed during the deploy.", hint="Deploy again.") from error
    raise Conflict(
        "The site is being published from elsewhere at the same time.", hint="Run the command again."
    )


def current(api: Api, saved: Saved, label: str, channel: str) -> dict[str, Any] | None:
    """The newest version the node knows, or None."""
    from decentraspace.cli.client import ApiProblem
    from decentraspace.records.schema import site_id

    try:
        head: dict[str, Any] = api.get(
            "/hosting/status/", site=site_id(saved.address, label), channel=channel
        )
    except ApiProblem as error:
        if error.document.get("status") == 404:
            return None
        raise
    return head


def sign_next(
    saved: Saved,
    label: str,
    channel: str,
    head: dict[str, Any] | None,
    *,
    root: bytes,
    size: int,
    has_headers: bool,
    has_redirects: bool,
) -> bytes:
    """The record of the version after `head`."""
    from decentraspace.content import cid as cids
    from decentraspace.records.schema import SiteManifest
    from decentraspace.records.signing import sign_site

    manifest = SiteManifest(
        owner=saved.address,
        label=label,
        seq=head["seq"] + 1 if head else 1,
        root=root,
        prev=cids.parse(head["manifest"]) if head else None,
        channel=channel,
        kind="static",
        size=size,
        has_headers=has_headers,
        has_redirects=has_redirects,
        controllers=(),
        created=int(time.time()),
    )
    return sign_site(manifest, saved.session_key, saved.delegation, saved)
