"""`decentraspace cid`: the root of a file or folder, computed here."""

from __future__ import annotations

from pathlib import Path

import click

from decentraspace.cli.output import emit, hidden_option, json_option, note, progress


@click.command()
@click.argument("path", type=click.Path(exists=True, path_type=Path))
@hidden_option
@json_option
def cid(path: Path, include_hidden: bool, as_json: bool) -> None:
    """Print the root CID of PATH without storing it, as `ipfs add -r --cid-version=1 --raw-leaves` gives it.

    It is the root that `decentraspace deploy` publishes. Both leave out files whose name begins with a
    dot, and both take .well-known along.

    \b
    Examples:
      decentraspace cid ./public
      decentraspace cid ./public --include-hidden     # as `ipfs add -r --hidden`
      decentraspace cid photo.jpg --json
    """
    from decentraspace.cli.folder import SHOWN, Survey, named, survey
    from decentraspace.content import cid as cids
    from decentraspace.content.scan import scan_path

    folder = path.is_dir() and not path.is_symlink()
    look = survey(path, hidden=include_hidden) if folder else Survey()
    with progress("Hashing", look.bytes or None, as_json) as advance:
        scan = scan_path(path, on_bytes=advance, hidden=include_hidden, shown=SHOWN)
    root = scan.root
    value = {
        "cid": cids.to_text(root.cid),
        "kind": root.kind,
        "size": root.size,
        "blocks": len(scan.blocks),
        "dag_size": root.tsize,
        "left_out": look.left_out,
    }
    if look.left_out:
        note(f"Hidden, so left out: {named(look.left_out)}.", as_json)
    emit(value, cids.to_text(root.cid), as_json)
