"""Repeated runs in a report: all of them in figures, and each in a line."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from pydantic import Field

from bounceback.api.runs import Percentiles, RunSummary
from bounceback.report.redact import redact
from bounceback.report.subject import Subject
from bounceback.report.words import seconds
from bounceback.types.fields import Model
from bounceback.types.outcome import Verdict

HEAD: Final = ("run", "outcome", "detection", "outage", "recovery", "seed", "found")
PERCENTILES: Final = ("figure", "half of them", "9 of 10", "99 of 100", "longest", "uncertainty", "runs")


class RecordRun(Model):
    """One of several runs, in short."""

    number: int = Field(description="Counted from 1.")
    seed: int = Field(description="Its seed: with spec.runs {count: 1, seed: ...} it is done again as it was.")
    verdict: Verdict = Field(description="Its own verdict.")
    reason: str = Field(description="One CamelCase word; empty where it passed.")
    message: str = Field(description="For people; empty where it passed.")
    started_at: str = Field(description="RFC 3339, UTC.")
    length_seconds: float = Field(description="How long it took.")
    detection: float | None = Field(None, description="Seconds, active to detected or to the first symptom.")
    outage: float | None = Field(None, description="Seconds, first symptom to recovered.")
    recovery: float | None = Field(None, description="Seconds, cleared to recovered.")


class RecordPercentiles(Model):
    """One length of time over all runs in which it was measured, in seconds, by nearest rank."""

    figure: str = Field(description="activation, detection, outage or recovery.")
    runs: int = Field(description="In how many runs it was measured.")
    p50: float = Field(description="Half of them took no longer.")
    p90: float = Field(description="Nine of ten took no longer.")
    p99: float = Field(description="99 of 100 took no longer.")
    most: float = Field(description="The longest.")
    plus_minus_seconds: float = Field(description="The largest uncertainty of any of them.")


class RecordRuns(Model):
    """All runs of an experiment that asked for several."""

    count: int = Field(description="How many were asked for at the most.")
    made: int = Field(description="How many there were.")
    required_success_percent: int | None = Field(None, description="The share that must pass; unset: each run made.")
    confidence_percent: int = Field(description="That of the answer, and of the interval.")
    passed: int = Field(description="Runs that passed.")
    failed: int = Field(description="Runs that failed.")
    undecided: int = Field(description="Runs that were neither; they count on neither side.")
    success_percent: float | None = Field(None, description="The share that passed of those that passed or failed.")
    low_percent: float | None = Field(None, description="The lower end of its Wilson score interval.")
    high_percent: float | None = Field(None, description="The upper end.")
    percentiles: list[RecordPercentiles] = Field(description="Lengths of time over all runs.")
    listed: list[RecordRun] = Field(description="The newest hundred runs.")


def record_runs(subject: Subject) -> RecordRuns | None:
    asked, runs = subject.spec.runs, subject.status.runs
    if asked is None or runs is None:
        return None
    rate = runs.rate
    return RecordRuns(
        count=asked.count,
        made=runs.number,
        required_success_percent=asked.required_success_percent,
        confidence_percent=asked.confidence_percent,
        passed=runs.passed,
        failed=runs.failed,
        undecided=runs.undecided,
        success_percent=rate.percent if rate else None,
        low_percent=rate.low_percent if rate else None,
        high_percent=rate.high_percent if rate else None,
        percentiles=[_percentiles(each) for each in runs.percentiles],
        listed=[_run(each) for each in runs.listed],
    )


def _percentiles(of: Percentiles) -> RecordPercentiles:
    return RecordPercentiles(
        figure=of.figure,
        runs=of.runs,
        p50=of.p50_milliseconds / 1000,
        p90=of.p90_milliseconds / 1000,
        p99=of.p99_milliseconds / 1000,
        most=of.most_milliseconds / 1000,
        plus_minus_seconds=of.plus_minus_milliseconds / 1000,
    )


def _run(run: RunSummary) -> RecordRun:
    detection, outage, recovery = (
        None if took is None else took / 1000
        for took in (run.detection_milliseconds, run.outage_milliseconds, run.recovery_milliseconds)
    )
    return RecordRun(
        number=run.number,
        seed=run.seed,
        verdict=run.verdict,
        reason=run.reason,
        message=redact(run.message),
        started_at=run.started_at,
        length_seconds=run.seconds,
        detection=detection,
        outage=outage,
        recovery=recovery,
    )


def percentile_rows(subject: Subject) -> Iterator[tuple[str, ...]]:
    """As PERCENTILES names them."""
    for each in subject.status.runs.percentiles if subject.status.runs else ():
        took = (each.p50_milliseconds, each.p90_milliseconds, each.p99_milliseconds, each.most_milliseconds)
        words = (seconds(t / 1000) for t in took)
        yield each.figure, *words, f"±{seconds(each.plus_minus_milliseconds / 1000)}", str(each.runs)


def run_rows(subject: Subject) -> Iterator[tuple[str, ...]]:
    """As HEAD names them."""
    for run in subject.status.runs.listed if subject.status.runs else ():
        took = (run.detection_milliseconds, run.outage_milliseconds, run.recovery_milliseconds)
        words = ("" if each is None else seconds(each / 1000) for each in took)
        found = f"{run.reason}: {run.message}" if run.reason else ""
        yield str(run.number), str(run.verdict), *words, str(run.seed), found
