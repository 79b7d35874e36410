"""`decentraspace`: the command line. Commands are imported when they are asked for, so that help is fast."""

from __future__ import annotations

import difflib
import importlib
import json
import sys
from pathlib import Path
from typing import Any

import click

from decentraspace import __version__, environment
from decentraspace.cli.options import config_option, data_dir_option, load_config, plugins_dir_option
from decentraspace.cli.output import EXIT_ERROR, EXIT_INTERRUPTED
from decentraspace.errors import BadInput, DecentraSpaceError, in_words

_MODULES = {
    "block": "moderation",
    "cid": "content",
    "completion": "completion",
    "credits": "credits",
    "demo": "demo",
    "deploy": "deploy",
    "doctor": "doctor",
    "domains": "domains",
    "init": "init",
    "leave": "leave",
    "login": "login",
    "logout": "login",
    "network": "network",
    "owner": "ownership",
    "plugins": "plugins",
    "renew": "users",
    "reports": "reports",
    "restore": "users",
    "revoke": "revoke",
    "rollback": "sites",
    "run": "run",
    "sites": "sites",
    "status": "sites",
    "suspend": "users",
    "tier": "tier",
    "transfer": "ownership",
    "uploads": "uploads",
    "users": "users",
    "verify-statement": "statements",
}
_ATTRIBUTES = {
    "credits": "credits_command",
    "domains": "domains_command",
    "plugins": "plugins_command",
    "verify-statement": "verify_statement",
}
_SUMMARIES = {
    "block": "What your node refuses to hold and to serve.",
    "cid": "Print the root CID of a file or folder, without storing it.",
    "completion": "Print the shell's completion script.",
    "credits": "Balance, use, statements, recharging, what a node may take.",
    "demo": "Start three nodes, deploy, kill one, and go on serving.",
    "deploy": "Publish a folder as a site.",
    "doctor": "Say what is wrong with this node, and how to mend it.",
    "domains": "Names of your sites: link, look at, buy.",
    "init": "Write a configuration; asks three questions.",
    "leave": "Have others take over what a node holds, before it is stopped.",
    "login": "Let a session key publish for your wallet.",
    "logout": "Forget the session key.",
    "network": "Peers of a node, and how its exchanges go.",
    "owner": "Say whose a site is.",
    "plugins": "List plugins, their hooks and their health.",
    "renew": "Renew a site of the free tier.",
    "reports": "What people have reported to your node.",
    "restore": "Undo a suspension; administrators.",
    "revoke": "Take back what another session key may do.",
    "rollback": "Publish an earlier version of a site again.",
    "run": "Run a node until it is stopped.",
    "sites": "List your sites.",
    "status": "Versions of a site, and who holds it.",
    "suspend": "Let a wallet do nothing at your node; administrators.",
    "tier": "Limits of a wallet at a node; operators set its tier.",
    "transfer": "Give a site to another wallet.",
    "uploads": "List what you have uploaded without a site.",
    "users": "List the wallets of your node; administrators.",
    "verify-statement": "Recompute what an operator has charged.",
}


