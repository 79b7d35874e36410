"""`decentraspace run`: the node in the foreground, until it is stopped."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

PASSPHRASE_VARIABLE = "DECENTRASPACE_KEY_PASSPHRASE"


@click.command()
@click.option("--config", "config_path", type=click.Path(path_type=Path), help="Configuration file (TOML).")
@click.option("--data-dir", help="Folder that holds everything the node keeps.")
@click.option("--plugins-dir", help="Folder of one-file plugins to load besides the installed ones.")
@click.option("--log-format", type=click.Choice(["console", "json"]), help="How to log, on standard error.")
def run(
    config_path: Path | None, data_dir: str | None, plugins_dir: str | None, log_format: str | None
) -> None:
    """Run a node until Ctrl-C or SIGTERM. It is safe to kill at any moment.

    \b
    Without --config, `config.toml` in the data folder is read if it is there.
    A passphrase for the node's key is taken from DECENTRASPACE_KEY_PASSPHRASE.

    \b
    Examples:
      decentraspace run
      decentraspace run --config /etc/decentraspace.toml --log-format json
      DECENTRASPACE_GATEWAY_PORT=80 decentraspace run
    """
    import trio

    from decentraspace import log
    from decentraspace.app import run_node
    from decentraspace.config import default_path, load

    overrides: dict[str, dict[str, object]] = {}
    if data_dir:
        overrides.setdefault("node", {})["data_dir"] = data_dir
    if plugins_dir:
        overrides.setdefault("plugins", {})["directory"] = plugins_dir
    if log_format:
        overrides.setdefault("log", {})["format"] = log_format
    config = load(config_path or default_path(data_dir), overrides=overrides)
    log.configure(config.log)
    passphrase = os.environ.pop(PASSPHRASE_VARIABLE, "")
    sys.exit(trio.run(run_node, config, passphrase.encode() or None))
