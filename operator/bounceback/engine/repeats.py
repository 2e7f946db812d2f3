"""Repeated runs of one experiment: the seed of each, what is kept of it, whether another one follows, the verdict."""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil, floor
from typing import Final, TypeVar

from pydantic import BaseModel

from bounceback.api.experiment import FaultExperimentSpec
from bounceback.api.reference_run import ReferenceStatus
from bounceback.api.runs import LISTED_RUNS, MOST_WORDS, Percentiles, Runs, RunsStatus, RunSummary, SuccessRate
from bounceback.api.status import FaultExperimentStatus, Finding
from bounceback.engine.reference_run import after_the_reference
from bounceback.engine.success_rate import Asked, by_now, runs_needed, runs_needed_like, wilson
from bounceback.types.choice import stream
from bounceback.types.instants import Instant
from bounceback.types.outcome import Cleanup, Judgement, Phase, Verdict

Given = TypeVar("Given", bound=BaseModel)
FIGURES: Final = ("activation", "detection", "outage", "recovery")
MOST_SEED: Final = 2_147_483_647
MOST_TOLD: Final = 20
"""Runs that did not pass and get a finding each."""


def seed_of(runs: Runs, number: int) -> int:
    """The first run has the given one, so that any of them can be done again alone."""
    return runs.seed if number == 1 else stream(runs.seed, f"run {number}") & MOST_SEED


def begun(spec: FaultExperimentSpec, status: FaultExperimentStatus) -> FaultExperimentStatus:
    """The status of an experiment that is new, with what is told of repeated runs where those are asked for.

    Those are counted from the first with faults: a reference run comes before it.
    """
    if spec.reference is not None and status.reference is None and not status.revision:
        status = status.model_copy(update={"reference": ReferenceStatus()})
    if spec.runs is None or status.runs is not None or status.is_reference:
        return status
    return status.model_copy(update={"runs": _numbered(spec.runs, RunsStatus(), 1)})


def next_run(spec: FaultExperimentSpec, status: FaultExperimentStatus) -> FaultExperimentStatus:
    """The status at the beginning of the run after this one: what all runs share stays, all else is new."""
    runs = None
    if spec.runs is not None:
        before = status.runs or RunsStatus()
        runs = _numbered(spec.runs, before, before.number + 1 if status.runs else 1)
    return FaultExperimentStatus(
        revision=status.revision,
        observed_generation=status.observed_generation,
        conditions=status.conditions,
        run_uid=status.run_uid,
        deadline_at=status.deadline_at,
        checks=status.checks,
        runs=runs,
        reference=after_the_reference(status),
    )


def _numbered(asked: Runs, runs: RunsStatus, number: int) -> RunsStatus:
    told = f"{number}/{asked.count}"
    return runs.model_copy(update={"number": number, "seed": seed_of(asked, number), "told": told})


def spec_of_run(spec: FaultExperimentSpec, status: FaultExperimentStatus) -> FaultExperimentSpec:
    """As this run carries it out: with its seed in each of the seeds."""
    return spec if status.runs is None else _reseeded(spec, status.runs.seed)


def _reseeded(model: Given, seed: int) -> Given:
    changed: dict[str, object] = {}
    for name in type(model).model_fields:
        value = getattr(model, name)
        if name == "seed":
            changed[name] = value ^ seed
        elif isinstance(value, BaseModel) and not isinstance(value, Runs):
            changed[name] = _reseeded(value, seed)
        elif isinstance(value, list) and value and isinstance(value[0], BaseModel):
            changed[name] = [_reseeded(each, seed) for each in value]
    return model.model_copy(update=changed)


def too_few(spec: FaultExperimentSpec) -> str | None:
    """Why the runs cannot support what is asked though all of them pass; None: they can."""
    if (asked := _asked(spec.runs)) is None or spec.runs is None:
        return None
    needed, share, sure = runs_needed(asked), spec.runs.required_success_percent, spec.runs.confidence_percent
    if spec.runs.count >= needed:
        return None
    return (
        f"{_runs(spec.runs.count)} cannot support requiredSuccessPercent {share} at confidencePercent {sure} though "
        f"all of them pass; count must be {needed} or more, or {_easier(spec.runs)}"
    )


def not_enough(spec: FaultExperimentSpec) -> Finding | None:
    """What ends such an experiment before anything is touched."""
    if (told := too_few(spec)) is None:
        return None
    return Finding(verdict=Verdict.INCONCLUSIVE, reason="TooFewRuns", message=f"spec.runs: {told}")


