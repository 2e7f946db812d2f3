"""Where a system collapses as a fault grows: found between two levels, and never said where it is not known."""

from __future__ import annotations

import random
from typing import Any

import pytest

from bounceback.api.collapse import Collapse, CollapseStatus, Level
from bounceback.api.experiment import FaultExperimentSpec
from bounceback.api.status import CheckCopy, Moment
from bounceback.engine.collapse import counted, decided, holds, least_samples, looked_for
from bounceback.engine.judge import judge
from bounceback.types.outcome import CollapseState, Judgement, Verdict
from tests.spec_cases_start import fault, ramp
from tests.unit.engine_values import at, check, experiment, finished, health, injection
from tests.unit.test_lint import CHECKED, linted
from tests.unit.test_start_words import run

Json = dict[str, Any]
STEPS = 5
LENGTH = 10.0
"""Seconds that a step takes: 20, 40, 60, 80 and 100 %, the first from second 1 on."""
PERIOD = 0.1


def spec(**more: Any) -> FaultExperimentSpec:
    entry = {
        "name": "cut",
        "target": "web",
        "networkPartition": {},
        "durationSeconds": round(STEPS * LENGTH),
        "pattern": {"ramp": {"fromPercent": 20, "toPercent": 100, "steps": STEPS}},
        "collapse": {"check": "healthy", **more},
    }
    return experiment(faults=[entry])


def levels(*seen: tuple[int, int, int]) -> list[Level]:
    return [Level(percent=percent, healthy=healthy, samples=samples) for percent, healthy, samples in seen]


def found(*seen: tuple[int, int, int], **asked: Any) -> tuple[CollapseState, int, int | None]:
    says = decided(Collapse(check="healthy", **asked), levels(*seen))
    return says["state"], says["held_percent"], says["collapsed_percent"]  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        ([], (CollapseState.UNDECIDED, 0, None)),
        ([(20, 100, 100), (40, 95, 100), (60, 1, 100)], (CollapseState.COLLAPSED, 40, 60)),
        ([(20, 0, 100)], (CollapseState.COLLAPSED, 0, 20)),
        ([(20, 100, 100), (40, 60, 100)], (CollapseState.HELD, 40, None)),
        ([(20, 100, 100), (40, 10, 100)], (CollapseState.UNDECIDED, 20, None)),
        ([(20, 100, 100), (40, 10, 100), (60, 0, 100)], (CollapseState.COLLAPSED, 20, 60)),
        ([(20, 100, 100), (40, 10, 100), (60, 80, 100)], (CollapseState.HELD, 60, None)),
        ([(20, 100, 100), (40, 0, 10)], (CollapseState.UNDECIDED, 20, None)),
        ([(20, 100, 100), (40, 0, 0)], (CollapseState.UNDECIDED, 20, None)),
        ([(20, 100, 100), (40, 0, 100), (60, 100, 100)], (CollapseState.COLLAPSED, 20, 40)),
    ],
    ids=[
        "nothing seen",
        "between two levels",
        "at the first one",
        "worse, but not collapsed",
        "at the threshold",
        "a level that is not sure widens it",
        "and is no collapse where the next one holds",
        "too few samples",
        "no samples",
        "the first one counts",
    ],
)
def test_it_lies_above_the_last_that_held_and_at_or_below_the_first_that_did_not(
    seen: list[tuple[int, int, int]], expected: tuple[CollapseState, int, int | None]
) -> None:
    assert found(*seen) == expected


def test_so_many_samples_are_needed_and_not_one_less() -> None:
    needed = least_samples(10)
    assert needed == 35
    assert found((20, 0, needed))[0] is CollapseState.COLLAPSED
    assert found((20, 0, needed - 1))[0] is CollapseState.UNDECIDED


@pytest.mark.parametrize(
    ("held", "collapsed", "asked", "expected"),
    [
        (40, 60, None, None),
        (40, 60, 40, Judgement.PASSED),
        (40, 60, 60, Judgement.FAILED),
        (40, 60, 80, Judgement.FAILED),
        (40, 60, 50, Judgement.INCONCLUSIVE),
        (100, None, 100, Judgement.PASSED),
        (60, None, 80, Judgement.INCONCLUSIVE),
    ],
)
def test_a_strength_up_to_which_it_must_hold_is_judged_by_what_is_sure(
    held: int, collapsed: int | None, asked: int | None, expected: Judgement | None
) -> None:
    status = CollapseStatus(fault="cut", held_percent=held, collapsed_percent=collapsed)
    assert holds(Collapse(check="healthy", holds_percent=asked), status) is expected
    judged = judge(spec(holdsPercent=asked), finished(collapses=[status]), [injection()], health())
    reasons = {f.reason: f.verdict for f in judged.findings if f.reason.startswith("Collapse")}
    words = {
        Judgement.FAILED: ("CollapsedEarly", Verdict.FAILED),
        Judgement.INCONCLUSIVE: ("CollapseUndecided", Verdict.INCONCLUSIVE),
    }
    assert reasons == ({} if expected in (None, Judgement.PASSED) else dict([words[expected]]))


