"""Simulated servers with known outages: the true moment always lies in the stated interval, which is narrow enough."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from bounceback.engine.samples import History, Sample
from bounceback.engine.timeline import first_symptom, has_gap, healthy_for, recovered
from bounceback.types.instants import Instant, Interval

BASE = Instant("boot", 10**15, 1.7e9)
ALLOWANCE = 50  # milliseconds


def at(milliseconds: int) -> Instant:
    return Instant("boot", BASE.nanos + milliseconds * 1_000_000, BASE.utc + milliseconds / 1000)


def milliseconds(instant: Instant) -> int:
    return (instant.nanos - BASE.nanos) // 1_000_000


@dataclass(frozen=True)
class Look:
    """What one sample meets, in milliseconds."""

    start: int
    looks: int  # when the server looks at its own state
    answered: int  # when the answer is there, if it is healthy
    failed: int  # when the failure is known, if it is not


@dataclass(frozen=True)
class Scene:
    period: int
    timeout: int
    looks: list[Look]
    down: int
    up: int

    def sample(self, look: Look) -> Sample:
        healthy = not self.down <= look.looks < self.up
        return Sample(at(look.start), at(look.answered if healthy else look.failed), healthy, "" if healthy else "down")

    def moments(self, looks: list[Look]) -> list[tuple[int, Instant | Sample]]:
        """In the order in which things happen: starts and answers interleaved."""
        samples = [self.sample(look) for look in looks]
        happen = [(milliseconds(s.start), 0, n) for n, s in enumerate(samples)]
        happen += [(milliseconds(s.end), 1, n) for n, s in enumerate(samples)]
        return [(moment, samples[n] if ended else samples[n].start) for moment, ended, n in sorted(happen)]

    def history(self, skip: Callable[[Look], bool] = lambda _: False) -> History:
        history = History(self.period / 1000, self.timeout / 1000)
        for _, what in self.moments([look for look in self.looks if not skip(look)]):
            if isinstance(what, Sample):
                history.add(what)
            else:
                history.begin(what)
        return history

    def changes(self, *, to_healthy: bool) -> list[tuple[Sample, Sample]]:
        """The answers around each change, in the order of their starts."""
        pairs = pairwise(self.sample(look) for look in self.looks)
        return [(a, b) for a, b in pairs if a.healthy != b.healthy and b.healthy is to_healthy]


@st.composite
def scenes(draw: st.DrawFn, *, any_moment: bool, short: bool) -> Scene:
    """`any_moment`: the server may look at its state at any time before it answers, in any order; else as they come."""
    period = draw(st.integers(50, 1000))
    timeout = draw(st.integers(50, 2000))
    slowest = draw(st.integers(0, timeout))
    quickest = draw(st.integers(0, slowest))
    how = draw(st.sampled_from([["quick"], ["late"], ["silent"], ["quick", "late", "silent"]]))
    least = 1 if short else 2 * (period + timeout) + 100
    down = draw(st.integers(3 * period + 2 * timeout, 6 * period + 2 * timeout))
    up = down + draw(st.integers(least, least + 2000))
    dice = random.Random(draw(st.integers(0, 2**32)))
    looks: list[Look] = []
    looked = 0
    for grid in range(0, up + 3 * period + 2 * timeout + 1000, period):
        start = grid + dice.randint(0, 20)
        latency = dice.randint(quickest, slowest)
        looked = start + dice.randint(0, latency) if any_moment else max(looked, start + quickest)
        answered = max(looked, start + latency)
        failed = {"quick": looked, "late": answered, "silent": max(looked, start + timeout)}[dice.choice(how)]
        looks.append(Look(start, looked, answered, failed))
    return Scene(period, timeout, looks, down, up)


def contains(interval: Interval, moment: int) -> bool:
    slack = 1  # rounding of the simulation
    return milliseconds(interval.earliest) - slack <= moment <= milliseconds(interval.latest) + slack


def promised(scene: Scene, one: Sample, other: Sample) -> float:
    """Seconds."""
    return (scene.period + ALLOWANCE) / 1000 + max(one.latency, other.latency)


def verify_symptom(scene: Scene, read: Callable[[History], Interval | None]) -> None:
    pairs = scene.changes(to_healthy=False)
    assume(pairs)
    interval = read(scene.history())
    assert interval is not None
    assert contains(interval, scene.down)
    assert interval.width <= promised(scene, *pairs[0])


def verify_recovery(scene: Scene, read: Callable[[History], Interval | None]) -> None:
    pairs = scene.changes(to_healthy=True)
    assume(pairs)
    interval = read(scene.history())
    assert interval is not None
    assert contains(interval, scene.up)
    assert interval.width <= promised(scene, *pairs[-1])


def symptom(history: History) -> Interval | None:
    return first_symptom(history, at(0))


def recovery(history: History) -> Interval | None:
    return recovered(history, at(0), 0, at(1_000_000))


in_order = scenes(any_moment=False, short=True)
at_any_moment = scenes(any_moment=True, short=False)


@settings(max_examples=100, deadline=None)
@given(in_order)
def test_the_symptom_lies_in_its_interval_where_looks_come_in_order(scene: Scene) -> None:
    verify_symptom(scene, symptom)


@settings(max_examples=100, deadline=None)
@given(in_order)
def test_the_recovery_lies_in_its_interval_where_looks_come_in_order(scene: Scene) -> None:
    verify_recovery(scene, recovery)


@settings(max_examples=100, deadline=None)
@given(at_any_moment)
def test_the_symptom_lies_in_its_interval_whenever_the_server_looks_if_the_outage_outlasts_its_answers(
    scene: Scene,
) -> None:
    verify_symptom(scene, symptom)


@settings(max_examples=100, deadline=None)
@given(at_any_moment)
def test_the_recovery_lies_in_its_interval_whenever_the_server_looks_if_the_outage_outlasts_its_answers(
    scene: Scene,
) -> None:
    verify_recovery(scene, recovery)


@settings(max_examples=100, deadline=None)
@given(in_order, st.integers(0, 10_000), st.integers(0, 5_000), st.booleans())
def test_what_a_gap_hides_is_never_filled_in(scene: Scene, start: int, longer: int, restarted: bool) -> None:
    """Either the interval is wide enough to contain the truth, or the gap over it is reported."""
    length = 3 * scene.period + scene.timeout + ALLOWANCE + longer
    history = scene.history(skip=lambda look: start <= look.start < start + length)
    assume(history.samples and scene.changes(to_healthy=True))
    if restarted:
        history = History.from_json(history.to_json())
    whole = Interval(at(0), at(scene.looks[-1].start))
    for interval, truth in ((symptom(history), scene.down), (recovery(history), scene.up)):
        if interval is None or not contains(interval, truth):
            assert has_gap(history, whole)


@settings(max_examples=50, deadline=None)
@given(in_order)
def test_nothing_counts_as_stable_that_a_late_answer_takes_back(scene: Scene) -> None:
    failures = [scene.sample(look) for look in scene.looks if not scene.sample(look).healthy]
    history = History(scene.period / 1000, scene.timeout / 1000)
    for now, what in scene.moments(scene.looks):
        if isinstance(what, Instant):
            history.begin(what)
            continue
        history.add(what)
        claimed = healthy_for(history, at(now))
        until = min(milliseconds(history.newest_start or BASE), milliseconds(history.oldest_under_way or at(now)))
        assert not [f for f in failures if until - claimed * 1000 < milliseconds(f.start) < until]


def only_ends(history: History) -> Interval | None:
    """A broken timeline: it takes an answer for the state at its end."""
    runs = history.runs
    change = next((n for n in range(1, len(runs)) if runs[n - 1].healthy and not runs[n].healthy), None)
    return None if change is None else Interval(runs[change - 1].last.end, runs[change].first.end)


def only_ends_of_recovery(history: History) -> Interval | None:
    runs = history.runs
    return Interval(runs[-2].last.end, runs[-1].first.end) if len(runs) > 1 and runs[-1].healthy else None


@pytest.mark.parametrize(
    ("verify", "broken"), [(verify_symptom, only_ends), (verify_recovery, only_ends_of_recovery)], ids=["down", "up"]
)
def test_a_timeline_of_ends_only_does_not_pass(
    verify: Callable[[Scene, Callable[[History], Interval | None]], None],
    broken: Callable[[History], Interval | None],
) -> None:
    @settings(max_examples=100, deadline=None, database=None, report_multiple_bugs=False)
    @given(in_order)
    def run(scene: Scene) -> None:
        verify(scene, broken)

    with pytest.raises(AssertionError):
        run()
