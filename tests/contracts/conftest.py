from __future__ import annotations

from collections.abc import Iterator

import pytest
from web3 import Web3

from tests.contracts.chains import anvil, in_process
from tests.support import find_anvil, require_real


@pytest.fixture(params=["anvil", "in process"])
def web3(request: pytest.FixtureRequest) -> Iterator[Web3]:
    """A chain of its own for each test."""
    if request.param == "in process":
        yield in_process()
        return
    binary = find_anvil()
    require_real("anvil (contracts/install.sh)", binary)
    assert binary is not None
    with anvil(binary) as chain:
        yield chain