def played(collapses_at: int, targets: int = 2, late: float = 0.3, seed: int = 0) -> CollapseStatus:
    """A ramp that is looked at as an operator does: the system fails from that strength on, at once.

    What agents tell arrives up to `late` seconds after it was; each answer takes up to 0.4 s; the operator is started
    anew now and then.
    """
    dice = random.Random(seed)
    asked, checks = spec(), [CheckCopy(**{**check().model_dump(), "spec": check(probes=[PROBE]).spec})]
    (status,) = looked_for(asked)
    begun = [1.0 + dice.uniform(0, 0.5) for _ in range(targets)]
    answers: list[tuple[float, bool]] = []
    start = 0.0
    while start < 60:
        strength = _strength(min(begun), start)
        answers.append((start + dice.uniform(0, 0.4), strength < collapses_at))
        start += PERIOD
    now = 0.0
    while now < 56:
        now += dice.uniform(0.02, 1.0)
        injections = [
            injection(
                f"cut-{n}",
                state="Active" if now - dice.uniform(0, late) < since + STEPS * LENGTH else "Cleared",
                percent=_strength(since, now - dice.uniform(0, late)),
                in_force_at=Moment.of(at(since)),
            )
            for n, since in enumerate(begun)
            if now > since + late
        ]
        seen = [healthy for end, healthy in answers if end <= now]
        (status,) = counted(asked, [status], injections, checks, {("healthy", "home"): (len(seen), sum(seen))}, at(now))
        status = CollapseStatus.model_validate(status.to_json())
    return status


PROBE = {"name": "home", "tcp": {"host": "web", "port": 80}, "periodMilliseconds": 100, "timeoutMilliseconds": 500}


def _strength(since: float, now: float) -> int:
    """0 before and after."""
    step = int((now - since) // LENGTH)
    return 20 * (step + 1) if 0 <= step < STEPS else 0


@pytest.mark.parametrize("seed", range(25))
@pytest.mark.parametrize("collapses_at", [20, 40, 60, 80, 100, 101])
def test_a_known_collapse_is_found_whatever_is_late(collapses_at: int, seed: int) -> None:
    status = played(collapses_at, seed=seed)
    assert [level.percent for level in status.levels] == [20, 40, 60, 80, 100]
    for level in status.levels:  # nothing of a level is counted for another one
        assert level.healthy == (0 if level.percent >= collapses_at else level.samples)
        assert level.samples > 50
    if collapses_at > 100:
        assert (status.state, status.held_percent, status.collapsed_percent) == (CollapseState.HELD, 100, None)
    else:
        expected = (CollapseState.COLLAPSED, collapses_at - 20, collapses_at)
        assert (status.state, status.held_percent, status.collapsed_percent) == expected


def test_nothing_is_counted_while_targets_differ_or_wait_or_nobody_looks() -> None:
    asked, checks = spec(), [check()]
    (status,) = looked_for(asked)
    one, two = injection("cut-1", state="Active", percent=20), injection("cut-2", state="Active", percent=40)
    planned = injection("cut-2", state="Planned", in_force_at=None)
    for injections, counts in (([one, two], True), ([one, planned], True), ([one], False)):
        seen = {("healthy", "home"): (50, 50)} if counts else {}
        (after,) = counted(asked, [status], injections, checks, seen, at(5))
        assert after.counting is None
    (after,) = counted(asked, [status], [one], checks, {("healthy", "home"): (50, 50)}, at(5))
    assert after.counting is not None


def test_lint_warns_of_steps_that_are_too_short(tmp_path: Any) -> None:
    """The probe of this check looks five times a second, and gives up after two seconds."""
    for seconds, warned in ((50, False), (40, True)):
        entry = fault("grow", durationSeconds=seconds, **ramp(collapse={"check": "web-healthy"}))
        found = linted(tmp_path, CHECKED, run(entry))
        assert ["35 to say" in remark.text for remark in found.remarks] == [True] * warned
    entry = fault("grow", **ramp(collapse={"check": "web-healthy", "probe": "hoem"}))
    [error] = linted(tmp_path, CHECKED, run(entry)).errors
    assert "spec.faults[0].collapse.probe: must be one of the probes of web-healthy: home" in error.text
