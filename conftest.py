"""For all tests, those of plugins too."""

from __future__ import annotations

import sys

_LIMIT = sys.getrecursionlimit()
# The tests' wallet library raises the recursion limit when it is imported; the node never imports it, and
# must be tested with the limit it has.
import eth_account  # noqa: E402, F401

sys.setrecursionlimit(_LIMIT)
