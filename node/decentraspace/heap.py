"""Keeping the C library's heap from growing by fragments.

glibc gives each of many threads an arena of its own, up to eight for each core, and raises the size from
which blocks are mapped alone up to 32 MiB as such blocks are freed: bodies of requests then leave holes
in every arena, and a node that has nothing more to keep than an hour ago takes some megabytes more.

What is free at the end of a heap goes back to the system, but for some: whoever reads a site in pieces of half a
megabyte would else give each piece's memory back and have it zeroed again, which takes five times as long as
reading it.
Source: mallopt(3).
"""

from __future__ import annotations

import ctypes

_ARENAS, _TOP, _MAPPED = 2, 8 << 20, 1 << 20  # arenas; free bytes kept at a heap's end; bytes mapped alone
ENVIRONMENT = {
    "MALLOC_ARENA_MAX": str(_ARENAS),
    "MALLOC_TRIM_THRESHOLD_": str(_TOP),
    "MALLOC_MMAP_THRESHOLD_": str(_MAPPED),
}
"""The same for processes that this one starts."""

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8


def keep_compact() -> None:
    """Of this process, before it starts threads. Does nothing where the C library is another one."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    for parameter, value in (
        (_M_ARENA_MAX, _ARENAS),
        (_M_TRIM_THRESHOLD, _TOP),
        (_M_MMAP_THRESHOLD, _MAPPED),
    ):
        mallopt(parameter, value)
