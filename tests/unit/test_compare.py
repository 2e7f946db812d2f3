"""A run against earlier ones: worse is worse, unclear is unclear, and what is not the same is not compared."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bounceback.cli.main import main
from bounceback.report.compare import Change, Comparison, Outcome, compare
from bounceback.report.record import Record, RecordSpan, as_json, record
from bounceback.report.subject import Subject
from bounceback.report.workloads import RecordWorkload
from bounceback.types.outcome import Judgement, Verdict
from tests.finished_runs import RUNS

SPANS = st.builds(
    lambda middle, error: RecordSpan(seconds=middle, plus_minus_seconds=error),
    st.floats(0, 1000),
    st.floats(0, 10),
)


def of(run: str = "passed", **figures: tuple[float, float] | None) -> Record:
    """That run with other figures: seconds and their uncertainty."""
    found = record(Subject.of(RUNS[run]()))
    spans = {
        name: None if span is None else RecordSpan(seconds=span[0], plus_minus_seconds=span[1])
        for name, span in figures.items()
    }
    return found.model_copy(update={"figures": found.figures.model_copy(update=spans)})


def change_of(found: Comparison, what: str) -> Change:
    return next(each.change for each in found.differences if each.what == what)


@pytest.mark.parametrize("run", ["passed", "failed"])
def test_a_run_beside_itself_is_kept(run: str) -> None:
    assert compare([of(run)], of(run), 0).outcome is Outcome.KEPT


@pytest.mark.parametrize(
    ("now", "change"),
    [
        ((1.5, 0.2), Change.SAME),
        ((1.8, 0.2), Change.SAME),  # up to 2.0, within 20 % of 1.7
        ((2.0, 0.2), Change.UNCLEAR),  # 1.8 to 2.2 straddles 2.04
        ((4.1, 0.2), Change.WORSE),
        ((1.0, 0.2), Change.BETTER),
        (None, Change.UNCLEAR),
    ],
)
def test_a_figure_is_worse_where_all_that_it_may_be_is(now: tuple[float, float] | None, change: Change) -> None:
    found = compare([of(recovery=(1.5, 0.2))], of(recovery=now), 20)
    assert change_of(found, "recovery") is change
    outcomes = {Change.WORSE: Outcome.REGRESSED, Change.UNCLEAR: Outcome.INCONCLUSIVE}
    assert found.outcome is outcomes.get(change, Outcome.KEPT)


def test_of_earlier_runs_the_slowest_counts() -> None:
    slow, fast, now = of(recovery=(9, 0.1)), of(recovery=(1, 0.1)), of(recovery=(8, 0.1))
    assert compare([fast], now, 20).outcome is Outcome.REGRESSED
    assert compare([fast, slow], now, 20).outcome is Outcome.KEPT
    assert change_of(compare([slow, fast], now, 20), "recovery") is Change.SAME


def test_next_to_nothing_may_be_a_little_more() -> None:
    assert compare([of(recovery=(0.01, 0.0))], of(recovery=(0.05, 0.0)), 0).outcome is Outcome.KEPT


@pytest.mark.parametrize(
    ("verdict", "outcome"),
    [
        (Verdict.FAILED, Outcome.REGRESSED),
        (Verdict.ERROR, Outcome.REGRESSED),
        (Verdict.INCONCLUSIVE, Outcome.INCONCLUSIVE),
        (Verdict.ABORTED, Outcome.INCONCLUSIVE),
    ],
)
def test_a_worse_verdict_is_a_regression_and_no_verdict_says_nothing(verdict: Verdict, outcome: Outcome) -> None:
    assert compare([of()], of().model_copy(update={"verdict": verdict}), 20).outcome is outcome


def test_what_failed_before_may_fail_again() -> None:
    failed = of().model_copy(update={"verdict": Verdict.FAILED})
    assert compare([failed], failed, 20).outcome is Outcome.KEPT
    assert change_of(compare([failed], of(), 20), "verdict") is Change.BETTER


def test_an_invariant_that_no_longer_holds_is_a_regression() -> None:
    run = of()
    broken = [each.model_copy(update={"result": Judgement.FAILED}) for each in run.invariants]
    assert broken, "this run has one"
    found = compare([run], run.model_copy(update={"invariants": broken}), 20)
    assert found.outcome is Outcome.REGRESSED
    assert change_of(found, f"invariant {broken[0].check}/{broken[0].name}") is Change.WORSE


def test_an_aspect_that_nobody_looks_at_any_more_is_unclear() -> None:
    run = of()
    assert run.aspects is not None
    blind = run.model_copy(update={"aspects": run.aspects.model_copy(update={"success": "NotChecked"})})
    assert change_of(compare([run], blind, 20), "aspect success") is Change.UNCLEAR


def test_other_faults_make_another_experiment() -> None:
    with pytest.raises(ValueError, match=r"are not runs of one experiment: their faults are"):
        compare([of("passed")], of("failed"), 20)


def test_an_aborted_run_is_no_baseline() -> None:
    with pytest.raises(ValueError, match="says nothing that this could be compared with"):
        compare([of().model_copy(update={"verdict": Verdict.ABORTED})], of(), 20)


@given(before=SPANS, now=SPANS, tolerance=st.integers(0, 1000), later=st.floats(0, 100))
def test_who_is_later_is_never_better_off(before: RecordSpan, now: RecordSpan, tolerance: int, later: float) -> None:
    order = [Change.BETTER, Change.SAME, Change.UNCLEAR, Change.WORSE]

    def change(span: RecordSpan) -> int:
        was = of(recovery=(before.seconds, before.plus_minus_seconds))
        found = compare([was], of(recovery=(span.seconds, span.plus_minus_seconds)), tolerance)
        return order.index(change_of(found, "recovery"))

    assert change(now) <= change(now.model_copy(update={"seconds": now.seconds + later}))


PACE = {"before": (20, 100.0, 4.0, 9.0), "during": (10, 20.0, 5.0, 900.0), "after": (30, 98.0, 4.0, 10.0)}
"""Seconds, operations a second, p50 and p99."""


def worked(
    flaws: dict[str, int] | None = None,
    *,
    counts: tuple[int, int, int] = (1000, 10, 2),
    back: tuple[int, int] | None = (2000, 100),
    result: str = "Passed",
    model: str = "Set",
    allowed: tuple[str, ...] = (),
    **paces: tuple[float | None, ...],
) -> Record:
    """A run with a workload."""
    told: dict[str, Any] = {
        when: dict(zip(("seconds", "perSecond", "p50Milliseconds", "p99Milliseconds"), pace, strict=True))
        for when, pace in (PACE | paces).items()
    }
    if back is not None:
        told |= {"backMilliseconds": back[0], "backPlusMinusMilliseconds": back[1]}
    workload = {
        **dict(zip(("acknowledged", "failed", "unknown"), counts, strict=True)),
        "check": "shop-orders",
        "model": model,
        "result": result,
        "message": "",
        "flaws": {"Lost": 0, "Duplicated": 0} | (flaws or {}),
        "allowed": list(allowed),
        "performance": told,
    }
    return of().model_copy(update={"workloads": [RecordWorkload.model_validate(workload)]})


def test_a_workload_beside_itself_is_kept_and_everything_of_it_is_told() -> None:
    found = compare([worked()], worked(), 0)
    assert found.outcome is Outcome.KEPT
    told = [each.what.partition("shop-orders")[2].strip() for each in found.differences if "workload" in each.what]
    paces = [f"{when}{what}" for when in PACE for what in ("", " p50", " p99")]
    assert told == ["", "lost", "duplicated", "failed", "unknown", *paces, "back"]


@pytest.mark.parametrize(
    ("now", "what", "change"),
    [
        (worked({"Lost": 1}), "lost", Change.WORSE),
        (worked({"Duplicated": 3}), "duplicated", Change.WORSE),
        (worked({"Duplicated": 3}, allowed=("Duplicated",)), "duplicated", Change.SAME),
        (worked(counts=(0, 0, 0)), "lost", Change.UNCLEAR),
        (worked(counts=(1000, 25, 2)), "failed", Change.WORSE),
        (worked(counts=(1000, 19, 2)), "failed", Change.SAME),
        (worked(counts=(1000, 10, 0)), "unknown", Change.SAME),
        (worked(counts=(1000, 10, 40)), "unknown", Change.WORSE),
        (worked(before=(20, 70.0, 4.0, 9.0)), "before", Change.WORSE),
        (worked(before=(20, 90.0, 4.0, 9.0)), "before", Change.SAME),
        (worked(before=(20, 130.0, 4.0, 9.0)), "before", Change.BETTER),
        (worked(before=(2, 70.0, 4.0, 9.0)), "before", Change.UNCLEAR),
        (worked(after=(0, 0.0, None, None)), "after", Change.UNCLEAR),
        (worked(after=(30, 98.0, 4.0, 13.0)), "after p99", Change.WORSE),
        (worked(after=(30, 98.0, 4.0, 11.9)), "after p99", Change.SAME),
        (worked(after=(30, 98.0, 2.0, 10.0)), "after p50", Change.BETTER),
        (worked(after=(30, 98.0, 4.0, None)), "after p99", Change.UNCLEAR),
        (worked(back=(2300, 100)), "back", Change.SAME),
        (worked(back=(9000, 100)), "back", Change.WORSE),
        (worked(back=None), "back", Change.UNCLEAR),
        (worked(result="Failed"), "", Change.WORSE),
        (worked(result="Inconclusive"), "", Change.UNCLEAR),
        (of(), "", Change.UNCLEAR),
    ],
)
def test_a_workload_is_worse_where_more_is_lost_or_it_is_slower(now: Record, what: str, change: Change) -> None:
    found = compare([worked()], now, 20)
    assert change_of(found, f"workload shop-orders {what}".strip()) is change
    outcomes = {Change.WORSE: Outcome.REGRESSED, Change.UNCLEAR: Outcome.INCONCLUSIVE}
    assert found.outcome is outcomes.get(change, Outcome.KEPT)


def test_of_earlier_workloads_the_worst_counts() -> None:
    torn, slow = worked({"Lost": 10}), worked(after=(30, 40.0, 4.0, 50.0))
    now = worked({"Lost": 11}, after=(30, 39.0, 4.0, 51.0))
    assert compare([worked(), torn, slow], now, 20).outcome is Outcome.KEPT
    assert compare([worked(), torn, slow], worked({"Lost": 13}), 20).outcome is Outcome.REGRESSED


def test_as_many_of_more_operations_are_no_more() -> None:
    assert compare([worked({"Lost": 10})], worked({"Lost": 20}, counts=(2000, 20, 4)), 0).outcome is Outcome.KEPT


def test_a_workload_of_another_model_is_another_experiment() -> None:
    with pytest.raises(ValueError, match="the models of the workload of shop-orders are Set and Queue"):
        compare([worked()], worked(model="Queue"), 20)


def ran(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = main(["compare", *words])
    said = capsys.readouterr()
    return code, said.out, said.err


def written(folder: Path, name: str, of: Record | str) -> str:
    path = folder / name
    path.write_text(of if isinstance(of, str) else json.dumps(of.to_json()))
    return str(path)


def test_a_workload_that_lost_something_is_a_regression_by_its_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monday, torn = written(tmp_path, "monday.json", worked()), written(tmp_path, "torn.json", worked({"Lost": 3}))
    code, out, _ = ran(capsys, torn, "--baseline", monday)
    assert (code, out.splitlines()[-1]) == (1, "Regressed")
    (line,) = [line for line in out.splitlines() if line.startswith("workload shop-orders lost")]
    assert line.split()[3:] == ["0", "of", "1,000", "3", "of", "1,000", "Worse"]
    assert ran(capsys, monday, "--baseline", torn)[0] == 0


def test_two_reports_from_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    monday = written(tmp_path, "monday.json", as_json(Subject.of(RUNS["passed"]())))
    slow = written(tmp_path, "slow.json", of(recovery=(60, 1)))
    code, out, _ = ran(capsys, slow, "--baseline", monday)
    assert (code, out.splitlines()[-1]) == (1, "Regressed")
    assert any(line.split()[0] == "recovery" and line.endswith("Worse") for line in out.splitlines() if line)
    assert ran(capsys, monday, "--baseline", slow)[0] == 0
    code, out, _ = ran(capsys, monday, "--baseline", monday, "-o", "json")
    assert (code, json.loads(out)["outcome"]) == (0, "Kept")


def test_an_experiment_as_kubectl_gives_it_will_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path, "run.json", json.dumps(RUNS["passed"]()))
    assert ran(capsys, path, "--baseline", path)[0] == 0


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "cannot be read as JSON"),
        ("[]", "is no report of this version"),
        ('{"reportVersion": 2}', "is no report of this version"),
        ('{"kind": "FaultExperiment", "metadata": {"name": "a"}, "spec": {}}', "does not understand"),
    ],
)
def test_what_is_no_report_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, told: str) -> None:
    path = written(tmp_path, "x.json", text)
    code, _, err = ran(capsys, path, "--baseline", path)
    assert code == 2
    assert told in err
    assert path in err


def test_a_tolerance_is_a_percentage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        ran(capsys, "a", "--baseline", "b", "--tolerance", "1001")
    assert ended.value.code == 2
    assert "0 to 1000" in capsys.readouterr().err


def test_runs_of_other_experiments_are_bad_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, other = written(tmp_path, "a.json", of("passed")), written(tmp_path, "b.json", of("failed"))
    code, _, err = ran(capsys, one, "--baseline", other)
    assert code == 2
    assert "are not runs of one experiment" in err
