"""/billing/, /blockchain/credit/, /auth/manage/ and /hosting/expire/ at one node, with real books."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from decentraspace.content import cid as cids
from decentraspace.identity.ethereum import checksum_address
from tests.api.small_node import Person, SmallNode
from tests.records.factory import address_of, make_session, make_wallet

VAULT, OPERATOR = "0x" + 40 * "a", "0x" + 40 * "b"
ALLOCATION = "0x" + 64 * "7"


@pytest.fixture
def node(make_node: Callable[..., SmallNode]) -> SmallNode:
    admin = make_wallet()
    node = make_node(node={"admins": [checksum_address(address_of(admin))]})
    node.admin_wallet = admin  # type: ignore[attr-defined]
    return node


@pytest.fixture
async def admin(node: Any, client: httpx.AsyncClient) -> Person:
    person = Person(node)
    person.wallet, person.address = node.admin_wallet, address_of(node.admin_wallet)
    person.key, person.delegation = make_session(person.wallet, node.rules)
    return await person.log_in(client)


def bill(node: SmallNode, owner: bytes, cap: int = 5_000_000, seconds: int = 86400) -> None:
    """The node charges, and `owner` has granted it an allocation for so long, as final events say."""
    node.ledger.bind(31337, VAULT, OPERATOR)
    now = int(time.time())
    event = {
        "block": 1, "block_hash": "0x" + 64 * "1", "time": now, "transaction": "0x" + 64 * "2", "index": 0,
        "kind": "allocated", "owner": checksum_address(owner), "operator": OPERATOR, "allocation": ALLOCATION,
        "id": 1, "cap": cap, "rate": 0, "start": now - 60, "expires": now + seconds,
    }  # fmt: skip
    node.ledger.take_events({"chain": 31337, "next_block": 2, "events": [event]})


async def get(client: httpx.AsyncClient, path: str, who: Person, status: int = 200, **query: Any) -> Any:
    answer = await client.get(path, params=query, headers=who.headers)
    assert answer.status_code == status, answer.text
    return answer.json()


async def send(
    client: httpx.AsyncClient, method: str, path: str, who: Person, body: Any, status: int = 200
) -> Any:
    answer = await client.request(method, path, json=body, headers=who.headers)
    assert answer.status_code == status, answer.text
    return answer.json()


async def deployed(client: httpx.AsyncClient, person: Person) -> str:
    root = cids.make(cids.RAW, b"hello")
    person.node.blocks.put_many([(root, b"hello")])
    answer = await client.post("/hosting/deploy/", json=person.site(root), headers=person.headers)
    assert answer.status_code == 200, answer.text
    return person.site_id()


async def test_what_is_granted_for_ever_ends_with_the_last_year_there_is(
    client: httpx.AsyncClient, person: Person, admin: Person, node: SmallNode
) -> None:
    bill(node, person.address, seconds=2**40 - 1 - int(time.time()))
    [granted] = (await get(client, "/billing/balance/", person))["allocations"]
    assert granted["expires"].startswith("9999-12-31T23:59:59")
    ends = {"site": await deployed(client, person), "expires": 2**40}
    assert (await send(client, "PATCH", "/hosting/expire/", admin, ends))["expires"] == granted["expires"]


async def test_a_node_that_charges_nothing_says_so(client: httpx.AsyncClient, person: Person) -> None:
    found = await get(client, "/billing/balance/", person)
    assert (found["billing"], found["chain"], found["room"]) == (False, None, 0)
    assert (await client.get("/billing/payment-methods/")).json() == {"methods": []}
    problem = await get(client, "/blockchain/credit/", person, 404)
    assert problem["type"].endswith(":no-chain")
    await send(client, "POST", "/billing/recharge/", person, {"method": "token", "credits": 5}, 404)
    await send(client, "POST", "/billing/recharge/", person, {"method": "card", "credits": 5}, 404)


async def test_nobody_asks_without_a_login(client: httpx.AsyncClient) -> None:
    for path in ("/billing/balance/", "/billing/history/", "/blockchain/credit/", "/auth/manage/"):
        assert (await client.get(path)).status_code == 401


async def test_a_use_is_charged_once_and_shown(
    client: httpx.AsyncClient, node: SmallNode, person: Person, admin: Person
) -> None:
    bill(node, person.address)
    use = {
        "owner": checksum_address(person.address),
        "service": "names",
        "key": "order 1",
        "credits": 300_000,
    }
    first = await send(client, "POST", "/billing/deduct/", admin, use)
    assert first["credits"] == 300_000
    assert await send(client, "POST", "/billing/deduct/", admin, use) == first
    await send(client, "POST", "/billing/deduct/", person, use, 403)
    found = await get(client, "/billing/balance/", person)
    assert (found["billing"], found["tier"], found["accrued"], found["room"]) == (
        True,
        "paid",
        300_000,
        4_700_000,
    )
    [granted] = found["allocations"]
    assert (granted["allocation"], granted["cap"], granted["id"]) == (ALLOCATION, 5_000_000, "1")
    problem = await send(
        client, "POST", "/billing/deduct/", admin, {**use, "key": "2", "credits": 4_800_000}, 402
    )
    assert (problem["missing"], problem["reason"]) == (100_000, "credit")
    assert "/billing/recharge/" in problem["hint"]


async def test_history_by_pages_and_as_csv(
    client: httpx.AsyncClient, node: SmallNode, person: Person, admin: Person
) -> None:
    bill(node, person.address)
    who = checksum_address(person.address)
    for number in range(5):
        use = {"owner": who, "service": f"plugin{number}", "key": str(number), "credits": 100 + number}
        await send(client, "POST", "/billing/deduct/", admin, use)
    node.ledger.close_hours(int(time.time()) // 3600, int(time.time()))
    seen, cursor = [], ""
    while cursor is not None:
        page = await get(client, "/billing/history/", person, limit=2, cursor=cursor)
        seen += page["uses"]
        cursor = page["next"]
    assert sorted((u["service"], u["credits"]) for u in seen) == [(f"plugin{n}", 100 + n) for n in range(5)]
    answer = await client.get("/billing/history/", params={"format": "csv"}, headers=person.headers)
    assert answer.headers["Content-Type"].startswith("text/csv")
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert sum(int(row["credits"]) for row in rows) == sum(u["credits"] for u in seen)
    assert (await get(client, "/billing/history/", admin))["uses"] == []
    assert len((await get(client, "/billing/history/", admin, owner=who))["uses"]) == 5
    await get(client, "/billing/history/", person, 403, owner=checksum_address(admin.address))
    await get(client, "/billing/history/", person, 400, root="0x" + 64 * "1")
    await get(client, "/billing/history/", person, 404, root="0x" + 64 * "1", allocation=ALLOCATION)


async def test_a_sites_monthly_cap_is_its_owners(
    client: httpx.AsyncClient, node: SmallNode, person: Person
) -> None:
    site = await deployed(client, person)
    change = {"site": site, "monthly_cap": 42}
    assert await send(client, "PATCH", "/billing/balance/", person, change) == {
        "site": site, "monthly_cap": 42, "spent": 0,
    }  # fmt: skip
    other = await Person(node).log_in(client)
    await send(client, "PATCH", "/billing/balance/", other, change, 403)
    await send(client, "PATCH", "/billing/balance/", person, {**change, "site": 16 * "a"}, 404)
    most = node.config.billing.site_monthly_cap_most
    await send(client, "PATCH", "/billing/balance/", person, {"site": site, "monthly_cap": most + 1}, 400)
    back = await send(client, "PATCH", "/billing/balance/", person, {"site": site, "monthly_cap": None})
    assert back["monthly_cap"] == node.config.billing.site_monthly_cap


async def test_a_suspended_wallet_may_do_nothing_until_it_is_restored(
    client: httpx.AsyncClient, node: SmallNode, person: Person, admin: Person
) -> None:
    who = checksum_address(person.address)
    listed = await get(client, "/auth/manage/", admin)
    assert {u["owner"] for u in listed["users"]} == {who, checksum_address(admin.address)}
    assert listed["policies"]["free_lifetime"] == node.config.billing.free_lifetime
    await get(client, "/auth/manage/", person, 403)
    found = await send(client, "PATCH", "/auth/manage/", admin, {"owner": who, "suspended": True})
    assert (found["suspended"], found["by"]) == (True, checksum_address(admin.address))
    challenge = (await client.get("/auth/login/")).json()
    assert (await client.post("/auth/login/", json=person.login_body(challenge))).status_code == 403
    body = {"owner": checksum_address(admin.address), "suspended": True}
    await send(client, "PATCH", "/auth/manage/", admin, body, 403)
    await send(client, "PATCH", "/auth/manage/", admin, {"owner": who, "suspended": False})
    await person.log_in(client)


async def test_users_are_listed_page_by_page(
    client: httpx.AsyncClient, node: SmallNode, admin: Person
) -> None:
    people = [await Person(node).log_in(client) for _ in range(4)]
    seen, cursor = [], ""
    while cursor is not None:
        page = await get(client, "/auth/manage/", admin, limit=2, cursor=cursor)
        seen += [u["owner"] for u in page["users"]]
        cursor = page["next"]
    assert sorted(seen) == sorted(checksum_address(p.address) for p in (*people, admin))


async def test_when_a_site_ends(
    client: httpx.AsyncClient, node: SmallNode, person: Person, admin: Person
) -> None:
    site = await deployed(client, person)
    assert (await get(client, "/hosting/expire/", person, site=site))["state"] == "active"
    end = int(time.time()) + 86400
    found = await send(client, "PATCH", "/hosting/expire/", admin, {"site": site, "expires": end})
    assert found["expires"] is not None
    await send(client, "PATCH", "/hosting/expire/", person, {"site": site, "expires": 0}, 403)
    renewed = await send(client, "POST", "/hosting/expire/", person, {"site": site})
    assert renewed["site"] == site
    other = await Person(node).log_in(client)
    await get(client, "/hosting/expire/", other, 403, site=site)
    await get(client, "/hosting/expire/", person, 404, site=16 * "a")


async def test_administrators_have_charges_settled_now(
    client: httpx.AsyncClient, node: SmallNode, person: Person, admin: Person
) -> None:
    await send(client, "POST", "/billing/settle/", person, {}, 403)
    problem = await send(client, "POST", "/billing/settle/", admin, {}, 404)
    assert problem["type"].endswith(":no-chain")
    bill(node, person.address)
    nothing = {"root": None, "charges": 0, "waiting": 0}
    assert await send(client, "POST", "/billing/settle/", admin, {}) == nothing
    node.ledger.deduct("one", person.address, "names", credits=5)
    made = await send(client, "POST", "/billing/settle/", admin, {})
    if made == nothing:  # this hour was priced at once before: the use is of the next one
        node.ledger.close_hours(int(time.time()) // 3600 + 1, int(time.time()))
        made = await send(client, "POST", "/billing/settle/", admin, {})
    assert (made["charges"], made["waiting"]) == (1, 1)  # no plugin is here to take it
    [one] = node.ledger.statements(person.address)
    assert (one["root"], one["credits"]) == (made["root"], 5)
