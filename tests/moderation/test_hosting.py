"""What is blocked is neither taken nor copied nor kept, and comes back when it no longer is."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from decentraspace.content import cid as cids
from decentraspace.content.denylist import content, double_hash, modern
from decentraspace.content.gc import collect
from decentraspace.content.siteindex import FLAG_BLOCKED, FLAG_GONE, FLAG_PAUSED
from decentraspace.errors import Blocked, BlockedByLaw, Unavailable
from decentraspace.identity.ethereum import checksum_address
from decentraspace.identity.keys import NodeKey
from decentraspace.moderation import targets
from decentraspace.records.signing import sponsor
from decentraspace.testing import until
from tests.moderation.conftest import World

FILES = {"index.html": b"hello", "bad.txt": b"what somebody objects to"}
BAD = cids.make(cids.RAW, FILES["bad.txt"])
FACTS = {"status": 451, "reason": "a court said so", "hidden": False, "by": bytes(20)}


def sites(world: World) -> list[tuple[bytes, str]]:
    return [pin for pin in world.node.blocks.pins() if pin[1].startswith("site:")]


@pytest.mark.parametrize("kind", ["cid", "site", "owner"])
async def test_a_block_and_its_end(kind: str, world: World) -> None:
    async with world.running():
        done = await world.deploy(FILES)
        head = done.head
        text = {"cid": cids.to_text(head.root), "site": head.site_id, "owner": checksum_address(head.owner)}
        target = targets.parse(kind, text[kind])
        await world.moderation.block(target, **FACTS)

        assert sites(world) == []
        assert world.held_receipts(head.root) == []
        assert not world.hosting.holdings.holds(head.cid)
        assert world.node.blocks.referenced(head.root) is False
        for record in (world.sign(head.root), world.sign(head.root, label="other")):
            if kind != "site" or record == world.sign(head.root):
                with pytest.raises(BlockedByLaw, match="a court said so"):
                    await world.hosting.deploy(world.address, record)
        assert sites(world) == []

        await world.moderation.unblock(target)
        await until(lambda: world.held_receipts(head.root))
        assert len(sites(world)) == 1
        await world.hosting.deploy(world.address, world.sign(world.store({"a": b"b"}), seq=2, prev=head.cid))


@pytest.mark.parametrize("hidden", [False, True])
async def test_a_file_deep_inside_is_refused_and_let_go(hidden: bool, world: World) -> None:
    async with world.running():
        done = await world.deploy(FILES)
        target = targets.parse("cid", cids.to_text(BAD))
        await world.moderation.block(target, **{**FACTS, "hidden": hidden, "status": 410})
        await until(lambda: not sites(world))
        assert await until(lambda: not world.held_receipts(done.head.root))
        with pytest.raises(Blocked):
            await world.deploy({**FILES, "more": b"x"}, label="other")
        assert sites(world) == []
        await world.deploy({"index.html": b"hello"}, label="clean")


async def test_an_old_version_is_let_go_and_the_newest_stays(world: World) -> None:
    async with world.running():
        first = (await world.deploy(FILES)).head
        second = (await world.deploy({"index.html": b"better"}, seq=2, prev=first.cid)).head
        await world.moderation.block(targets.parse("cid", cids.to_text(first.root)), **FACTS)
        assert [root for root, _ in sites(world)] == [second.root]
        assert world.held_receipts(second.root)


async def test_what_comes_by_gossip_is_not_copied(world: World) -> None:
    async with world.running():
        root = world.store(FILES)
        record = world.sign(root)
        for _ in collect(world.node.blocks, grace=-1):
            pass
        await world.moderation.block(targets.parse("owner", checksum_address(world.address)), **FACTS)
        now = int(time.time())
        result = world.node.records.add(sponsor(record, NodeKey.generate(), now), now=now)
        await world.hosting.on_accepted([result])
        entry = await until(lambda: world.hosting.index.get(result.heads[0].host_label))
        assert entry.flags == FLAG_BLOCKED
        assert world.fetched == []
        assert sites(world) == []
        assert world.node.records.receipts(root) == []


async def test_flags_survive_versions_and_do_not_touch_others(world: World) -> None:
    async with world.running():
        head = (await world.deploy({"index.html": b"one"})).head
        index = world.hosting.index
        world.hosting.holdings.paused = lambda site: site == head.site_id
        target = targets.parse("site", head.host_label)
        await world.moderation.block(target, **{**FACTS, "status": 410})
        assert index.get(head.host_label).flags == FLAG_PAUSED | FLAG_BLOCKED | FLAG_GONE
        now = int(time.time())
        newer = world.sign(world.store({"index.html": b"two"}), seq=2, prev=head.cid)
        result = world.node.records.add(sponsor(newer, NodeKey.generate(), now), now=now)
        await world.hosting.on_accepted([result])
        await until(lambda: index.get(head.host_label).seq == 2)
        assert index.get(head.host_label).flags == FLAG_PAUSED | FLAG_BLOCKED | FLAG_GONE
        await world.moderation.block(target, **FACTS)
        assert index.get(head.host_label).flags == FLAG_PAUSED | FLAG_BLOCKED
        await world.moderation.unblock(target)
        assert index.get(head.host_label).flags == FLAG_PAUSED


async def test_decisions_survive_a_restart(make_world: Callable[..., World]) -> None:
    world = make_world()
    async with world.running():
        head = (await world.deploy(FILES)).head
        await world.moderation.block(targets.parse("site", head.site_id), **FACTS)
        await world.moderation.block(targets.parse("cid", cids.to_text(BAD)), **{**FACTS, "hidden": True})
    world.node.close()
    again = make_world()
    again.wallet, again.session, again.address = world.wallet, world.session, world.address
    async with again.running():
        assert again.hosting.index.get(head.host_label).flags == FLAG_BLOCKED
        with pytest.raises(BlockedByLaw):
            await again.hosting.deploy(again.address, again.sign(head.root))
        with pytest.raises(BlockedByLaw):
            await again.deploy(FILES, label="other")


async def test_a_list_is_followed_while_the_node_runs(
    make_world: Callable[..., World], tmp_path: Path
) -> None:
    path = tmp_path / "ours.deny"
    path.write_text("name: Ours\n---\n")
    world = make_world(moderation={"denylists": (str(path),)})
    async with world.running():
        head = (await world.deploy(FILES)).head
        with path.open("a") as file:
            file.write(f"//{double_hash(modern(content(head.root), ''))} gateway_status:451\n")
        await until(lambda: not sites(world))
        with pytest.raises(BlockedByLaw, match="'Ours'"):
            await world.hosting.deploy(world.address, world.sign(head.root))
        path.unlink()  # what it said stays in force until the settings no longer name it
        with pytest.raises(BlockedByLaw):
            await world.hosting.deploy(world.address, world.sign(head.root))
        path.write_text("")
        await until(lambda: world.held_receipts(head.root))


async def test_uploads_are_let_go_too(world: World) -> None:
    root = world.store(FILES)
    blocks = world.node.blocks
    async with world.running():
        blocks.pin(root, "upload:" + world.address.hex())
        await world.moderation.block(targets.parse("cid", cids.to_text(BAD)), **FACTS)
        await until(lambda: not list(blocks.pins()))
        with pytest.raises(BlockedByLaw):
            blocks.pin(root, "upload:" + world.address.hex())
        assert list(blocks.pins()) == []


async def test_a_pin_that_is_refused_leaves_the_counts_as_they_were(world: World) -> None:
    """A block that another pin keeps is still kept by it after a refused pin was given up."""
    blocks = world.node.blocks
    shared = world.store({"index.html": b"hello"})
    blocks.pin(shared, "upload:" + world.address.hex())
    async with world.running():
        await world.moderation.block(targets.parse("cid", cids.to_text(BAD)), **FACTS)
        with pytest.raises(BlockedByLaw):
            await world.deploy(FILES)
        with blocks.read() as txn:
            key = cids.multihash(cids.make(cids.RAW, b"hello"))
            assert blocks.has_refs(txn, key)
        blocks.unpin(shared, "upload:" + world.address.hex())
        with blocks.read() as txn:
            assert not blocks.has_refs(txn, key)


async def test_what_is_blocked_is_not_even_asked_for(world: World) -> None:
    """Neither for a copy, when a missing part of it is blocked, nor for a visitor."""
    blocks, fetcher = world.node.blocks, world.hosting.copies.fetcher
    root = world.store(FILES)
    with blocks.write() as txn:  # all is here but the file
        txn.delete(cids.multihash(BAD), db=blocks.db["blocks"])
    async with world.running():
        with pytest.raises(Unavailable):
            await fetcher.fetch(root, deadline=5, max_bytes=10**6)
        assert world.fetched == [root]
        await world.moderation.block(targets.parse("cid", cids.to_text(BAD)), **FACTS)
        with pytest.raises(BlockedByLaw):
            await fetcher.fetch(root, deadline=5, max_bytes=10**6)
        assert await fetcher.fetch_block(BAD, root) is False
        assert world.fetched == [root]
