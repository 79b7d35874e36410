from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from decentraspace.content.blockstore import BlockStore


@pytest.fixture
def store(tmp_path: Path) -> Iterator[BlockStore]:
    with BlockStore.open(tmp_path / "blocks", quota=1 << 30) as opened:
        yield opened
