"""What stands around the watching of a check: causes, conditions, what is told, and how it is reported."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from bounceback.api.check_status import RecoveryCheckStatus, Watched
from bounceback.api.status import FaultExperimentStatus
from bounceback.controller import metrics
from bounceback.controller.causes import MOST, REMEMBERED, Causes
from bounceback.controller.resources import glimpse
from bounceback.controller.results import with_result
from bounceback.engine.conditions import Obstacle, is_watched, of_watching, says_so
from bounceback.report.outages import Record, as_json, as_markdown, outages, summary
from bounceback.types.outcome import Verdict
from tests.unit.test_outages import System, spec

NOW = "2026-01-01T00:00:00Z"


def experiment(name: str, uid: str, *marks: tuple[str, float], **status: Any) -> dict[str, Any]:
    listed = [{"mark": mark, "earliest": {"utc": utc, "boot": "b"}, "latest": {"utc": utc}} for mark, utc in marks]
    return {
        "kind": "FaultExperiment",
        "metadata": {"namespace": "shop", "name": name, "uid": uid},
        "spec": {},
        "status": {"phase": "Active", "marks": listed, **status},
    }


def test_an_experiment_may_be_a_cause_from_when_it_planned_something_until_it_is_over() -> None:
    causes = Causes(lambda: 1000.0)
    causes.changed("ADDED", glimpse(experiment("waits", "1")))
    causes.changed("ADDED", glimpse(experiment("runs", "2", ("Planned", 900.0), ("Active", 901.0))))
    over = experiment("ran", "3", ("Planned", 100.0), finishedAt="1970-01-01T00:02:30Z")
    causes.changed("MODIFIED", glimpse(over))
    assert {(each.name, each.since, each.until) for each in causes.of("shop")} == {
        ("runs", 900.0, None),
        ("ran", 100.0, 150.0),
    }
    causes.changed("DELETED", glimpse(experiment("runs", "2", ("Planned", 900.0))))
    assert {each.until for each in causes.of("shop")} == {1000.0, 150.0}
    assert not causes.of("other")


def test_causes_are_forgotten_in_time_and_in_number() -> None:
    now = 1000.0
    causes = Causes(lambda: now)
    causes.changed("ADDED", experiment("ran", "old", ("Planned", 100.0), finishedAt="1970-01-01T00:02:30Z"))
    now = 151.0 + REMEMBERED
    for number in range(MOST + 10):
        causes.changed("ADDED", experiment("runs", str(number), ("Planned", now)))
    assert len(causes.of("shop")) == MOST


def states(status: RecoveryCheckStatus) -> dict[str, tuple[str, str]]:
    return {c.type: (c.status, c.reason) for c in status.conditions}


@pytest.mark.parametrize(
    ("looks", "obstacle", "expected"),
    [
        ("HHHH", None, {"Watching": "True", "Healthy": "True", "Ready": "True", "Stalled": "False"}),
        ("HHFF", None, {"Watching": "True", "Healthy": "False", "Ready": "True", "Stalled": "False"}),
        ("FFFF", None, {"Watching": "True", "Healthy": "Unknown", "Ready": "True", "Stalled": "False"}),
        (
            "HHFF",
            Obstacle("Forbidden", "must be allowed to list events"),
            {"Watching": "False", "Healthy": "Unknown", "Ready": "False", "Stalled": "True"},
        ),
        (
            "HHHH",
            Obstacle("Suspended", "spec.suspend is true"),
            {"Watching": "False", "Healthy": "Unknown", "Ready": "Unknown", "Stalled": "False"},
        ),
    ],
    ids=["up", "down", "never healthy", "forbidden", "suspended"],
)
def test_conditions_say_whether_somebody_looks_and_what_is_seen(
    looks: str, obstacle: Obstacle | None, expected: dict[str, str]
) -> None:
    record = System(spec()).lives(looks)
    found = RecoveryCheckStatus(conditions=of_watching([], record, obstacle, 3, NOW))
    assert {type_: status for type_, (status, _) in states(found).items()} == {"Reconciling": "False", **expected}
    assert says_so(found.conditions, 3) is (obstacle is None)
    assert not says_so(found.conditions, 4)


def test_ready_of_a_check_that_watches_is_not_the_last_experiments_verdict() -> None:
    record = System(spec()).lives("HHHH")
    watched = RecoveryCheckStatus(continuous=record, conditions=of_watching([], record, None, 1, NOW))
    failed = FaultExperimentStatus(verdict=Verdict.FAILED, finished_at=NOW)
    after = with_result(watched, {"name": "e", "uid": "u"}, failed, 1)
    assert (states(after)["Ready"], after.last_verdict, after.continuous) == (("True", "Watching"), "Failed", record)
    suspended = of_watching([], record, Obstacle("Suspended", ""), 1, NOW)
    assert not is_watched(suspended)


def test_metrics_grow_by_what_was_seen_since_and_go_with_the_check() -> None:
    system = System(spec("home", signals=["alert"]))
    before = system.lives("HHHHFFFFHHHHHHH", "FFFFFHHHFFFFFFF")
    metrics.count_check("shop", "web", None, before)
    metrics.count_check("shop", "web", before, before)
    text = metrics_text()
    assert 'bounceback_outages_total{cause="Unknown",check="web",namespace="shop"} 1.0' in text
    assert 'bounceback_check_up{check="web",namespace="shop"} 1.0' in text
    assert 'bounceback_outage_seconds_sum{check="web",namespace="shop"} 4.0' in text
    assert 'bounceback_outage_detection_seconds_count{check="web",namespace="shop"} 1.0' in text
    metrics.count_check("shop", "web", before, before.model_copy(update={"state": Watched.UNKNOWN}))
    assert math.isnan(metrics.CHECK_UP.labels("shop", "web")._value.get())
    metrics.forget_check("shop", "web")
    assert 'check="web"' not in metrics_text()


def metrics_text() -> str:
    from prometheus_client import generate_latest

    return generate_latest().decode()


def body(system: System) -> dict[str, Any]:
    assert system.record is not None
    status = RecoveryCheckStatus(continuous=system.record).to_json()
    return {"kind": "RecoveryCheck", "metadata": {"namespace": "shop", "name": "web"}, "spec": {}, "status": status}


def test_a_report_shows_the_outages_and_what_is_known_of_the_time() -> None:
    system = System(spec(budgets={"outageSeconds": 2}))
    system.lives("HHHHFFFFHHHHHHH" + "HFFF")
    record = Record.of(body(system))
    first, window, whole = summary(record)
    assert first.startswith("web  Down: outage 2 since ")
    assert "2 outages" in window
    assert "unknown" in window
    assert "the longest, 1, lasted 4.0 s ±1.1; 4.0 s to recover on average" in whole
    assert [(row[0], row[2], row[4]) for row in outages(record)] == [
        ("2", "goes on", ""),
        ("1", "4.0 s ±1.1", "Failed"),
    ]
    assert "| 1 |" in as_markdown(record)
    told = json.loads(as_json(record))
    assert told["totals"]["outages"] == 2
    assert "histories" not in told


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"kind": "FaultExperiment"}, "must be a RecoveryCheck"),
        ({"kind": "RecoveryCheck", "metadata": {"name": "web"}}, "spec.mode must be Continuous"),
    ],
)
def test_what_has_no_record_is_told(given: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        Record.of(given)
