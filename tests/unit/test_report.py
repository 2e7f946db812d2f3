"""Reports: the same truth in four forms, nothing taken for markup, no secret in any of them."""

from __future__ import annotations

import copy
import json
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path

import jsonschema  # type: ignore[import-untyped]
import pytest

from bounceback.api.status import Figure, InjectionStatus
from bounceback.cli.main import main
from bounceback.report.junit import as_junit
from bounceback.report.markdown import as_markdown
from bounceback.report.page import as_page
from bounceback.report.picture import NARROW, WIDE, Scale, picture
from bounceback.report.record import as_json, record, schema
from bounceback.report.redact import redact
from bounceback.report.subject import Subject
from bounceback.report.words import TONES, figure, hits, outcome, seconds, summary
from bounceback.types.outcome import Cleanup, InjectionAxis, Judgement, Verdict
from tests.finished_runs import RUNS
from tests.run_parts import Json, injection, mark, moment
from tests.run_parts import figure as figure_of

SCHEMA = Path(__file__).parents[2] / "docs" / "report.schema.json"
EVERY = pytest.mark.parametrize("run", RUNS)
FORMS = {"md": as_markdown, "json": as_json, "junit": as_junit, "html": as_page}
HOSTILE = "<script>alert(1)</script>\"'&|`]]>\x00\x0b"


def subject(run: str) -> Subject:
    return Subject.of(RUNS[run]())


def poisoned(body: Json) -> Json:
    """Every text that a user or a system could have had a hand in is hostile."""
    body = copy.deepcopy(body)
    status = body["status"]
    status["message"] = HOSTILE
    for part in ("findings", "invariants", "timeline"):
        for each in status.get(part, []):
            each["message"] = HOSTILE
    for view in status["views"]:
        view["symptoms"] = [HOSTILE]
    for each in status.get("injections", []):
        each |= {
            "pod": HOSTILE,
            "node": HOSTILE,
            "vehicleReason": HOSTILE,
            "leftovers": [HOSTILE],
            "reason": HOSTILE[:60],
        }
    for each in status.get("marks", []):
        each["source"] = HOSTILE
    return body


@pytest.mark.parametrize(
    ("run", "line"),
    [
        (
            "passed",
            "web-slow  steady 5.0 s ▸ slow on 2/4 pods ▸ active after 0.9 s (1,284 packets delayed) ▸ cleared"
            " ▸ recovered in 1.5 s ±0.2",
        ),
        ("failed", "▸ active after 0.9 s (181 packets dropped) ▸ cleared ▸ not recovered"),
        ("inconclusive", "▸ nothing was hit ▸ cleared ▸ no symptom was seen"),
        ("refused", "web-never-steady  nothing was injected"),
    ],
)
def test_the_summary_tells_the_story_in_one_line(run: str, line: str) -> None:
    assert line in summary(subject(run))[0]


def test_the_summary_ends_with_the_verdict_its_axes_and_all_findings() -> None:
    lines = summary(subject("failed"))
    assert lines[1].split() == [
        "Failed",
        "injection",
        "Proven",
        "·",
        "recovery",
        "Failed",
        "·",
        "consistency",
        "Failed",
        "·",
        "cleanup",
        "Clean",
    ]
    assert [line.split(":")[0].strip() for line in lines[2:]] == ["InvariantBroken", "NotRecovered"]


def test_a_system_that_nobody_saw_falter_is_said_to_be_unnoticed() -> None:
    body = RUNS["passed"]()
    body["status"]["marks"] = [m for m in body["status"]["marks"] if m["mark"] != "FirstSymptom"]
    assert summary(Subject.of(body))[0].endswith("nobody noticed")


@pytest.mark.parametrize(
    ("milliseconds", "error", "words"),
    [(1432, 211, "1.4 s ±0.2"), (889, 7, "0.89 s ±0.01"), (889, 2, "0.889 s ±0.002"), (30_004, 0, "30.004 s ±0.000")],
)
def test_a_figure_has_as_many_decimals_as_its_uncertainty_bears(milliseconds: int, error: int, words: str) -> None:
    assert figure(Figure(milliseconds=milliseconds, plus_minus_milliseconds=error)) == words


@pytest.mark.parametrize(
    ("value", "words"),
    [(0, "0 s"), (0.007, "7 ms"), (0.0999, "0.1 s"), (5, "5.0 s"), (119.94, "119.9 s"), (125, "2 min 5 s")],
)
def test_lengths_of_time_read_as_people_say_them(value: float, words: str) -> None:
    assert seconds(value) == words


