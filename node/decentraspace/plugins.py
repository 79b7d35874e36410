"""Loading plugins and calling their hooks, so that no plugin can take the node down.

Every import and every call happens in a thread of its own with a deadline; whatever is raised there,
SystemExit included, comes back as an outcome. A thread that does not come back is abandoned and its
plugin disabled. What a hook returns is checked before anybody sees it.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import inspect
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pluggy
import structlog
import trio

from decentraspace import PROJECT, hookspecs
from decentraspace.config import PluginsConfig

log = structlog.get_logger(__name__)

GROUP = "decentraspace.plugins"
_MARGIN = 1.0  # seconds beyond the deadline in which a well-behaved hook notices its cancellation
_BACKGROUND_MOST = 100  # events under way at once
_RESULT_MOST = 10_000  # items in a returned collection

# hook -> what it returns; hooks that are not named return nothing that is used
_RETURNS: dict[str, type | tuple[type, ...]] = {
    "api_routes": Sequence,
    "storage_pin": bool,
    "storage_unpin": bool,
    "storage_fetch": bool,
    "storage_status": Mapping,
    "name_resolve": Mapping,
    "name_owner": str,
    "name_quote": Mapping,
    "name_purchase": Mapping,
    "name_instructions": Sequence,
    "payment_methods": Sequence,
    "payment_recharge": Mapping,
    "payment_webhook": bool,
    "ledger_settle": Sequence,
    "chain_events": Mapping,
    "deploy_source": str,
}


class HookResult(NamedTuple):
    """One plugin's valid answer."""

    plugin: str
    value: Any


@dataclass
class PluginInfo:
    """`health`: ok, failing (the last call failed), disabled or broken (never loaded); `error`: the last one."""

    name: str
    version: str = ""
    source: str = ""
    hooks: list[str] = field(default_factory=list)
    health: str = "ok"
    failures: int = 0
    error: str = ""


class _Outcome(NamedTuple):
    value: Any = None
    error: str = ""


