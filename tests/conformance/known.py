"""The list of tests that are not passed, each with its reason: docs/reference/conformance.md."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.conformance.suite import Outcome
from tests.support import ROOT

PAGE = ROOT / "docs" / "reference" / "conformance.md"
_ROW = re.compile(r"\| `(Test[^`]+)` \| (.*\S) \|")


def read(page: Path) -> dict[str, str]:
    """Test -> reason, from the rows of the page's table."""
    return {m[1]: m[2] for m in map(_ROW.fullmatch, page.read_text().splitlines()) if m is not None}


def compare(outcomes: Sequence[Outcome], listed: Mapping[str, str], *, partly: bool) -> list[str]:
    """What contradicts the list, a line each. `partly`: not all tests were run."""
    passed = {outcome.name: outcome.passed for outcome in outcomes}
    wrong = [
        f"Fails and is not listed: {name}" for name, ok in passed.items() if not ok and name not in listed
    ]
    wrong += [f"Is listed and passes: {name}" for name in listed if passed.get(name)]
    if not partly:
        wrong += [f"Is listed and is no test: {name}" for name in listed if name not in passed]
    return wrong
