"""Deploys and the state of sites over HTTP."""

from __future__ import annotations

import base64
import io
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from decentraspace.content import car
from decentraspace.content import cid as cids
from decentraspace.content.importer import TreeBuilder
from decentraspace.records.schema import Receipt
from decentraspace.records.verdict import verify
from tests.api.small_node import Person, SmallNode
from tests.records.factory import make_session, make_site, take

CAR = {"Content-Type": "application/vnd.ipld.car"}


def block(text: bytes) -> tuple[bytes, bytes]:
    return cids.make(cids.RAW, text), text


async def upload(client: httpx.AsyncClient, person: Person, *blocks: tuple[bytes, bytes]) -> None:
    body = car.encode([], list(blocks))
    answer = await client.post("/storage/upload/?blocks=1", content=body, headers={**person.headers, **CAR})
    assert answer.status_code == 200, answer.text


async def deploy(client: httpx.AsyncClient, person: Person, body: dict[str, str], **headers: str) -> Any:
    return await client.post("/hosting/deploy/", json=body, headers={**person.headers, **headers})


async def test_a_deploy_is_answered_with_a_receipt_that_anybody_can_verify(
    client: httpx.AsyncClient, person: Person, node: SmallNode
) -> None:
    root, data = block(b"<h1>hello</h1>")
    refused = await deploy(client, person, person.site(root))
    assert refused.status_code == 409
    assert refused.headers["content-type"] == "application/problem+json"
    assert refused.json()["type"] == "urn:decentraspace:problem:missing-blocks"
    assert refused.json()["missing"] == [cids.to_text(root)]

    await upload(client, person, (root, data))
    answer = await deploy(client, person, person.site(root))
    assert answer.status_code == 200, answer.text
    done = answer.json()
    assert done["root"] == cids.to_text(root)
    assert done["site"] == person.site_id()
    assert done["urls"]["site"].startswith(f"http://site--{person.site_id()}.localhost")
    receipt = verify(base64.b64decode(done["receipt"]["record"]), node.rules)
    assert receipt.key == node.key.public
    assert isinstance(receipt.body, Receipt)
    assert (receipt.body.root, receipt.body.size) == (root, len(data))
    assert done["receipt"]["peer_id"] == node.key.peer_id

    status = (await client.get("/hosting/status/", params={"site": person.site_id()})).json()
    assert status["seq"] == 1
    assert status["manifest"] == done["manifest"]
    assert status["held_here"] is True
    assert [h["peer_id"] for h in status["holders"]] == [node.key.peer_id]
    assert [v["seq"] for v in status["history"]] == [1]
    assert status["created"].endswith("Z")


async def test_a_deploy_of_a_version_that_came_by_gossip_asks_for_its_blocks(
    client: httpx.AsyncClient, person: Person, node: SmallNode
) -> None:
    """As after the node that took it died: the record is known here, its content is not."""
    leaves = [block(bytes([n]) * 2000) for n in range(3)]
    tree: dict[bytes, bytes] = {}
    builder = TreeBuilder(lambda cid, data: tree.update({cid: data}))
    for number, (_, data) in enumerate(leaves):
        builder.put_file(f"{number}.bin", io.BytesIO(data))
    root = builder.finish().cid
    body = person.site(root, size=sum(map(len, tree.values())))
    node.records.add(take(base64.b64decode(body["record"]), node.key), now=int(time.time()))
    missing = set(tree)
    while missing:  # what is named is sent, until nothing is
        refused = await deploy(client, person, body)
        assert (refused.status_code, refused.json()["type"]) == (
            409,
            "urn:decentraspace:problem:missing-blocks",
        )
        named = {cids.parse(text) for text in refused.json()["missing"]}
        assert named
        assert named <= missing
        await upload(client, person, *((cid, tree[cid]) for cid in named))
        missing -= named
    done = await deploy(client, person, body)
    assert done.status_code == 200, done.text
    assert done.json()["receipt"]["bytes"] == sum(map(len, tree.values()))
    assert node.blocks.is_pinned(root)


