"""What was looked up, kept for as long as it holds; never two look-ups of one name at one time.

fresh        given as it is
just over    given as it is, once more looked up meanwhile (stale-while-revalidate, RFC 5861)
long over    looked up; given nevertheless when that fails (RFC 8767)
nothing      kept, too, for a shorter while; failures for a moment, so that a name server that is silent does
             not keep every visitor waiting for as long as the first
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog
import trio

from decentraspace.names.links import Answer, NotResolved

if TYPE_CHECKING:
    from trio_typing import TaskStatus

log = structlog.get_logger(__name__)

LookUp = Callable[[str], Awaitable[Answer]]
"""Name -> answer, or NotResolved."""


@dataclass(frozen=True)
class Bounds:
    """Seconds. `least` and `most` that an answer is fresh, and `nothing` at most that there is none; `stale`:
    beyond that, while it is looked up; `kept`: beyond that, when no look-up succeeds; `failed`: until the next
    look-up after one that failed."""

    least: float = 10.0
    most: float = 86400.0
    nothing: float = 60.0
    stale: float = 3600.0
    kept: float = 86400.0
    failed: float = 5.0


@dataclass
class _Entry:
    path: str | None
    until: float
    retry: float = 0.0  # when it may be looked up again, after a look-up that failed


@dataclass
class _Flight:
    done: trio.Event = field(default_factory=trio.Event)
    answer: Answer | None = None
    failure: str = "The node is stopping"


@dataclass
class Counts:
    """`asked`: questions; `looked_up`: those for which somebody else was asked; `stale`: answers given although
    they were over."""

    asked: int = 0
    looked_up: int = 0
    failed: int = 0
    stale: int = 0


class Cache:
    """`most`: names kept; `at_once`: look-ups; `deadline`: seconds for one. Use while `run` runs.

    One domain gets a part of the look-ups: who asks for many names below one whose servers are slow keeps only
    those waiting.
    """

    def __init__(
        self,
        look_up: LookUp,
        *,
        most: int = 10_000,
        at_once: int = 256,
        deadline: float = 5.0,
        bounds: Bounds | None = None,
    ) -> None:
        self._look_up, self._most, self._deadline = look_up, most, deadline
        self._bounds = bounds or Bounds()
        self._at_once = at_once
        self._limit: trio.CapacityLimiter | None = None
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._failures: OrderedDict[str, tuple[float, str]] = OrderedDict()
        self._flights: dict[str, _Flight] = {}
        self._domains: Counter[str] = Counter()  # of the flights
        self._nursery: trio.Nursery | None = None
        self.counts = Counts()

    def __len__(self) -> int:
        return len(self._entries)

    async def run(self, *, task_status: TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Own the look-ups that are under way, until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery, self._limit = nursery, trio.CapacityLimiter(self._at_once)
            task_status.started()
            try:
                await trio.sleep_forever()
            finally:
                self._nursery = None

    async def get(self, name: str) -> Answer:
        """NotResolved when nobody can say, and it is not known from before. `name` in its one spelling."""
        self.counts.asked += 1
        now, bounds = trio.current_time(), self._bounds
        entry = self._entries.get(name)
        if entry is not None:
            self._entries.move_to_end(name)
            if now < entry.until:
                return Answer(entry.path, entry.until - now)
            if entry.path is not None and now < entry.until + bounds.stale:
                if now >= entry.retry:
                    self._start(name)
                return self._old(entry)
        failed = self._failures.get(name)
        try:
            if failed is not None and now < failed[0]:
                raise NotResolved(failed[1])
            return await self._wait(self._start(name))
        except NotResolved:
            if entry is not None and entry.path is not None and now < entry.until + bounds.kept:
                return self._old(entry)
            raise

    def _old(self, entry: _Entry) -> Answer:
        self.counts.stale += 1
        return Answer(entry.path, 0.0)

    def renew(self, name: str) -> None:
        """Have it looked up now, without waiting."""
        failed = self._failures.get(name)
        if failed is None or trio.current_time() >= failed[0]:
            self._start(name)

    def forget(self, name: str) -> None:
        """Have it looked up when it is asked for next."""
        self._entries.pop(name, None)
        self._failures.pop(name, None)

    def _start(self, name: str) -> _Flight:
        flight = self._flights.get(name)
        if flight is None:
            flight = _Flight()
            domain = _domain(name)
            busy = len(self._flights) >= 4 * self._at_once or self._domains[domain] >= self._at_once // 8 + 1
            if self._nursery is None or busy:
                flight.failure = "Too many names are being looked up just now"
                flight.done.set()
                return flight
            self._flights[name] = flight
            self._domains[domain] += 1
            self._nursery.start_soon(self._fly, name, flight)
        return flight

    @staticmethod
    async def _wait(flight: _Flight) -> Answer:
        await flight.done.wait()
        if flight.answer is None:
            raise NotResolved(flight.failure)
        return flight.answer

    async def _fly(self, name: str, flight: _Flight) -> None:
        assert self._limit is not None
        try:
            with trio.move_on_after(self._deadline):  # waiting for its turn included
                async with self._limit:
                    self.counts.looked_up += 1
                    flight.answer = await self._look_up(name)
            if flight.answer is None:
                raise NotResolved("No name server answered in time")
            flight.answer = self._keep(name, flight.answer)
        except NotResolved as failure:
            flight.failure = str(failure)
            self._note_failure(name, flight.failure)
        except Exception:  # an answer that its reader chokes on is no reason to end the node
            log.exception("name_look_up_broken", name=name)
            flight.failure = "What the name server answered could not be read"
            self._note_failure(name, flight.failure)
        finally:
            del self._flights[name]
            domain = _domain(name)
            self._domains[domain] -= 1
            if not self._domains[domain]:
                del self._domains[domain]
            flight.done.set()

    def _keep(self, name: str, answer: Answer) -> Answer:
        bounds = self._bounds
        most = bounds.most if answer.path is not None else bounds.nothing
        ttl = max(bounds.least, min(answer.ttl, most))
        self._entries[name] = _Entry(answer.path, trio.current_time() + ttl)
        self._entries.move_to_end(name)
        self._failures.pop(name, None)
        while len(self._entries) > self._most:
            self._entries.popitem(last=False)
        return Answer(answer.path, ttl)

    def _note_failure(self, name: str, failure: str) -> None:
        self.counts.failed += 1
        retry = trio.current_time() + self._bounds.failed
        entry = self._entries.get(name)
        if entry is not None:
            entry.retry = retry
        self._failures[name] = retry, failure
        self._failures.move_to_end(name)
        while len(self._failures) > self._most:
            self._failures.popitem(last=False)
        log.debug("name_not_resolved", name=name, reason=failure)


def _domain(name: str) -> str:
    """About whose name servers are asked: its last two labels."""
    return ".".join(name.rsplit(".", 2)[-2:])
