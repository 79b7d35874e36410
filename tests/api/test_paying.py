"""402 before what is uploaded or deployed costs more than anybody would pay."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from decentraspace.content import cid as cids
from decentraspace.content.car import encode
from decentraspace.ledger.clock import Moment
from decentraspace.ledger.meters import Held
from tests.api.small_node import Person, SmallNode
from tests.api.test_billing import OPERATOR, VAULT, bill

KIB, GIB = 2**10, 2**30
FILE = {"Content-Type": "application/octet-stream"}


@pytest.fixture
def node(make_node: Callable[..., SmallNode]) -> SmallNode:
    return make_node(
        limits={"free_storage": KIB, "paid_free_storage": KIB, "free_sites": 2},
        billing={"storage_price": 10**12},
    )


def put(node: SmallNode, size: int) -> bytes:
    """Something of so many bytes."""
    data = bytes(size)
    root = cids.make(cids.RAW, data)
    node.blocks.put_many([(root, data)])
    return root


async def deploy(client: httpx.AsyncClient, person: Person, root: bytes, **changes: Any) -> httpx.Response:
    return await client.post("/hosting/deploy/", json=person.site(root, **changes), headers=person.headers)


async def upload(client: httpx.AsyncClient, person: Person, size: int) -> httpx.Response:
    return await client.post("/storage/upload/", content=bytes(size), headers={**person.headers, **FILE})


def use_up(node: SmallNode, person: Person) -> None:
    """All of the month's storage that the wallet has free: it held a MiB for 50 minutes."""
    now = Moment.now()
    node.ledger.tick(now, {person.site_id(): Held(person.address, KIB * KIB)})
    node.ledger.tick(Moment(now.wall, now.up + 3000, now.boot), {})


async def test_without_a_plugin_that_settles_nothing_costs(
    node: SmallNode, client: httpx.AsyncClient, person: Person
) -> None:
    use_up(node, person)
    assert (await deploy(client, person, put(node, 100 * KIB))).status_code == 200
    assert (await upload(client, person, 100 * KIB)).status_code == 200


async def test_what_the_allowance_covers_is_taken(
    node: SmallNode, client: httpx.AsyncClient, person: Person
) -> None:
    node.ledger.bind(31337, VAULT, OPERATOR)
    assert (await deploy(client, person, put(node, 10 * KIB))).status_code == 200
    assert (await upload(client, person, 10 * KIB)).status_code == 200


async def test_what_nobody_would_pay_is_refused_before_it_is_done(
    node: SmallNode, client: httpx.AsyncClient, person: Person
) -> None:
    node.ledger.bind(31337, VAULT, OPERATOR)
    root = put(node, 100 * KIB)
    refused = await deploy(client, person, root)
    assert refused.status_code == 402
    problem = refused.json()
    assert problem["type"].endswith(":payment-required")
    assert (problem["reason"], problem["service"]) == ("credit", "storage")
    # A day of 100 KiB, less a month of 1 KiB, at 10^12 credits for a GiB and 730 hours.
    assert problem["missing"] == (100 * 24 - 31 * 24) * KIB * 10**12 // (730 * GIB)
    assert problem["pay"]["recharge"] == f"{node.url}/billing/recharge/"
    assert (await client.get(problem["pay"]["methods"])).status_code == 200
    assert node.records.head(person.site_id(), "production") is None
    assert not node.blocks.is_pinned(root)
    assert (await upload(client, person, 100 * KIB)).status_code == 402
    bill(node, person.address)
    assert (await deploy(client, person, root)).status_code == 200
    assert (await upload(client, person, 100 * KIB)).status_code == 200


async def test_the_least_is_refused_where_nothing_is_left(
    node: SmallNode, client: httpx.AsyncClient, person: Person
) -> None:
    node.ledger.bind(31337, VAULT, OPERATOR)
    use_up(node, person)
    refused = await deploy(client, person, put(node, 1))
    assert (refused.status_code, refused.json()["missing"]) == (402, 24 * 10**12 // (730 * GIB))
    begun = await client.post("/storage/upload/", headers={**person.headers, **FILE, "Upload-Complete": "?0"})
    assert begun.status_code == 402
    block = b"one"
    car = encode([], [(cids.make(cids.RAW, block), block)])
    sent = await client.post(
        "/storage/upload/?blocks=1",
        content=car,
        headers={**person.headers, "Content-Type": "application/vnd.ipld.car"},
    )
    assert sent.status_code == 402
    bill(node, person.address)
    assert (await deploy(client, person, put(node, 1))).status_code == 200


async def test_what_is_stored_already_counts(
    node: SmallNode, client: httpx.AsyncClient, person: Person
) -> None:
    node.ledger.bind(31337, VAULT, OPERATOR)
    node.ledger.tick(Moment.now(), {person.site_id("other"): Held(person.address, 25 * KIB)})
    assert (await deploy(client, person, put(node, 10 * KIB))).status_code == 402
    node.ledger.tick(Moment.now(), {person.site_id(): Held(person.address, 25 * KIB)})
    # It takes the place of what is stored of the same site.
    assert (await deploy(client, person, put(node, 10 * KIB))).status_code == 200


async def test_a_sites_cap_is_named(node: SmallNode, client: httpx.AsyncClient, person: Person) -> None:
    bill(node, person.address)
    node.ledger.set_cap(person.address, person.site_id(), 10)
    refused = await deploy(client, person, put(node, 100 * KIB))
    assert (refused.status_code, refused.json()["reason"]) == (402, "cap")
    node.ledger.set_cap(person.address, person.site_id(), 5_000_000)
    assert (await deploy(client, person, put(node, 100 * KIB))).status_code == 200


async def test_a_stream_pays_for_what_is_to_come(
    node: SmallNode, client: httpx.AsyncClient, person: Person
) -> None:
    """All of its cap is for the stream, and so far none of it has run."""
    size = 100 * KIB
    day = size * 24 * 10**12 // (730 * GIB)
    now = int(time.time())
    node.ledger.bind(31337, VAULT, OPERATOR)
    event = {
        "block": 1, "block_hash": "0x" + 64 * "1", "time": now, "transaction": "0x" + 64 * "2", "index": 0,
        "kind": "allocated", "owner": "0x" + person.address.hex(), "operator": OPERATOR,
        "allocation": "0x" + 64 * "7", "id": 1, "cap": 2 * day, "rate": day // 86400 + 1, "start": now,
        "expires": now + 30 * 86400,
    }  # fmt: skip
    node.ledger.take_events({"chain": 31337, "next_block": 2, "events": [event]})
    assert (await deploy(client, person, put(node, size))).status_code == 200
    refused = await deploy(client, person, put(node, 10 * size), label="other")
    assert (refused.status_code, refused.json()["reason"]) == (402, "credit")


async def test_a_full_tier_says_what_the_next_one_costs(
    node: SmallNode, client: httpx.AsyncClient, person: Person
) -> None:
    node.ledger.bind(31337, VAULT, OPERATOR)
    for label in ("one", "two"):
        assert (await deploy(client, person, put(node, 10), label=label)).status_code == 200
    problem = (await deploy(client, person, put(node, 10), label="three")).json()
    assert (problem["limit"], problem["reason"], problem["missing"]) == (2, "tier", 1_000_000)
    bill(node, person.address)
    assert (await deploy(client, person, put(node, 10), label="three")).status_code == 200
