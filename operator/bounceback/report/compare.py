"""A run against earlier ones of the same experiment: what became worse, judged by intervals and not by their middles.

A figure is worse where all that it may be lies above all that it was, and a tolerance; it is no worse where all that it
may be lies below; else nobody can say. Of several earlier runs the slowest counts: what has been before is no news.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Literal

from pydantic import Field

from bounceback.api.workload_status import Pace, PerformanceStatus
from bounceback.report.record import Record, RecordSpan
from bounceback.report.words import seconds
from bounceback.report.workloads import RecordWorkload
from bounceback.types.fields import Model
from bounceback.types.outcome import Aspect, Cleanup, InjectionAxis, Judgement, Verdict

FIGURES: Final = ("detection", "outage", "recovery")
"""Of the system's; how fast a fault is brought about is ours."""
LEAST_SECONDS: Final = 0.1
"""More than the tolerance, where that is nothing of next to nothing: two runs are never the same."""
LEAST_SHARE: Final = 0.01
"""The same of what failed or is unknown, of all that was written."""
LEAST_MILLISECONDS: Final = 1.0
"""The same of answers."""
LEAST_PACE_SECONDS: Final = 3
"""Over fewer seconds a workload is not told to be slower."""
ASPECTS: Final = ("detection", "categorization", "strategy", "success", "consistency", "performance")


class Change(StrEnum):
    """Of one thing, from the earlier runs to this one."""

    WORSE = "Worse"
    SAME = "Same"  # or better than it must be, within the tolerance
    BETTER = "Better"
    UNCLEAR = "Unclear"


class Outcome(StrEnum):
    """Of the comparison."""

    REGRESSED = "Regressed"
    KEPT = "Kept"
    INCONCLUSIVE = "Inconclusive"


class Difference(Model):
    """One thing that was compared."""

    what: str = Field(description="The verdict, an axis, an aspect, a figure, an invariant, something of a workload.")
    before: str = Field(description="Of the earlier runs: the worst.")
    now: str = Field(description="Of this one.")
    change: Change = Field(description="Worse, Same, Better or Unclear.")


class Comparison(Model):
    """A run beside earlier ones."""

    comparison_version: Literal[1] = Field(1, description="The version of this format.")
    name: str = Field(description="The run.")
    baseline: list[str] = Field(description="Those it is compared with.")
    tolerance_percent: int = Field(description="How much longer a figure may be, or how much slower a workload.")
    outcome: Outcome = Field(description="Regressed, Kept or Inconclusive.")
    differences: list[Difference] = Field(description="All that was compared.")


def compare(baseline: Sequence[Record], run: Record, tolerance_percent: int) -> Comparison:
    """Raises ValueError for runs of different experiments, and for earlier ones that say nothing."""
    for each in baseline:
        _comparable(each, run)
    differences = [
        *_words(baseline, run),
        *_figures(baseline, run, tolerance_percent),
        *_invariants(baseline, run),
        *_workloads(baseline, run, tolerance_percent),
    ]
    changes = {difference.change for difference in differences}
    outcome = Outcome.KEPT
    if Change.WORSE in changes:
        outcome = Outcome.REGRESSED
    elif Change.UNCLEAR in changes:
        outcome = Outcome.INCONCLUSIVE
    return Comparison(
        comparison_version=1,
        name=f"{run.namespace}/{run.name}",
        baseline=[f"{each.namespace}/{each.name}" for each in baseline],
        tolerance_percent=tolerance_percent,
        outcome=outcome,
        differences=differences,
    )


def _comparable(before: Record, run: Record) -> None:
    """The same faults, judged by the same checks."""
    for what, of in (("faults", _faults), ("checks", _checks)):
        was, now = of(before), of(run)
        if was and now and was != now:
            raise ValueError(
                f"{before.namespace}/{before.name} and {run.namespace}/{run.name} are not runs of one experiment: "
                f"their {what} are {', '.join(sorted(was))} and {', '.join(sorted(now))}"
            )
    models = {each.check: each.model for each in before.workloads}
    for each in run.workloads:
        if models.get(each.check, each.model) != each.model:
            raise ValueError(
                f"{before.namespace}/{before.name} and {run.namespace}/{run.name} are not runs of one experiment: "
                f"the models of the workload of {each.check} are {models[each.check]} and {each.model}"
            )
    if before.verdict in (Verdict.ABORTED, Verdict.ERROR):
        raise ValueError(
            f"{before.namespace}/{before.name} was {before.verdict}, and says nothing that this could be compared with"
        )


def _faults(record: Record) -> set[str]:
    return {f"{each.fault} ({each.kind})" for each in record.injections}


def _checks(record: Record) -> set[str]:
    return {each.check for each in record.checks}


_ORDER: Final[dict[str, int]] = {
    **{str(word): 0 for word in (Verdict.PASSED, InjectionAxis.PROVEN, Cleanup.CLEAN)},
    **{str(word): 2 for word in (Verdict.FAILED, Verdict.ERROR, Cleanup.LEFTOVER)},
}
"""Good, bad; whatever is neither says nothing."""


