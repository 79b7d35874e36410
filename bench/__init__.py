"""Benchmarks side by side with peers: `python -m bench`, or `make bench`. One module per question.

A module has `run(quick: bool = False) -> list[dict]`. Each result says:

    name      what was compared
    ratio     ours divided by the peer's (or by the goal's), both taken in this run
    goal      "<= 1", ">= 0.7": what the ratio should be
    peer      what the ratio is to
    version   of the peer
    command   what was run

and any further figures, with their unit at the end of the name. `Missing` when the peer is not here. A module
with `LONG = True` runs only when it is named, or with --quick.
"""

from __future__ import annotations


class Missing(Exception):
    """What the benchmark compares with is not on this machine."""
