"""Samples from another place: on our clock, each once, and never narrower than what is known."""

from __future__ import annotations

from typing import Any

import pytest

from bounceback.engine.samples import History
from bounceback.recovery.remote import Reading, Remote
from bounceback.types.instants import Instant, Interval
from tests.unit.engine_values import START, at

THERE = Instant("boot-2", 5_000_000_000, START.utc + 3600)  # a clock that is an hour wrong


def line(start: float, end: float, wrong: str | None = None, *, from_: Instant = THERE, **more: Any) -> dict[str, Any]:
    moments = {"start": from_.plus(start).to_json(), "end": from_.plus(end).to_json()}
    return {"said": "Sample", "probe": "p", **moments, "wrong": wrong, **more}


def test_another_machines_moment_lies_between_question_and_answer_whatever_its_wall_clock_says() -> None:
    reading = Reading(at(10), THERE, at(10.2))
    assert reading.ours(THERE.plus(5)) == Interval(at(15), at(15.2))
    assert reading.ours(THERE.plus(-5)) == Interval(at(5), at(5.2))


def test_on_the_same_machine_it_is_exact() -> None:
    reading = Reading(at(10), at(10.1), at(10.2))
    assert reading.ours(at(12)) == Interval.at(at(12))


def test_a_change_seen_from_there_lies_in_an_interval_that_holds_the_truth() -> None:
    """It was between 2.0 and 3.1 there, which is 12.0 here at the earliest and 13.3 at the latest."""
    remote = Remote(History(1.0, 1.0), lambda: None)
    reading = Reading(at(10), THERE, at(10.2))
    for number in range(3):
        remote.hear(line(number, number + 0.1), reading)
    for number in range(3, 6):
        remote.hear(line(number, number + 0.1, "connection refused"), reading)
    good, bad = remote.history.runs
    assert (good.healthy, bad.healthy) == (True, False)
    assert good.last.start.since(at(12.0)) == pytest.approx(0)
    assert bad.soonest.since(at(13.3)) == pytest.approx(0)
    assert remote.history.messages == ["connection refused"]
    assert remote.history.gaps == ()


def test_what_was_known_before_a_restart_is_not_counted_twice_and_what_came_meanwhile_is() -> None:
    before = Remote(History(1.0, 1.0), lambda: None)
    reading = Reading(at(0), at(0), at(0))
    log = [line(number, number + 0.1, from_=START) for number in range(10)]
    for each in log[:4]:
        before.hear(each, reading)
    after = Remote(History.from_json(before.history.to_json()), lambda: None)
    for each in log:
        after.hear(each, reading)
    assert after.history.samples == 10
    assert all(gap.width < 2 for gap in after.history.gaps)


def test_a_prober_that_is_silent_is_a_gap() -> None:
    remote = Remote(History(1.0, 1.0), lambda: None)
    reading = Reading(at(0), at(0), at(0))
    for number in (0, 1, 9, 10):
        remote.hear(line(number, number + 0.1, from_=START), reading)
    assert [(gap.earliest, gap.latest) for gap in remote.history.gaps] == [(at(1), at(9))]


def test_a_look_that_was_held_up_is_a_gap_and_no_failure() -> None:
    remote = Remote(History(1.0, 1.0), lambda: None)
    reading = Reading(at(0), at(0), at(0))
    remote.hear(line(0, 0.1, from_=START), reading)
    remote.hear(line(1, 2, from_=START, said="NoSample"), reading)
    assert remote.history.healthy_samples == remote.history.samples == 1
    assert [gap.width for gap in remote.history.gaps] == [1.0]


def test_a_problem_is_told_until_it_is_gone() -> None:
    told: list[int] = []
    remote = Remote(History(1.0, 1.0), lambda: told.append(1))
    reading = Reading(at(0), at(0), at(0))
    remote.hear({"said": "Problem", "probe": "p", "problem": "no such host"}, reading)
    assert remote.problem == "no such host"
    remote.hear({"said": "Problem", "probe": "p", "problem": None}, reading)
    assert remote.problem is None and len(told) == 2
    remote.tell("no prober pod can be made")
    remote.hear(line(0, 0.1, from_=START), reading)
    assert remote.problem is None, "somebody looks again"
