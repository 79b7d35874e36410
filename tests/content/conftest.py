"""What the tests of content share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.content.kubo import Kubo


@pytest.fixture(scope="module")
def kubo(tmp_path_factory: pytest.TempPathFactory) -> Kubo:
    return Kubo(Path(tmp_path_factory.mktemp("kubo")) / "repo")
