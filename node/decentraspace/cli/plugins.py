"""`decentraspace plugins`: what is installed, what it hooks into, and whether it loads."""

from __future__ import annotations

import logging
import sys
from dataclasses import asdict
from pathlib import Path

import click

from decentraspace.cli.options import config_option, data_dir_option, load_config, plugins_dir_option
from decentraspace.cli.output import EXIT_ERROR, emit, json_option, table


@click.command("plugins")
@config_option
@data_dir_option
@plugins_dir_option
@json_option
def plugins_command(
    config_path: Path | None, data_dir: str | None, plugins_dir: str | None, as_json: bool
) -> None:
    """List plugins: name, version, hooks, health, and the storage they keep copies in.

    Their health is that in the running node. Where none runs, or another folder is named, they are
    loaded here to see whether they can be. Exit code 2 if one is refused or disabled.

    \b
    Examples:
      decentraspace plugins
      decentraspace plugins --plugins-dir ./my-plugins --json
    """
    from decentraspace import log
    from decentraspace.cli.running import described, storage
    from decentraspace.config import LogConfig
    from decentraspace.plugins import PluginManager
    from decentraspace.plugins.health import read_report

    log.configure(LogConfig(level="error"))
    logging.getLogger("decentraspace").setLevel(logging.CRITICAL)  # the table says what is wrong, and why
    config = load_config(config_path, data_dir, plugins_dir)
    found = read_report(config.data_dir) if not plugins_dir else None
    places = storage(config) if found is not None else []
    if found is None:
        manager = PluginManager(config.plugins)
        manager.load_blocking()
        found = manager.describe()
        manager.close_blocking()
    rows = [(i.name, i.version or "-", i.health, ", ".join(i.hooks) or "-", i.error) for i in found]
    text = (
        table(rows, ("NAME", "VERSION", "HEALTH", "HOOKS", "ERROR")) if rows else "No plugins are installed."
    )
    text += "".join(f"\n\nStorage of {place.plugin}: {described(place)}" for place in places)
    value = {
        "plugins": [asdict(info) for info in found],
        "storage": [place._asdict() for place in places],
    }
    emit(value, text, as_json)
    if any(info.health in ("refused", "disabled") for info in found):
        sys.exit(EXIT_ERROR)