async def test_versions_follow_each_other(client: httpx.AsyncClient, person: Person) -> None:
    first, second = block(b"one"), block(b"two")
    await upload(client, person, first, second)
    body = person.site(first[0])
    one = (await deploy(client, person, body)).json()
    again = (await deploy(client, person, body)).json()
    assert again["manifest"] == one["manifest"]
    assert again["receipt"] == one["receipt"]

    stale = await deploy(client, person, person.site(second[0]))
    assert (stale.status_code, stale.json()["type"]) == (409, "urn:decentraspace:problem:stale-sequence")
    assert stale.json()["head"] == one["manifest"]
    head = cids.parse(one["manifest"])
    two = await deploy(client, person, person.site(second[0], seq=2, prev=head))
    assert two.json()["seq"] == 2
    history = (await client.get(f"/hosting/status/?site={one['host']}.localhost&limit=1")).json()["history"]
    assert [v["seq"] for v in history] == [2]


async def test_only_the_owner_deploys(client: httpx.AsyncClient, person: Person, node: SmallNode) -> None:
    root, data = block(b"mine")
    await upload(client, person, (root, data))
    other = await Person(node).log_in(client)
    answer = await deploy(client, other, person.site(root))
    assert (answer.status_code, answer.json()["type"]) == (403, "urn:decentraspace:problem:forbidden")
    assert (await client.post("/hosting/deploy/", json=person.site(root))).status_code == 401


async def test_a_tampered_record_is_refused(client: httpx.AsyncClient, person: Person) -> None:
    root, data = block(b"x")
    await upload(client, person, (root, data))
    record = bytearray(base64.b64decode(person.site(root)["record"]))
    for position in range(0, len(record), 37):
        changed = record.copy()
        changed[position] ^= 1
        body = {"record": base64.b64encode(bytes(changed)).decode()}
        answer = await deploy(client, person, body)
        assert 400 <= answer.status_code < 500, (position, answer.text)
        assert answer.json()["status"] == answer.status_code


async def test_a_session_for_one_site_publishes_no_other(
    client: httpx.AsyncClient, node: SmallNode, person: Person
) -> None:
    limited = Person(node, scope="a" * 16)
    await limited.log_in(client)
    root, data = block(b"scope")
    await upload(client, limited, (root, data))
    answer = await deploy(client, limited, limited.site(root))
    assert answer.json()["type"] == "urn:decentraspace:problem:limited-session"
    record = make_site(
        person.wallet, make_session(person.wallet, node.rules, scope="a" * 16), node.rules, root=root
    )
    answer = await deploy(client, person, {"record": base64.b64encode(record).decode()})
    assert answer.json()["type"] == "urn:decentraspace:problem:out-of-scope"


async def test_the_tier_limits_copies(make_node: Callable[..., SmallNode]) -> None:
    node = make_node(limits={"free_replicas": 2, "paid_replicas": 7}, hosting={"replicas_max": 6})
    async with node.serving() as client:
        person = await Person(node).log_in(client)
        root, data = block(b"site")
        await upload(client, person, (root, data))

        async def most() -> int:
            tier = (await client.get("/auth/tier/", headers=person.headers)).json()
            return int(tier["limits"]["replicas"])

        async def copies() -> dict[str, int | None]:
            status = await client.get(f"/hosting/status/?site={person.site_id()}")
            found: dict[str, int | None] = status.json()["copies"]
            return found

        assert await most() == 2
        answer = await deploy(client, person, person.site(root, replicas=3))
        assert (answer.status_code, answer.json()["limit"]) == (402, 2)
        first = await deploy(client, person, person.site(root))
        assert first.status_code == 200
        assert await copies() == {"asked": None, "wanted": 3, "present": 1}

        prev = cids.parse(first.json()["manifest"])
        second = await deploy(client, person, person.site(root, seq=2, prev=prev, replicas=2))
        assert second.status_code == 200
        assert await copies() == {"asked": 2, "wanted": 2, "present": 1}
        history = node.records.history(person.site_id())
        assert [version.replicas for version in history] == [2, None]

        node.sessions.set_tier(person.address, "paid", bytes(20))
        assert await most() == 7
        prev = cids.parse(second.json()["manifest"])
        third = await deploy(client, person, person.site(root, seq=3, prev=prev, replicas=7))
        assert third.status_code == 200
        assert await copies() == {"asked": 7, "wanted": 6, "present": 1}


