"""One gateway for all tests that leave it as it was; tests that break one make their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.gateway.served import Served, Wire


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with Served(tmp_path_factory.mktemp("gateway")).serving() as running:
        yield running


@pytest.fixture(scope="session", autouse=True)
def silent(served: Served) -> Iterator[dict[str, Wire]]:
    """Connections of clients that have been saying nothing since the tests began."""
    with served.wire() as nothing, served.wire() as half, served.wire() as asked:
        half.send(b"GET / HTTP/1.1\r\nHost:")
        asked.get("localhost")
        yield {"nothing": nothing, "half": half, "asked once": asked}


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
