"""How fast a system was before, during and after a fault, and when it was as fast again: by its workload's seconds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from bounceback.accounting.seconds import Second, percentile
from bounceback.api.check import RecoveryCheckSpec
from bounceback.api.check_workload import Performance
from bounceback.api.status import Finding
from bounceback.api.workload_status import Pace, PerformanceStatus
from bounceback.engine.finished import Run
from bounceback.engine.state import Seen, State, Work
from bounceback.engine.timeline import judge_budget
from bounceback.types.instants import WALL_CLOCKS_AGREE, Instant, Interval, Span
from bounceback.types.outcome import Aspect, Judgement, Mark, Verdict

TOLD_LATE: Final = 0.1
"""Seconds to which the beginning of the load is known on the prober's own clock."""
LATE_SECONDS: Final = 3.0
"""So long after a second is over its line is there."""
Marks = Mapping[Mark, Interval]


def performance_of(check: RecoveryCheckSpec, work: Work, marks: Marks) -> PerformanceStatus:
    """Of a load that is over."""
    before, during, after, cured = _windows(work, marks)
    status = PerformanceStatus(before=_pace(before), during=_pace(during), after=_pace(after))
    if check.performance is None:
        return status.model_copy(update={"message": "measured, and not judged: the check has no performance"})
    asked, window = check.performance, check.recovered.stable_seconds
    if not before or not status.before.per_second or cured is None:
        return _judged(status, Judgement.INCONCLUSIVE, "there is no baseline to hold it against")
    back = _back(after, status.before, asked, window)
    seen = len(after)
    if back is None:
        bounds = f"{_bounds(asked, status.before)} in the {seen} s after the fault; {_told(status.after)}"
        failed = seen >= asked.within_seconds + window
        return _judged(status, Judgement.FAILED if failed else Judgement.INCONCLUSIVE, f"not back at {bounds}")
    least = after[back - 1].number - cured.most if back else 0.0
    span = Span(max(0.0, least), max(0.0, after[back].number + TOLD_LATE - cured.least))
    told = f"back at {_bounds(asked, status.before)} {span.middle:.1f} s ± {span.error:.1f} after the fault"
    figure = {
        "back_milliseconds": round(span.middle * 1000),
        "back_plus_minus_milliseconds": round(span.error * 1000),
    }
    result = judge_budget(span, asked.within_seconds)
    return _judged(status.model_copy(update=figure), result, f"{told}; withinSeconds is {asked.within_seconds}")


def still_slow(state: State, seen: Seen, since: float) -> str:
    """Which workload is not as fast as it must be, and may still become so; "" where none is.

    `since`: seconds since the fault was cleared.
    """
    works = {work.check: work for work in seen.work}
    marks = {each.mark: each.interval() for each in state.status.marks}
    for check in state.status.checks:
        asked, work = check.spec.performance, works.get(check.name)
        if asked is None or work is None or work.over:
            continue
        window = check.spec.recovered.stable_seconds
        if since >= asked.within_seconds + window + LATE_SECONDS:
            continue
        before, _, after, _ = _windows(work, marks)
        baseline, last = _pace(before), after[-window:]
        if before and (len(last) < window or not _is_met(_pace(last), baseline, asked)):
            return f"{check.name}: not yet back at {_bounds(asked, baseline)}; {_told(_pace(last))}"
    return ""


def _windows(work: Work, marks: Marks) -> tuple[list[Second], list[Second], list[Second], Span | None]:
    """Whole seconds before, during and after, and when the last begins, in seconds of the load."""
    planned, active = _place(work, marks.get(Mark.PLANNED)), _place(work, marks.get(Mark.ACTIVE))
    cleared = _place(work, marks.get(Mark.CLEARED))
    cured = _place(work, marks.get(Mark.REPAIR_BEGAN)) or cleared
    before = [s for s in work.seconds if planned is not None and s.number + 1 <= planned.least]
    during = [
        s
        for s in work.seconds
        if active is not None and s.number >= active.most and (cleared is None or s.number + 1 <= cleared.least)
    ]
    after = [s for s in work.seconds if cured is not None and s.number >= cured.most]
    return before, during, after, cured


def _place(work: Work, moment: Interval | None) -> Span | None:
    """Seconds since the load began, by the prober's clock."""
    if moment is None or work.began is None:
        return None
    first, last = (_since(work.began, work.offset, each) for each in (moment.earliest, moment.latest))
    return Span(first.least - TOLD_LATE, last.most + TOLD_LATE)


