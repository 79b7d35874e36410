"""Keeping the C library's heap from growing by fragments.

glibc gives each of many threads an arena of its own, up to eight for each core, and raises the size from
which blocks are mapped alone up to 32 MiB as such blocks are freed: bodies of requests then leave holes
in every arena, and a node that has nothing more to keep than an hour ago takes some megabytes more.

What is free at the end of a heap goes back to the system, except while a site passes through (`keeping_buffers`):
memory of half a megabyte that is given back and zeroed again for each piece takes longer than reading it.
Source: mallopt(3).
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_ARENAS, _TOP, _MAPPED = 2, 1 << 20, 1 << 20  # arenas; free bytes kept at a heap's end; bytes mapped alone
_TOP_MEANWHILE = 16 << 20  # about what one fetch has under way
ENVIRONMENT = {
    "MALLOC_ARENA_MAX": str(_ARENAS),
    "MALLOC_TRIM_THRESHOLD_": str(_TOP),
    "MALLOC_MMAP_THRESHOLD_": str(_MAPPED),
}
"""The same for processes that this one starts."""

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8


_lock = threading.Lock()
_mallopt: Callable[[int, int], object] | None = None  # where the heap is kept compact
_passing = 0  # who needs buffers now


def keep_compact() -> None:
    """Of this process, before it starts threads. Does nothing where the C library is another one."""
    global _mallopt
    try:
        _mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    for parameter, value in (
        (_M_ARENA_MAX, _ARENAS),
        (_M_TRIM_THRESHOLD, _TOP),
        (_M_MMAP_THRESHOLD, _MAPPED),
    ):
        _mallopt(parameter, value)


@contextmanager
def keeping_buffers() -> Iterator[None]:
    """While much passes through memory in large pieces; any number at the same time."""
    _pass(1)
    try:
        yield
    finally:
        _pass(-1)


def _pass(more: int) -> None:
    global _passing
    with _lock:
        _passing += more
        if _mallopt is not None:
            _mallopt(_M_TRIM_THRESHOLD, _TOP_MEANWHILE if _passing else _TOP)