def _words(baseline: Sequence[Record], run: Record) -> Iterator[Difference]:
    yield _of_words("verdict", [each.verdict for each in baseline], run.verdict)
    if run.runs is not None:
        return  # what else it tells is of its last run alone
    if run.axes is not None:
        for name in ("injection", "recovery", "consistency", "cleanup"):
            was = [str(getattr(each.axes, name)) for each in baseline if each.axes is not None]
            yield _of_words(f"axis {name}", was, str(getattr(run.axes, name)))
    for name in ASPECTS:
        was = [str(getattr(each.aspects, name)) for each in baseline if each.aspects is not None]
        now = str(getattr(run.aspects, name)) if run.aspects is not None else str(Aspect.NOT_CHECKED)
        if any(word != Aspect.NOT_CHECKED for word in (*was, now)):
            yield _of_words(f"aspect {name}", was, now)


def _of_words(what: str, before: Iterable[str], now: str) -> Difference:
    """The worst that was there before; what nobody looked at then is no worse now."""
    grades = sorted(before, key=lambda word: _ORDER.get(word, 1))
    was = grades[-1] if grades else str(Aspect.NOT_CHECKED)
    then, grade = _ORDER.get(was, 1), _ORDER.get(now, 1)
    change = Change.SAME
    if now == Aspect.NOT_CHECKED and was != Aspect.NOT_CHECKED:
        change = Change.UNCLEAR
    elif grade == 2 and then < 2:
        change = Change.WORSE
    elif grade == 1 and then == 0:
        change = Change.UNCLEAR
    elif grade < then:
        change = Change.BETTER
    return Difference(what=what, before=was, now=now, change=change)


def _figures(baseline: Sequence[Record], run: Record, tolerance: int) -> Iterator[Difference]:
    for name in FIGURES:
        was = [span for each in baseline if (span := _figure(each, name)) is not None]
        now = _figure(run, name)
        if was or now is not None:
            yield _of_spans(name, was, now, tolerance)


def _figure(record: Record, name: str) -> RecordSpan | None:
    """Of repeated runs the median."""
    if record.runs is None:
        span: RecordSpan | None = getattr(record.figures, name)
        return span
    found = (each for each in record.runs.percentiles if each.figure == name)
    return next((RecordSpan(seconds=p.p50, plus_minus_seconds=p.plus_minus_seconds) for p in found), None)


def _of_spans(what: str, before: Sequence[RecordSpan], now: RecordSpan | None, tolerance: int) -> Difference:
    slowest = max(before, key=_most, default=None)
    told = (_told(slowest), _told(now))
    if now is None or slowest is None:  # it did not come, or came for the first time: the verdict tells which is worse
        return Difference(what=what, before=told[0], now=told[1], change=Change.UNCLEAR if now is None else Change.SAME)
    limit = max(_most(slowest) * (1 + tolerance / 100), _most(slowest) + LEAST_SECONDS)
    change = Change.UNCLEAR
    if _least(now) > limit:
        change = Change.WORSE
    elif _most(now) < min(_least(each) for each in before):
        change = Change.BETTER
    elif _most(now) <= limit:
        change = Change.SAME
    return Difference(what=what, before=told[0], now=told[1], change=change)


def _invariants(baseline: Sequence[Record], run: Record) -> Iterator[Difference]:
    for each in run.invariants if run.runs is None else ():
        was = [
            str(other.result)
            for record in baseline
            for other in record.invariants
            if (other.check, other.name) == (each.check, each.name)
        ]
        yield _of_words(f"invariant {each.check}/{each.name}", was or [Judgement.PASSED], str(each.result))


def _workloads(baseline: Sequence[Record], run: Record, tolerance: int) -> Iterator[Difference]:
    """What became of each check's operations; of repeated runs nothing, as it is told of the last one alone."""
    if run.runs is not None:
        return
    earlier = [record for record in baseline if record.runs is None]
    checks = dict.fromkeys(each.check for record in (*earlier, run) for each in record.workloads)
    for check in checks:
        was = [each for record in earlier for each in record.workloads if each.check == check]
        now = next((each for each in run.workloads if each.check == check), None)
        name = f"workload {check}"
        yield _of_words(name, [str(w.result) for w in was], str(now.result) if now else str(Aspect.NOT_CHECKED))
        if was and now is not None:
            yield from _counts(name, was, now, tolerance)
            yield from _paces(name, was, now, tolerance)