def test_hits_are_told_by_what_they_are() -> None:
    assert hits(subject("passed")) == "1,284 packets delayed"
    assert hits(subject("inconclusive")) == ""


def test_every_outcome_has_a_tone() -> None:
    assert {*Verdict, *InjectionAxis, *Judgement, *Cleanup} <= set(TONES)


def repaired(**changes: str) -> Json:
    """The run that passed, as one with `expect: Manual`."""
    body = copy.deepcopy(RUNS["passed"]())
    body["spec"] |= {"expect": "Manual", "repair": {"job": {"template": {"containers": [{"name": "renew"}]}}}}
    told = {"name": "bounceback-repair-0123456789", "state": "Done", "reason": "Completed", "message": "it completed"}
    body["status"]["repair"] = told | {"log": "renewed\npassword=letmein"} | changes
    body["status"]["marks"][4:4] = [mark("RepairBegan", 27.3, 27.4), mark("Repaired", 28.9, 29.2)]
    body["status"]["figures"] |= {"repair": figure_of(1.5, 1.9), "recovery": figure_of(0.8, 1.3)}
    return body


def test_a_repair_is_told_with_its_log_and_its_figures() -> None:
    subject = Subject.of(repaired())
    assert summary(subject)[0].endswith("▸ cleared ▸ repaired in 1.7 s ±0.2 ▸ recovered in 1.1 s ±0.2")
    for form in (as_markdown(subject), as_page(subject), as_json(subject)):
        assert "renewed" in form and "letmein" not in form
    for text in (as_markdown(subject), as_page(subject)):
        assert "repair began to recovered" in text
    jsonschema.validate(json.loads(as_json(subject)), json.loads(SCHEMA.read_text(encoding="utf-8")))
    failed = Subject.of(repaired(state="Failed"))
    assert "▸ the repair failed ▸" in summary(failed)[0]


def test_what_a_repair_wrote_is_never_markup() -> None:
    subject = Subject.of(repaired(log=f"<b>\n# {HOSTILE}\n```", message=HOSTILE))
    assert "<script" not in as_page(subject) and "<b>" not in as_page(subject)
    part = as_markdown(subject).partition("## Repair")[2].partition("\n## ")[0]
    assert [line for line in part.splitlines()[3:] if line and not line.startswith("    ")] == []


@EVERY
def test_json_holds_to_its_published_schema(run: str) -> None:
    jsonschema.validate(json.loads(as_json(subject(run))), json.loads(SCHEMA.read_text(encoding="utf-8")))


def test_the_published_schema_is_the_models() -> None:
    assert SCHEMA.read_text(encoding="utf-8") == schema(), "run `python -m bounceback.report.record`"


def test_json_puts_all_times_on_the_runs_scale() -> None:
    told = record(subject("error"))
    first = told.injections[0]
    assert first.in_force == pytest.approx(6.8, abs=0.002)  # the node's clock is 250 ms ahead, and of another boot
    assert first.cleared == pytest.approx(26.8, abs=0.002)
    assert [phase.phase for phase in told.phases][:3] == ["Pending", "Steady", "Injecting"]
    assert told.phases[1].end == told.phases[2].start


@EVERY
def test_junit_fails_on_bad_and_errs_on_undecided_outcomes(run: str) -> None:
    told = subject(run)
    suite = ET.fromstring(as_junit(told)).find("testsuite")
    assert suite is not None
    cases = suite.findall("testcase")
    assert int(suite.attrib["tests"]) == len(cases) == 5 + len(told.status.findings) + len(told.status.invariants)
    failures, errors = suite.findall("testcase/failure"), suite.findall("testcase/error")
    assert (int(suite.attrib["failures"]), int(suite.attrib["errors"])) == (len(failures), len(errors))
    assert bool(failures or errors) == (told.status.verdict is not Verdict.PASSED)
    verdict = next(case for case in cases if case.attrib["name"] == "verdict")
    expected = {"Passed": None, "Failed": "failure", "Error": "failure", "Inconclusive": "error", "Aborted": "error"}
    assert [child.tag for child in verdict] == [tag for tag in [expected[str(told.status.verdict)]] if tag]


@EVERY
def test_markdown_names_the_verdict_and_every_finding(run: str) -> None:
    told = subject(run)
    text = as_markdown(told)
    assert f"{told.name}: {told.status.verdict}" in text.splitlines()[0]
    assert all(f"**{finding.reason}**" in text for finding in told.status.findings)


