"""One plugin: its thread, its health, and what a call's outcome means for it."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any

import structlog
import trio

from decentraspace.config import PluginsConfig
from decentraspace.hookspecs import Hook
from decentraspace.plugins.health import Health, PluginInfo
from decentraspace.plugins.loading import Candidate, Implementation, Loaded, examine
from decentraspace.plugins.runner import Call, Outcome, Runner, Work
from decentraspace.public import NodeAPI

log = structlog.get_logger(__name__)

BACKGROUND = "start_soon"


class Member:
    """A plugin that was found, whether it could be loaded or not. `runner` is None when it is not to run."""

    def __init__(
        self,
        candidate: Candidate,
        config: PluginsConfig,
        grace: float,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        self.candidate, self._config, self._grace = candidate, config, grace
        self.name = candidate.name
        self.health = Health(config.max_failures, on_change)
        self.runner: Runner | None = None
        self.version = candidate.version
        self.implementations: Mapping[str, Implementation] = {}
        self.node: NodeAPI | None = None
        self.stopping = False
        self._dropped = 0

    def info(self) -> PluginInfo:
        state, failures, error = self.health.read()
        hooks = tuple(self.implementations)
        return PluginInfo(self.name, self.version, self.candidate.source, hooks, state, failures, error)

    # -- loading

    def prepare(self) -> None:
        self.runner = Runner(
            self.name, lambda: examine(self.candidate), lambda why: self._give_up(BACKGROUND, why)
        )

    def await_loaded(self, seconds: float) -> None:
        """Wait until the import is done, at most so long; refuse the plugin if it is not, or went wrong."""
        assert self.runner is not None
        try:
            loaded, error = self.runner.ready.result(seconds)
        except TimeoutError:
            loaded, error = None, f"its import took longer than {self._config.timeout:g} s"
        if not isinstance(loaded, Loaded):
            self.runner.abandon(error)
            self.refuse(error)
            return
        self.version = loaded.version
        self.implementations = {found.hook.name: found for found in loaded.implementations}
        log.info("plugin_loaded", plugin=self.name, version=self.version, hooks=list(self.implementations))

    def refuse(self, error: str) -> None:
        self.runner = None
        self.health.end("refused", error)
        log.error("plugin_refused", plugin=self.name, source=self.candidate.source, error=error)

    # -- calls

    async def invoke(self, implementation: Implementation, arguments: Mapping[str, Any]) -> Outcome:
        hook = implementation.hook
        return await self.run(hook.name, self._work(implementation, arguments), self._seconds(hook))

    async def run(self, label: str, work: Work, seconds: float) -> Outcome:
        """Run `work` in the plugin's loop and wait for it, at most `seconds` and the grace period."""
        call, started = self._submit(work, seconds), time.monotonic()
        finished, token = trio.Event(), trio.lowlevel.current_trio_token()

        def wake(_: object) -> None:
            with suppress(trio.RunFinishedError):  # the node's loop has ended: nobody waits any more
                token.run_sync_soon(finished.set)

        call.future.add_done_callback(wake)
        try:
            with trio.move_on_after(seconds + self._grace):
                await finished.wait()
        except trio.Cancelled:
            if self.runner is not None:
                self.runner.cancel(call)
            raise
        return self._conclude(label, call, started)

    def invoke_blocking(self, implementation: Implementation, arguments: Mapping[str, Any]) -> Outcome:
        hook, started = implementation.hook, time.monotonic()
        call = self._submit(self._work(implementation, arguments), self._seconds(hook))
        with suppress(TimeoutError):  # `_conclude` sees that it is not done
            call.future.result(call.seconds + self._grace)
        return self._conclude(hook.name, call, started)

    def post(self, implementation: Implementation, arguments: Mapping[str, Any]) -> None:
        """Hand over an event, without waiting."""
        assert self.runner is not None
        self.check_alive()
        hook, posted = implementation.hook, time.monotonic()

        def done(outcome: Outcome) -> None:
            self._settle(hook.name, outcome, time.monotonic() - posted)

        work = self._work(implementation, arguments)
        if not self.runner.post(work, self._seconds(hook), done, self._grace) and self.health.usable:
            self._dropped += 1
            if self._dropped & (self._dropped - 1) == 0:  # 1, 2, 4, 8, …: it may go on for long
                log.warning("plugin_events_dropped", plugin=self.name, hook=hook.name, so_far=self._dropped)

    def start_soon(self, function: Callable[..., Awaitable[Any]], *args: Any) -> None:
        """NodeAPI.start_soon: in the background, until the node stops."""

        async def work() -> None:
            await function(*args)

        future = self._submit(work, float("inf")).future
        future.add_done_callback(lambda done: self._settle(BACKGROUND, done.result(), 0.0))

    def check_alive(self) -> None:
        """Notice a plugin that blocks its thread although nobody waits for it."""
        if self.runner is None or not self.health.usable:
            return
        patience = self._config.timeout + self._grace
        if not self.runner.responsive(patience):
            self._give_up(BACKGROUND, f"its thread was blocked for more than {patience:g} s")

    def _work(self, implementation: Implementation, arguments: Mapping[str, Any]) -> Work:
        given = {**arguments, "node": self.node}
        wanted = {name: given[name] for name in implementation.arguments}
        function, shape = implementation.function, implementation.hook.returns

        async def work() -> Any:
            value = function(**wanted)
            if implementation.is_async:
                value = await value
            return None if value is None else shape(value)

        return work

    def _seconds(self, hook: Hook) -> float:
        return self._config.timeout if hook.deadline is None else max(hook.deadline, self._config.timeout)

    def _submit(self, work: Work, seconds: float) -> Call:
        assert self.runner is not None
        return self.runner.submit(work, seconds)

    def _conclude(self, label: str, call: Call, started: float) -> Outcome:
        seconds = time.monotonic() - started
        call.finish(Outcome("lost", error=f"did not come back within {call.seconds + self._grace:g} s"))
        outcome = call.future.result()
        self._settle(label, outcome, seconds)
        return outcome

    # -- what an outcome means

    def _settle(self, label: str, outcome: Outcome, seconds: float) -> None:
        """Log an outcome and count it. Called in any thread."""
        if self._config.trace:
            log.info("hook", plugin=self.name, hook=label, seconds=round(seconds, 4), outcome=outcome.kind)
        if outcome.kind == "value":
            self.health.succeeded(label)
        elif outcome.kind == "refused":
            self.health.succeeded(label)
            log.info("hook_refused", plugin=self.name, hook=label, error=str(outcome.refusal))
        elif outcome.kind == "lost":
            self._give_up(label, outcome.error)
        else:
            now_disabled = self.health.failed(label, outcome.error)
            details = {"traceback": outcome.traceback} if outcome.traceback else {}
            log.warning("hook_failed", plugin=self.name, hook=label, error=outcome.error, **details)
            if now_disabled:
                self._switch_off(label, outcome.error)

    def _give_up(self, label: str, why: str) -> None:
        if not self.stopping and self.health.end("disabled", f"{label}: {why}"):
            self._switch_off(label, why)

    def _switch_off(self, label: str, why: str) -> None:
        hint = "It stays off until the node is started again."
        log.error("plugin_disabled", plugin=self.name, hook=label, error=why, hint=hint)
        if self.runner is not None:
            self.runner.abandon("the plugin was disabled")