def _counts(name: str, was: Sequence[RecordWorkload], now: RecordWorkload, tolerance: int) -> Iterator[Difference]:
    """What was lost, duplicated and so on of what was acknowledged; and what was not, of all that was written."""
    for flaw in dict.fromkeys(flaw for each in (*was, now) for flaw in each.flaws):
        shares = [_Share(each.flaws.get(flaw, 0), each.acknowledged) for each in was]
        found = _of_shares(
            f"{name} {flaw.lower()}", shares, _Share(now.flaws.get(flaw, 0), now.acknowledged), tolerance
        )
        allowed = flaw in now.allowed and found.change is Change.WORSE
        yield found.model_copy(update={"change": Change.SAME}) if allowed else found
    for what in ("failed", "unknown"):
        shares = [_Share(getattr(each, what), _written(each), LEAST_SHARE) for each in was]
        yield _of_shares(f"{name} {what}", shares, _Share(getattr(now, what), _written(now), LEAST_SHARE), tolerance)


def _written(each: RecordWorkload) -> int:
    return each.acknowledged + each.failed + each.unknown


@dataclass(frozen=True)
class _Share:
    """So many of these; `least` is what more of it is nothing yet."""

    count: int
    of: int
    least: float = 0.0

    @property
    def part(self) -> float:
        return self.count / self.of if self.of else float(self.count > 0)

    def __str__(self) -> str:
        return f"{self.count:,} of {self.of:,}"


def _of_shares(what: str, was: Sequence[_Share], now: _Share, tolerance: int) -> Difference:
    """Where there was nothing of it one is worse; where nothing was written nobody can say."""
    most, least = max(was, key=lambda share: share.part), min(each.part for each in was)
    change = Change.SAME
    if not now.of or not all(each.of for each in was):
        change = Change.WORSE if now.count and not any(each.count for each in was) else Change.UNCLEAR
    elif now.part > max(most.part * (1 + tolerance / 100), most.part + now.least):
        change = Change.WORSE
    elif now.part < least - now.least:
        change = Change.BETTER
    return Difference(what=what, before=str(most), now=str(now), change=change)


def _paces(name: str, was: Sequence[RecordWorkload], now: RecordWorkload, tolerance: int) -> Iterator[Difference]:
    """How fast it was before the fault, during it and after, and when it was so again."""
    then = [each.performance for each in was if each.performance is not None]
    if not then:
        return
    for when in ("before", "during", "after"):
        paces = [pace for each in then if (pace := getattr(each, when)).seconds]
        pace = getattr(now.performance, when) if now.performance is not None else Pace()
        if paces:
            yield _throughput(f"{name} {when}", paces, pace, tolerance)
            yield from _latency(f"{name} {when} p50", paces, pace, "p50_milliseconds", tolerance)
            yield from _latency(f"{name} {when} p99", paces, pace, "p99_milliseconds", tolerance)
    backs, back = [_back(each) for each in then], _back(now.performance)
    if back is not None or any(backs):
        yield _of_spans(f"{name} back", [each for each in backs if each is not None], back, tolerance)


def _throughput(what: str, was: Sequence[Pace], now: Pace, tolerance: int) -> Difference:
    slowest = min(was, key=lambda pace: pace.per_second)
    change = Change.SAME
    if not now.seconds:
        change = Change.UNCLEAR
    elif now.per_second * (1 + tolerance / 100) < slowest.per_second:
        change = Change.WORSE
    elif now.per_second > max(each.per_second for each in was):
        change = Change.BETTER
    told = [f"{each.per_second:,.1f}/s" if each.seconds else "none" for each in (slowest, now)]
    return Difference(what=what, before=told[0], now=told[1], change=_sure(change, slowest, now))


def _latency(what: str, was: Sequence[Pace], now: Pace, name: str, tolerance: int) -> Iterator[Difference]:
    known = [(each, pace) for pace in was if (each := getattr(pace, name)) is not None]
    value: float | None = getattr(now, name)
    if not known:
        return
    most, slowest = max(known, key=lambda each: each[0])
    change = Change.SAME
    if value is None:
        change = Change.UNCLEAR
    elif value > max(most * (1 + tolerance / 100), most + LEAST_MILLISECONDS):
        change = Change.WORSE
    elif value < min(each for each, _ in known) - LEAST_MILLISECONDS:
        change = Change.BETTER
    told = "none" if value is None else f"{value:,.1f} ms"
    yield Difference(what=what, before=f"{most:,.1f} ms", now=told, change=_sure(change, slowest, now))


def _sure(change: Change, was: Pace, now: Pace) -> Change:
    """A second or two tell little of how fast something is."""
    short = min(was.seconds, now.seconds) < LEAST_PACE_SECONDS
    return Change.UNCLEAR if short and change is Change.WORSE else change


def _back(performance: PerformanceStatus | None) -> RecordSpan | None:
    if performance is None or performance.back_milliseconds is None:
        return None
    return RecordSpan(
        seconds=performance.back_milliseconds / 1000,
        plus_minus_seconds=performance.back_plus_minus_milliseconds / 1000,
    )


def _least(span: RecordSpan) -> float:
    return span.seconds - span.plus_minus_seconds


def _most(span: RecordSpan) -> float:
    return span.seconds + span.plus_minus_seconds


def _told(span: RecordSpan | None) -> str:
    return "none" if span is None else f"{seconds(span.seconds)} ±{span.plus_minus_seconds:.1f}"
