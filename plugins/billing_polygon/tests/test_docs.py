"""The reference names every setting, command and option, and nothing else."""

from __future__ import annotations

import dataclasses
import json
import re

import click
import pytest
from plugins.billing_polygon.tests.conftest import ROOT

from decentraspace_billing_polygon import cli, settings

PAGE = ROOT / "docs" / "reference" / "billing-polygon.md"
GUIDE = ROOT / "docs" / "how-to" / "get-paid.md"


def test_settings() -> None:
    rows = re.findall(r"^\| `(\w+)` \| `(.+?)` \| (.+) \|$", PAGE.read_text(), re.MULTILINE)
    shown = {name: json.loads(default) for name, default, _ in rows}
    made = {f.name: f.default for f in dataclasses.fields(settings.Settings)}
    assert shown == {n: list(d) if isinstance(d, tuple) else d for n, d in made.items()}
    for name in made:
        assert re.search(rf"^    [\w, ]*\b{name}\b", settings.Settings.__doc__ or "", re.MULTILINE), name


@pytest.mark.parametrize("name", ["status", "register", "leave", "trust-chain"])
def test_commands(name: str) -> None:
    command = cli.operator.commands[name]
    text = PAGE.read_text()
    row = next(line for line in text.splitlines() if line.startswith(f"| `{name}"))
    known = {option for one in command.params for option in one.opts} - {"--config", "--data-dir", "--json"}
    assert known == set(re.findall(r"--[a-z-]+", row))
    assert set(cli.operator.commands) == {"status", "register", "leave", "trust-chain"}
    assert isinstance(command, click.Command)


def test_links_lead_somewhere() -> None:
    for page in (PAGE, GUIDE):
        for target in re.findall(r"\]\((?!http)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
