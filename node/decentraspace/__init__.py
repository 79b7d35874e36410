"""DecentraSpace: a node with which independent operators host the web together."""

from __future__ import annotations

__version__ = "0.1.0"
