"""Plugins: found, loaded and called so that none of them can take the node down."""

from __future__ import annotations

from decentraspace.plugins.health import PluginInfo
from decentraspace.plugins.manager import HookResult, MountedRoute, PluginManager

__all__ = ["HookResult", "MountedRoute", "PluginInfo", "PluginManager"]
