"""Waiting for what comes when it comes, and doing without what is not here."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from typing import Any, TypeVar

import trio

T = TypeVar("T")
_EVERY = 0.02  # seconds between two looks


async def until(condition: Callable[[], Any], seconds: float = 30.0) -> Any:
    """The first true value that `condition` gives, a function or an async one. AssertionError after `seconds`."""
    with trio.move_on_after(seconds):
        while True:
            value = condition()
            if inspect.isawaitable(value):
                value = await value
            if value:
                return value
            await trio.sleep(_EVERY)
    raise AssertionError(f"not so within {seconds} s")


def require_real(name: str, available: T | None) -> T:
    """What is `available`. Where that is nothing, the test is skipped, and its report names what is lacking.

    Where DECENTRASPACE_REQUIRE_REAL=1 is set, as on a machine that is to run all tests, it fails instead.
    """
    if not available:
        import pytest

        if os.environ.get("DECENTRASPACE_REQUIRE_REAL") == "1":
            pytest.fail(f"{name} is not here, and DECENTRASPACE_REQUIRE_REAL=1")
        pytest.skip(f"{name} is not here")
    return available
