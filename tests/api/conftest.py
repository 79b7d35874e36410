"""A served node per test, and somebody who is logged in."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.api.small_node import Person, SmallNode


@pytest.fixture
def make_node(tmp_path: Path) -> Iterator[Callable[..., SmallNode]]:
    """`make_node(section={…})`: a node with these settings, closed after the test."""
    nodes: list[SmallNode] = []

    def make(**sections: Any) -> SmallNode:
        nodes.append(SmallNode(tmp_path / f"node{len(nodes)}", **sections))
        return nodes[-1]

    yield make
    for node in nodes:
        node.close()


@pytest.fixture
def node(make_node: Callable[..., SmallNode]) -> SmallNode:
    return make_node()


@pytest.fixture
async def client(node: SmallNode) -> AsyncIterator[httpx.AsyncClient]:
    async with node.serving() as client:
        yield client


@pytest.fixture
async def person(node: SmallNode, client: httpx.AsyncClient) -> Person:
    return await Person(node).log_in(client)
