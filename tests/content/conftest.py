"""What the tests of content share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from decentraspace.content.blockstore import BlockStore
from tests.content.kubo import Kubo


@pytest.fixture
def store(tmp_path: Path) -> Iterator[BlockStore]:
    with BlockStore.open(tmp_path / "blocks", quota=1 << 30) as opened:
        yield opened


@pytest.fixture(scope="module")
def kubo(tmp_path_factory: pytest.TempPathFactory) -> Kubo:
    return Kubo(tmp_path_factory.mktemp("kubo") / "repo")
