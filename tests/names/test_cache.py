"""What is looked up and when, on a clock of the test's own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock

from decentraspace.names.cache import Bounds, Cache
from decentraspace.names.links import Answer, NotResolved

BOUNDS = Bounds(least=10, most=1000, nothing=60, stale=100, kept=500, failed=5)
NAME = "site.example"


class Source:
    """What names stand for; `gate` is waited for before each answer."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.asked: list[str] = []
        self.gate: trio.Event | None = None
        self.broken: Exception | None = None

    async def __call__(self, name: str) -> Answer:
        self.asked.append(name)
        if self.gate is not None:
            await self.gate.wait()
        if self.broken is not None:
            raise self.broken
        return self.answers.get(name, Answer(None, 30))


@asynccontextmanager
async def running(source: Source, **how: object) -> AsyncIterator[Cache]:
    cache = Cache(source, bounds=BOUNDS, **how)  # type: ignore[arg-type]
    async with trio.open_nursery() as nursery:
        await nursery.start(cache.run)
        yield cache
        nursery.cancel_scope.cancel()


async def settled() -> None:
    """Until all that can be done without time passing is done."""
    await trio.testing.wait_all_tasks_blocked()


@pytest.fixture
def source() -> Source:
    found = Source()
    found.answers[NAME] = Answer("/ipns/a", 100)
    return found


async def test_an_answer_is_kept_as_long_as_it_holds(source: Source, mock_clock: MockClock) -> None:
    async with running(source) as cache:
        assert await cache.get(NAME) == Answer("/ipns/a", 100)
        mock_clock.jump(99)
        assert (await cache.get(NAME)).ttl == pytest.approx(1)
        assert source.asked == [NAME]


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        (Answer("/ipns/a", 0), 10),
        (Answer("/ipns/a", 1e9), 1000),
        (Answer(None, 1e9), 60),
        (Answer(None, 0), 10),
    ],
)
async def test_times_have_bounds(source: Source, said: Answer, kept: float) -> None:
    source.answers[NAME] = said
    async with running(source) as cache:
        assert (await cache.get(NAME)).ttl == kept


async def test_what_is_just_over_is_given_while_it_is_looked_up(
    source: Source, mock_clock: MockClock
) -> None:
    async with running(source) as cache:
        await cache.get(NAME)
        mock_clock.jump(150)
        source.answers[NAME] = Answer("/ipns/b", 100)
        source.gate = trio.Event()
        assert await cache.get(NAME) == Answer("/ipns/a", 0)
        assert await cache.get(NAME) == Answer("/ipns/a", 0)
        source.gate.set()
        await settled()
        assert await cache.get(NAME) == Answer("/ipns/b", 100)
        assert source.asked == [NAME, NAME]
        assert (cache.counts.asked, cache.counts.looked_up, cache.counts.stale) == (4, 2, 2)


async def test_what_is_long_over_is_given_only_when_nobody_answers(
    source: Source, mock_clock: MockClock
) -> None:
    async with running(source) as cache:
        await cache.get(NAME)
        mock_clock.jump(100 + 200)
        source.broken = NotResolved("no")
        assert await cache.get(NAME) == Answer("/ipns/a", 0)
        source.broken = None
        source.answers[NAME] = Answer("/ipns/b", 100)
        mock_clock.jump(5)
        assert (await cache.get(NAME)).path == "/ipns/b"
        mock_clock.jump(100 + 501)
        source.broken = NotResolved("no")
        with pytest.raises(NotResolved):
            await cache.get(NAME)


async def test_a_link_that_was_taken_back_is_not_given_again(source: Source, mock_clock: MockClock) -> None:
    async with running(source) as cache:
        await cache.get(NAME)
        del source.answers[NAME]
        mock_clock.jump(101)
        await cache.get(NAME)
        await settled()
        assert (await cache.get(NAME)).path is None
        mock_clock.jump(31)  # what there is not is not given when it is over
        source.answers[NAME] = Answer("/ipns/c", 100)
        assert (await cache.get(NAME)).path == "/ipns/c"


async def test_never_two_look_ups_of_one_name_at_one_time(source: Source) -> None:
    source.gate = trio.Event()
    found: list[Answer] = []
    async with running(source) as cache, trio.open_nursery() as nursery:

        async def ask() -> None:
            found.append(await cache.get(NAME))

        first = trio.CancelScope()

        async def ask_and_go() -> None:
            with first:
                await ask()

        nursery.start_soon(ask_and_go)
        await settled()
        for _ in range(20):
            nursery.start_soon(ask)
        await settled()
        first.cancel()  # the others' look-up goes on
        await settled()
        source.gate.set()
        await settled()
        assert [answer.path for answer in found] == ["/ipns/a"] * 20
        assert source.asked == [NAME]


async def test_after_a_failure_nobody_is_asked_for_a_moment(source: Source, mock_clock: MockClock) -> None:
    source.broken = NotResolved("no")
    async with running(source) as cache:
        for _ in range(3):
            with pytest.raises(NotResolved, match="no"):
                await cache.get(NAME)
        assert source.asked == [NAME]
        mock_clock.jump(5)
        source.broken = None
        assert (await cache.get(NAME)).path == "/ipns/a"


async def test_a_silent_source_is_given_up(source: Source, autojump_clock: MockClock) -> None:
    source.gate = trio.Event()
    async with running(source, deadline=3.0) as cache:
        began = trio.current_time()
        with pytest.raises(NotResolved, match="in time"):
            await cache.get(NAME)
        assert trio.current_time() - began == pytest.approx(3)


@pytest.mark.parametrize("error", [ValueError("broken"), IndexError(), KeyError("x")])
async def test_a_source_that_breaks_ends_nothing(source: Source, error: Exception) -> None:
    source.broken = error
    async with running(source) as cache:
        with pytest.raises(NotResolved):
            await cache.get(NAME)
        source.broken = None
        assert (await cache.get("other.example")).path is None


async def test_memory_is_bounded(source: Source) -> None:
    async with running(source, most=10) as cache:
        for number in range(100):
            await cache.get(f"n{number}.example")
        assert len(cache) == 10
        source.broken = NotResolved("no")
        for number in range(100):
            with pytest.raises(NotResolved):
                await cache.get(f"f{number}.example")
        assert len(cache) == 10
        assert len(cache._failures) == 10


@pytest.mark.parametrize("name", ["n{}.evil.example", "n{}.a{}.test"], ids=["of one domain", "of many"])
async def test_look_ups_at_one_time_are_bounded(source: Source, name: str) -> None:
    """Whoever has many names looked up that nobody answers for keeps out nobody with another domain."""
    source.gate = trio.Event()
    at_once = 16
    async with running(source, at_once=at_once) as cache, trio.open_nursery() as nursery:
        refused = 0

        async def ask(text: str) -> None:
            nonlocal refused
            try:
                await cache.get(text)
            except NotResolved:
                refused += 1

        for number in range(100):
            nursery.start_soon(ask, name.format(number, number))
        await settled()
        assert len(source.asked) <= at_once
        assert refused >= 100 - 4 * at_once
        if "evil" in name:
            assert len(source.asked) < at_once
            nursery.start_soon(ask, NAME)
            await settled()
            assert NAME in source.asked
        source.gate.set()


async def test_without_its_task_nothing_is_looked_up(source: Source) -> None:
    cache = Cache(source)
    with pytest.raises(NotResolved):
        await cache.get(NAME)
    assert not source.asked
