"""One gateway for all tests that leave it as it was; tests that break one make their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.gateway.served import Served


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with Served(tmp_path_factory.mktemp("gateway")).serving() as running:
        yield running


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Served]]:
    """`serve(section={…})`: a gateway of the test's own."""
    count = 0
    with ExitStack() as stack:

        def start(**arguments: Any) -> Served:
            nonlocal count
            count += 1
            return stack.enter_context(Served(tmp_path / f"node{count}", **arguments).serving())

        yield start
