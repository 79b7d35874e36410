"""/blockchain/ownership/, and what a site that has changed hands is to deploys and logins; no chain is needed for that:
the records are told what it says. On a real chain: plugins/billing_polygon/tests/test_ownership.py."""

from __future__ import annotations

import time

import httpx

from decentraspace.identity.ethereum import checksum_address
from decentraspace.records.ownership import Transfer
from tests.api.small_node import Person, SmallNode
from tests.api.test_status import deploy, put


async def told(node: SmallNode, site: str, owner: bytes) -> None:
    now = int(time.time())  # what was taken in the very second of the block comes too late
    await node.hosting.follow_chain([Transfer(site, 7, 0, now + 60, owner)], "a chain", 8)


async def test_a_site_is_its_founders_until_the_chain_says_otherwise(
    node: SmallNode, client: httpx.AsyncClient, person: Person
) -> None:
    site = (await deploy(client, person, b"one"))["site"]
    found = (await client.get("/blockchain/ownership/", params={"site": site})).json()
    me = checksum_address(person.address)
    assert [found[name] for name in ("owner", "founder", "publisher")] == [me, me, me]
    assert (found["registered"], found["chain"], found["history"]) == (False, None, [])
    assert found["follows_chain"] is False
    other = b"\x07" * 20
    await told(node, site, other)
    found = (await client.get("/blockchain/ownership/", params={"site": site})).json()
    assert [found[name] for name in ("owner", "founder", "publisher")] == [checksum_address(other), me, me]
    assert found["chain"]["block"] == 7
    status = (await client.get("/hosting/status/", params={"site": site})).json()
    assert (status["owner"], status["founder"]) == (checksum_address(other), me)


async def test_a_transfer_needs_a_chain_another_wallet_and_the_owner(
    node: SmallNode, client: httpx.AsyncClient, person: Person
) -> None:
    site = (await deploy(client, person, b"one"))["site"]
    other = checksum_address(b"\x07" * 20)

    async def asked(to: str) -> tuple[int, str]:
        answer = await client.post(
            "/blockchain/ownership/", json={"site": site, "to": to}, headers=person.headers
        )
        return answer.status_code, answer.json()["type"].rpartition(":")[2]

    assert await asked(other) == (404, "no-chain")
    assert await asked(checksum_address(person.address)) == (400, "bad-input")
    assert await asked("0x" + 40 * "0") == (400, "bad-input")
    await told(node, site, b"\x08" * 20)
    assert await asked(other) == (403, "not-site-owner")


async def test_nobody_knows_an_unknown_site(client: httpx.AsyncClient) -> None:
    answer = await client.get("/blockchain/ownership/", params={"site": "a" * 16})
    assert (answer.status_code, answer.json()["type"].rpartition(":")[2]) == (404, "not-found")


async def test_what_was_sold_is_published_by_the_buyer_alone(
    node: SmallNode, client: httpx.AsyncClient, person: Person
) -> None:
    site = (await deploy(client, person, b"one"))["site"]
    limited = await Person(node, wallet=person.wallet, scope=site).log_in(client)
    await told(node, site, b"\x08" * 20)
    refused = await client.post(
        "/hosting/deploy/", json=person.site(put(person, b"two")), headers=person.headers
    )
    assert (refused.status_code, refused.json()["type"].rpartition(":")[2]) == (403, "not-site-owner")
    assert refused.json()["owner"] == checksum_address(b"\x08" * 20)
    # A login for that site alone has ended; the one for all goes on with the others.
    ended = await client.get("/hosting/status/", headers=limited.headers)
    assert (ended.status_code, ended.json()["type"].rpartition(":")[2]) == (403, "not-site-owner")
    assert (await client.get("/hosting/status/", headers=person.headers)).json()["sites"] == []
