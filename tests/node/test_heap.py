from __future__ import annotations

import os
import subprocess
import sys

import pytest

from decentraspace import heap

# Threads that each take memory at once: glibc gives each an arena, a region of 64 MiB of which little is used.
_ARENAS = """
import sys, threading
if sys.argv[1:]:
    from decentraspace import heap
    heap.keep_compact()
here, go = threading.Barrier(17), threading.Barrier(17)
def work():
    here.wait()
    kept = [b"x" * 5000 for _ in range(100)]
    go.wait()
for _ in range(16):
    threading.Thread(target=work).start()
here.wait()
sizes = [line.split()[0].split("-") for line in open("/proc/self/maps")]
starts = {int(a, 16) for a, _ in sizes if int(a, 16) % (64 << 20) == 0}
print(len(starts))
go.wait()
"""


def arenas(*arguments: str, **environment: str) -> int:
    command = [sys.executable, "-c", _ARENAS, *arguments]
    return int(subprocess.check_output(command, env={**os.environ, **environment}, text=True))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="of glibc on Linux")
def test_threads_share_arenas() -> None:
    """In this process and, by the environment, in those it starts."""
    alone = arenas()
    if alone < 4:
        pytest.skip("this C library has no arenas for threads")
    assert arenas("compact") <= 2
    assert arenas(**heap.ENVIRONMENT) <= 2


# Pieces as they come from a socket: page faults say how often their memory was given back and taken anew.
_PIECES = """
import resource, sys
from contextlib import nullcontext
from decentraspace import heap
heap.keep_compact()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
with heap.keeping_buffers() if sys.argv[1:] else nullcontext():
    first = [bytearray(500_000) for _ in range(8)]
    del first
    before = faults()
    for _ in range(20):
        pieces = [bytearray(500_000) for _ in range(8)]
        del pieces
    print(faults() - before)
"""


def faults(*arguments: str) -> int:
    return int(subprocess.check_output([sys.executable, "-c", _PIECES, *arguments], text=True))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="of glibc on Linux")
def test_what_a_fetch_reads_into_is_kept_meanwhile() -> None:
    alone = faults()
    if alone < 1000:
        pytest.skip("this C library keeps freed memory by itself")
    assert faults("keep") < alone / 10
