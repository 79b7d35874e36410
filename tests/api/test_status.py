"""What a node says of a site: pages of history, one version, its usage here, and how long it has held it."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest

from decentraspace.content import cid as cids
from decentraspace.ledger.usage import UsageRow
from decentraspace.records.codec import record_cid
from decentraspace.records.schema import site_id
from tests.api.small_node import Person, SmallNode
from tests.records.factory import make_site, take

STATUS, DEPLOY = "/hosting/status/", "/hosting/deploy/"


@pytest.fixture
async def client(make_node: Callable[..., SmallNode]) -> AsyncIterator[httpx.AsyncClient]:
    node = make_node(limits={"free_sites": 10})
    async with node.serving() as client:
        client.node = node  # type: ignore[attr-defined]
        yield client


@pytest.fixture
async def person(client: Any) -> Person:
    return await Person(client.node).log_in(client)


def put(person: Person, text: bytes) -> bytes:
    root = cids.make(cids.RAW, text)
    person.node.blocks.put_many([(root, text)])
    return root


async def deploy(client: httpx.AsyncClient, person: Person, text: bytes, **changes: Any) -> Any:
    body = person.site(put(person, text), **changes)
    answer = await client.post(DEPLOY, json=body, headers=person.headers)
    assert answer.status_code == 200, answer.text
    return answer.json()


def add(person: Person, **changes: Any) -> bytes:
    """A version that came from another node, without its content; its record CID."""
    record = make_site(person.wallet, (person.key, person.delegation), person.node.rules, **changes)
    person.node.records.add(take(record, person.node.key), now=int(time.time()))
    return record_cid(record)


async def get(client: httpx.AsyncClient, **query: Any) -> Any:
    answer = await client.get(STATUS, params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_history_is_paged_to_its_very_end(client: httpx.AsyncClient, person: Person) -> None:
    """Also where a number was used more often than a page is long."""
    known, prev = [], None
    for seq in range(1, 8):
        if seq == 4:
            for text in (b"a", b"b", b"c", b"d"):
                root = cids.make(cids.RAW, text)
                known.append((seq, add(person, seq=seq, prev=prev, root=root)))
            prev = min(cid for number, cid in known if number == 4)
        else:
            prev = add(person, seq=seq, prev=prev)
            known.append((seq, prev))
    expected = [(seq, cids.to_text(cid)) for seq, cid in sorted(known, key=lambda v: (-v[0], v[1]))]
    site = person.site_id()
    for limit in (1, 2, 3, 9, 10, 11):
        seen, cursor, pages = [], "", 0
        while cursor is not None:
            page = await get(client, site=site, limit=limit, cursor=cursor)
            assert len(page["history"]) <= limit
            assert page["seq"] == 7, "the head is told with every page"
            seen += [(v["seq"], v["manifest"]) for v in page["history"]]
            cursor, pages = page["next"], pages + 1
        assert seen == expected
        assert pages == -(-10 // limit)

    below = await get(client, site=site, cursor=4)
    assert [v["seq"] for v in below["history"]] == [3, 2, 1]
    one = await get(client, site=site, seq=2)
    assert ([v["manifest"] for v in one["history"]], one["next"]) == ([expected[-2][1]], None)
    four = await get(client, site=site, seq=4, limit=3)
    rest = await get(client, site=site, seq=4, limit=3, cursor=four["next"])
    assert [(v["seq"], v["manifest"]) for v in four["history"] + rest["history"]] == expected[3:7]
    assert (await get(client, site=site, seq=99))["history"] == []


@pytest.mark.parametrize("cursor", ["x", "-1", "1.", "1.x", "1.b", "1.bafy", "9" * 17, "1 OR 1", "\u0663"])
async def test_cursors_that_are_none(client: httpx.AsyncClient, person: Person, cursor: str) -> None:
    add(person)
    answer = await client.get(STATUS, params={"site": person.site_id(), "cursor": cursor})
    assert answer.status_code == 400, answer.text
    assert answer.json()["type"] == "urn:decentraspace:problem:bad-input"


async def test_what_this_node_has_served_of_a_site(client: httpx.AsyncClient, person: Person) -> None:
    await deploy(client, person, b"<h1>read me</h1>")
    site = person.site_id()
    assert (await get(client, site=site))["usage"] == {"requests": 0, "bytes": 0}
    usage = person.node.usage
    usage.add_batch("w", 1, [UsageRow(site, 490_000, 2, 3, 300), UsageRow(site, 490_001, 4, 2, 50)])
    usage.add_batch("w", 2, [UsageRow("b" * 16, 490_000, 2, 100, 1000)])
    assert (await get(client, site=site))["usage"] == {"requests": 5, "bytes": 350}


async def test_how_long_the_content_has_been_here(client: httpx.AsyncClient, person: Person) -> None:
    began = int(time.time())
    await deploy(client, person, b"<h1>here</h1>")
    found = await get(client, site=person.site_id())
    assert found["held_here"] is True
    assert 0 <= found["uptime"] <= time.time() - began + 1
    elsewhere = Person(person.node)
    add(elsewhere, root=cids.make(cids.RAW, b"not here"))
    found = await get(client, site=elsewhere.site_id())
    assert (found["held_here"], found["uptime"], found["holders"]) == (False, None, [])


def label_like_an_id() -> str:
    label = "abcdefghij234567"
    assert re.fullmatch(r"[a-z2-7]{16}", label)
    return label


async def test_a_label_that_looks_like_a_site_id(client: httpx.AsyncClient, person: Person) -> None:
    label = label_like_an_id()
    await deploy(client, person, b"<h1>mine</h1>", label=label)

    async def asked(**headers: str) -> httpx.Response:
        return await client.get(STATUS, params={"site": label}, headers=headers)

    assert (await asked()).status_code == 404, "without a login it can only be an id"
    found = (await asked(**person.headers)).json()
    assert (found["label"], found["site"]) == (label, person.site_id(label))
    stranger = await Person(person.node).log_in(client)
    assert (await asked(**stranger.headers)).status_code == 404
    assert label in (await asked(**stranger.headers)).json()["detail"]

    # A site that really has this id goes first; the host names either.
    other = await Person(person.node).log_in(client)
    await deploy(client, other, b"<h1>theirs</h1>", label="site")
    twin = await deploy(client, person, b"<h1>twin</h1>", label=other.site_id())
    found = await client.get(STATUS, params={"site": other.site_id()}, headers=person.headers)
    assert found.json()["owner"] == other.wallet.address
    found = await client.get(STATUS, params={"site": twin["host"]}, headers=person.headers)
    assert found.json()["site"] == site_id(person.address, other.site_id())
