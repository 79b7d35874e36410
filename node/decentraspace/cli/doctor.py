"""`decentraspace doctor`: what is wrong with a node on this machine, and how to mend it."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from decentraspace import environment, ports
from decentraspace.cli import running
from decentraspace.cli.options import config_option, data_dir_option, load_config
from decentraspace.cli.output import emit, json_option, size_of
from decentraspace.errors import DecentraSpaceError

if TYPE_CHECKING:
    from decentraspace.config import Config


class Finding(NamedTuple):
    """`state`: ok, warning or wrong; `mend`: what to do."""

    check: str
    state: str
    detail: str
    mend: str = ""


@click.command()
@config_option
@data_dir_option
@json_option
def doctor(config_path: Path | None, data_dir: str | None, as_json: bool) -> None:
    """Check configuration, environment, data folder, key, disk, ports, clock and the running node.

    Exit code 2 if anything is wrong.

    \b
    Examples:
      decentraspace doctor
      decentraspace doctor --config /etc/decentraspace.toml --json
    """
    findings = examine(config_path, data_dir)
    marks = {"ok": "ok     ", "warning": "warning", "wrong": "WRONG  "}
    lines = [
        f"{marks[f.state]} {f.check}: {f.detail}" + (f"\n        {f.mend}" if f.mend else "")
        for f in findings
    ]
    wrong = any(f.state == "wrong" for f in findings)
    emit({"ok": not wrong, "findings": [f._asdict() for f in findings]}, "\n".join(lines), as_json)
    if wrong:
        sys.exit(2)


def examine(config_path: Path | None, data_dir: str | None = None) -> list[Finding]:
    from decentraspace.config import default_path

    slips = [
        Finding("environment", "wrong", f"{one.name} is no setting, so it has no effect", one.hint)
        for one in environment.unknown()
    ]
    try:
        config = load_config(config_path, data_dir)
    except DecentraSpaceError as error:
        return [Finding("configuration", "wrong", str(error), error.hint or "Correct the file."), *slips]
    path = config_path or default_path(data_dir)
    where = str(path) if path else "defaults; there is no configuration file"
    node = _running(config)
    checks: list[Callable[[Config], Finding]] = [_folder, _key, _disk, _clock, _reach, _books]
    return [
        Finding("configuration", "ok", where),
        *slips,
        *(check(config) for check in checks),
        *([node, *_storage(config)] if node else _ports(config)),
    ]


def _running(config: Config) -> Finding | None:
    """The node of this configuration, if it runs."""
    facts = running.facts(config)
    if facts is None:
        return None
    own = _peer_id(config)
    if own is not None and own != facts["peer_id"]:
        return Finding(
            "node",
            "wrong",
            f"another one, {facts['peer_id']}, answers at {config.api_url}; this one is {own}",
            "Set api.port, gateway.port and network.listen of one of them.",
        )
    if not facts["ready"]:
        return Finding("node", "wrong", f"runs as {facts['peer_id']}, but {facts['detail']}", facts["hint"])
    if not facts["peers"]:
        mend = "Name a peer in network.bootstrap, or wait for one on the local network."
        return Finding("node", "warning", f"runs as {facts['peer_id']}, but has no peers", mend)
    return Finding("node", "ok", f"runs as {facts['peer_id']} with {facts['peers']} peer(s)")


def _peer_id(config: Config) -> str | None:
    """Of this configuration's key; None when there is none yet, or it cannot be read here."""
    path = config.data_dir / "node.key"
    if not path.exists():
        return None
    from decentraspace.identity.keys import NodeKey

    # First without a passphrase: with one, a plain key would become encrypted.
    for passphrase in (None, os.environ.get("DECENTRASPACE_KEY_PASSPHRASE", "").encode() or None):
        try:
            return NodeKey.load_or_create(path, passphrase).peer_id
        except DecentraSpaceError:
            continue
    return None


def _storage(config: Config) -> list[Finding]:
    """Where plugins keep copies, as the running node sees it."""
    found = []
    for place in running.storage(config):
        state = "ok" if place.reachable and not place.failed else "warning"
        mend = "" if state == "ok" else "`decentraspace plugins` and the node's log say more."
        found.append(Finding(f"storage of {place.plugin}", state, running.described(place), mend))
    return found


def _reach(config: Config) -> Finding:
    from decentraspace import reach

    if trouble := reach.trouble(config):
        return Finding("reach", "warning", *trouble)
    return Finding("reach", "ok", f"others fetch from {reach.announced_gateway(config)}")


def _folder(config: Config) -> Finding:
    folder = config.data_dir
    place = folder
    while not place.exists():
        place = place.parent
    if not os.access(place, os.W_OK):
        return Finding(
            "data folder", "wrong", f"{place} cannot be written", "Change its owner, or node.data_dir."
        )
    if folder.exists() and folder.stat().st_mode & 0o077:
        return Finding(
            "data folder", "warning", f"{folder} can be read by others", f"Run: chmod 700 {folder}"
        )
    return Finding("data folder", "ok", str(folder) if folder.exists() else f"{folder} will be made")


def _key(config: Config) -> Finding:
    path = config.data_dir / "node.key"
    if not path.exists():
        return Finding("node key", "ok", "will be made at the first start")
    if path.stat().st_mode & 0o077:
        return Finding("node key", "wrong", f"{path} can be read by others", f"Run: chmod 600 {path}")
    return Finding("node key", "ok", str(path))


def _books(config: Config) -> Finding:
    path = config.data_dir / "ledger.sqlite"
    if not path.exists():
        return Finding("books", "ok", "will be opened at the first start")
    from decentraspace.ledger.inspect import inspect

    try:
        wrong = inspect(path)
    except DecentraSpaceError as error:
        return Finding("books", "wrong", str(error), error.hint or "Restore ledger.sqlite from a backup.")
    if wrong:
        mend = "Nothing is charged until they do. Restore ledger.sqlite from a backup, and report this."
        return Finding("books", "wrong", f"they do not balance: {wrong[0]}", mend)
    return Finding("books", "ok", "they balance")


def _disk(config: Config) -> Finding:
    place = config.data_dir
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if free < 2**30:
        return Finding(
            "disk", "wrong", f"{size_of(free)} free", "Make room: below 1 GB the node cannot work."
        )
    if free < config.storage.quota:
        mend = "Lower storage.quota, or make room."
        return Finding(
            "disk", "warning", f"{size_of(free)} free, but the quota is {size_of(config.storage.quota)}", mend
        )
    return Finding("disk", "ok", f"{size_of(free)} free")


def _clock(_: Config) -> Finding:
    # Without asking anybody: a clock before this program was made is certainly wrong.
    if time.time() < 1_767_225_600:
        return Finding(
            "clock", "wrong", time.ctime(), "Set the clock: signatures are dated. For example by NTP."
        )
    return Finding("clock", "ok", time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()))


def _ports(config: Config) -> list[Finding]:
    wanted = [
        ("api.port", config.api.host, config.api.port),
        ("gateway.port", config.gateway.host, config.gateway.port),
    ]
    for address in config.network.listen:
        parts = address.split("/")
        if len(parts) > 4 and parts[3] == "tcp" and parts[4].isdigit():
            wanted.append(("network.listen", parts[2], int(parts[4])))
    return [_port(*one) for one in wanted]


def _port(setting: str, host: str, port: int) -> Finding:
    if (error := ports.taken(host, port)) is None:
        return Finding(setting, "ok", f"{host}:{port} is free")
    return Finding(setting, "wrong", f"{host}:{port}: {error.strerror}", ports.advice(error, setting))
