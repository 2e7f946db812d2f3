"""Reports and the command line on repeated runs: all of them in figures, each in a line, the last one in full."""

from __future__ import annotations

import copy
import json
import xml.etree.ElementTree as ET
from pathlib import Path

import jsonschema  # type: ignore[import-untyped]
import pytest

from bounceback.cli.follow import Key
from bounceback.cli.main import main
from bounceback.cli.progress import JsonTeller, TextTeller
from bounceback.cli.status import in_full
from bounceback.report.compare import compare
from bounceback.report.junit import as_junit
from bounceback.report.markdown import as_markdown
from bounceback.report.page import as_page
from bounceback.report.record import as_json, record
from bounceback.report.subject import Subject
from bounceback.report.words import summary
from tests.finished_runs import RUNS
from tests.run_parts import Json, event, rfc3339

SCHEMA = Path(__file__).parents[2] / "docs" / "report.schema.json"
RATE = "4 of 5 runs passed: 80 % (57.3 to 92.3 % at 80 % confidence)"


def repeated(verdict: str = "Passed", secret: str = "") -> Json:
    """Five runs, of which the fourth failed; the last one is told in full."""
    body = copy.deepcopy(RUNS["passed"]())
    body["spec"]["runs"] = {"count": 5, "seed": 7, "requiredSuccessPercent": 55, "confidencePercent": 80}
    listed: list[Json] = [
        {
            "number": number,
            "seed": 6 + number,
            "verdict": "Passed",
            "startedAt": rfc3339(40 * number),
            "seconds": 32,
            "detectionMilliseconds": 400,
            "recoveryMilliseconds": 1000 + 100 * number,
        }
        for number in range(1, 6)
    ]
    told = f"home did not answer within 1000 ms {secret}".strip()
    listed[3] |= {"verdict": "Failed", "reason": "NotRecovered", "message": told}
    listed[3].pop("recoveryMilliseconds")
    body["status"] |= {
        "verdict": verdict,
        "message": f"{verdict}: {RATE}",
        "runs": {
            "number": 5,
            "seed": 11,
            "told": "5/5",
            "startedAt": rfc3339(0),
            "passed": 4,
            "failed": 1,
            "rate": {"percent": 80.0, "lowPercent": 57.3, "highPercent": 92.3},
            "percentiles": [
                {
                    "figure": "recovery",
                    "runs": 4,
                    "p50Milliseconds": 1200,
                    "p90Milliseconds": 1500,
                    "p99Milliseconds": 1500,
                    "mostMilliseconds": 1500,
                    "plusMinusMilliseconds": 210,
                }
            ],
            "listed": listed,
            "measured": {"recovery": [1100, 1200, 1300, 1500]},
            "widest": {"recovery": 210},
        },
    }
    if verdict == "Failed":
        body["status"]["findings"] = [{"verdict": "Failed", "reason": "RateTooLow", "message": RATE}]
    return body


def test_the_summary_tells_the_rate_and_the_figures_over_all() -> None:
    lines = summary(Subject.of(repeated()))
    assert lines[0].startswith("web-slow  run 5/5: steady 5.0 s ▸ slow on 2/4 pods")
    assert lines[1].split(maxsplit=1) == ["Passed", f"{RATE}, 55 % asked for"]
    assert lines[2].strip() == "recovery in 4 runs: half within 1.2 s, 9 of 10 within 1.5 s, all within 1.5 s"


def test_status_lists_every_run() -> None:
    text = "\n".join(in_full(repeated()))
    assert "RUN   OUTCOME   DETECTION" in text
    assert "4     Failed    400" not in text and "4     Failed    0.4 s" in text
    assert "NotRecovered: home did not answer within 1000 ms" in text


def test_json_holds_to_the_schema_and_tells_each_run() -> None:
    told = json.loads(as_json(Subject.of(repeated())))
    jsonschema.validate(told, json.loads(SCHEMA.read_text(encoding="utf-8")))
    runs = told["runs"]
    assert (runs["count"], runs["made"], runs["passed"], runs["failed"]) == (5, 5, 4, 1)
    assert runs["percentiles"][0]["p90"] == 1.5
    assert [run["verdict"] for run in runs["listed"]].count("Failed") == 1
    assert "runs" not in json.loads(as_json(Subject.of(RUNS["passed"]())))


@pytest.mark.parametrize(("verdict", "failures"), [("Passed", 0), ("Failed", 2)])
def test_a_run_that_failed_is_no_failure_in_junit_where_enough_others_passed(verdict: str, failures: int) -> None:
    suite = ET.fromstring(as_junit(Subject.of(repeated(verdict)))).find("testsuite")
    assert suite is not None
    assert (int(suite.attrib["failures"]), int(suite.attrib["errors"])) == (failures, 0)
    assert RATE in (suite.findtext("system-out") or "")


@pytest.mark.parametrize("form", [as_markdown, as_page])
def test_pages_show_all_runs_before_the_last_one(form: object) -> None:
    text = form(Subject.of(repeated(secret="password=hunter2")))  # type: ignore[operator]
    assert RATE in text.replace("\\", "") and "last run" in text
    assert "1.5 s" in text and "NotRecovered" in text and "hunter2" not in text
    assert text.index(RATE.split(":")[0]) < text.index("injection")


def test_repeated_runs_are_compared_by_their_verdict_and_their_medians() -> None:
    slower = repeated()
    slower["status"]["runs"]["percentiles"][0]["p50Milliseconds"] = 9000
    before, now = record(Subject.of(repeated())), record(Subject.of(slower))
    differences = {each.what: str(each.change) for each in compare([before], now, 20).differences}
    assert differences == {"verdict": "Same", "recovery": "Worse"}


def test_the_lines_of_each_run_are_told_once_and_with_its_number() -> None:
    key = Key("shop", "web-slow", "uid")
    first = {"runs": {"told": "1/2"}, "timeline": [event(0, "Run", "run 1 of 2, seed 7"), event(1, "Repeating", "on")]}
    second = {"runs": {"told": "2/2"}, "timeline": [event(0, "Run", "run 2 of 2, seed 9")]}
    text, lines = TextTeller(key, 8), JsonTeller(key)
    told = [line for status in (first, first, second, second) for line in text.changed({"status": status})]
    assert [line.split()[1] for line in told] == ["1/2", "1/2", "2/2"]
    assert told[2] == "web-slow 2/2     0.0 s  Run          run 2 of 2, seed 9"
    programs = [json.loads(line) for status in (first, second) for line in lines.changed({"status": status})]
    assert [(each["run"], each["event"]) for each in programs] == [(1, "Run"), (1, "Repeating"), (2, "Run")]


def test_lint_tells_at_once_that_runs_are_too_few(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    body = repeated()
    body["spec"]["runs"] = {"count": 10, "requiredSuccessPercent": 90}
    file = tmp_path / "few.json"
    file.write_text(json.dumps({key: value for key, value in body.items() if key != "status"}))
    assert main(["lint", str(file)]) == 2
    told = capsys.readouterr()
    assert "spec.runs.count: 10 runs cannot support requiredSuccessPercent 90" in told.out + told.err
    assert "count must be 35 or more, or requiredSuccessPercent 72 or less, or unset" in told.out + told.err
