"""Time as it counts: restarts and clocks that jump neither lose a second nor count one twice."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from decentraspace.ledger.clock import CLOSE_AFTER, GAP_MOST, HOUR, MeterClock, Moment, advance, due, month_of

START = Moment(1_800_000_000, 1000, "boot")


def after(seconds: int, *, wall: int | None = None, boot: str = "boot") -> Moment:
    """`seconds` later by the machine's uptime; the wall clock may say something else."""
    return Moment(START.wall + (seconds if wall is None else wall), START.up + seconds, boot)


@given(
    steps=st.lists(st.integers(0, GAP_MOST), max_size=30),
    jumps=st.lists(st.integers(-(10**9), 10**9), min_size=30, max_size=30),
)
def test_a_clock_that_jumps_changes_nothing(steps: list[int], jumps: list[int]) -> None:
    clock, up = advance(MeterClock(), START), 0
    for step, jump in zip(steps, jumps, strict=False):
        up += step
        clock = advance(clock, after(up, wall=up + jump))
    assert clock.seconds == sum(steps)


@given(looks=st.lists(st.tuples(st.integers(-(10**6), 10**6), st.booleans()), max_size=40))
def test_hours_only_go_forward_and_close_in_order(looks: list[tuple[int, bool]]) -> None:
    clock, up = advance(MeterClock(), START), 0
    for jump, reboot in looks:
        up += 10
        now = after(up, wall=jump, boot=f"boot{up}" if reboot else "boot")
        before, clock = clock, advance(clock, now)
        assert clock.hour >= before.hour
        assert clock.seconds >= before.seconds
        last = due(clock, now)
        assert before.closed <= max(last, before.closed) < clock.hour
        clock = replace(clock, closed=max(last, clock.closed))


def test_a_restart_within_one_boot_counts_in_full() -> None:
    clock = advance(advance(MeterClock(), START), after(100))
    assert advance(clock, after(700, wall=10**8)).seconds == 700


def test_a_look_that_another_overtook_counts_nothing_twice() -> None:
    clock = advance(advance(MeterClock(), START), after(100))
    late = advance(clock, after(40))
    assert late == clock
    assert advance(late, after(110)).seconds == 110


def test_a_machine_that_was_off_is_not_paid_for_it() -> None:
    clock = advance(MeterClock(), START)
    gone = Moment(START.wall + 10 * 86400, 5, "another boot")
    assert advance(clock, gone).seconds == GAP_MOST
    early = Moment(START.wall - 86400, 5, "another boot")
    assert advance(clock, early).seconds == 0


def test_without_a_known_boot_the_clock_counts() -> None:
    clock = advance(MeterClock(), replace(START, boot=""))
    assert advance(clock, Moment(START.wall + 60, 0, "")).seconds == 60


def test_an_hour_is_closed_a_little_after_its_end() -> None:
    start = Moment(HOUR * 500_000, 0, "boot")
    clock = advance(MeterClock(), start)
    assert (clock.hour, clock.closed) == (500_000, 499_999)
    over = Moment(start.wall + HOUR, HOUR, "boot")
    clock = advance(clock, over)
    assert due(clock, over) == 499_999
    later = Moment(over.wall + CLOSE_AFTER, HOUR + CLOSE_AFTER, "boot")
    assert due(advance(clock, later), later) == 500_000


def test_a_clock_set_back_still_closes_an_hour_in_an_hour() -> None:
    """As many as pass, with numbers of their own, until the clock has come that far again."""
    clock = advance(MeterClock(), START)
    hours = []
    for step in range(1, 4 * 360):
        now = after(step * 10, wall=-(10**7) + step * 10)
        clock = advance(clock, now)
        last = due(clock, now)
        if last > clock.closed:
            hours.append(last)
            clock = replace(clock, closed=last)
    first = START.wall // HOUR
    assert hours == [first, first + 1, first + 2]


def test_months_are_those_of_utc() -> None:
    assert month_of(1_793_491_199 // HOUR) == 202610  # 2026-10-31 23:59:59
    assert month_of(1_793_491_200 // HOUR) == 202611
