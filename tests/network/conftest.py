from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.network.peers import Factory


@pytest.fixture
def factory(tmp_path: Path) -> Iterator[Factory]:
    made = Factory(tmp_path)
    yield made
    made.close()