class LazyGroup(click.Group):
    """Knows the built-in commands by name; asks plugins only for others."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*_MODULES, *_listed_plugin_commands(ctx)])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in _MODULES:
            module = importlib.import_module(f"decentraspace.cli.{_MODULES[cmd_name]}")
            command: click.Command = getattr(module, _ATTRIBUTES.get(cmd_name, cmd_name))
            return command
        return _plugin_commands(ctx).get(cmd_name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if not name.startswith("-") and self.get_command(ctx, name) is None:
            near = difflib.get_close_matches(name, self.list_commands(ctx), 1)
            raise click.UsageError(
                f"No such command {name[:80]!r}." + (f" Did you mean {near[0]!r}?" if near else ""), ctx
            )
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, _SUMMARIES[name]) for name in sorted(_MODULES)])
        if found := _listed_plugin_commands(ctx):
            with formatter.section("Commands of plugins"):
                formatter.write_dl([(name, found[name].get_short_help_str(80)) for name in sorted(found)])


def _plugin_commands(ctx: click.Context) -> dict[str, click.Command]:
    from decentraspace import log
    from decentraspace.config import LogConfig
    from decentraspace.plugins import PluginManager

    log.configure(LogConfig(level="error"))
    chosen = {name: ctx.params.get(name) for name in ("config_path", "data_dir", "plugins_dir")}
    manager = PluginManager(load_config(**chosen).plugins)
    manager.load_blocking()
    return {command.name or "": command for command in manager.cli_commands(_MODULES)}


def _listed_plugin_commands(ctx: click.Context) -> dict[str, click.Command]:
    """For the help, which must be there also where plugins or the configuration are broken, and be quick where
    no plugin adds commands: most do not, and their source never names the hook."""
    from decentraspace.cli.extensions import any_names

    try:
        plugins = load_config(ctx.params.get("config_path"), ctx.params.get("data_dir")).plugins
        directory = ctx.params.get("plugins_dir") or plugins.directory
        return _plugin_commands(ctx) if any_names(b"cli_commands", directory, plugins.disabled) else {}
    except DecentraSpaceError as error:
        click.echo(f"Plugins are not listed: {in_words(error)}", err=True)
        return {}


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="decentraspace")
@config_option
@data_dir_option
@plugins_dir_option
@click.pass_context
def cli(
    context: click.Context, config_path: Path | None, data_dir: str | None, plugins_dir: str | None
) -> None:
    """Host the web together: run a node, or publish a site at any of them.

    \b
    Examples:
      decentraspace run                      # a node, until Ctrl-C
      decentraspace login                    # once, with your wallet
      decentraspace deploy ./public          # a folder becomes a site
    """
    if context.invoked_subcommand not in _OWN_WORDS and not context.obj:
        for one in environment.unknown():
            click.echo(f"warning: {one.text}", err=True)


_OWN_WORDS = ("run", "doctor")  # say themselves what is wrong with the environment


def main(arguments: list[str] | None = None) -> Any:
    """The program: expected failures are one line on standard error and exit code 2.

    With --json the line is a problem document, and nothing else is said there.
    """
    as_json = "--json" in (sys.argv[1:] if arguments is None else arguments)
    try:
        sys.exit(cli.main(arguments, prog_name="decentraspace", standalone_mode=False, obj=as_json) or 0)
    except click.exceptions.Abort:
        click.echo("Interrupted.", err=True)
        sys.exit(EXIT_INTERRUPTED)
    except KeyboardInterrupt:
        click.echo("Interrupted.", err=True)
        sys.exit(EXIT_INTERRUPTED)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        sys.exit(EXIT_ERROR)
    except click.UsageError as error:
        _complain(_usage(error), as_json)
        sys.exit(EXIT_ERROR)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except DecentraSpaceError as error:
        _complain(error, as_json)
        sys.exit(EXIT_ERROR)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)


def _usage(error: click.UsageError) -> DecentraSpaceError:
    """What click says of a wrong argument, in our words."""
    text = " ".join(error.format_message().split())
    for theirs, ours in _WORDS.items():
        text = text.replace(theirs, ours)
    parameter = getattr(error, "param", None)
    if parameter is not None and isinstance(parameter.type, click.IntRange) and "whole number" in text:
        least, most = parameter.type.min, parameter.type.max
        text = text.rstrip(".") + (f" from {least}" if most is None else f" from {least} to {most}")
    hint = f"See `{error.ctx.command_path} --help`." if error.ctx is not None else ""
    return BadInput(text, hint=hint)


_WORDS = {
    "is not a valid integer range": "is not a whole number",
    "is not a valid integer": "is not a whole number",
}


def _complain(error: DecentraSpaceError, as_json: bool) -> None:
    click.echo(json.dumps(error.problem()) if as_json else f"error: {in_words(error)}", err=True)
