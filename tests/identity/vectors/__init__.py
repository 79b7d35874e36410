"""Test vectors of other projects; README.md beside this file says whose."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def load(name: str) -> dict[str, Any]:
    """The entries of `NAME.json` by title."""
    found = json.loads((Path(__file__).parent / f"{name}.json").read_text())
    assert isinstance(found, dict)
    assert found
    return found