class Page(HTMLParser):
    """What a browser would make of a page: its elements, properly nested, and its text."""

    VOID = frozenset({"meta", "link", "br", "img", "input", "hr"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@EVERY
def test_the_page_needs_nothing_but_itself(run: str) -> None:
    text = as_page(subject(run))
    page = Page(text)
    assert not page.open
    tags = {tag for tag, _ in page.elements}
    assert not tags & {"script", "link", "img", "iframe", "object", "embed", "base", "form"}
    assert not re.search(r"https?://|@import|src=|href=", re.sub(r"web-healthy/home: .*?<", "<", text))
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)
    policy = [a["content"] for tag, a in page.elements if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy == ["default-src 'none'; style-src 'unsafe-inline'"]


@EVERY
def test_the_page_shows_the_verdict_the_axes_and_every_finding(run: str) -> None:
    told = subject(run)
    page = Page(as_page(told))
    assert str(told.status.verdict) in page.text
    assert all(finding.reason in page.text and finding.message in page.text for finding in told.status.findings)
    assert [a["class"] for tag, a in page.elements if tag == "svg"] == ["timeline wide", "timeline narrow"]


@EVERY
@pytest.mark.parametrize("paper", [WIDE, NARROW], ids=lambda paper: paper.name)
def test_the_picture_is_well_formed_and_stays_on_its_paper(run: str, paper: object) -> None:
    assert paper is WIDE or paper is NARROW
    told = subject(run)
    root = ET.fromstring(picture(told, paper).replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1))
    width, height = (float(part) for part in root.attrib["viewBox"].split()[2:])
    for rect in root.iter("{http://www.w3.org/2000/svg}rect"):
        x, wide = float(rect.attrib["x"]), float(rect.attrib["width"])
        assert wide >= 0
        assert -1 <= x <= x + wide <= width + 1
        assert float(rect.attrib["y"]) <= height
    ids = [element.attrib["id"] for element in root.iter() if "id" in element.attrib]
    assert len(ids) == len(set(ids))


def test_a_mark_is_drawn_as_wide_as_it_is_uncertain() -> None:
    told = subject("passed")
    root = ET.fromstring(picture(told, WIDE))
    scale = Scale(WIDE, told.length * 1.01)
    bands = {
        "".join(group.itertext()).rsplit(" s", 1)[0].rsplit(" ", 1)[0]: group.find("rect")
        for group in root.iter("g")
        if "mark" in group.attrib.get("class", "")
    }
    for name, least, most in (("recovered", 28.204, 28.614), ("first symptom", 7.206, 7.628)):
        band = bands[name]
        assert band is not None
        assert float(band.attrib["x"]) == pytest.approx(scale.x(least), abs=0.2)
        assert float(band.attrib["width"]) == pytest.approx(scale.x(most) - scale.x(least), abs=0.2)
    sharp = bands["planned"]
    assert sharp is not None and float(sharp.attrib["width"]) == 1.5


def test_names_of_marks_never_cover_each_other() -> None:
    for run in RUNS:
        for paper in (WIDE, NARROW):
            root = ET.fromstring(picture(subject(run), paper))
            spans = []
            for group in root.iter("g"):
                if "mark" not in group.attrib.get("class", ""):
                    continue
                text = group.find("text")
                assert text is not None and text.text
                x, long = float(text.attrib["x"]), len(text.text) * 6.3
                left = x if text.attrib["text-anchor"] == "start" else x - long
                spans.append((float(text.attrib["y"]), left, left + long))
            for n, (y, left, right) in enumerate(spans):
                assert all(y != y2 or right <= left2 or left >= right2 for y2, left2, right2 in spans[n + 1 :])


@pytest.mark.parametrize("form", FORMS)
@EVERY
def test_hostile_texts_stay_texts(run: str, form: str) -> None:
    text = FORMS[form](Subject.of(poisoned(RUNS[run]())))
    match form:
        case "html":
            page = Page(text)
            assert not page.open
            assert "script" not in {tag for tag, _ in page.elements}
            assert "<script>alert(1)</script>" in page.text
            assert "\x00" not in text
        case "junit":
            messages = [case.attrib["message"] for case in ET.fromstring(text).iterfind(".//testcase/*")]
            assert all("<script>alert(1)</script>" in each for each in messages if each not in TONES)
            assert bool(messages) == (run != "passed")
        case "json":
            assert json.loads(text)["message"] == HOSTILE
        case "md":
            assert "<script>" not in text.replace("\\<", "")
            assert all(row.count("|") - row.count("\\|") == 9 for row in text.splitlines() if row.startswith("| slow "))


@pytest.mark.parametrize("form", ["html", "md", "json"])
def test_it_tells_when_something_was_observed_and_what_could_not_be(form: str) -> None:
    text = FORMS[form](subject("passed"))
    assert "connection refused by redis://***@stock" in text.replace("\\", "")
    if form == "json":
        (clear,) = [each for each in json.loads(text)["snapshots"] if each["when"] == "clear"]
        assert (clear["read"], clear["leastSeconds"], clear["mostSeconds"]) == (1, 0.112, 0.431)
    else:
        assert "0.1 to 0.4 s after all was cleared" in text


@pytest.mark.parametrize("form", FORMS)
@EVERY
def test_what_was_observed_is_in_no_report(run: str, form: str) -> None:
    assert "do-not-show-this" not in FORMS[form](subject(run))


@pytest.mark.parametrize("form", FORMS)
def test_credentials_are_hidden_in_every_form(form: str) -> None:
    body = RUNS["failed"]()
    leak = "http://admin:hunter2@web/?token=tok-123 Authorization: Bearer abcdef.ghijk password='open sesame'"
    body["status"]["views"][0]["symptoms"] = [leak]
    body["status"]["findings"][0]["message"] = leak
    body["status"]["message"] = leak
    text = FORMS[form](Subject.of(body))
    for secret in ("hunter2", "tok-123", "abcdef.ghijk", "open sesame"):
        assert secret not in text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("GET http://web.shop.svc/ answered 503", "GET http://web.shop.svc/ answered 503"),
        ("https://bob:pw@web/", "https://***@web/"),
        ("Bearer eyJhbGciOi.x", "Bearer ***"),
        ("/?api_key=1&page=2", "/?api_key=***&page=2"),
        ('{"password": "x y", "count": 3}', '{"password": ***, "count": 3}'),
    ],
)
def test_redacting_keeps_what_is_no_secret(text: str, shown: str) -> None:
    assert redact(text) == shown


