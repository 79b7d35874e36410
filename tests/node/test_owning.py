"""What the ledger knows of the chain reaches the records, wherever either of them left off."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from decentraspace.identity.ethereum import checksum_address
from decentraspace.owning import Owning, fact_of
from decentraspace.records.ownership import Ended, Transfer
from decentraspace.records.schema import site_id
from tests.api.small_node import SmallNode
from tests.ledger.world import OPERATOR, VAULT, hash_of

A, B = b"\x01" * 20, b"\x02" * 20
SITE = site_id(A, "docs")
Make = Callable[[], SmallNode]


def event(kind: str, block: int, owner: bytes, **more: Any) -> dict[str, Any]:
    return {
        "kind": kind,
        "block": block,
        "block_hash": hash_of("block", block),
        "time": 1_700_000_000 + block,
        "transaction": hash_of("transaction", block),
        "index": 0,
        "owner": checksum_address(owner),
        "site": SITE,
        **more,
    }


def say(node: SmallNode, *events: dict[str, Any]) -> None:
    last = max(e["block"] for e in events)
    node.ledger.take_events({"chain": 31337, "next_block": last + 1, "events": list(events)})


async def caught_up(node: SmallNode, look: Callable[[], Awaitable[None]] | None = None) -> Owning:
    async def nothing() -> None:
        return None

    owning = Owning(node.ledger, node.records, node.hosting, look or nothing)
    await owning.catch_up()
    return owning


def owners(node: SmallNode) -> list[bytes]:
    return [transfer.owner for transfer in node.records.transfers(SITE)]


@pytest.fixture
def open_node(tmp_path: Path) -> Any:
    opened: list[SmallNode] = []

    def make() -> SmallNode:
        while opened:
            opened.pop().close()
        opened.append(SmallNode(tmp_path / "node"))
        return opened[-1]

    yield make
    for node in opened:
        node.close()


async def test_catches_up_after_a_restart_and_with_a_record_store_that_is_new(
    open_node: Make, tmp_path: Path
) -> None:
    node = open_node()
    node.ledger.bind(31337, VAULT, OPERATOR)
    say(node, event("site_transferred", 5, A, label="docs"))
    await caught_up(node)
    assert owners(node) == [A]
    # The ledger goes on, and the node ends before the records have heard of it.
    say(node, event("site_transferred", 7, B), event("delegations_revoked", 8, A, before=1_700_000_008))
    node = open_node()
    assert owners(node) == [A]
    await caught_up(node)
    assert owners(node) == [A, B]
    assert node.records.is_ended(A, SITE, 1_700_000_000, int(time.time()))
    node.close()
    for path in (tmp_path / "node").glob("records.sqlite*"):
        path.unlink()
    node = open_node()
    assert owners(node) == []
    await caught_up(node)
    assert owners(node) == [A, B]
    assert node.records.is_ended(A, SITE, 1_700_000_000, int(time.time()))


async def test_nothing_is_known_before_a_plugin_says_which_chain(open_node: Make) -> None:
    node = open_node()
    say(node, event("site_transferred", 5, B))
    await caught_up(node)
    assert owners(node) == []


async def test_whoever_asks_often_has_the_chain_looked_at_once(open_node: Make) -> None:
    node = open_node()
    looks: list[float] = []

    async def look() -> None:
        looks.append(trio.current_time())

    owning = await caught_up(node, look)
    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(owning.look)
    assert len(looks) == 1


def test_facts_are_what_the_events_say() -> None:
    assert fact_of(event("site_transferred", 5, B)) == Transfer(SITE, 5, 0, 1_700_000_005, B)
    ended = event("delegations_revoked", 6, A, before=1_700_000_001)
    assert fact_of(ended) == Ended(A, SITE, 6, 0, 1_700_000_006, 1_700_000_001)
    everywhere = fact_of({**ended, "site": "a" * 16})
    assert isinstance(everywhere, Ended)
    assert everywhere.site == ""
    del ended["owner"]
    assert fact_of(ended) is None
