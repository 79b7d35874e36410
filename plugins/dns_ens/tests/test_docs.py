"""The README names every setting, and nothing else."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

from decentraspace_dns_ens import settings

PAGE = Path(__file__).resolve().parents[1] / "README.md"


def test_settings() -> None:
    rows = re.findall(r"^\| `(\w+)` \| `(.+?)` \| (.+) \|$", PAGE.read_text(), re.MULTILINE)
    shown = {name: json.loads(default) for name, default, _ in rows}
    made = {f.name: f.default for f in dataclasses.fields(settings.Settings)}
    assert shown == {n: list(d) if isinstance(d, tuple) else d for n, d in made.items()}
    for name, _, meaning in rows:
        text = re.sub(r"\s+", " ", settings.Settings.__doc__ or "")
        assert re.search(rf"\b{name} +{re.escape(meaning.split(':')[0].split(';')[0])}", text), name


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)", PAGE.read_text()):
        assert (PAGE.parent / target).exists(), f"README.md links to {target}"
