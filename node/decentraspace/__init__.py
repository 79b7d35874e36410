"""DecentraSpace: a node with which independent operators host the web together.

`hookimpl` marks a plugin's functions as hooks; every hook is in `decentraspace.hookspecs`.
"""

from __future__ import annotations

import pluggy

__version__ = "0.1.0"

hookimpl = pluggy.HookimplMarker("decentraspace")

__all__ = ["__version__", "hookimpl"]
