"""How a plugin fares: failures in a row, when that is too many, and how others learn of it."""

from __future__ import annotations

import fcntl
import json
import os
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
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

    def __init__(self, max_failures: int, on_change: Callable[[], None] = lambda: None) -> None:
        self._max, self._on_change = max(1, max_failures), on_change
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
            recovered = self._state == "failing" and not self._failures
            if recovered:
                self._state = "ok"
        if recovered:
            self._on_change()

    def failed(self, hook: str, error: str) -> bool:
        """Count a failure; whether it was the one that disables the plugin."""
        with self._lock:
            before = self._state
            self._failures[hook] = self._failures.get(hook, 0) + 1
            self._error = f"{hook}: {error}"
            if self.usable:
                self._state = "disabled" if self._failures[hook] >= self._max else "failing"
            after = self._state
        if after != before:
            self._on_change()
        return before != "disabled" and after == "disabled"

    def end(self, state: State, error: str) -> bool:
        """The plugin is out of use from now on; False if it was already."""
        with self._lock:
            if not self.usable:
                return False
            self._state, self._error = state, error
        self._on_change()
        return True


# -- for `decentraspace plugins`, which is another process


def _report_path(data_dir: Path) -> Path:
    return data_dir / "plugins" / "health.json"  # no plugin's folder: their names have no dots


def write_report(data_dir: Path, plugins: Iterable[PluginInfo]) -> None:
    """Leave word of how the plugins of a running node are. Best effort: it is no reason to fail."""
    path = _report_path(data_dir)
    temporary = path.with_suffix(f".{threading.get_ident()}.tmp")
    with suppress(OSError):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary.write_text(json.dumps([asdict(plugin) for plugin in plugins]), "utf-8")
        os.replace(temporary, path)


def read_report(data_dir: Path) -> list[PluginInfo] | None:
    """How the plugins of the node that runs in `data_dir` are; None when none runs there."""
    try:
        with (data_dir / "node.lock").open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return None  # nobody holds it
    except BlockingIOError:
        pass
    except OSError:
        return None
    try:
        found = json.loads(_report_path(data_dir).read_text("utf-8"))
        return [PluginInfo(**{**plugin, "hooks": tuple(plugin["hooks"])}) for plugin in found]
    except (OSError, ValueError, TypeError, KeyError):
        return None
