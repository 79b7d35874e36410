"""`decentraspace deploy`: hash here, upload what is missing, sign, publish."""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from decentraspace.cli.output import emit, json_option, progress, size_of
from decentraspace.errors import BadInput, Conflict

if TYPE_CHECKING:
    from decentraspace.cli.client import Api, Saved
    from decentraspace.content.scan import Scan

_ASK = 10_000  # CIDs per question
_UPLOAD = 256 * 1024 * 1024  # bytes per request: what is sent again at most after an interruption
_PIECE = 1024 * 1024
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
    from decentraspace.content.scan import scan_path
    from decentraspace.records.schema import check_channel, check_label

    saved = client.load()
    label = check_label(label or slug(folder.resolve().name))
    channel = check_channel(channel or "production")
    began = time.monotonic()
    with client.Api(node or saved.node, saved) as api:
        with progress("Hashing", None, as_json) as advance:
            scan = scan_path(folder, on_bytes=advance)
        if scan.root.kind != "directory":
            raise BadInput(f"{folder} is a file.", hint="Deploy the folder it is in.")
        sent = upload(api, scan, as_json)
        answer = publish(api, saved, scan, label, channel, folder)
    seconds = time.monotonic() - began
    urls = answer["urls"]
    text = "\n".join(
        [
            f"Version {answer['seq']} of {label} is live: {len(scan.blocks)} blocks, "
            f"{size_of(scan.root.tsize)}, {size_of(sent)} uploaded, {seconds:.1f} s.",
            "",
            *([f"  Site     {urls['site']}"] if "site" in urls else []),
            f"  Version  {urls['version']}",
            f"  Path     {urls['path']}",
        ]
    )
    emit({**answer, "uploaded": sent}, text, as_json)


def slug(name: str) -> str:
    """A label out of a folder's name."""
    plain = re.sub(r"-{2,}", "-", re.sub(r"[^a-z0-9]+", "-", name.lower())).strip("-")[:45].strip("-")
    return plain or "site"


def upload(api: Api, scan: Scan, quiet: bool) -> int:
    """Send the blocks that the node lacks; bytes sent."""
    from decentraspace.content import cid as cids

    order = list(scan.blocks)
    missing: list[bytes] = []
    for start in range(0, len(order), _ASK):
        texts = {cids.to_text(c): c for c in order[start : start + _ASK]}
        answer = api.post("/storage/upload/", {"want": list(texts)})
        missing += [texts[t] for t in answer["missing"] if t in texts]
    total = sum(scan.length(c) for c in missing)
    with progress("Uploading", total, quiet) as advance:
        batch: list[bytes] = []
        size = 0
        for cid in missing:
            batch.append(cid)
            size += scan.length(cid)
            if size >= _UPLOAD:
                _send(api, scan, batch, advance)
                batch, size = [], 0
        if batch:
            _send(api, scan, batch, advance)
    return total


def _send(api: Api, scan: Scan, batch: list[bytes], advance: Callable[[int], None]) -> None:
    api.stream("/storage/upload/", _car(scan, batch, advance), "application/vnd.ipld.car", blocks="1")


def _car(scan: Scan, batch: list[bytes], advance: Callable[[int], None]) -> Iterator[bytes]:
    from decentraspace.content import car

    piece = bytearray(car.header([scan.root.cid]))
    for cid in batch:
        data = scan.read(cid)
        piece += car.frame(cid, data)
        if len(piece) >= _PIECE:
            advance(len(piece))
            yield bytes(piece)
            piece.clear()
    if piece:
        advance(len(piece))
        yield bytes(piece)


def publish(api: Api, saved: Saved, scan: Scan, label: str, channel: str, folder: Path) -> Any:
    """Sign the next version and have it taken; uploads again what was collected meanwhile."""
    from decentraspace.cli.client import ApiProblem

    for attempt in range(_TRIES):
        head = current(api, saved, label, channel)
        record = sign_next(
            saved,
            label,
            channel,
            head,
            root=scan.root.cid,
            size=scan.root.tsize,
            has_headers=(folder / "_headers").is_file(),
            has_redirects=(folder / "_redirects").is_file(),
        )
        try:
            return api.post("/hosting/deploy/", {"record": base64.b64encode(record).decode()})
        except ApiProblem as error:
            if attempt == _TRIES - 1 or error.reason not in ("missing-blocks", "stale-sequence"):
                raise
            if error.reason == "missing-blocks":
                upload(api, scan, True)
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
