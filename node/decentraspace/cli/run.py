"""`decentraspace run`: the node in the foreground, until it is stopped."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from decentraspace.cli.options import (
    config_option,
    data_dir_option,
    key_passphrase,
    load_config,
    plugins_dir_option,
)


@click.command()
@config_option
@data_dir_option
@plugins_dir_option
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
    import structlog
    import trio

    from decentraspace import environment, heap, log
    from decentraspace.app import run_node

    more: dict[str, Any] = {"log": {"format": log_format}} if log_format else {}
    config = load_config(config_path, data_dir, plugins_dir, **more)
    log.configure(config.log)
    for one in environment.unknown():
        structlog.get_logger(__name__).warning("unknown_variable", name=one.name, note=one.text)
    heap.keep_compact()
    sys.exit(trio.run(run_node, config, key_passphrase()))
