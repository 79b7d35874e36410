"""`python -m tests.conformance`: run the suite, compare with the list of known failures.

The last line of output is `N passed, N failed`. It ends with 0 only if exactly the tests that
docs/reference/conformance.md lists failed, and with 2 if the suite could not be run.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tests.conformance import known, suite
from tests.conformance.node import conforming


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.conformance", description=__doc__)
    parser.add_argument("--run", default="", metavar="REGEX", help="only the tests that Go's -run selects")
    parser.add_argument("--details", action="store_true", help="print what failing tests said")
    arguments = parser.parse_args()
    tool = suite.find()
    if tool is None:
        print(
            "gateway-conformance is not here: put it on the PATH or name it in GATEWAY_CONFORMANCE "
            "(see docs/reference/conformance.md).",
            file=sys.stderr,
        )
        return 2
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fixtures = suite.extract(tool, folder / "fixtures")
        with conforming(folder / "node", fixtures) as port:
            outcomes = suite.run(tool, port, folder / "report.json", arguments.run)
    listed = known.read(known.PAGE)
    wrong = known.compare(outcomes, listed, partly=bool(arguments.run))
    for outcome in outcomes:
        if not outcome.passed and (arguments.details or outcome.name not in listed):
            print(f"FAILED {outcome.name}\n{outcome.said.rstrip()}\n")
    for line in wrong:
        print(line)
    passed = sum(outcome.passed for outcome in outcomes)
    print(f"{passed} passed, {len(outcomes) - passed} failed")
    return 1 if wrong or not outcomes else 0


if __name__ == "__main__":
    sys.exit(main())
