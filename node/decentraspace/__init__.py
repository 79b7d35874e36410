"""DecentraSpace: a node with which independent operators host the web together.

For plugin authors: `hookimpl` marks a hook's implementation; see `decentraspace.hookspecs`.
"""

from __future__ import annotations

import pluggy

__version__ = "0.1.0"

PROJECT = "decentraspace"
hookimpl = pluggy.HookimplMarker(PROJECT)

__all__ = ["__version__", "hookimpl"]
