"""`decentraspace completion`: the script that makes a shell complete commands, options and site labels."""

from __future__ import annotations

import os
from pathlib import Path

import click
from click.shell_completion import get_completion_class

from decentraspace.cli.output import emit, json_option
from decentraspace.errors import BadInput, DecentraSpaceError

_PATIENCE = 1.0  # seconds that somebody who pressed Tab waits for a node
_ZSH = "Add to ~/.zshrc, once: fpath=(~/.zfunc $fpath); autoload -Uz compinit; compinit"


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.option("--install", is_flag=True, help="Put the script where the shell looks for it.")
@json_option
def completion(shell: str, install: bool, as_json: bool) -> None:
    """Print the completion script for SHELL, or install it. Installing it again replaces it.

    \b
    Examples:
      decentraspace completion bash --install
      eval "$(decentraspace completion bash)"      # for this shell only
    """
    from decentraspace.cli.main import cli

    made = get_completion_class(shell)
    if made is None:
        raise click.UsageError(f"{shell} is not supported")
    script = made(cli, {}, "decentraspace", "_DECENTRASPACE_COMPLETE").source()
    if not install:
        emit({"shell": shell, "script": script}, script, as_json)
        return
    path = _place(shell)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(script, "utf-8")
    except OSError as error:
        raise BadInput(f"{path} cannot be written: {error.strerror}.") from error
    after = f" {_ZSH}." if shell == "zsh" else ""
    emit({"shell": shell, "path": str(path)}, f"Wrote {path}. New shells complete commands.{after}", as_json)


def _place(shell: str) -> Path:
    """Where each shell looks for scripts of the user's own."""
    home = Path.home()
    if shell == "zsh":
        return home / ".zfunc" / "_decentraspace"
    if shell == "fish":
        config = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config")
        return config / "fish" / "completions" / "decentraspace.fish"
    data = Path(os.environ.get("XDG_DATA_HOME") or home / ".local" / "share")
    return data / "bash-completion" / "completions" / "decentraspace"


def complete_label(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Labels of one's own sites, if the node says so at once."""
    from decentraspace.cli import client

    try:
        saved = client.load()
        with client.Api(saved.node, saved, patience=_PATIENCE) as api:
            sites = api.get("/hosting/status/")["sites"]
    except (DecentraSpaceError, OSError):
        return []
    return sorted({site["label"] for site in sites if site["label"].startswith(incomplete)})
