"""The soak: what it measures, and that it does not run unless asked for."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from bench.__main__ import benchmarks

from bench import soak


def test_it_runs_only_when_named() -> None:
    assert benchmarks()["soak"] is soak.run
    assert "soak" not in benchmarks(long=False)


def test_memory_of_both_planes_is_that_of_their_processes() -> None:
    """A child that is no gateway counts for neither."""
    code = "import sys; sys.stdin.read()"
    gateway, other = ([sys.executable, "-c", code + f"  # {name}"] for name in ("decentraspace.gateway", "x"))
    with (
        subprocess.Popen(gateway, stdin=subprocess.PIPE) as mine,
        subprocess.Popen(other, stdin=subprocess.PIPE) as foreign,
    ):
        found = soak.processes(os.getpid())
        assert found[0] == os.getpid()
        assert mine.pid in found
        assert foreign.pid not in found
        mine.communicate()
        foreign.communicate()


@pytest.mark.parametrize(("grows", "ratio"), [(0, 1.0), (1_000_000, 1.3636)])
def test_growth_is_that_between_the_second_sixth_and_the_last(grows: int, ratio: float) -> None:
    """What warming up takes does not count."""
    samples = [soak.Sample(n, 1 if n < 10 else 10_000_000 + (n // 10) * grows, 1, 1) for n in range(60)]
    assert soak.result("control", samples, 60.0)["ratio"] == pytest.approx(ratio, abs=1e-4)
