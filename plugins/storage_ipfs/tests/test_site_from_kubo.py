"""A site whose nodes are all gone, but which the operator's Kubo still has."""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable
from typing import Any

import trio
from tests.records.factory import make_session, make_site, make_wallet

from decentraspace.content import cid as cids
from decentraspace.content.siteindex import SiteIndex
from decentraspace.hosting import Hosting
from decentraspace.network.fetch import Fetcher
from decentraspace.plugins import PluginManager
from decentraspace.records.signing import sponsor
from decentraspace.records.store import RecordStore
from decentraspace.records.verdict import NetworkRules
from decentraspace.testing import Parts, until

from .conftest import Kubo


async def test_it_comes_back_and_is_served(
    kubo: Kubo,
    make_parts: Callable[..., Parts],
    managed: Callable[[Parts], Awaitable[PluginManager]],
) -> None:
    content = os.urandom(600_000)
    leaf = kubo.cli("add", "--quieter", "--cid-version=1", stdin=content).decode().strip()
    kubo.cli("files", "mkdir", "--cid-version=1", "/site")
    kubo.cli("files", "cp", f"/ipfs/{leaf}", "/site/index.html")
    root = cids.parse(kubo.cli("files", "stat", "--hash", "/site").decode().strip())

    parts = make_parts(api=kubo.api)
    manager = await managed(parts)
    rules = NetworkRules.from_config(parts.config)
    records = RecordStore(parts.config.data_dir / "records.sqlite", rules, parts.config.records)

    async def nobody(_: bytes) -> list[Any]:
        return []

    async def quiet(_: bytes) -> None:
        return None

    hosting = Hosting(
        parts.config,
        parts.key,
        rules,
        parts.blocks,
        records,
        Fetcher(parts.blocks, nobody, True),
        publish=quiet,
        emit=manager.call,
        tier=lambda _: "free",
    )
    now = int(time.time())
    wallet = make_wallet()
    session = make_session(wallet, rules, issued_at=now - 60, expires_at=now + 3600)
    record = make_site(
        wallet,
        session,
        rules,
        root=root,
        size=parts.blocks.dag_size(root) if not parts.blocks.missing(root) else 10**6,
        created=now,
    )
    result = records.add(sponsor(record, parts.key, now), now=now)

    async with trio.open_nursery() as nursery:
        await nursery.start(hosting.run)
        await hosting.on_accepted([result])

        async def held() -> bool:
            return parts.blocks.is_pinned(root)

        await until(held)
        nursery.cancel_scope.cancel()
    assert parts.blocks.missing(root) == []
    assert [entry.root for _, entry in SiteIndex(parts.blocks).all()] == [root]
    records.close()
