"""Leaving the network in good order, over HTTP."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest
import trio

from decentraspace.errors import QuotaExceeded
from decentraspace.identity.keys import NodeKey
from tests.api.small_node import Person, SmallNode
from tests.api.test_hosting import block, deploy, upload
from tests.network.gateways import Dag, Request, gateway
from tests.records.factory import make_announcement, make_receipt, take


@pytest.fixture
def node(make_node: Callable[..., SmallNode]) -> SmallNode:
    return make_node(network={"allow_private": True})


@pytest.fixture
def admin(node: SmallNode, person: Person) -> Person:
    object.__setattr__(node.config.node, "admins", (person.wallet.address,))
    return person


def others_hold(node: Any, keys: list[NodeKey], url: str) -> None:
    """Announce some nodes, all with one gateway, that have signed receipts for all that `node` holds."""
    now = int(time.time())
    for key in keys:
        records = [make_announcement(key, node.rules, gateway=url, created=now)]
        for head in node.records.all_heads():
            records.append(
                make_receipt(key, node.rules, root=head.root, site=head.site_id, seq=head.seq, created=now)
            )
        for record in records:
            node.records.add(take(record, key, now), now=now)


async def test_it_is_safe_to_stop_when_enough_others_hold_everything(
    client: httpx.AsyncClient, node: SmallNode, admin: Person
) -> None:
    root, data = block(b"<h1>hello</h1>")
    await upload(client, admin, (root, data))
    assert (await deploy(client, admin, admin.site(root))).status_code == 200
    before = (await client.get("/node/leave/", headers=admin.headers)).json()
    assert (before["leaving"], before["safe"], before["sites"], before["waiting"]) == (False, False, 1, 1)

    changes = []
    now_is = [0.0]

    async def announce() -> None:
        changes.append(node.hosting.shares.willing)

    node.hosting.leaving.on_change = announce
    node.hosting.leaving.clock = lambda: now_is[0]
    for _ in range(2):
        began = await client.post("/node/leave/", headers=admin.headers)
        assert began.status_code == 200, began.text
    assert changes == [False], "said once"
    assert began.json() == {
        "leaving": True,
        "safe": False,
        "others": 0,
        "sites": 1,
        "waiting": 1,
        "waiting_bytes": len(data),
        "named": [f"{admin.site_id()}/production"],
        "silent": [],
    }
    refused = await deploy(client, admin, admin.site(root, label="other"))
    assert refused.status_code == 503
    assert "leaving" in refused.json()["detail"]

    keys = [NodeKey.generate() for _ in range(3)]
    async with gateway(Dag(root, {root: data})) as others:
        await trio.to_thread.run_sync(others_hold, node, keys[:2], others.url)
        found = await progress(client, admin, lambda found: not found["waiting"])
        assert found["safe"] is False, "the others may not have heard of it"
        now_is[0] = 4.0
        assert (await progress(client, admin, lambda found: True))["safe"] is True
        now = int(time.time())
        third = make_announcement(keys[2], node.rules, gateway=others.url, created=now)
        node.records.add(take(third, keys[2], now), now=now)
        found = await progress(client, admin, lambda found: True)
        assert (found["safe"], found["others"], found["waiting"]) == (False, 3, 1), (
            "a third could hold it as well"
        )
        await trio.to_thread.run_sync(others_hold, node, keys[2:], others.url)
        found = await progress(client, admin, lambda found: found["safe"])
        assert (found["sites"], found["waiting"], found["named"]) == (1, 0, [])

        [head] = node.records.all_heads()
        await node.hosting.copies.look()
        assert not node.hosting.holdings.holds(head.cid)
    stays = (await client.delete("/node/leave/", headers=admin.headers)).json()
    assert (stays["leaving"], stays["safe"]) == (False, False)
    assert changes == [False, True]


async def progress(
    client: httpx.AsyncClient, admin: Person, enough: Callable[[dict[str, Any]], bool]
) -> dict[str, Any]:
    with trio.fail_after(30):
        while True:
            found: dict[str, Any] = (await client.get("/node/leave/", headers=admin.headers)).json()
            if enough(found):
                return found
            await trio.sleep(0.05)


async def test_who_has_signed_and_died_since_is_not_counted_on(
    client: httpx.AsyncClient, node: SmallNode, admin: Person
) -> None:
    """It announced itself a moment ago, and its receipt stands."""
    root, data = block(b"<h1>hello</h1>")
    await upload(client, admin, (root, data))
    assert (await deploy(client, admin, admin.site(root))).status_code == 200
    now_is, asked = [0.0], trio.Event()

    async def lacks_it(request: Request) -> None:
        asked.set()
        await request.whole(b"not here", "412 Precondition Failed")

    leaving = node.hosting.leaving
    leaving.clock = lambda: now_is[0]
    holder = NodeKey.generate()
    async with gateway(Dag(root, {root: data}), lacks_it) as there:
        await trio.to_thread.run_sync(others_hold, node, [holder], there.url)
        before = (await client.get("/node/leave/", headers=admin.headers)).json()
        assert before["waiting"] == 0, "as far as receipts say"
        await client.post("/node/leave/", headers=admin.headers)
        now_is[0] = 4.0
        with trio.fail_after(30):
            await asked.wait()
        found = await progress(client, admin, lambda found: True)
        assert (found["safe"], found["waiting"], found["silent"]) == (False, 1, [holder.peer_id])
        now_is[0] = 20.0
        there.answer = Request.honest
        await progress(client, admin, lambda found: found["safe"])
    now_is[0] = 60.0  # nobody answers any more
    found = await progress(client, admin, lambda found: not found["safe"])
    assert (found["waiting"], found["silent"]) == (1, [holder.peer_id])


async def test_only_administrators_decide(client: httpx.AsyncClient, person: Person) -> None:
    for call in (client.get, client.post, client.delete):
        assert (await call("/node/leave/", headers=person.headers)).status_code == 403
        assert (await call("/node/leave/")).status_code == 401


async def test_a_leave_that_could_not_be_announced_is_announced_by_repeating_it(
    client: httpx.AsyncClient, node: SmallNode, admin: Person
) -> None:
    announced = []

    async def announce() -> None:
        announced.append(node.hosting.shares.willing)
        if len(announced) == 1:
            raise QuotaExceeded("no room")

    node.hosting.leaving.on_change = announce
    assert (await client.post("/node/leave/", headers=admin.headers)).status_code == 507
    found = (await client.get("/node/leave/", headers=admin.headers)).json()
    assert (found["leaving"], found["safe"]) == (True, False)
    for _ in range(2):
        assert (await client.post("/node/leave/", headers=admin.headers)).status_code == 200
    assert announced == [False, False]


async def test_a_body_that_nobody_reads_may_come_late(
    client: httpx.AsyncClient, node: SmallNode, admin: Person
) -> None:
    """As from clients that send it after the head: around the time at which the answer is ready."""
    token = f"Authorization: {admin.headers['Authorization']}"
    for milliseconds in range(10):
        stream = await trio.open_tcp_stream("127.0.0.1", node.config.api.port)
        async with stream:
            with trio.fail_after(20):
                head = (
                    f"POST /node/leave/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n{token}\r\n\r\n"
                )
                await stream.send_all(head.encode())
                await trio.sleep(milliseconds / 1000)
                await stream.send_all(b"{}")
                assert b" 200 " in await answer_from(stream)
                await trio.sleep(milliseconds / 1000)
                await stream.send_all(b"GET /auth/login/ HTTP/1.1\r\nHost: localhost\r\n\r\n")
                assert b" 200 " in await answer_from(stream), "the connection goes on"


async def answer_from(stream: trio.SocketStream) -> bytes:
    received = b""
    while b"}" not in received:
        more = await stream.receive_some(65536)
        assert more, "the connection ended"
        received += more
    return received