def _since(began: Instant, offset: Span | None, moment: Instant) -> Span:
    if moment.boot == began.boot:
        exact = moment.since(began)
        return Span(exact, exact)
    ahead = offset or Span(-WALL_CLOCKS_AGREE, WALL_CLOCKS_AGREE)
    return Span(moment.utc + ahead.least - began.utc, moment.utc + ahead.most - began.utc)


def _pace(seconds: Sequence[Second]) -> Pace:
    together = Second(0)
    for second in seconds:
        together.join(second)
    return _pace_of(together, len(seconds))


def _pace_of(together: Second, count: int) -> Pace:
    """Of so many seconds."""
    if not count:
        return Pace()
    p50, p99 = (percentile(together.latencies, share) for share in (50, 99))
    return Pace(
        seconds=count,
        per_second=round(together.acknowledged / count, 2),
        p50_milliseconds=None if p50 is None else round(p50 * 1000, 3),
        p99_milliseconds=None if p99 is None else round(p99 * 1000, 3),
    )


def _back(after: Sequence[Second], baseline: Pace, asked: Performance, window: int) -> int | None:
    """The first place from which on a whole window, and all that follows, is as fast as it must be."""
    rest, back = Second(0), None
    for first in reversed(range(len(after))):
        rest.join(after[first])
        if first + window > len(after) or not _is_met(_pace_of(rest, len(after) - first), baseline, asked):
            continue
        if _is_met(_pace(after[first : first + window]), baseline, asked):
            back = first
    return back


def _is_met(pace: Pace, baseline: Pace, asked: Performance) -> bool:
    if asked.throughput_percent is not None and pace.per_second * 100 < baseline.per_second * asked.throughput_percent:
        return False
    if asked.latency_p99_percent is None:
        return True
    least, most = baseline.p99_milliseconds, pace.p99_milliseconds
    return least is not None and most is not None and most * 100 <= least * asked.latency_p99_percent


def _bounds(asked: Performance, baseline: Pace) -> str:
    """For people: what it must be, and what that comes to."""
    parts = []
    if asked.throughput_percent is not None:
        least = baseline.per_second * asked.throughput_percent / 100
        parts.append(f"{asked.throughput_percent} % of the throughput ({least:.1f}/s)")
    if asked.latency_p99_percent is not None:
        most = (baseline.p99_milliseconds or 0) * asked.latency_p99_percent / 100
        parts.append(f"{asked.latency_p99_percent} % of the p99 ({most:.1f} ms)")
    return " and ".join(parts)


def _told(pace: Pace) -> str:
    p99 = "no answers" if pace.p99_milliseconds is None else f"p99 {pace.p99_milliseconds:.1f} ms"
    return f"{pace.per_second:.1f}/s, {p99}"


def _judged(status: PerformanceStatus, result: Judgement, message: str) -> PerformanceStatus:
    return status.model_copy(update={"result": result, "message": message[:512]})


# What that says of the run


def not_as_fast(run: Run) -> Iterable[Finding]:
    """A system that is slower than it was, where a check asks."""
    for check, result, message in _results(run):
        if result is not Judgement.PASSED:
            reason = "PerformanceNotBack" if result is Judgement.FAILED else "PerformanceUndecided"
            told = f"{check}: performance: {message}"
            yield Finding(verdict=Verdict(result), reason=reason, message=told[:1024])


def performance(run: Run) -> Aspect:
    """NotChecked where no check has performance."""
    found = {result for _, result, _ in _results(run)}
    order = (Judgement.FAILED, Judgement.INCONCLUSIVE, Judgement.PASSED)
    return next((Aspect(each) for each in order if each in found), Aspect.NOT_CHECKED)


def _results(run: Run) -> Iterable[tuple[str, Judgement, str]]:
    """By check; of those that have performance, once anything was in force."""
    if not any(injection.in_force_at for injection in run.injections):
        return
    workloads = {each.check: each.performance for each in run.status.workloads}
    for check in run.status.checks:
        if check.spec.performance is not None:
            found = workloads.get(check.name)
            result = (found and found.result) or Judgement.INCONCLUSIVE
            yield check.name, result, found.message if found else "the workload gave no account"
