"""When an agent acts: by one clock that nobody can step."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bounceback.agent.job import hits_pace
from bounceback.agent.schedule import Due, Times, begins, due, ends_at, over
from bounceback.types.instants import Instant
from bounceback.types.plan import Direction, Drop, Order

UTC = 1_800_000_000.0
BOOTED = 5_000.0  # seconds ago, when the agent starts
START = Instant("boot", round(BOOTED * 1e9), UTC)


def times(**moments: float) -> Times:
    """Seconds from the agent's start."""
    given = {"start_at": 0.0, "start_before": 10.0, "not_after": 100.0, "duration": 20.0} | moments
    start_at, start_before, not_after = (UTC + given[name] for name in ("start_at", "start_before", "not_after"))
    what = ("i", "f", "ns", "p", "u", Drop(), Direction.BOTH, ())
    order = Order(*what, start_at, start_before, not_after, given["duration"])
    return Times.of(order, START)


def test_a_plans_utc_becomes_the_boot_time_clocks_once() -> None:
    assert times(start_at=3.0) == Times(BOOTED + 3, BOOTED + 10, BOOTED + 100, 20.0)


@given(step=st.floats(-1e8, 1e8), passed=st.floats(0, 200))
def test_a_stepped_wall_clock_neither_prolongs_nor_shortens_a_fault(step: float, passed: float) -> None:
    """Whatever UTC says later, only the boot-time clock decides."""
    at_start = times()
    now = Instant("boot", round((BOOTED + passed) * 1e9), UTC + passed + step)
    expected = None if passed < 20 else "Duration" if passed < 100 else "NotAfter"
    assert over(at_start, BOOTED, now.nanos / 1e9) == expected


def test_an_order_waits_is_applied_and_is_too_late_in_turn() -> None:
    t = times(start_at=5.0, start_before=10.0)
    assert [due(t, BOOTED + now) for now in (0, 4.999, 5.0, 10.0, 10.001)] == [
        Due.WAIT,
        Due.WAIT,
        Due.APPLY,
        Due.APPLY,
        Due.TOO_LATE,
    ]


def test_an_order_whose_end_has_come_is_too_late_even_before_its_last_start() -> None:
    assert due(times(start_before=10.0, not_after=2.0), BOOTED + 2.0) is Due.TOO_LATE


@given(since=st.floats(0, 90), duration=st.floats(0.1, 500))
def test_the_duration_counts_from_when_the_fault_was_in_force_and_never_passes_not_after(
    since: float, duration: float
) -> None:
    t = times(duration=duration)
    end = ends_at(t, BOOTED + since)
    assert end == min(BOOTED + since + duration, BOOTED + 100)
    assert over(t, BOOTED + since, end) is not None
    assert over(t, BOOTED + since, end - 0.01) is None


def test_an_agents_log_grows_by_ten_counts_a_second_at_most() -> None:
    assert hits_pace(1) == hits_pace(10) == 1.0
    assert hits_pace(50) == 5.0


@given(start_at=st.floats(0, 1e4), start_before=st.floats(0, 1e4), not_after=st.floats(0, 1e4))
def test_an_order_that_is_told_its_times_is_never_later_than_its_plan(
    start_at: float, start_before: float, not_after: float
) -> None:
    order = Order("i", "f", "ns", "p", "u", Drop(), Direction.BOTH, (), 100.0, 160.0, 300.0, 20.0, waits=True)
    own = begins(order, {"startAt": start_at, "startBefore": start_before, "notAfter": not_after})
    assert (own.start_at, own.start_before) == (min(100, start_at), min(160, start_before))
    assert (own.not_after, own.waits, own.duration) == (min(300, not_after), False, 20.0)
