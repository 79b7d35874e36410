"""What nobody pays for is let go of: pins, receipt, and blocks; and deployed again when somebody does."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from decentraspace.content import cid as cids
from decentraspace.content.gc import collect
from decentraspace.ledger.clock import Moment
from decentraspace.records.schema import PRODUCTION
from decentraspace.removing import Removing
from tests.api.small_node import Person, SmallNode
from tests.api.test_billing import OPERATOR, VAULT, bill

_HOURS = 3


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[SmallNode]:
    made = SmallNode(
        tmp_path / "node",
        limits={"free_storage": 0, "paid_free_storage": 0},
        billing={"grace": _HOURS * 3600},
    )
    made.hosting.shares.unpaid = made.ledger.is_removed
    yield made
    made.close()


def wait_hours(node: SmallNode, hours: int) -> int:
    """For the ledger it is so much later."""
    now = Moment.now()
    for hour in range(1, hours + 1):
        later = replace(now, wall=now.wall + hour * 3600, up=now.up + hour * 3600)
        node.ledger.tick(later, node.billing._paid_for())
    return now.wall + hours * 3600


async def test_a_site_goes_when_its_time_is_over_and_comes_back_when_paid(
    node: SmallNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    removing = Removing(node.ledger, node.hosting, node.plugins)
    async with node.serving() as client:
        person = await Person(node).log_in(client)
        block = b"not for ever"
        root = cids.make(cids.RAW, block)
        node.blocks.put_many([(root, block)])
        record = person.site(root)

        async def deploy() -> httpx.Response:
            return await client.post("/hosting/deploy/", json=record, headers=person.headers)

        assert (await deploy()).status_code == 200
        site = person.site_id()
        node.ledger.bind(31337, VAULT, OPERATOR)
        node.ledger.take_events({"chain": 31337, "next_block": 1, "events": []})
        node.ledger.tick(Moment.now(), node.billing._paid_for())
        await removing.look()
        assert node.ledger.site_state(site, person.address).state == "ending"
        assert node.blocks.is_pinned(root)

        at = wait_hours(node, _HOURS + 1)
        with monkeypatch.context() as patch:
            patch.setattr(time, "time", lambda: float(at))
            await removing.look()
        assert node.ledger.is_removed(site)
        assert not node.blocks.is_pinned(root)
        assert not node.hosting.holdings.versions()
        [receipt] = [r for r in [node.records.receipt_of(node.key.public, site, PRODUCTION)] if r is not None]
        assert not receipt.body.held
        assert node.records.head(site, PRODUCTION) is not None  # what the network knows of it stays
        for _ in collect(node.blocks, grace=-1):
            pass
        assert not node.blocks.has(root)

        node.blocks.put_many([(root, block)])
        refused = await deploy()
        assert (refused.status_code, refused.json()["service"]) == (402, "storage")
        bill(node, person.address)
        assert (await deploy()).status_code == 200
        node.ledger.tick(Moment.now(), node.billing._paid_for())
        await removing.look()
        assert not node.ledger.is_removed(site)
        assert node.blocks.is_pinned(root)
