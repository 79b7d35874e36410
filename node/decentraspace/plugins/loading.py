"""Finding plugins and looking at them: which there are, and which hooks they implement, correctly or not."""

from __future__ import annotations

import importlib.util
import inspect
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import pluggy
import structlog

from decentraspace import hookspecs
from decentraspace.config import PluginsConfig
from decentraspace.errors import ConfigError
from decentraspace.hookspecs import HOOKS, PROJECT, Hook

log = structlog.get_logger(__name__)

GROUP = "decentraspace.plugins"
NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")


class BadPlugin(Exception):
    """A plugin that cannot be used; the message names the hook and what is wrong with it."""


@dataclass(frozen=True)
class Candidate:
    """A plugin before it is loaded. `load` imports it: run it where it can do no harm."""

    name: str
    version: str
    source: str
    load: Callable[[], object]


@dataclass(frozen=True)
class Implementation:
    """A checked hook of a plugin. `arguments`: what it wants; `rank`: 0 tryfirst, 1 plain, 2 trylast."""

    hook: Hook
    function: Callable[..., Any]
    arguments: tuple[str, ...]
    rank: int
    is_async: bool


@dataclass(frozen=True)
class Loaded:
    """What came of loading a plugin."""

    version: str
    implementations: tuple[Implementation, ...]


def candidates(config: PluginsConfig) -> list[Candidate]:
    """All plugins there are: installed ones by name, then files of `plugins.directory`. Imports nothing.

    ConfigError when the folder does not exist.
    """
    found = sorted(_installed(), key=lambda candidate: candidate.name)
    if config.directory:
        folder = Path(config.directory).expanduser()
        if not folder.is_dir():
            raise ConfigError(
                f"plugins.directory is {folder}, which is no folder", hint="Make it, or name another."
            )
        files = sorted(path for path in folder.glob("*.py") if not path.name.startswith(("_", ".")))
        found += [Candidate(path.stem, "", str(path), _file_loader(path)) for path in files]
    return found


def _installed() -> list[Candidate]:
    """Plugins with an entry point. `metadata.entry_points` would fail for all when one is damaged."""
    found: dict[tuple[str, str], Candidate] = {}
    for distribution in metadata.distributions():
        try:
            for point in distribution.entry_points.select(group=GROUP):
                name, version = distribution.name or point.value, distribution.version or ""
                # The first on sys.path wins, as for imports.
                found.setdefault((point.name, point.value), Candidate(point.name, version, name, point.load))
        except Exception as error:  # noqa: BLE001 half-removed or garbled metadata fail in many ways
            log.warning("distribution_unreadable", distribution=str(distribution), error=str(error)[:300])
    return list(found.values())


def _file_loader(path: Path) -> Callable[[], object]:
    def load() -> object:
        name = f"decentraspace_plugin_{path.stem}"
        spec = importlib.util.spec_from_file_location(name, path)
        if spec is None or spec.loader is None:
            raise ImportError(f"{path} cannot be imported")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module  # dataclasses and pickle look a class's module up there
        try:
            spec.loader.exec_module(module)
        except BaseException:
            sys.modules.pop(name, None)
            raise
        return module

    return load


def examine(candidate: Candidate) -> Loaded:
    """Import a plugin and check every hook of it. BadPlugin, or whatever its import raises.

    A plugin with one wrong hook is refused as a whole: half of one may be worse than none.
    """
    plugin = candidate.load()
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(hookspecs)
    try:
        manager.register(plugin, candidate.name)
        manager.check_pending()
    except pluggy.PluginValidationError as error:
        raise BadPlugin(_explain(plugin, error)) from error
    found = []
    for hook in HOOKS.values():
        for implementation in getattr(manager.hook, hook.name).get_hookimpls():
            found.append(_check(hook, implementation))
    if not found:
        raise BadPlugin("it implements no hook; mark its functions with `from decentraspace import hookimpl`")
    version = candidate.version or str(getattr(plugin, "__version__", ""))[:40]
    return Loaded(version, tuple(found))


def _explain(plugin: object, error: Exception) -> str:
    for name in dir(plugin):
        if name in HOOKS and f"{name!r}" in str(error):
            return f"hook {name}: {error}; it is declared {HOOKS[name].declaration}"
    return str(error)


def _check(hook: Hook, implementation: pluggy.HookImpl) -> Implementation:
    function = implementation.function
    if implementation.wrapper or implementation.hookwrapper:
        raise BadPlugin(f"hook {hook.name}: wrappers are not supported; plugins do not see each other")
    is_async = inspect.iscoroutinefunction(function)
    wanted = {"async": True, "sync": False}.get(hook.kind, is_async)
    generates = inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)
    if is_async != wanted or generates:
        raise BadPlugin(f"hook {hook.name} must be written `{hook.declaration}`")
    arguments = tuple(implementation.argnames)
    try:
        inspect.signature(function).bind(**dict.fromkeys(arguments))
    except TypeError as error:
        raise BadPlugin(f"hook {hook.name}: {error}; it is declared {hook.declaration}") from error
    rank = 0 if implementation.tryfirst else 2 if implementation.trylast else 1
    return Implementation(hook, function, arguments, rank, is_async)
