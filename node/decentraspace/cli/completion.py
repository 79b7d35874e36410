"""`decentraspace completion`: the script that makes a shell complete commands and options."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from decentraspace.cli.output import emit, json_option


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@json_option
def completion(shell: str, as_json: bool) -> None:
    """Print the completion script for SHELL.

    \b
    Examples:
      decentraspace completion bash >> ~/.bashrc
      decentraspace completion fish > ~/.config/fish/completions/decentraspace.fish
    """
    from decentraspace.cli.main import cli

    made = get_completion_class(shell)
    if made is None:
        raise click.UsageError(f"{shell} is not supported")
    script = made(cli, {}, "decentraspace", "_DECENTRASPACE_COMPLETE").source()
    emit({"shell": shell, "script": script}, script, as_json)
