"""`decentraspace plugins`: what is installed, what it hooks into, and whether it loads."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from decentraspace.cli.output import emit, json_option, table


@click.command("plugins")
@click.option("--config", "config_path", type=click.Path(path_type=Path), help="Configuration file (TOML).")
@click.option("--plugins-dir", help="Folder of one-file plugins to look into, too.")
@json_option
def plugins_command(config_path: Path | None, plugins_dir: str | None, as_json: bool) -> None:
    """List plugins: name, version, hooks, health.

    Their health is that in the running node. Where none runs, or another folder is named, they are
    loaded here to see whether they can be.

    \b
    Examples:
      decentraspace plugins
      decentraspace plugins --plugins-dir ./my-plugins --json
    """
    from decentraspace import log
    from decentraspace.config import LogConfig, default_path, load
    from decentraspace.plugins import PluginManager
    from decentraspace.plugins.health import read_report

    log.configure(LogConfig(level="error"))
    overrides = {"plugins": {"directory": plugins_dir}} if plugins_dir else None
    config = load(config_path or default_path(), overrides=overrides)
    found = read_report(config.data_dir) if overrides is None else None
    if found is None:
        manager = PluginManager(config.plugins)
        manager.load_blocking()
        found = manager.describe()
        manager.close_blocking()
    rows = [(i.name, i.version or "-", i.health, ", ".join(i.hooks) or "-", i.error) for i in found]
    text = (
        table(rows, ("NAME", "VERSION", "HEALTH", "HOOKS", "ERROR")) if rows else "No plugins are installed."
    )
    emit({"plugins": [asdict(info) for info in found]}, text, as_json)
