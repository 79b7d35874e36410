"""Commands for operators."""

from __future__ import annotations

import click


def add(group: click.Group) -> None:
    pass
