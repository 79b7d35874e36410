"""How a plugin fares: failures in a row, and when that is too many."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Literal

# ok        loaded, and its last calls went well
# failing   its last call of some hook failed
# disabled  loaded, then switched off for failing or for not coming back
# refused   could not be loaded
# off       switched off by configuration
State = Literal["ok", "failing", "disabled", "refused", "off"]


@dataclass(frozen=True)
class PluginInfo:
    """A plugin as `decentraspace plugins` shows it.

    `source`: the distribution it came with, or its file. `failures`: most failures in a row of any of its
    hooks. `error`: the last thing that went wrong, "" if nothing did.
    """

    name: str
    version: str
    source: str
    hooks: tuple[str, ...]
    health: State
    failures: int
    error: str


class Health:
    """Thread-safe. Failures are counted per hook, so that one that works does not hide one that does not."""

    def __init__(self, max_failures: int) -> None:
        self._max = max(1, max_failures)
        self._lock = threading.Lock()
        self._failures: dict[str, int] = {}
        self._state: State = "ok"
        self._error = ""

    @property
    def usable(self) -> bool:
        return self._state in ("ok", "failing")

    def read(self) -> tuple[State, int, str]:
        with self._lock:
            return self._state, max(self._failures.values(), default=0), self._error

    def succeeded(self, hook: str) -> None:
        with self._lock:
            self._failures.pop(hook, None)
            if self._state == "failing" and not self._failures:
                self._state = "ok"

    def failed(self, hook: str, error: str) -> bool:
        """Count a failure; whether it was the one that disables the plugin."""
        with self._lock:
            self._failures[hook] = self._failures.get(hook, 0) + 1
            self._error = f"{hook}: {error}"
            if self._state in ("ok", "failing"):
                self._state = "disabled" if self._failures[hook] >= self._max else "failing"
                return self._state == "disabled"
            return False

    def end(self, state: State, error: str) -> bool:
        """The plugin is out of use from now on; False if it was already."""
        with self._lock:
            if not self.usable:
                return False
            self._state, self._error = state, error
            return True
