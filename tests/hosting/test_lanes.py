"""Turns: fair between sponsors, remembered failures."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from decentraspace.lanes import Lane, Tries


async def test_one_sponsor_never_takes_all_places() -> None:
    lane = Lane(2)
    for number in range(100):
        lane.put(b"greedy", (f"g{number}", "production"))
    lane.put(b"honest", ("h", "production"))
    taken = [await lane.take() for _ in range(3)]
    assert [sponsor for sponsor, _ in taken] == [b"greedy", b"honest", b"greedy"]
    with trio.move_on_after(0.01) as scope:
        await lane.take()
    assert scope.cancelled_caught
    lane.done(b"greedy")
    assert (await lane.take())[0] == b"greedy"


async def test_who_waits_is_woken_by_what_comes_and_by_what_is_done() -> None:
    lane, got = Lane(1), []

    async def worker() -> None:
        got.append(await lane.take())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(worker)
        nursery.start_soon(worker)
        await trio.testing.wait_all_tasks_blocked()
        lane.put(b"a", ("one", "production"))
        lane.put(b"a", ("two", "production"))
        await trio.testing.wait_all_tasks_blocked()
        assert got == [(b"a", ("one", "production"))]
        lane.done(b"a")
    assert got[1] == (b"a", ("two", "production"))


async def test_a_failure_is_tried_again_later_and_later(autojump_clock: trio.testing.MockClock) -> None:
    tries, site = Tries(), ("site", "production")
    assert tries.may(site, b"one")
    waits = []
    for _ in range(16):
        began = trio.current_time()
        tries.failed(site, b"one")
        assert not tries.may(site, b"one")
        assert tries.failed_before(site, b"one")
        while not tries.due():
            await trio.sleep(0.25)
        assert tries.may(site, b"one")
        waits.append(trio.current_time() - began)
    assert waits == sorted(waits)
    assert waits[0] <= 1
    assert waits[-1] == pytest.approx(3600, abs=1)


async def test_a_new_version_starts_anew_and_a_refused_one_is_left_alone(
    autojump_clock: trio.testing.MockClock,
) -> None:
    tries, site = Tries(), ("site", "production")
    tries.refused(site, b"one")
    await trio.sleep(10**6)
    assert not tries.may(site, b"one")
    assert tries.due() == []
    assert tries.may(site, b"two")
    assert not tries.failed_before(site, b"two")
    tries.failed(site, b"two")
    tries.succeeded(site)
    await trio.sleep(10**6)
    assert tries.due() == []
