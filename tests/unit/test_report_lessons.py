"""What a report says that a run teaches: how it failed, limits that were found, what to look at next."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable

import pytest

from bounceback.api.status import InvariantResult
from bounceback.engine.invariants import REFERENCE, if_broken
from bounceback.report.junit import as_junit
from bounceback.report.latencies import COLUMNS, course, latency_picture
from bounceback.report.lessons import MODES, NEXT, lessons
from bounceback.report.markdown import as_markdown
from bounceback.report.page import as_page
from bounceback.report.picture import NARROW, WIDE
from bounceback.report.record import as_json
from bounceback.report.subject import Subject
from tests.finished_runs import RUNS
from tests.run_parts import Json


def subject(run: str, change: Callable[[Json], object] = lambda body: None) -> Subject:
    body = copy.deepcopy(RUNS[run]())
    change(body)
    return Subject.of(body)


def failing(reason: str, verdict: str = "Failed") -> Callable[[Json], object]:
    return lambda body: body["status"].update(findings=[{"verdict": verdict, "reason": reason, "message": "so"}])


def first(verdict: str) -> str:
    return next(name for name, make in RUNS.items() if make()["status"].get("verdict") == verdict)


@pytest.mark.parametrize("reason", sorted(MODES))
def test_what_a_system_failed_at_is_a_mode_and_has_advice(reason: str) -> None:
    learned = lessons(subject(first("Failed"), failing(reason)))
    assert learned.modes[0] == f"{MODES[reason]} ({reason})"
    assert learned.next


def test_what_is_undecided_is_no_failure_mode_of_the_system() -> None:
    learned = lessons(subject(first("Inconclusive"), failing("FaultHitNothing", "Inconclusive")))
    assert not any("FaultHitNothing" in mode for mode in learned.modes)
    assert NEXT["FaultHitNothing"] in learned.next


@pytest.mark.parametrize(
    ("fault", "word"),
    [
        ({"networkPartition": {"peers": [{"service": {"name": "db"}}]}}, "pools"),
        ({"cpuPressure": {"workers": 1}}, "circuit breakers"),
        ({"podDelete": {}}, "locks"),
    ],
)
def test_what_did_not_come_back_is_looked_for_by_the_kind_of_fault(fault: Json, word: str) -> None:
    def hit(body: Json) -> None:
        failing("NotRecovered")(body)
        body["spec"]["faults"] = [{"name": "cut", "target": "web", "durationSeconds": 15, **fault}]

    assert any(word in line for line in lessons(subject(first("Failed"), hit)).next)


def test_a_run_that_passed_says_what_nobody_asked() -> None:
    learned = lessons(subject("passed"))
    assert any("passed once" in line for line in learned.next)
    assert any(line.startswith("is back within") for line in learned.limits), learned.limits
    asked = {"detection": "Passed", "categorization": "Passed", "consistency": "Passed", "performance": "Passed"}
    all_asked = lessons(subject("passed", lambda body: body["status"]["aspects"].update(asked)))
    assert not any(line.startswith("detection in") for line in all_asked.next)


def test_where_it_collapsed_is_a_limit() -> None:
    collapse = {
        "fault": "slow",
        "state": "Collapsed",
        "message": "collapsed above 60 %",
        "heldPercent": 60,
        "levels": [],
    }
    learned = lessons(subject("passed", lambda body: body["status"].update(collapses=[collapse])))
    assert "slow collapsed above 60 %" in learned.limits


@pytest.mark.parametrize("run", RUNS)
def test_every_form_has_them_and_the_aspects(run: str) -> None:
    found = subject(run)
    told = json.loads(as_json(found))["lessons"]
    for lines, title in ((told["failureModes"], "Failure modes"), (told["next"], "What to look at next")):
        assert (f"## {title}" in as_markdown(found)) is bool(lines)
        assert (f"<h3>{title}</h3>" in as_page(found)) is bool(lines)
    for name, word in (found.status.aspects.to_json() if found.status.aspects else {}).items():
        assert f"| {name} |" in as_markdown(found)
        assert f'<property name="aspect.{name}" value="{word}" />' in as_junit(found)


def test_answers_are_drawn_as_long_as_they_took_and_failures_apart() -> None:
    found = subject("passed")
    length = found.length
    samples = [(n * length / 100, 4.0 if n < 50 else 400.0, n % 10 != 9) for n in range(100)]
    drawn = course("web/page", samples, length)
    assert drawn is not None and len(drawn.columns) == COLUMNS
    assert sum(each.failed for each in drawn.columns) == 10
    assert {each.middle for each in drawn.drawn} == {4.0, 400.0}
    for paper in (WIDE, NARROW):
        text = latency_picture(found, [drawn], paper)
        assert "web/page" in text and "1 ms" in text and "1,000 ms" in text
        assert text.count('class="failed"') == 10


@pytest.mark.parametrize(
    "samples", [[], [(1.0, 4.0, True)] * 9, [(1.0, 4.0, False)] * 100], ids=["none", "few", "failed"]
)
def test_too_few_answers_are_not_drawn(samples: list[tuple[float, float, bool]]) -> None:
    assert course("web/page", samples, 10.0) is None
    assert latency_picture(subject("passed"), [], WIDE) == ""


def test_answers_of_no_time_and_late_ones_stay_within_the_picture() -> None:
    drawn = course("p", [(-0.5, 0.0, True)] * 10 + [(99.0, 0.0, True)], 10.0)
    assert drawn is not None
    assert "nan" not in latency_picture(subject("passed"), [drawn], WIDE)


def test_every_way_to_be_inconsistent_is_a_mode() -> None:
    broken = [InvariantResult(check="web", name=name, result="Failed") for name in ("kept", "orders unchanged")]
    reasons = {if_broken(each) for each in (*broken, broken[0].model_copy(update={"check": REFERENCE}))}
    assert len(reasons) == 3 and reasons <= MODES.keys()


def test_repeated_runs_teach_what_each_of_them_found() -> None:
    """Their own findings say only that too few passed."""

    def repeated(body: Json) -> None:
        failing("RateTooLow")(body)
        one = {"number": 1, "seed": 7, "verdict": "Failed", "reason": "StrategyNotSeen"}
        two = {"number": 2, "seed": 8, "verdict": "Inconclusive", "reason": "NeverHealthy"}
        body["status"]["runs"] = {"number": 2, "listed": [one, two]}

    learned = lessons(subject(first("Failed"), repeated))
    assert learned.modes[0] == f"{MODES['StrategyNotSeen']} (StrategyNotSeen)"
    assert {NEXT["StrategyNotSeen"], NEXT["NeverHealthy"]} <= set(learned.next)
    assert not any("NeverHealthy" in mode for mode in learned.modes)
