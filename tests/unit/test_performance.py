"""How fast a system is again after a fault: by the seconds of a workload, and never by what nobody saw."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from bounceback.accounting.account import Account
from bounceback.accounting.ledger import Model
from bounceback.accounting.seconds import Second, class_of
from bounceback.api.status import CheckCopy, FaultExperimentStatus
from bounceback.engine.judge import judge
from bounceback.engine.performance import still_slow
from bounceback.engine.state import Seen, State, Work
from bounceback.engine.working import with_work
from bounceback.types.instants import Instant, Interval, Span
from bounceback.types.outcome import Aspect, Mark, Verdict
from bounceback.types.prober import LoadEnd
from tests.unit.engine_values import START, at, check, experiment, finished, health, injection

STORE = {"url": "http://store", "write": {"path": "/items/{value}"}, "list": {"path": "/items"}}
ACCOUNT = Account(Model.SET, acknowledged=900, read_back=900).to_json()
MARKS = {Mark.PLANNED: Interval.at(at(10)), Mark.ACTIVE: Interval.at(at(11)), Mark.CLEARED: Interval.at(at(20))}
Pace = Callable[[int], tuple[int, int]]


def asked(**performance: Any) -> CheckCopy:
    load = {"open": {"perSecond": 100}}
    return check(workload={"model": "Set", "http": STORE, "load": load}, performance=performance)


def work(pace: Pace, lasts: int = 40, **changes: Any) -> Work:
    """A load from second 0 on, with so many operations, of so many milliseconds each, in each second."""
    seconds = []
    for number in range(lasts):
        count, milliseconds = pace(number)
        seconds.append(Second(number, count, latencies=Counter({class_of(milliseconds * 1_000_000): count})))
    values: dict[str, Any] = {"began": START, "offset": Span(0, 0), "seconds": tuple(seconds), "account": ACCOUNT}
    return Work("healthy", load_end=LoadEnd.ASKED, **(values | changes))


def slow_until(second: int, *, count: int = 100, milliseconds: int = 10) -> Pace:
    """100 a second of 10 ms each; from the fault until then otherwise."""
    return lambda number: (count, milliseconds) if 11 <= number < second else (100, 10)


def judged(seen: Work, copy: CheckCopy, **marks: Interval | None) -> FaultExperimentStatus:
    named = MARKS | {Mark(name): interval for name, interval in marks.items()}
    status = finished([copy], run_uid="uid", marks=named | {Mark.RECOVERED: Interval(at(21), at(21.2))})
    state = with_work(State(status), Seen(work=(seen,)), at(41))
    return judge(experiment(), state.status, [injection()], health())


BOTH = {"throughputPercent": 90, "latencyP99Percent": 150, "withinSeconds": 8}


@pytest.mark.parametrize(
    ("pace", "expected", "reason"),
    [
        (slow_until(20, count=5), (Aspect.PASSED, Verdict.PASSED), ""),
        (slow_until(25, count=5), (Aspect.PASSED, Verdict.PASSED), ""),
        (slow_until(25, milliseconds=100), (Aspect.PASSED, Verdict.PASSED), ""),
        (slow_until(35, count=50), (Aspect.FAILED, Verdict.FAILED), "PerformanceNotBack"),
        (slow_until(35, milliseconds=100), (Aspect.FAILED, Verdict.FAILED), "PerformanceNotBack"),
        (slow_until(99, count=50), (Aspect.FAILED, Verdict.FAILED), "PerformanceNotBack"),
        (slow_until(28, count=5), (Aspect.INCONCLUSIVE, Verdict.INCONCLUSIVE), "PerformanceUndecided"),
    ],
)
def test_a_system_is_as_fast_again_in_time_or_it_is_not(
    pace: Pace, expected: tuple[Aspect, Verdict], reason: str
) -> None:
    status = judged(work(pace), asked(**BOTH))
    assert status.aspects is not None
    assert (status.aspects.performance, status.verdict) == expected, status.findings
    assert [finding.reason for finding in status.findings] == ([reason] if reason else [])


def test_what_it_was_before_during_and_after_is_told_with_when_it_was_back() -> None:
    (told,) = judged(work(slow_until(25, count=20, milliseconds=80)), asked(**BOTH)).workloads
    found = told.performance
    assert found is not None
    assert (found.before.per_second, found.during.per_second) == (100, 20)
    assert found.before.p99_milliseconds == pytest.approx(10, rel=0.035)
    assert found.during.p99_milliseconds == pytest.approx(80, rel=0.035)
    assert found.back_milliseconds == pytest.approx(4500, abs=200), "between 4 and 5 s after it was cleared"
    assert found.back_plus_minus_milliseconds >= 500


def test_an_hour_is_looked_through_at_once() -> None:
    began = time.process_time()
    judged(work(slow_until(3600, count=50), lasts=3700), asked(**BOTH))
    assert time.process_time() - began < 5


def test_one_good_window_is_not_enough() -> None:
    pace = lambda n: (5, 10) if n >= 11 and not 22 <= n < 25 else (100, 10)  # noqa: E731
    assert judged(work(pace), asked(**BOTH)).verdict is Verdict.FAILED


@pytest.mark.parametrize(
    "changes",
    [
        {"seconds": ()},
        {"account": None, "lost": "its pod ended"},
        {"account": None, "refused": "GET /items: 404"},
    ],
)
def test_what_nobody_saw_is_no_pass(changes: dict[str, Any]) -> None:
    status = judged(replace(work(slow_until(20)), **changes), asked(**BOTH))
    assert status.aspects is not None and status.aspects.performance is Aspect.INCONCLUSIVE
    assert status.verdict is Verdict.INCONCLUSIVE


def test_a_baseline_without_answers_holds_nothing() -> None:
    status = judged(work(lambda number: (0, 0)), asked(**BOTH))
    assert "there is no baseline" in status.findings[0].message
    assert status.verdict is Verdict.INCONCLUSIVE


def test_a_load_that_was_seen_for_too_short_decides_nothing() -> None:
    status = judged(work(slow_until(99, count=5), lasts=25), asked(**BOTH))
    assert [finding.reason for finding in status.findings] == ["PerformanceUndecided"]


def test_without_it_the_aspect_is_not_checked_and_says_so() -> None:
    copy = check(workload={"model": "Set", "http": STORE, "load": {"open": {"perSecond": 100}}})
    status = judged(work(slow_until(99, count=5)), copy)
    assert status.aspects is not None and status.aspects.performance is Aspect.NOT_CHECKED
    found = status.workloads[0].performance
    assert found is not None and "the check has no performance" in found.message


def test_the_clock_of_another_node_widens_what_is_told() -> None:
    there = Instant("boot-2", 7, START.utc + 100)
    seen = work(slow_until(25, count=5), began=there, offset=Span(99.5, 100.5))
    (told,) = judged(seen, asked(**BOTH)).workloads
    assert told.performance is not None and told.performance.result == "Passed"
    assert told.performance.back_milliseconds == pytest.approx(4500, abs=600)
    assert told.performance.back_plus_minus_milliseconds > 900


def test_a_run_goes_on_until_it_is_as_fast_again_or_its_time_is_over() -> None:
    status = finished([asked(**BOTH)], run_uid="uid", marks=MARKS)
    slow = Seen(work=(work(slow_until(99, count=5), lasts=24, account=None),))
    assert "not yet back at 90 % of the throughput (90.0/s)" in still_slow(State(status), slow, 4)
    assert still_slow(State(status), slow, 15) == ""
    fast = Seen(work=(work(slow_until(21, count=5), lasts=25, account=None),))
    assert still_slow(State(status), fast, 5) == ""
