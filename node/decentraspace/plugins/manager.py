"""Loads plugins and calls their hooks, each under a deadline, each on its own."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import structlog
import trio

from decentraspace.config import Config, PluginsConfig
from decentraspace.errors import DecentraSpaceError, NotFound, Unavailable
from decentraspace.hookspecs import HOOKS, Hook
from decentraspace.plugins.extensions import checked_response, take_commands, take_routes
from decentraspace.plugins.health import PluginInfo, write_report
from decentraspace.plugins.loading import NAME, Candidate, Implementation, candidates
from decentraspace.plugins.member import Member
from decentraspace.plugins.runner import Outcome
from decentraspace.public import NodeAPI, StoreGate, freeze
from decentraspace.routes import HttpRequest, HttpResponse, Route

if TYPE_CHECKING:
    import click

    from decentraspace.content.blockstore import BlockStore
    from decentraspace.identity.keys import NodeKey

log = structlog.get_logger(__name__)

_GRACE = 2.0  # seconds a plugin has, after its deadline, to be cancelled
_STOP_MOST = 5.0  # seconds for `node_stopping`


class NodeParts(Protocol):
    """What the manager uses of a node to make each plugin's NodeAPI."""

    @property
    def config(self) -> Config: ...
    @property
    def blocks(self) -> BlockStore: ...
    @property
    def key(self) -> NodeKey: ...


@dataclass(frozen=True)
class HookResult:
    """What one plugin's hook gave, checked; never None."""

    plugin: str
    value: Any


@dataclass(frozen=True)
class MountedRoute:
    """A plugin's HTTP endpoint; `await manager.serve(mounted, request)` answers."""

    plugin: str
    route: Route


