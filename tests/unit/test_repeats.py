"""Several runs of one experiment: seeds, what is kept of each, when another one follows, and the verdict over all."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from bounceback.api.experiment import FaultExperimentSpec
from bounceback.api.runs import LISTED_RUNS, MOST_RUNS, MOST_WORDS
from bounceback.api.status import Axes, FaultExperimentStatus, Figure, Figures, Finding, Moment
from bounceback.engine.advance import advance
from bounceback.engine.conditions import is_stalled
from bounceback.engine.repeats import begun, counted, judge_all, next_run, seed_of, spec_of_run, too_few
from bounceback.engine.state import Duty, Seen, State
from bounceback.types.instants import Interval
from bounceback.types.outcome import Cleanup, InjectionAxis, Judgement, Phase, Verdict
from bounceback.types.run_names import experiment_of, run_name
from tests.unit.engine_values import at, experiment, finished, health, injection, preparation

UID = "0b5a3c52-6ad2-4f1c-9d57-3f2e1b7f5a10"
WORDS = {
    "P": Verdict.PASSED,
    "F": Verdict.FAILED,
    "I": Verdict.INCONCLUSIVE,
    "A": Verdict.ABORTED,
    "E": Verdict.ERROR,
}


def repeated(count: int = 5, share: int | None = None, sure: int = 95, seed: int = 7) -> FaultExperimentSpec:
    asked: dict[str, Any] = {"count": count, "seed": seed, "confidencePercent": sure}
    return experiment(deadlineSeconds=604_800, runs=asked | ({"requiredSuccessPercent": share} if share else {}))


def judged(status: FaultExperimentStatus, verdict: Verdict, recovery: int | None = 1000, **more: Any) -> Any:
    """The run that is under way, as it looks when it is judged."""
    findings = [] if verdict is Verdict.PASSED else [Finding(verdict=verdict, reason="Because", message="m" * 1000)]
    took = None if recovery is None else Figure(milliseconds=recovery, plus_minus_milliseconds=50)
    values: dict[str, Any] = {
        "verdict": verdict,
        "findings": findings,
        "started_at": Moment.of(at(0)),
        "figures": Figures(recovery=took),
        "injections": [injection()],
        "axes": Axes(
            injection=InjectionAxis.PROVEN,
            recovery=Judgement.PASSED,
            consistency=Judgement.PASSED,
            cleanup=Cleanup.CLEAN,
        ),
    }
    return status.model_copy(update=values | more)


def play(spec: FaultExperimentSpec, course: str) -> tuple[FaultExperimentStatus, int]:
    """What comes of runs with these verdicts, and how many of them were made."""
    status = begun(spec, FaultExperimentStatus(run_uid=UID))
    for number, letter in enumerate(course, 1):
        status = counted(spec, judged(status, WORDS[letter], recovery=100 * number), at(20))
        if (over := judge_all(spec, status)) is not None:
            return over, number
        status = next_run(spec, status)
    raise AssertionError("it wants yet another run")


@pytest.mark.parametrize(
    ("count", "share", "course", "made", "verdict", "reason"),
    [
        (3, None, "PPP", 3, Verdict.PASSED, None),
        (3, None, "PFP", 2, Verdict.FAILED, "RunFailed"),
        (3, None, "PIP", 3, Verdict.INCONCLUSIVE, "RunsUndecided"),
        (3, None, "IIF", 3, Verdict.FAILED, "RunFailed"),
        (35, 90, "P" * 35, 35, Verdict.PASSED, None),
        (60, 90, "P" * 20 + "F" + "P" * 39, 60, Verdict.PASSED, None),  # one that fails is within what is asked
        (35, 90, "FFF", 3, Verdict.FAILED, "RateTooLow"),
        (35, 90, "FPFPFPFPFP", 9, Verdict.FAILED, "RateTooLow"),
        (5, 50, "PPIPP", 3, Verdict.INCONCLUSIVE, "RateUndecided"),  # the two that are left could decide nothing
        (6, 50, "PPIPPP", 6, Verdict.PASSED, None),
        (5, 50, "PPA", 3, Verdict.ABORTED, "Because"),
        (5, 50, "FE", 2, Verdict.ERROR, "Because"),
    ],
)
def test_the_verdict_over_all_runs(
    count: int, share: int | None, course: str, made: int, verdict: Verdict, reason: str | None
) -> None:
    status, number = play(repeated(count, share), course)
    assert (status.verdict, number) == (verdict, made)
    assert (status.findings[0].reason if status.findings else None) == reason


def test_an_undecided_rate_tells_how_many_runs_it_takes() -> None:
    status, _ = play(repeated(40, 90), "P" * 20 + "F" + "P" * 19)
    assert status.findings[0].message == (
        "32 of 33 runs passed: 97 % (84.6 to 99.5 % at 95 % confidence); 90 % are asked for; if as many fail on, "
        "it would take about 84; if none fails, 35"
    )
    assert status.findings[1].message.startswith("run 21, seed ")


def test_runs_that_decide_nothing_count_on_neither_side() -> None:
    status, _ = play(repeated(4), "PIPI")
    assert status.runs is not None and status.runs.rate is not None
    assert (status.runs.passed, status.runs.failed, status.runs.undecided) == (2, 0, 2)
    assert status.runs.rate.percent == 100.0
    assert status.findings[0].message.startswith("2 of 2 runs passed: 100 % (34.2 to 100 % at 95 % confidence)")


@pytest.mark.parametrize(
    "what",
    [
        {"axes": None},
        {"ending": Finding(verdict=Verdict.ABORTED, reason="Cancelled", message="spec.cancel was set")},
    ],
)
def test_nothing_follows_on_a_run_that_is_not_clean_or_was_ended(what: dict[str, Any]) -> None:
    spec = repeated(5, 50)
    status = begun(spec, FaultExperimentStatus(run_uid=UID))
    over = judge_all(spec, counted(spec, judged(status, Verdict.FAILED, **what), at(20)))
    assert over is not None and over.verdict is Verdict.FAILED


def test_percentiles_are_by_nearest_rank_and_only_of_what_was_measured() -> None:
    spec = repeated(12)
    status = begun(spec, FaultExperimentStatus(run_uid=UID))
    for number in range(1, 12):
        took = None if number == 11 else 1100 - 100 * number
        status = next_run(spec, counted(spec, judged(status, Verdict.PASSED, recovery=took), at(20)))
    assert status.runs is not None
    (recovery,) = status.runs.percentiles
    assert (recovery.figure, recovery.runs) == ("recovery", 10)
    assert (recovery.p50_milliseconds, recovery.p90_milliseconds, recovery.p99_milliseconds) == (500, 900, 1000)
    assert (recovery.most_milliseconds, recovery.plus_minus_milliseconds) == (1000, 50)


def test_each_run_has_a_seed_of_its_own_and_can_be_done_again_alone() -> None:
    spec = repeated(400)
    assert spec.runs is not None
    seeds = [seed_of(spec.runs, number) for number in range(1, 401)]
    assert seeds[0] == 7 and len(set(seeds)) == 400 and all(0 <= seed < 2**31 for seed in seeds)
    bounds = ("shortestOn", "longestOn", "shortestOff", "longestOff")
    turns = {"intermittent": {f"{bound}Milliseconds": 500 for bound in bounds} | {"seed": 4}}
    cut = {"name": "cut", "target": "web", "networkPartition": {}, "durationSeconds": 10, "pattern": turns, "seed": 3}
    spec = experiment(faults=[cut], seed=5, runs={"count": 3, "seed": 7})
    status = begun(spec, FaultExperimentStatus(run_uid=UID))
    third = next_run(spec, next_run(spec, status))
    assert third.runs is not None
    alone = spec.model_copy(update={"runs": spec.runs.model_copy(update={"count": 1, "seed": third.runs.seed})})  # type: ignore[union-attr]
    again = spec_of_run(alone, begun(alone, FaultExperimentStatus(run_uid=UID)))
    run = spec_of_run(spec, third)
    assert (run.seed, run.faults) == (again.seed, again.faults)
    assert (run.seed, run.faults[0].seed) == (5 ^ third.runs.seed, 3 ^ third.runs.seed)
    assert run.faults[0].pattern.intermittent.seed == 4 ^ third.runs.seed  # type: ignore[union-attr]
    plain = experiment(seed=5)
    assert spec_of_run(plain, FaultExperimentStatus()) is plain


def test_runs_are_told_apart_by_their_names() -> None:
    assert run_name(UID, 1) == UID
    assert run_name(UID, 2) == f"{UID}-run2"
    assert all(experiment_of(run_name(UID, number)) == UID for number in (1, 2, 400))
    assert len(run_name(UID, MOST_RUNS)) <= 63, "it is the value of a label"


def test_too_few_runs_are_told_before_anything_is_touched() -> None:
    spec = repeated(10, 90)
    told = "10 runs cannot support requiredSuccessPercent 90 at confidencePercent 95 though all of them pass"
    assert (too_few(spec) or "").startswith(f"{told}; count must be 35 or more, or requiredSuccessPercent 72 or less")
    assert too_few(repeated(35, 90)) is None
    assert too_few(repeated(1)) is None
    status = begun(spec, FaultExperimentStatus(run_uid=UID))
    decision = advance(spec, State(status), Seen(preparation=preparation(spec), health=health()), at(0))
    over = decision.state.status
    assert (over.phase, over.verdict, over.findings[0].reason) == (Phase.FINISHED, Verdict.INCONCLUSIVE, "TooFewRuns")
    assert not decision.state.injections and is_stalled(over)


def test_the_next_run_begins_with_nothing_of_the_last_one_but_what_all_share() -> None:
    spec = repeated(3)
    status = begun(spec, FaultExperimentStatus(run_uid=UID))
    seen = Seen(preparation=preparation(spec), claimed=True, health=health())
    first = advance(spec, State(status), seen, at(0)).state
    assert first.status.timeline[0].message == "run 1 of 3, seed 7"
    recovered = health(recovered=Interval(at(12), at(12.2)), healthy_for=9.0)
    verifying = replace(
        first,
        status=first.status.model_copy(update={"phase": Phase.VERIFYING, "marks": finished().marks}),
        injections=(injection(),),
    )
    decision = advance(spec, verifying, Seen(health=recovered, claimed=True), at(20))
    over = decision.state
    assert (over.status.phase, over.status.verdict, over.status.finished_at) == (Phase.REPEATING, None, None)
    assert over.status.message.startswith("run 1 of 3 ")
    for cancel in (False, True):  # whoever cancels now ends the next run: this one is over
        waits = advance(spec, over, Seen(cancel=cancel), at(21))
        assert waits.duties == {Duty.RELEASE} and waits.state.status.ending is None
    second = next_run(spec, over.status)
    assert (second.phase, second.run, second.marks, second.injections) == (Phase.PENDING, f"{UID}-run2", [], [])
    assert (second.checks, second.deadline_at) == (over.status.checks, over.status.deadline_at)
    assert second.runs is not None and second.runs.told == "2/3"
    cancelled = advance(spec, State(second), Seen(cancel=True, claimed=True), at(22)).state.status
    assert (cancelled.phase, cancelled.verdict) == (Phase.FINISHED, Verdict.ABORTED)
    assert not is_stalled(cancelled)
    assert cancelled.findings[0].message == "run 2 of 3, and so the last: spec.cancel was set"


def test_what_is_kept_of_runs_is_bounded() -> None:
    spec = repeated(MOST_RUNS, 50)
    status = begun(spec, FaultExperimentStatus(run_uid=UID))
    for _ in range(MOST_RUNS):
        status = next_run(spec, counted(spec, judged(status, Verdict.INCONCLUSIVE, recovery=86_400_000), at(20)))
    assert status.runs is not None and len(status.runs.listed) == LISTED_RUNS
    assert len(status.runs.listed[0].message) == MOST_WORDS
    assert len(json.dumps(status.to_json())) < 50 * 1024
