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
    """List plugins: name, version, hooks, health. They are loaded here to see whether they can be.

    \b
    Examples:
      decentraspace plugins
      decentraspace plugins --plugins-dir ./my-plugins --json
    """
    from decentraspace import log
    from decentraspace.config import LogConfig, default_path, load
    from decentraspace.plugins import PluginManager

    log.configure(LogConfig(level="error"))
    overrides = {"plugins": {"directory": plugins_dir}} if plugins_dir else None
    manager = PluginManager(load(config_path or default_path(), overrides=overrides).plugins)
    manager.load_blocking()
    found = manager.describe()
    manager.close_blocking()
    rows = [(i.name, i.version or "-", i.health, ", ".join(i.hooks) or "-", i.error) for i in found]
    text = (
        table(rows, ("NAME", "VERSION", "HEALTH", "HOOKS", "ERROR")) if rows else "No plugins are installed."
    )
    emit({"plugins": [asdict(info) for info in found]}, text, as_json)
