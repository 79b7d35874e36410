"""What commands print: text for people, JSON for machines, progress on a terminal."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click

from decentraspace.units import size_of as size_of

EXIT_ERROR, EXIT_INTERRUPTED = 2, 130

F = TypeVar("F", bound=Callable[..., Any])

json_option: Callable[[F], F] = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
hidden_option: Callable[[F], F] = click.option(
    "--include-hidden", is_flag=True, help="Take along files and folders whose name begins with a dot."
)


def emit(value: Any, text: str, as_json: bool) -> None:
    """`value` as JSON, or `text`."""
    click.echo(json.dumps(value, indent=2) if as_json else text)


def program() -> str:
    """How to call this program again: by its name where that is found, else by its path."""
    path = Path(sys.argv[0])
    found = shutil.which("decentraspace")
    if path.name != "decentraspace":  # python -m
        return "decentraspace" if found else f"{sys.executable} -m decentraspace"
    if found and Path(found).samefile(path):
        return "decentraspace"
    here = os.path.relpath(path)
    return str(path) if here.startswith("..") else here


def table(rows: Sequence[tuple[str, ...]], headers: tuple[str, ...]) -> str:
    """Columns, as wide as they need."""
    widths = [max(len(row[i]) for row in [headers, *rows]) for i in range(len(headers))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in [headers, *rows]
    ]
    return "\n".join(lines)


def note(text: str, quiet: bool) -> None:
    """A remark on standard error, which no script reads."""
    if not quiet:
        click.echo(text, err=True)


@contextmanager
def progress(title: str, total: int | None, quiet: bool) -> Iterator[Callable[[int], None]]:
    """A bar on standard error while it is a terminal; gives a function to advance it by bytes."""
    if quiet or not sys.stderr.isatty():
        yield lambda amount: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=total)
        yield lambda amount: bar.advance(task, amount)
