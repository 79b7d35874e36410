"""Leaving the network in good order, over HTTP."""

from __future__ import annotations

import time
from typing import Any

import httpx
import pytest
import trio

from decentraspace.errors import QuotaExceeded
from decentraspace.identity.keys import NodeKey
from tests.api.small_node import Person, SmallNode
from tests.api.test_hosting import block, deploy, upload
from tests.records.factory import make_announcement, make_receipt, take


@pytest.fixture
def admin(node: SmallNode, person: Person) -> Person:
    object.__setattr__(node.config.node, "admins", (person.wallet.address,))
    return person


def others_hold(node: Any, keys: list[NodeKey]) -> None:
    """Announce some nodes that have signed receipts for all that `node` holds."""
    now = int(time.time())
    for key in keys:
        records = [make_announcement(key, node.rules, created=now)]
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
    }
    refused = await deploy(client, admin, admin.site(root, label="other"))
    assert refused.status_code == 503
    assert "leaving" in refused.json()["detail"]

    keys = [NodeKey.generate() for _ in range(3)]
    await trio.to_thread.run_sync(others_hold, node, keys[:2])
    found = (await client.get("/node/leave/", headers=admin.headers)).json()
    assert (found["safe"], found["waiting"]) == (False, 0), "the others may not have heard of it"
    now_is[0] = 60.0
    assert (await client.get("/node/leave/", headers=admin.headers)).json()["safe"] is True
    now = int(time.time())
    node.records.add(take(make_announcement(keys[2], node.rules, created=now), keys[2], now), now=now)
    found = (await client.get("/node/leave/", headers=admin.headers)).json()
    assert (found["safe"], found["others"], found["waiting"]) == (False, 3, 1), (
        "a third could hold it as well"
    )
    await trio.to_thread.run_sync(others_hold, node, keys[2:])
    found = (await client.get("/node/leave/", headers=admin.headers)).json()
    assert (found["safe"], found["sites"], found["waiting"], found["named"]) == (True, 1, 0, [])

    [head] = node.records.all_heads()
    await node.hosting.copies.look()
    assert not node.hosting.holdings.holds(head.cid)
    stays = (await client.delete("/node/leave/", headers=admin.headers)).json()
    assert (stays["leaving"], stays["safe"]) == (False, False)
    assert changes == [False, True]


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
