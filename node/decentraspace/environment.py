"""Which variables of the environment are ours: a misspelt setting must not be ignored in silence."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from dataclasses import fields
from typing import NamedTuple

PREFIX = "DECENTRASPACE_"
# Besides one for each setting: read by commands, given to gateway processes by their node, read by the tests.
OTHERS = frozenset(
    PREFIX + name
    for name in (
        *("CONFIG", "HOME", "KEY_PASSPHRASE"),
        *("GATEWAY_LISTEN", "GATEWAY_SETTINGS"),
        *("KILLS", "LAB_SEEDS", "MONTH_DAYS", "MONTH_OWNERS", "MONTH_SEED", "REQUIRE_REAL"),
    )
)
_NAME_MOST = 100  # characters shown
_LISTED_MOST = 10


class Unknown(NamedTuple):
    """A variable that nothing reads; `near`: those it may have been meant to be, the nearest first."""

    name: str
    near: tuple[str, ...]

    @property
    def hint(self) -> str:
        if self.near:
            return f"Did you mean {' or '.join(self.near)}?"
        if self.name.startswith(PREFIX + "PLUGIN_"):
            return "Settings of plugins are in the configuration file, in [plugin.NAME]."
        return "docs/reference/settings.md lists the variables."

    @property
    def text(self) -> str:
        return f"{self.name[:_NAME_MOST]} is no setting, so it has no effect. {self.hint}"


def unknown(environ: Mapping[str, str] | None = None) -> list[Unknown]:
    """Variables that begin with DECENTRASPACE_ and that nothing reads, ten at most, sorted by name."""
    given = {name for name in (os.environ if environ is None else environ) if name.startswith(PREFIX)}
    given -= OTHERS
    if not given:
        return []
    from decentraspace.config import sections

    known = {f"{PREFIX}{name}_{f.name}".upper() for name, cls in sections().items() for f in fields(cls)}
    return [Unknown(name, _near(name, known | OTHERS)) for name in sorted(given - known)[:_LISTED_MOST]]


def _near(name: str, known: set[str] | frozenset[str]) -> tuple[str, ...]:
    """By what follows the prefix, which all have; a setting whose section was left out is near, too."""
    bare = {one.removeprefix(PREFIX): one for one in known}
    asked = name.removeprefix(PREFIX).upper()[:_NAME_MOST]
    without = sorted(full for short, full in bare.items() if short.partition("_")[2] == asked)
    matches = difflib.get_close_matches(asked, sorted(bare), n=3, cutoff=0.75)
    return tuple(dict.fromkeys([*without, *(bare[match] for match in matches)]))[:3]