class PluginManager:
    """`load` once, then `call`. Without `load` there are no plugins, and every call is answered with nothing.

    `grace`: seconds a plugin has to be cancelled after its deadline; one that takes longer is given up.
    """

    def __init__(self, config: PluginsConfig, *, grace: float = _GRACE) -> None:
        self._config, self._grace = config, grace
        self._gate = StoreGate(None)
        self._members: list[Member] = []
        self._data_dir: Path | None = None  # of the node; known once all are loaded
        self._hooks: dict[str, list[tuple[Member, Implementation]]] = {name: [] for name in HOOKS}

    # -- loading and ending

    async def load(self, node: NodeParts | None = None) -> None:
        """Find and import all plugins, side by side, within `plugins.timeout` seconds.

        A plugin that cannot be loaded is logged, skipped, and named by `describe`. ConfigError only when
        `plugins.directory` does not exist. Without a node, hooks get None for their `node`.
        """
        await trio.to_thread.run_sync(self.load_blocking, node)

    def load_blocking(self, node: NodeParts | None = None) -> None:
        self._gate = StoreGate(node.blocks if node is not None else None)
        for candidate in candidates(self._config):
            self._members.append(self._admit(candidate, node))
        known = {member.name for member in self._members}
        for name in self._config.enabled:
            if name not in known:
                missing = Member(Candidate(name, "", "", lambda: None), self._config, self._grace)
                missing.refuse("it is named in plugins.enabled, but is not installed")
                self._members.append(missing)
        started = [(m, m.runner) for m in self._members if m.runner is not None]
        for _, runner in started:
            runner.start()
        end = time.monotonic() + self._config.timeout
        for member, _ in started:
            member.await_loaded(max(0.0, end - time.monotonic()))
            for name, implementation in member.implementations.items():
                self._hooks[name].append((member, implementation))
        for implementations in self._hooks.values():
            implementations.sort(key=lambda pair: pair[1].rank)
        if node is not None:
            self._data_dir = node.config.data_dir
            self._report()

    def _admit(self, candidate: Candidate, node: NodeParts | None) -> Member:
        member = Member(candidate, self._config, self._grace, self._report)
        name = candidate.name
        if NAME.fullmatch(name) is None:
            member.refuse("its name must be lower-case letters, digits and underscores")
        elif any(other.name == name for other in self._members):
            member.refuse("there is another plugin of this name")
        elif name in self._config.disabled or (self._config.enabled and name not in self._config.enabled):
            member.health.end("off", "")
        else:
            try:
                member.node = _api(member, node, self._gate) if node is not None else None
            except OSError as error:
                member.refuse(f"its data folder cannot be made: {error}")
            else:
                member.prepare()
        return member

    async def close(self) -> None:
        """Tell the plugins, then end their threads; those that do not end are left behind."""
        with trio.CancelScope(shield=True):
            with trio.move_on_after(_STOP_MOST):
                await self.call("node_stopping")
            await trio.to_thread.run_sync(self.close_blocking)

    def close_blocking(self) -> None:
        runners = []
        for member in self._members:
            member.stopping = True
            if member.runner is not None:
                member.runner.abandon("the node stops")
                runners.append(member.runner)
        end = time.monotonic() + self._grace
        for runner in runners:
            runner.join(max(0.0, end - time.monotonic()))
        # The store is closed next: a thread that was left behind must not be reading it then.
        if not self._gate.close(self._grace):
            log.warning("plugin_holds_store", hint="A plugin still reads blocks while the node stops.")

    # -- calling

    async def call(self, hook: str, **arguments: Any) -> list[HookResult]:
        """Call `hook` of every plugin that has it, side by side; what they gave, without Nones, in order.

        Never raises for what a plugin does. Waits for the slowest, at most for its deadline. Events are only
        handed over: the answer is [] at once.
        """
        spec, found = self._find(hook, arguments)
        if spec.kind == "event":
            for member, implementation in found:
                member.post(implementation, arguments)
            return []
        outcomes: list[Outcome | None] = [None] * len(found)

        async def one(index: int, member: Member, implementation: Implementation) -> None:
            outcomes[index] = await member.invoke(implementation, arguments)

        if found:
            async with trio.open_nursery() as nursery:
                for index, (member, implementation) in enumerate(found):
                    nursery.start_soon(one, index, member, implementation)
        return _results(zip(found, outcomes, strict=True))

    def having(self, hook: str) -> list[str]:
        """Names of the plugins in use that have this hook."""
        return [member.name for member, _ in self._hooks[hook] if member.health.usable]

    async def ask(self, plugin: str, hook: str, **arguments: Any) -> tuple[bool, Any]:
        """Call `hook` of one plugin: (whether that went well, what it gave). (False, None) where it is not in use."""
        for member, implementation in self._find(hook, arguments)[1]:
            if member.name == plugin:
                outcome = await member.invoke(implementation, arguments)
                return (True, outcome.value) if outcome.kind == "value" else (False, None)
        return False, None

    async def one(self, plugin: str, hook: str, **arguments: Any) -> Any:
        """What `hook` of this plugin and of no other gives, or None. Raises what it refuses with, and Unavailable
        when it is not in use or fails. None, too, for a plugin without that hook."""
        member = next((m for m in self._members if m.name == plugin), None)
        if member is None or not member.health.usable:
            raise Unavailable(
                f"The plugin {plugin} is not in use at this node", hint="`decentraspace plugins` says why."
            )
        for found, implementation in self._find(hook, arguments)[1]:
            if found is member:
                outcome = await member.invoke(implementation, arguments)
                if outcome.refusal is not None:
                    raise outcome.refusal
                if outcome.kind != "value":
                    raise Unavailable(f"The plugin {plugin} failed", hint="The operator's log says why.")
                return outcome.value
        return None

    async def first(self, hook: str, **arguments: Any) -> HookResult | None:
        """Ask one plugin after the other; the first value that is not None.

        When none has one, the first refusal is raised (a DecentraSpaceError that a plugin raised), if any.
        """
        refusal: DecentraSpaceError | None = None
        for member, implementation in self._find(hook, arguments)[1]:
            outcome = await member.invoke(implementation, arguments)
            if outcome.kind == "value" and outcome.value is not None:
                return HookResult(member.name, outcome.value)
            refusal = refusal or outcome.refusal
        if refusal is not None:
            raise refusal
        return None

    def call_sync(self, hook: str, **arguments: Any) -> list[HookResult]:
        """Like `call`, where there is no event loop; one plugin after the other."""
        found = self._find(hook, arguments)[1]
        outcomes = [member.invoke_blocking(one, arguments) for member, one in found]
        return _results(zip(found, outcomes, strict=True))

    def cli_commands(self, taken: Iterable[str]) -> list[click.Command]:
        """Commands that plugins add to the command line, but for those whose name is `taken` already."""
        import click

        names, commands = set(taken), []
        for member, implementation in self._find("cli_commands", {"group": None})[1]:
            group = click.Group(member.name)
            if member.invoke_blocking(implementation, {"group": group}).kind == "value":
                commands += take_commands(member.name, group, names)
        return commands

    async def routes(self, taken: Iterable[str] = ()) -> list[MountedRoute]:
        """HTTP endpoints of all plugins, but for those whose path is `taken` already or is no path."""
        paths, mounted = set(taken), []
        for result in await self.call("api_routes"):
            for route in take_routes(result.plugin, result.value, paths):
                mounted.append(MountedRoute(result.plugin, route))
        return mounted

    async def serve(self, mounted: MountedRoute, request: HttpRequest) -> HttpResponse:
        """The plugin's answer. Raises what the handler refuses with, Unavailable when it fails."""
        member = next((m for m in self._members if m.name == mounted.plugin), None)
        if member is None or member.node is None or not member.health.usable:
            raise NotFound("The plugin that answered here is not running")
        handler, node = mounted.route.handler, member.node

        async def work() -> Any:
            return checked_response(await handler(request, node))

        outcome = await member.run(f"route {mounted.route.path}", work, self._config.timeout)
        if outcome.refusal is not None:
            raise outcome.refusal
        if outcome.kind != "value":
            raise Unavailable(
                f"The plugin {member.name} failed to answer", hint="The operator's log says why."
            )
        response: HttpResponse = outcome.value
        return response

    def describe(self) -> list[PluginInfo]:
        """Every plugin there is, loaded or not, by name."""
        for member in self._members:
            member.check_alive()
        return self._infos()

    def _infos(self) -> list[PluginInfo]:
        return sorted((member.info() for member in self._members), key=lambda info: info.name)

    def _report(self) -> None:
        """A plugin's health has changed, in whatever thread."""
        if self._data_dir is not None:
            write_report(self._data_dir, self._infos())

    def _find(
        self, hook: str, arguments: Mapping[str, Any]
    ) -> tuple[Hook, list[tuple[Member, Implementation]]]:
        spec = HOOKS[hook]
        if set(arguments) != spec.arguments - {"node"}:
            raise TypeError(f"{spec.declaration} called with {', '.join(arguments) or 'nothing'}")
        return spec, [(member, found) for member, found in self._hooks[hook] if member.health.usable]


def _api(member: Member, node: NodeParts, gate: StoreGate) -> NodeAPI:
    folder = node.config.data_dir / "plugins" / member.name
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return NodeAPI(
        plugin=member.name,
        config=freeze(node.config.plugin.get(member.name, {})),
        data_dir=folder,
        peer_id=node.key.peer_id,
        network=node.config.network.name,
        start_soon=member.start_soon,
        log=structlog.get_logger(f"decentraspace.plugin.{member.name}").bind(plugin=member.name),
        _store=gate,
    )


def _results(
    pairs: Iterable[tuple[tuple[Member, Implementation], Outcome | None]],
) -> list[HookResult]:
    return [
        HookResult(member.name, outcome.value)
        for (member, _), outcome in pairs
        if outcome is not None and outcome.kind == "value" and outcome.value is not None
    ]
