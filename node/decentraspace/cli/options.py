"""Options that commands for operators share: which node of this machine is meant.

Given before the command they hold for every command, also for those of plugins; after it they come first.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from decentraspace.config import Config

F = TypeVar("F", bound=Callable[..., Any])
PASSPHRASE_VARIABLE = "DECENTRASPACE_KEY_PASSPHRASE"


def _or_of_the_group(context: click.Context, parameter: click.Parameter, value: Any) -> Any:
    return value if value is not None else context.find_root().params.get(parameter.name or "")


def _option(*names: str, **more: Any) -> Callable[[F], F]:
    # Eager: --help after it on the command line lists the commands of the plugins that it names.
    return click.option(*names, callback=_or_of_the_group, is_eager=True, **more)


config_option: Callable[[F], F] = _option(
    "--config", "config_path", type=click.Path(path_type=Path), help="Configuration file (TOML)."
)
data_dir_option: Callable[[F], F] = _option("--data-dir", help="Folder that holds everything the node keeps.")
plugins_dir_option: Callable[[F], F] = _option(
    "--plugins-dir", help="Folder of one-file plugins to load besides the installed ones."
)


def load_config(
    config_path: Path | None, data_dir: str | None = None, plugins_dir: str | None = None, **more: Any
) -> Config:
    """The configuration these options name. `more`: sections with settings that win. ConfigError."""
    from decentraspace.config import default_path, load

    overrides: dict[str, dict[str, Any]] = dict(more)
    if data_dir:
        overrides["node"] = {"data_dir": data_dir}
    if plugins_dir:
        overrides["plugins"] = {"directory": plugins_dir}
    return load(config_path or default_path(data_dir), overrides=overrides)


def key_passphrase() -> bytes | None:
    """Of the node's key, removed from the environment so that no child inherits it."""
    return os.environ.pop(PASSPHRASE_VARIABLE, "").encode() or None
