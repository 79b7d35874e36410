"""Against a real Kubo: running, stopped, frozen, and restarted."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
from tinydb import where

from decentraspace.content import cid as cids
from decentraspace.content import reader
from decentraspace.errors import Unavailable
from decentraspace.plugin_storage import open_documents
from decentraspace.plugins import PluginInfo, PluginManager
from decentraspace.testing import Parts, until

from .conftest import Kubo

Managed = Callable[[Parts], Awaitable[PluginManager]]
MakeParts = Callable[..., Parts]


def health(manager: PluginManager) -> PluginInfo:
    return next(info for info in manager.describe() if info.name == "storage_ipfs")


async def ask(manager: PluginManager, hook: str, **arguments: Any) -> Any:
    results = await manager.call(hook, **arguments)
    return results[0].value if results else None


async def status(manager: PluginManager) -> dict[str, Any]:
    found = await ask(manager, "storage_status")
    assert isinstance(found, dict)
    return found


async def settled(manager: PluginManager) -> dict[str, Any]:
    """The status once nothing is queued."""

    async def done() -> dict[str, Any] | None:
        now = await status(manager)
        return None if now["queued"] else now

    found = await until(done)
    assert isinstance(found, dict)
    return found


async def test_pins_the_whole_site_and_unpins_it(kubo: Kubo, make_parts: MakeParts, managed: Managed) -> None:
    parts = make_parts(api=kubo.api)
    manager = await managed(parts)
    contents = [b"first", b"", os.urandom(700_000)]
    root = parts.site(*contents)
    text = cids.to_text(root)
    assert await ask(manager, "storage_pin", cid=text) == "queued"
    now = await settled(manager)
    assert now == {
        "service": f"Kubo at {kubo.api}",
        "reachable": True,
        "pinned": 1,
        "queued": 0,
        "failed": 0,
        "detail": f"Kubo {kubo.cli('version', '--number').decode().strip()}",
    }
    assert root in kubo.pinned()
    for number, content in enumerate(contents):
        assert kubo.cli("cat", f"{text}/file{number}.txt") == content
    assert await ask(manager, "storage_pin", cid=text) == "pinned"  # once more changes nothing

    parts.blocks.unpin(root, "test")
    assert await ask(manager, "storage_unpin", cid=text) is True

    async def gone() -> bool:
        return root not in kubo.pinned()

    await until(gone)
    assert (await settled(manager))["pinned"] == 0
    assert await ask(manager, "storage_unpin", cid=cids.to_text(cids.make(cids.RAW, b"never"))) is False
    assert health(manager).health == "ok"


async def test_leaves_what_the_operator_pinned(kubo: Kubo, make_parts: MakeParts, managed: Managed) -> None:
    parts = make_parts(api=kubo.api)
    root = parts.site(b"also the operator's")
    text = cids.to_text(root)
    leaf = kubo.cli("add", "--quieter", "--cid-version=1", "--pin=false", stdin=b"also the operator's")
    kubo.cli("files", "mkdir", "--cid-version=1", "/d")
    kubo.cli("files", "cp", f"/ipfs/{leaf.decode().strip()}", "/d/file0.txt")
    assert kubo.cli("files", "stat", "--hash", "/d").decode().strip() == text
    kubo.cli("pin", "add", text)
    manager = await managed(parts)
    await ask(manager, "storage_pin", cid=text)
    assert (await settled(manager))["pinned"] == 1
    parts.blocks.unpin(root, "test")
    await ask(manager, "storage_unpin", cid=text)

    async def forgotten() -> bool:
        return await ask(manager, "storage_unpin", cid=text) is False

    await until(forgotten)
    assert root in kubo.pinned()


async def test_fetches_what_only_kubo_has(kubo: Kubo, make_parts: MakeParts, managed: Managed) -> None:
    parts = make_parts(api=kubo.api)
    manager = await managed(parts)
    content = os.urandom(1_500_000)
    text = kubo.cli("add", "--quieter", "--cid-version=1", stdin=content).decode().strip()
    root = cids.parse(text)
    assert (
        await ask(manager, "storage_fetch", max_bytes=1 << 24, cid=text) == 7
    )  # six leaves of 256 KiB and their parent
    assert parts.blocks.missing(root) == []
    assert b"".join(reader.iter_file(parts.blocks.get_or_raise, root)) == content
    absent = cids.to_text(cids.make(cids.RAW, b"nobody has this"))
    assert await ask(manager, "storage_fetch", max_bytes=1 << 24, cid=absent) is None
    assert health(manager).health == "ok"


async def test_mirrors_pins_from_before_it_was_configured(
    kubo: Kubo, make_parts: MakeParts, managed: Managed
) -> None:
    parts = make_parts(api=kubo.api)
    old, gone = parts.site(b"old"), parts.site(b"going")
    manager = await managed(parts)

    async def both() -> bool:
        return {old, gone} <= kubo.pinned()

    await until(both)
    # A pin that goes while the plugin does not run is noticed at its next start.
    await manager.close()
    parts.blocks.unpin(gone, "test")
    await managed(parts)

    async def one() -> bool:
        return gone not in kubo.pinned()

    await until(one)
    assert old in kubo.pinned()


async def test_waits_for_a_kubo_that_is_away(
    kubo_repo: Kubo, make_parts: MakeParts, managed: Managed
) -> None:
    await kubo_repo.started()
    await kubo_repo.stopped()
    parts = make_parts(api=kubo_repo.api)
    manager = await managed(parts)
    root = parts.site(b"patience")
    assert await ask(manager, "storage_pin", cid=cids.to_text(root)) == "queued"
    now = await status(manager)
    assert (now["reachable"], now["queued"]) == (False, 1)
    assert "cannot be reached" in now["detail"]
    with pytest.raises(Unavailable):
        await manager.first("storage_fetch", max_bytes=1 << 24, cid=cids.to_text(cids.make(cids.RAW, b"x")))
    # The wish outlives the node.
    manager = await managed(parts)
    assert (await status(manager))["queued"] == 1
    await kubo_repo.started()
    assert (await settled(manager))["pinned"] == 1
    assert root in kubo_repo.pinned()
    assert health(manager).health == "ok"


async def test_a_frozen_kubo_freezes_nothing_else(
    kubo: Kubo, make_parts: MakeParts, managed: Managed
) -> None:
    parts = make_parts(api=kubo.api, timeout=1)
    manager = await managed(parts)
    kubo.freeze()
    root = parts.site(os.urandom(3_000_000))
    assert await ask(manager, "storage_pin", cid=cids.to_text(root)) == "queued"
    now = await status(manager)
    assert (now["reachable"], now["queued"]) == (False, 1)
    with pytest.raises(Unavailable, match="in time"):
        await manager.first("storage_fetch", max_bytes=1 << 24, cid=cids.to_text(cids.make(cids.RAW, b"x")))
    assert health(manager).health == "ok"
    manager = await managed(parts)  # the old one stops although Kubo is silent
    kubo.thaw()
    assert (await settled(manager))["pinned"] == 1
    assert root in kubo.pinned()


async def test_a_kubo_that_dies_while_it_is_sent_to(
    kubo_repo: Kubo, make_parts: MakeParts, managed: Managed
) -> None:
    await kubo_repo.started()
    parts = make_parts(api=kubo_repo.api, timeout=2)
    root = parts.site(*(os.urandom(1_000_000) for _ in range(60)))
    manager = await managed(parts)
    await ask(manager, "storage_pin", cid=cids.to_text(root))

    async def receiving() -> bool:
        return sum(1 for _ in (kubo_repo.repo / "blocks").rglob("*.data")) > 20

    await until(receiving)
    assert kubo_repo.process is not None
    kubo_repo.process.kill()
    await trio.to_thread.run_sync(kubo_repo.process.wait)
    await kubo_repo.stopped()
    await kubo_repo.started()
    assert (await settled(manager))["pinned"] == 1
    assert root in kubo_repo.pinned()
    kubo_repo.cli("pin", "verify")


async def test_reports_what_the_node_has_lost(kubo: Kubo, make_parts: MakeParts, managed: Managed) -> None:
    parts = make_parts(api=kubo.api)
    leaf = b"on a bad sector"
    root = parts.site(leaf)
    with parts.blocks.write() as txn:
        assert txn.delete(cids.multihash(cids.make(cids.RAW, leaf)), db=parts.blocks.db["blocks"])
    manager = await managed(parts)
    await ask(manager, "storage_pin", cid=cids.to_text(root))
    assert (await settled(manager))["failed"] == 1
    assert root not in kubo.pinned()
    assert health(manager).health == "ok"


def test_repo_is_offline(kubo_repo: Kubo) -> None:
    """The tests must not reach for the internet."""
    with pytest.raises((RuntimeError, subprocess.SubprocessError)):
        kubo_repo.cli("swarm", "peers")


async def test_a_pin_made_just_before_a_crash_is_known_as_ours(
    kubo: Kubo, make_parts: MakeParts, managed: Managed
) -> None:
    """The list as it is when the node was killed between Kubo's pinning and writing that down."""
    parts = make_parts(api=kubo.api)
    root = parts.site(b"just in time")
    text = cids.to_text(root)
    manager = await managed(parts)

    async def there() -> bool:
        return (await status(manager))["pinned"] == 1  # nobody asked: the plugin looks at what the node pins

    await until(there)
    await manager.close()
    with open_documents(parts.config.data_dir / "plugins" / "storage_ipfs" / "pins.json") as documents:
        assert documents.table("pins").update({"state": "queued"}, where("cid") == text)
    assert root in kubo.pinned()

    manager = await managed(parts)
    assert (await settled(manager))["pinned"] == 1
    parts.blocks.unpin(root, "test")
    await ask(manager, "storage_unpin", cid=text)

    async def gone() -> bool:
        return root not in kubo.pinned()

    await until(gone)


async def test_wanted_again_before_it_was_let_go(kubo: Kubo, make_parts: MakeParts, managed: Managed) -> None:
    parts = make_parts(api=kubo.api, timeout=2)
    root = parts.site(b"back and forth")
    text = cids.to_text(root)
    manager = await managed(parts)
    for hook in ("storage_pin", "storage_unpin") * 5:
        await ask(manager, hook, cid=text)
    assert await ask(manager, "storage_pin", cid=text) in ("pinned", "queued")

    async def there() -> bool:
        now = await status(manager)
        return now["queued"] == 0 and now["pinned"] == 1 and root in kubo.pinned()

    await until(there)