def _easier(runs: Runs) -> str:
    """What could be asked of so many runs instead."""
    sure = runs.confidence_percent / 100
    shares = (share for share in range(99, 0, -1) if runs_needed(Asked(share / 100, sure)) <= runs.count)
    if (most := next(shares, None)) is None:
        return "requiredSuccessPercent unset, so that each run must pass"
    return f"requiredSuccessPercent {most} or less, or unset, so that each run must pass"


def counted(spec: FaultExperimentSpec, judged: FaultExperimentStatus, now: Instant) -> FaultExperimentStatus:
    """The status with the run that it tells of, which is over and judged, among the others."""
    runs, verdict = judged.runs, judged.verdict
    assert spec.runs is not None and runs is not None and verdict is not None
    started = judged.started_at
    first = judged.findings[0] if judged.findings else None
    figures = {name: figure for name in FIGURES if (figure := getattr(judged.figures, name)) is not None}
    summary = RunSummary(
        number=runs.number,
        seed=runs.seed,
        verdict=verdict,
        reason=first.reason if first else "",
        message=first.message[:MOST_WORDS] if first else "",
        started_at=started.time if started else "",
        seconds=round(now.since(started.instant())) if started else 0,
        **{f"{name}_milliseconds": figure.milliseconds for name, figure in figures.items() if name != "activation"},
    )
    passed, failed = runs.passed + (verdict is Verdict.PASSED), runs.failed + (verdict is Verdict.FAILED)
    measured = {**runs.measured, **{n: [*runs.measured.get(n, []), f.milliseconds] for n, f in figures.items()}}
    widest = {
        **runs.widest,
        **{n: max(runs.widest.get(n, 0), f.plus_minus_milliseconds) for n, f in figures.items()},
    }
    update = {
        "started_at": runs.started_at or summary.started_at,
        "passed": passed,
        "failed": failed,
        "undecided": runs.undecided + (verdict not in (Verdict.PASSED, Verdict.FAILED)),
        "rate": _rate(passed, failed, spec.runs.confidence_percent),
        "percentiles": [_percentiles(name, measured[name], widest[name]) for name in FIGURES if name in measured],
        "listed": [*runs.listed, summary][-LISTED_RUNS:],
        "measured": measured,
        "widest": widest,
    }
    return judged.model_copy(update={"runs": runs.model_copy(update=update)})


def _rate(passed: int, failed: int, confidence: int) -> SuccessRate | None:
    """To a tenth of a percent; the interval is rounded outwards."""
    runs = passed + failed
    if not runs:
        return None
    low, high = wilson(passed, runs, confidence / 100)
    return SuccessRate(
        percent=round(100 * passed / runs, 1),
        low_percent=floor(low * 1000) / 10,
        high_percent=ceil(high * 1000) / 10,
    )


def _percentiles(figure: str, measured: list[int], widest: int) -> Percentiles:
    found = sorted(measured)

    def nearest(percent: int) -> int:
        return found[ceil(percent * len(found) / 100) - 1]

    return Percentiles(
        figure=figure,
        runs=len(found),
        p50_milliseconds=nearest(50),
        p90_milliseconds=nearest(90),
        p99_milliseconds=nearest(99),
        most_milliseconds=found[-1],
        plus_minus_milliseconds=widest,
    )


def which_of(spec: FaultExperimentSpec, status: FaultExperimentStatus) -> str:
    """run 3 of 20, seed 7; "" where there is only one."""
    runs = status.runs
    if status.is_reference:
        return "the reference run: none of the faults"
    return f"run {runs.number} of {spec.runs.count}, seed {runs.seed}" if spec.runs and runs else ""


def concluded(
    spec: FaultExperimentSpec, judged: FaultExperimentStatus, now: Instant
) -> tuple[FaultExperimentStatus, Phase, str]:
    """One of several runs is judged: it is counted, and on it goes to the next one, or to the end of all."""
    status = counted(spec, judged, now)
    assert spec.runs is not None and status.runs is not None
    sums = so_far(spec.runs, status.runs)
    over = judge_all(spec, status)
    if over is None:
        why = "".join(f" ({finding.reason})" for finding in status.findings[:1])
        told = f"run {status.runs.number} of {spec.runs.count} {status.verdict}{why}; {sums}"
        return status.model_copy(update={"verdict": None}), Phase.REPEATING, told
    told = over.findings[0].message if over.findings else sums
    return over.model_copy(update={"finished_at": now.rfc3339()}), Phase.FINISHED, f"{over.verdict}: {told}"