async def test_the_tier_limits_sites(client: httpx.AsyncClient, person: Person) -> None:
    root, data = block(b"site")
    await upload(client, person, (root, data))
    assert (await deploy(client, person, person.site(root))).status_code == 200
    answer = await deploy(client, person, person.site(root, label="second"))
    assert (answer.status_code, answer.json()["limit"]) == (402, 1)
    too_big = person.site(root, seq=2, prev=b"\x01\x71\x12\x20" + bytes(32), size=2**40)
    assert (await deploy(client, person, too_big)).status_code in (402, 409)


@pytest.mark.parametrize(
    ("site", "status"),
    [
        ("a" * 16, 404),
        ("label--" + "a" * 16 + ".localhost:8080", 404),
        ("blog", 401),
        ("-", 400),
        ("x" * 254, 400),
        ("../../etc/passwd", 400),
        ("", 400),
    ],
)
async def test_unknown_sites(client: httpx.AsyncClient, site: str, status: int) -> None:
    answer = await client.get("/hosting/status/", params={"site": site})
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"


async def test_ones_own_sites_are_paged(
    make_node: Callable[..., SmallNode],
) -> None:
    node = make_node(limits={"free_sites": 10})
    async with node.serving() as client:
        person = await Person(node).log_in(client)
        root, data = block(b"many")
        await upload(client, person, (root, data))
        for number in range(5):
            label = f"site{number}"
            assert (await deploy(client, person, person.site(root, label=label))).status_code == 200
        preview = person.site(root, label="site0", channel="draft")
        assert (await deploy(client, person, preview)).status_code == 200
        seen: list[tuple[str, str]] = []
        cursor, pages = "", 0
        while True:
            page = await client.get(
                "/hosting/status/", params={"limit": 3, "cursor": cursor}, headers=person.headers
            )
            assert page.status_code == 200, page.text
            seen += [(s["label"], s["channel"]) for s in page.json()["sites"]]
            pages += 1
            if not (cursor := page.json()["next"]):
                break
        assert sorted(seen) == sorted([("site0", "draft")] + [(f"site{n}", "production") for n in range(5)])
        assert pages >= 2
        mine = await client.get("/hosting/status/", params={"site": "site3"}, headers=person.headers)
        assert mine.json()["site"] == person.site_id("site3")
        assert (await client.get("/hosting/status/")).status_code == 401


async def test_a_repeated_key_answers_the_same_and_another_request_is_refused(
    client: httpx.AsyncClient, person: Person
) -> None:
    root, data = block(b"idempotent")
    key = {"Idempotency-Key": "deploy-1"}
    missing = await deploy(client, person, person.site(root), **key)
    assert missing.status_code == 409
    await upload(client, person, (root, data))
    body = person.site(root, created=1_700_000_000 + 10**8)
    other = person.site(root)
    first = await deploy(client, person, other, **key)
    assert first.status_code == 200, "a failure must not be kept for the key"
    again = await deploy(client, person, other, **key)
    assert again.content == first.content
    assert again.headers["idempotent-replayed"] == "true"
    refused = await deploy(client, person, body, **key)
    assert refused.json()["type"] == "urn:decentraspace:problem:idempotency-key-reused"