class PluginManager:
    """`context(name)` gives the NodeAPI of a plugin; None where there is no node (the command line)."""

    def __init__(self, config: PluginsConfig, context: Callable[[str], Any] | None = None) -> None:
        self._config, self._context = config, context
        self._manager = pluggy.PluginManager(PROJECT)
        self._manager.add_hookspecs(hookspecs)
        self._infos: dict[str, PluginInfo] = {}
        self._nursery: trio.Nursery | None = None
        self._background = 0

    # -- loading

    async def load(self) -> None:
        """Import and register all plugins; a bad one is named in the log and in `describe`, and skipped."""
        for name, version, source, importer in self._candidates():
            if (self._config.enabled and name not in self._config.enabled) or name in self._config.disabled:
                continue
            info = self._infos[name] = PluginInfo(name, version, source)
            outcome = await self._guarded(importer, self._config.timeout)
            if outcome is None:
                self._broken(info, f"importing it took more than {self._config.timeout:g} s")
            elif outcome.error:
                self._broken(info, outcome.error)
            else:
                self._register(info, outcome.value)

    def _candidates(self) -> list[tuple[str, str, str, Callable[[], Any]]]:
        """(name, version, source, importer) of the installed plugins and those in the plugins' folder."""
        found: list[tuple[str, str, str, Callable[[], Any]]] = []
        for point in sorted(importlib.metadata.entry_points(group=GROUP), key=lambda p: p.name):
            version = point.dist.version if point.dist else ""
            found.append((point.name, version, point.value, point.load))
        if self._config.directory:
            folder = Path(self._config.directory).expanduser()
            for path in sorted(folder.glob("*.py")):
                found.append((path.stem, "", str(path), partial(_import_file, path)))
        return found

    def _register(self, info: PluginInfo, module: Any) -> None:
        try:
            self._manager.register(module, name=info.name)
            for hook in self._manager.get_hookcallers(module) or []:
                if hook.spec is None:
                    raise pluggy.PluginValidationError(module, f"there is no hook named {hook.name}")
                info.hooks.append(hook.name)
        except (pluggy.PluginValidationError, ValueError) as error:
            if self._manager.has_plugin(info.name):
                self._manager.unregister(name=info.name)
            info.hooks.clear()
            self._broken(
                info,
                str(error).partition("\n")[0] if not str(error).strip() else " ".join(str(error).split()),
            )
            return
        log.info("plugin_loaded", plugin=info.name, version=info.version, hooks=info.hooks)

    def _broken(self, info: PluginInfo, why: str) -> None:
        info.health, info.error = "broken", why
        log.error("plugin_skipped", plugin=info.name, source=info.source, reason=why)

    # -- calling

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Holds the tasks that `emit` starts, until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            task_status.started()
            await trio.sleep_forever()

    async def emit(self, hook: str, **arguments: Any) -> None:
        """Tell plugins, without waiting for them."""
        if self._nursery is None or not self._implementations(hook):
            return
        if self._background >= _BACKGROUND_MOST:
            log.warning("event_dropped", hook=hook, reason="plugins are too slow")
            return
        self._background += 1

        async def tell() -> None:
            try:
                await self.call(hook, **arguments)
            finally:
                self._background -= 1

        self._nursery.start_soon(tell)

    async def call(self, hook: str, **arguments: Any) -> list[HookResult]:
        """Call all implementations, one after the other; the valid answers."""
        results = []
        for implementation in self._implementations(hook):
            outcome = await self._call_one(hook, implementation, arguments)
            if outcome is not None:
                results.append(HookResult(implementation.plugin_name, outcome.value))
        return results

    async def first(self, hook: str, **arguments: Any) -> HookResult | None:
        """The first answer that says something (is not empty or false)."""
        for implementation in self._implementations(hook):
            outcome = await self._call_one(hook, implementation, arguments)
            if outcome is not None and outcome.value:
                return HookResult(implementation.plugin_name, outcome.value)
        return None

    def _implementations(self, hook: str) -> list[Any]:
        found = getattr(self._manager.hook, hook).get_hookimpls()
        return [i for i in reversed(found) if self._infos[i.plugin_name].health in ("ok", "failing")]

    async def _call_one(self, hook: str, implementation: Any, arguments: dict[str, Any]) -> _Outcome | None:
        info = self._infos[implementation.plugin_name]
        if self._context is not None:
            arguments = {**arguments, "node": self._context(info.name)}
        given = {name: arguments[name] for name in implementation.argnames if name in arguments}
        began = time.monotonic()
        work = partial(_run, implementation.function, given, self._config.timeout)
        outcome = await self._guarded(work, self._config.timeout + _MARGIN)
        if outcome is None:
            self._failed(info, hook, "it did not come back in time", fatal=True)
        elif outcome.error or (wrong := _wrong(hook, outcome.value)):
            self._failed(info, hook, outcome.error or wrong)
            outcome = None
        else:
            info.failures, info.health, info.error = 0, "ok", ""
        if self._config.trace:
            log.info(
                "hook_called",
                hook=hook,
                plugin=info.name,
                milliseconds=round((time.monotonic() - began) * 1000, 1),
                outcome="ok" if outcome is not None else info.error,
            )
        return outcome

    def _failed(self, info: PluginInfo, hook: str, why: str, *, fatal: bool = False) -> None:
        info.failures += 1
        info.error = f"{hook}: {why}"
        info.health = "failing"
        log.error("hook_failed", plugin=info.name, hook=hook, reason=why, failures=info.failures)
        if fatal or info.failures >= self._config.max_failures:
            info.health = "disabled"
            log.error("plugin_disabled", plugin=info.name, reason=info.error)

    async def _guarded(self, work: Callable[[], Any], deadline: float) -> _Outcome | None:
        """Run `work` in a thread; None if it does not come back, which leaves the thread behind."""
        with trio.move_on_after(deadline):
            return await trio.to_thread.run_sync(
                _contained, work, abandon_on_cancel=True, limiter=_unlimited()
            )
        return None

    def describe(self) -> list[PluginInfo]:
        return list(self._infos.values())


def _unlimited() -> trio.CapacityLimiter:
    # Threads that hang must not use up those that the rest of the node works with.
    return trio.CapacityLimiter(1)


def _contained(work: Callable[[], Any]) -> _Outcome:
    """Runs in the thread: nothing gets out of here but an outcome."""
    try:
        return _Outcome(work())
    except BaseException as error:  # noqa: BLE001 - SystemExit of a plugin must not end the node
        return _Outcome(error=f"{type(error).__name__}: {error}"[:500])


def _run(function: Callable[..., Any], arguments: dict[str, Any], deadline: float) -> Any:
    """Runs in the thread: an async hook gets a trio loop of its own."""
    if not inspect.iscoroutinefunction(function):
        return function(**arguments)

    async def main() -> Any:
        with trio.fail_after(deadline):
            return await function(**arguments)

    return trio.run(main)


def _wrong(hook: str, value: Any) -> str:
    """What is wrong with a returned value, or an empty text."""
    expected = _RETURNS.get(hook)
    if expected is None:
        return ""
    if not isinstance(value, expected) or (expected is Sequence and isinstance(value, str | bytes)):
        return f"it returned {type(value).__name__}, not {getattr(expected, '__name__', expected)}"
    if isinstance(value, Sequence | Mapping) and len(value) > _RESULT_MOST:
        return f"it returned more than {_RESULT_MOST} items"
    return ""


def _import_file(path: Path) -> Any:
    name = f"decentraspace_plugin_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