def test_a_run_of_a_newer_version_is_read_as_far_as_it_is_known() -> None:
    body = RUNS["passed"]()
    body["status"] |= {"fromTheFuture": {"a": 1}}
    assert Subject.of(body).status.verdict is Verdict.PASSED


def test_a_recovery_under_the_fault_is_told() -> None:
    body = RUNS["passed"]()
    body["status"]["figures"] |= {"recoveredUnderFault": True}
    told = Subject.of(body)
    assert "recovered before it was cleared" in summary(told)[0]
    assert "under the fault" in Page(as_page(told)).text
    assert "before the fault was cleared" in as_markdown(told)
    assert json.loads(as_json(told))["figures"]["recoveredUnderFault"] is True


def test_what_is_no_experiment_is_refused() -> None:
    with pytest.raises(ValueError, match="must be a FaultExperiment"):
        Subject.of({"kind": "Pod"})


def test_a_run_without_a_verdict_has_no_record() -> None:
    body = RUNS["passed"]()
    del body["status"]["verdict"]
    with pytest.raises(ValueError, match="no verdict yet"):
        as_json(Subject.of(body))


def test_a_picture_of_a_run_that_has_just_begun_can_be_drawn() -> None:
    body = RUNS["refused"]()
    body["status"] = {"phase": "Pending", "startedAt": moment(0)}
    assert ET.fromstring(picture(Subject.of(body), WIDE)) is not None


@pytest.mark.parametrize("form", FORMS)
def test_a_report_is_written_from_a_file(form: str, tmp_path: Path) -> None:
    source, target = tmp_path / "run.json", tmp_path / "report"
    source.write_text(json.dumps(RUNS["passed"]()))
    assert main(["report", "--from", str(source), "-o", form, "--file", str(target)]) == 0
    assert target.read_text(encoding="utf-8") == FORMS[form](subject("passed"))


def test_a_run_that_is_not_finished_has_no_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    body = RUNS["passed"]()
    body["status"]["phase"] = "Active"
    source = tmp_path / "run.json"
    source.write_text(json.dumps(body))
    assert main(["report", "--from", str(source)]) == 2
    assert "shop/web-slow is not finished, its phase is Active" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({}, "Duration"),
        ({"restarts": 2}, "Duration, 2 restarts of its containers"),
        ({"replaced_by": "web-2"}, "Duration, its place taken by web-2"),
        (
            {"replaces": "cut-1", "gap_milliseconds": 1400},
            "Duration, takes another's place after 1.4 s without a fault",
        ),
        ({"replaces": "cut-1"}, "Duration, takes another's place"),
        ({"host_network": True}, "Duration, in its node's own network"),
    ],
)
def test_what_became_of_a_target_is_told(more: dict[str, object], told: str) -> None:
    status = InjectionStatus.model_validate(injection(1, "cut", "web-1")).model_copy(update=more)
    assert outcome(status) == told