def judge_all(spec: FaultExperimentSpec, status: FaultExperimentStatus) -> FaultExperimentStatus | None:
    """The verdict over all runs, of which the last is counted already; None: another one follows.

    A run that was ended before its time, or that left something behind or may have, ends the experiment with its own
    verdict: nothing is injected where the one before is not wholly cleaned up, nor where somebody said stop.
    """
    runs = status.runs
    assert runs is not None and spec.runs is not None
    if stops := _stops(status):
        first, before = status.findings[0], runs.model_copy(update={"listed": runs.listed[:-1]})
        if runs.number > 1:
            told = f"run {runs.number} of {spec.runs.count}, and so the last: {first.message}"
            first = first.model_copy(update={"message": told[:1024]})
        return _over(status, stops, [first, *status.findings[1:], *_not_passed(before)])
    judgement = _judgement(spec.runs, runs)
    if judgement is None:
        return None
    verdict = Verdict(judgement)
    if verdict is Verdict.PASSED:
        return _over(status, verdict, [])
    told = _why(spec.runs, runs, verdict)
    finding = Finding(verdict=verdict, reason=_reason(spec.runs, verdict), message=told[:1024])
    return _over(status, verdict, [finding, *_not_passed(runs)])


def _stops(status: FaultExperimentStatus) -> Verdict | None:
    """The verdict of a run after which there must be no other."""
    clean = not status.injections or (status.axes is not None and status.axes.cleanup is Cleanup.CLEAN)
    if status.ending is not None or not clean or status.verdict in (Verdict.ABORTED, Verdict.ERROR):
        return status.verdict
    return None


def _judgement(asked: Runs, runs: RunsStatus) -> Judgement | None:
    left = asked.count - runs.number
    if (share := _asked(asked)) is not None:
        return by_now(share, runs.passed, runs.failed, left)
    if runs.failed:
        return Judgement.FAILED
    if left:
        return None
    return Judgement.INCONCLUSIVE if runs.undecided else Judgement.PASSED


def _asked(runs: Runs | None) -> Asked | None:
    if runs is None or runs.required_success_percent is None:
        return None
    return Asked(runs.required_success_percent / 100, runs.confidence_percent / 100)


def _over(status: FaultExperimentStatus, verdict: Verdict, findings: list[Finding]) -> FaultExperimentStatus:
    assert status.runs is not None
    medians = {each.figure: f"{each.p50_milliseconds / 1000:.1f}s" for each in status.runs.percentiles}
    return status.model_copy(
        update={
            "verdict": verdict,
            "findings": findings[:50],
            "detected": medians.get("detection"),
            "recovered": medians.get("recovery"),
        }
    )


def _not_passed(runs: RunsStatus) -> Iterator[Finding]:
    """Those among the listed that failed or decided nothing."""
    others = [each for each in runs.listed if each.verdict in (Verdict.FAILED, Verdict.INCONCLUSIVE)]
    for each in others[:MOST_TOLD]:
        told = f"run {each.number}, seed {each.seed}: {each.reason}: {each.message}"
        yield Finding(verdict=each.verdict, reason=f"Run{each.verdict}", message=told)


def _reason(asked: Runs, verdict: Verdict) -> str:
    if asked.required_success_percent is None:
        return "RunFailed" if verdict is Verdict.FAILED else "RunsUndecided"
    return "RateTooLow" if verdict is Verdict.FAILED else "RateUndecided"


def _why(asked: Runs, runs: RunsStatus, verdict: Verdict) -> str:
    """What was found, and how many runs would tell more."""
    told, share = so_far(asked, runs), _asked(asked)
    if share is None:
        return f"{told}; each run must pass"
    told += f"; {asked.required_success_percent} % are asked for"
    if verdict is Verdict.FAILED:
        return told
    needed = runs_needed(share)
    if not runs.failed:
        return f"{told}, which takes {needed} that pass"
    like = runs_needed_like(share, runs.passed, runs.failed)
    at_this = f"it would take about {like}" if like else "no number of runs would do"
    return f"{told}; if as many fail on, {at_this}; if none fails, {needed}"


def so_far(asked: Runs, runs: RunsStatus) -> str:
    """17 of 20 runs passed: 85.0 % (64.0 to 94.8 % at 95 % confidence)."""
    decided = runs.passed + runs.failed
    told = f"{runs.passed} of {_runs(decided)} passed"
    if runs.rate is not None:
        rate, sure = runs.rate, asked.confidence_percent
        told += f": {rate.percent:g} % ({rate.low_percent:g} to {rate.high_percent:g} % at {sure} % confidence)"
    if runs.undecided:
        told += f"; {runs.undecided} more decided nothing"
    return told


def _runs(number: int) -> str:
    return f"{number} run{'' if number == 1 else 's'}"
