"""What the laboratory starts: `decentraspace` with its arguments, its clock set wrong, gone with its parent.

    python -m tests.network.lab.process SKEW run --config …

SKEW: seconds added to what `time.time` tells in this process, as on a machine whose clock is off. The
monotonic clock goes as it does. Gateway workers are processes of their own and keep the machine's time.
"""

from __future__ import annotations

import sys
import time

from decentraspace.gateway.workers import die_with_parent


def set_clock_off(seconds: float) -> None:
    true_time, true_time_ns = time.time, time.time_ns
    time.time = lambda: true_time() + seconds
    time.time_ns = lambda: true_time_ns() + int(seconds * 1e9)


if __name__ == "__main__":
    die_with_parent()
    set_clock_off(float(sys.argv[1]))
    from decentraspace.cli.main import main

    sys.exit(main(sys.argv[2:]))
