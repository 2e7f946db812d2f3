"""What lint, plan and the reports say of faults that wait; and what is held until it is written down."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
import yaml

from bounceback.api.status import StartStatus
from bounceback.cli.linting import Severity
from bounceback.cli.main import main
from bounceback.cli.status import in_full
from bounceback.controller.carry import Injections
from bounceback.engine.reading import Seen, read
from bounceback.engine.samples import History, Sample
from bounceback.report.course import course
from bounceback.report.markdown import as_markdown
from bounceback.report.page import as_page
from bounceback.report.record import as_json, schema
from bounceback.report.subject import Subject
from bounceback.report.words import summary
from bounceback.types.outcome import StartState
from tests.finished_runs import RUNS
from tests.spec_case import EXPERIMENT
from tests.spec_cases_start import fault
from tests.unit.engine_values import at, check, experiment, injection
from tests.unit.test_lint import CHECKED, linted, manifest

Json = dict[str, Any]


def run(*faults: Json) -> Json:
    return manifest("FaultExperiment", "storm", {**EXPERIMENT, "faults": list(faults)})


def test_the_course_is_said_fault_by_fault() -> None:
    faults = [
        {"name": "one", "target": "web", "networkPartition": {}},
        {"name": "two", "target": "web", "networkPartition": {}, "startAfterSeconds": 5},
        {"name": "three", "target": "web", "networkPartition": {}, "startWhen": {"cleared": "one"}},
        {
            "name": "four",
            "target": "web",
            "networkPartition": {},
            "startAfterSeconds": 2,
            "startWhen": {"failing": {"check": "healthy", "forSeconds": 3}, "withinSeconds": 40},
        },
    ]
    assert list(course(experiment(faults=faults))) == [
        "one starts at once, lasts 30.0 s",
        "two starts after 5.0 s, lasts 30.0 s",
        "three starts when one is cleared (within 5 min 0 s), lasts 30.0 s",
        "four starts 2.0 s after healthy/any probe fails for 3 s (within 40.0 s), lasts 30.0 s",
    ]
    assert not list(course(experiment(faults=faults[:2]))), "where nothing waits there is nothing to say"


def test_lint_says_the_course(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "storm.yaml"
    objects = [CHECKED, run(fault("slow"), fault("cut", {"cleared": "slow"}))]
    file.write_text(yaml.safe_dump_all(objects))
    assert main(["lint", str(file)]) == 0
    told = capsys.readouterr().out
    assert "FaultExperiment storm: cut starts when slow is cleared (within 5 min 0 s), lasts 30.0 s" in told


@pytest.mark.parametrize(
    ("when", "field", "text"),
    [
        ({"failing": {"check": "web-healthy", "probe": "hoem"}}, "failing.probe", "must be one of the probes of"),
        ({"detected": {"check": "web-healthy"}}, "detected.signal", "must be one of the detection of web-healthy"),
    ],
)
def test_lint_finds_what_nobody_looks_at(tmp_path: Path, when: Json, field: str, text: str) -> None:
    [error] = linted(tmp_path, CHECKED, run(fault("slow"), fault("cut", when))).errors
    assert f"spec.faults[1].startWhen.{field}" in error.text
    assert text in error.text


@pytest.mark.parametrize(("within", "warned"), [(30, True), (31, False)])
def test_lint_warns_of_a_limit_that_is_over_before_its_time(tmp_path: Path, within: int, *, warned: bool) -> None:
    found = linted(tmp_path, CHECKED, run(fault("slow"), fault("cut", {"cleared": "slow", "withinSeconds": within})))
    assert [remark.severity for remark in found.remarks] == [Severity.WARNING] * warned


async def test_nothing_begins_before_it_stands_in_the_status_that_it_may() -> None:
    waiting = injection(state="Planned", waiting=True)
    held = Injections([waiting], lambda: None)
    held.written([StartStatus(fault="cut")])
    came = asyncio.create_task(held.until(lambda each: not held.waits(each[0])))
    held.decided([waiting.model_copy(update={"waiting": False})])
    await asyncio.sleep(0)
    assert held.waits(held.all()[0]), "it is decided, and not written yet"
    assert not came.done()
    held.written([StartStatus(fault="cut", state=StartState.REACHED)])
    await asyncio.wait_for(came, 10)


def holding(*samples: tuple[float, bool]) -> dict[tuple[str, str], float]:
    history = History(1.0, 1.0)
    for start, holds in samples:
        history.add(Sample(at(start), at(start + 0.1), holds))
    seen = Seen("healthy", check().spec, {}, {"alarm": history}, {})
    return dict(read([seen], (), at(5), None, None, at(12)).holding_for)


def test_a_signal_counts_from_when_it_came_after_the_first_fault() -> None:
    assert holding((4, False), (5.5, False)) == {}
    assert holding(*((n / 2, True) for n in range(6, 24))) == {}, "one that held before says nothing about the fault"
    came = holding((4, False), (6, True), (7, True), (8, True), (9, True), (10, True), (11, True), (11.9, True))
    assert came[("healthy", "alarm")] == pytest.approx(5.8)
    assert holding((4, False), (6, True), (11.5, False)) == {("healthy", "alarm"): 0.0}, "it has come, and gone"


def composed() -> Json:
    """A run of which one fault grew until the system collapsed, and another never started."""
    body = RUNS["inconclusive"]()
    entry = body["spec"]["faults"][0]
    body["spec"]["faults"] = [
        entry,
        {**entry, "name": "late", "startWhen": {"cleared": entry["name"], "withinSeconds": 40}},
    ]
    body["status"]["starts"] = [{"fault": "late", "state": "NotStarted", "message": "it | never came"}]
    body["status"]["collapses"] = [
        {
            "fault": entry["name"],
            "state": "Collapsed",
            "heldPercent": 40,
            "collapsedPercent": 60,
            "message": "collapsed above 40 % of its strength",
            "levels": [
                {"percent": 40, "samples": 100, "healthy": 97},
                {"percent": 60, "samples": 100, "healthy": 1},
            ],
        }
    ]
    return body


def test_every_report_tells_what_waited_and_where_it_collapsed() -> None:
    body = composed()
    subject, name = Subject.of(body), body["spec"]["faults"][0]["name"]
    page, markdown, told = as_page(subject), as_markdown(subject), json.loads(as_json(subject))
    jsonschema.validate(told, json.loads(schema()))
    assert [(each["fault"], each["state"]) for each in told["starts"]] == [("late", "NotStarted")]
    assert [(each["heldPercent"], each["collapsedPercent"]) for each in told["collapses"]] == [(40, 60)]
    for text in (page, markdown):
        assert "Faults that waited" in text
        assert "97 of 100 samples" in text
        assert "91 to 99 %" in text
    assert f"when {name} is cleared (within 40.0 s)" in page
    assert r"it \| never came" in markdown
    assert f"{name} collapsed above 40 % of its strength" in "\n".join(summary(subject))
    shown = "\n".join(in_full(body))
    assert "NotStarted" in shown
    assert "60 %" in shown
