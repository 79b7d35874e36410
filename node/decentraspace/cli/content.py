"""`decentraspace cid`: the root of a file or folder, computed here."""

from __future__ import annotations

from pathlib import Path

import click

from decentraspace.cli.output import emit, json_option, progress


@click.command()
@click.argument("path", type=click.Path(exists=True, path_type=Path))
@json_option
def cid(path: Path, as_json: bool) -> None:
    """Print the root CID of PATH without storing it, as `ipfs add -r --cid-version=1 --raw-leaves` gives it.

    \b
    Examples:
      decentraspace cid ./public
      decentraspace cid photo.jpg --json
    """
    from decentraspace.content import cid as cids
    from decentraspace.content.scan import scan_path

    with progress("Hashing", None, as_json) as advance:
        scan = scan_path(path, on_bytes=advance)
    root = scan.root
    value = {
        "cid": cids.to_text(root.cid),
        "kind": root.kind,
        "size": root.size,
        "blocks": len(scan.blocks),
        "dag_size": root.tsize,
    }
    emit(value, cids.to_text(root.cid), as_json)
