"""How a report is read and held against the list; the suite itself is run by `make conformance`."""

from __future__ import annotations

import json
from pathlib import Path

from tests.conformance import known, suite
from tests.conformance.suite import Outcome

EVENTS = [
    ("run", "TestA", ""),
    ("run", "TestA/one", ""),
    ("output", "TestA/one/Status_code", "not 200\n"),
    ("fail", "TestA/one/Status_code", ""),
    ("pass", "TestA/one/Body", ""),
    ("fail", "TestA/one", ""),
    ("pass", "TestA/two", ""),
    ("fail", "TestA", ""),
    ("pass", "TestAlone", ""),
    ("skip", "TestB/three", ""),
]


def test_cases_of_a_report() -> None:
    lines = [json.dumps({"Action": action, "Test": test, "Output": out}) for action, test, out in EVENTS]
    lines.append(json.dumps({"Action": "suite_fail", "Elapsed": 1.0}))
    assert suite.read("\n".join(lines)) == [
        Outcome("TestA/one", False, "not 200\n"),
        Outcome("TestA/two", True, ""),
        Outcome("TestAlone", True, ""),
    ]


def test_the_list_must_be_right(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "| case | reason |\n|---|---|\n| `TestA/one` | A reason. |\n| `TestA/two` |  |\nTestA/three\n"
    )
    listed = known.read(page)
    assert listed == {"TestA/one": "A reason."}
    good = [Outcome("TestA/one", False, ""), Outcome("TestA/two", True, "")]
    assert known.compare(good, listed, partly=False) == []
    for outcomes, wrong in (
        ([Outcome("TestA/one", True, "")], "Is listed and passes: TestA/one"),
        ([*good, Outcome("TestB", False, "")], "Fails and is not listed: TestB"),
        ([Outcome("TestB", True, "")], "Is listed and is no test: TestA/one"),
    ):
        assert known.compare(outcomes, listed, partly=False) == [wrong]
    assert known.compare([Outcome("TestB", True, "")], listed, partly=True) == []


def test_each_listed_case_has_a_reason() -> None:
    listed = known.read(known.PAGE)
    assert listed
    assert all(len(reason) > 10 for reason in listed.values())
    # A row that were not understood would be missing here.
    assert known.PAGE.read_text().count("| `Test") == len(listed)
