"""Time as the meter counts it: seconds held, and hours that are each closed once.

A computer's clock may be set to anything; how long it has been up cannot. Within one boot the time between
two looks is therefore taken from its uptime, across boots from the clock; and never more than `GAP_MOST`, so a
node that was away, or woke up in another year, charges nobody for that. Hours are the clock's as long as it runs
forward. When it was set back, the hour that is open stays open for one hour's length, and the next one has
the next number.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

GAP_MOST = 3600
"""Seconds without a look that still count as held."""
CLOSE_AFTER = 30
"""Seconds after its end that an hour is closed: counts of its last seconds are on their way."""
HOUR = 3600


@dataclass(frozen=True)
class Moment:
    """`wall`: Unix seconds; `up`: seconds since the machine started, sleep included; `boot`: which start."""

    wall: int
    up: int
    boot: str

    @classmethod
    def now(cls) -> Moment:
        boot = ""
        with suppress(OSError):
            boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        up = time.clock_gettime(time.CLOCK_BOOTTIME) if boot else time.monotonic()
        return cls(int(time.time()), int(up), boot)


@dataclass(frozen=True)
class MeterClock:
    """`seconds`: that have counted so far; `last`: the look before; `hour`: which is open (Unix hour);
    `opened`: `seconds` when it became so; `closed`: the last hour that was closed."""

    seconds: int = 0
    last: Moment | None = None
    hour: int = 0
    opened: int = 0
    closed: int = 0


def advance(clock: MeterClock, now: Moment) -> MeterClock:
    """The clock a look later. `hour` never goes back."""
    if clock.last is None:
        hour = now.wall // HOUR
        return MeterClock(0, now, hour, 0, hour - 1)
    same = clock.last.boot == now.boot and now.boot != ""
    passed = now.up - clock.last.up if same else now.wall - clock.last.wall
    if same and passed < 0:
        return clock  # a later look came first: what has passed by now has been counted
    seconds = clock.seconds + max(0, min(passed, GAP_MOST))
    hour, opened = max(clock.hour, now.wall // HOUR), clock.opened
    if hour == clock.hour and now.wall // HOUR < hour and seconds - opened >= HOUR:
        hour += 1  # the clock was set back: an hour's length has passed all the same
    if hour != clock.hour:
        opened = seconds
    return replace(clock, seconds=seconds, last=now, hour=hour, opened=opened)


def due(clock: MeterClock, now: Moment) -> int:
    """The last hour that may be closed."""
    if clock.seconds - clock.opened >= CLOSE_AFTER or now.wall >= clock.hour * HOUR + CLOSE_AFTER:
        return clock.hour - 1
    return max(clock.closed, clock.hour - 2)


def month_of(hour: int) -> int:
    """Of a Unix hour, in UTC: 202611 for November 2026."""
    day = datetime.fromtimestamp(min(hour * HOUR, 2**37), UTC)
    return day.year * 100 + day.month
