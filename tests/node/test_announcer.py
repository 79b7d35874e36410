"""When a node announces itself, and that each announcement counts more than the one before."""

from __future__ import annotations

import time
from pathlib import Path

import trio

from decentraspace.announcing import Announcer
from decentraspace.config import load
from decentraspace.errors import QuotaExceeded
from decentraspace.identity.keys import NodeKey
from decentraspace.records.schema import NodeAnnouncement
from decentraspace.records.signing import sign_announcement, sponsor
from decentraspace.records.store import RecordStore
from decentraspace.records.verdict import NetworkRules

DEADLINE = 20.0


class World:
    def __init__(self, folder: Path, live_for: int) -> None:
        config = load(environ={}, overrides={"hosting": {"live_for": live_for}})
        self.rules, self.key = NetworkRules.from_config(config), NodeKey.generate()
        self.records = RecordStore(folder / "records.sqlite", self.rules)
        self.willing, self.full = True, False
        self.told: list[NodeAnnouncement] = []
        self.asked = 0
        self.announcer = Announcer(
            config, self.key.public, self.records, self.announce, list, lambda: self.willing
        )

    async def announce(self, announcement: NodeAnnouncement) -> None:
        self.asked += 1
        if self.full:
            raise QuotaExceeded("no room")
        record, now = sign_announcement(announcement, self.key, self.rules), int(time.time())
        assert self.records.add(sponsor(record, self.key, now), now=now, local=True).status == "accepted"
        self.told.append(announcement)

    async def until_told(self, count: int) -> None:
        with trio.fail_after(DEADLINE):
            while len(self.told) < count:
                await trio.sleep(0.01)


async def test_again_and_again_before_others_forget_it(tmp_path: Path) -> None:
    world = World(tmp_path, live_for=1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.announcer.run)
        await world.until_told(4)
        nursery.cancel_scope.cancel()
    numbers = [told.seq for told in world.told]
    assert numbers == sorted(set(numbers)), "several in one second, each with a number of its own"
    assert World(tmp_path, live_for=86400).announcer.every == 600.0


async def test_at_once_when_something_changes(tmp_path: Path) -> None:
    world = World(tmp_path, live_for=86400)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.announcer.run)
        await world.until_told(1)
        world.willing = False
        await world.announcer.now()
        nursery.cancel_scope.cancel()
    assert len(world.told) == 2
    assert world.told[0].capacity > 0
    assert world.told[1].capacity == 0
    last = world.records.announcement_of(world.key.public)
    assert last is not None
    assert last.capacity == 0


async def test_a_clock_that_was_set_back_silences_nobody(tmp_path: Path) -> None:
    world = World(tmp_path, live_for=60)
    ahead = world.announcer.announcement()
    ahead = type(ahead)(**{**vars(ahead), "seq": ahead.seq + 3600})
    await world.announce(ahead)
    await world.announce(world.announcer.announcement())
    last = world.records.announcement_of(world.key.public)
    assert last is not None
    assert last.seq == ahead.seq + 1


async def test_a_failure_is_tried_again(tmp_path: Path) -> None:
    world = World(tmp_path, live_for=1)
    world.full = True
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.announcer.run)
        with trio.fail_after(DEADLINE):
            while world.asked < 2:
                await trio.sleep(0.01)
        world.full = False
        await world.until_told(1)
        nursery.cancel_scope.cancel()
