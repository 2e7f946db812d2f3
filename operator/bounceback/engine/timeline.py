"""From samples to moments, and from moments to figures, each with its uncertainty.

A sample tells the state at one moment between its start and its end, and not at which. So a change lies between the
start of the last sample before it and the end of the first one after it. Where answers overlap, which of them looked
first is taken from the order of their starts; where an outage was shorter than the answers around it, so that this
order decides, the interval is widened by as much as the slower answer allows for. docs/timeline.md has the reasons.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from bounceback.api.status import Figure, Figures
from bounceback.engine.samples import History, Run, earliest, latest
from bounceback.types.instants import Instant, Interval, Span
from bounceback.types.outcome import Judgement, Mark


@dataclass(frozen=True, slots=True)
class Stretch:
    """A time of one state: one part, or several with gaps between them; failures below the threshold are no state."""

    healthy: bool
    parts: tuple[Run, ...]

    @property
    def count(self) -> int:
        return sum(part.count for part in self.parts)

    @property
    def soonest(self) -> Instant:
        """The earliest end of its samples: the state had come by then."""
        return earliest(*(part.soonest for part in self.parts))


def stretches(history: History, threshold: int | None = None) -> list[Stretch]:
    """The states in order; fewer than `threshold` failures in a row are none, nor are those that may yet be more."""
    threshold = history.threshold if threshold is None else threshold
    groups: list[Stretch] = []
    for run in history.runs:
        if groups and groups[-1].healthy == run.healthy:
            groups[-1] = _longer(groups[-1], run)
        else:
            groups.append(Stretch(run.healthy, (run,)))
    kept: list[Stretch] = []
    blip: Stretch | None = None
    for group in groups:
        if not group.healthy and group.count < threshold:
            blip = group
            continue
        if kept and kept[-1].healthy == group.healthy:  # with a blip between
            first, *others = group.parts
            gap = first.after_gap or (blip is not None and any(part.after_gap for part in blip.parts))
            joined = _longer(kept[-1], replace(first, after_gap=gap))
            kept[-1] = replace(joined, parts=(*joined.parts, *others))
        else:
            kept.append(group)
        blip = None
    return kept


def _longer(stretch: Stretch, run: Run) -> Stretch:
    """With a run of the same state; it goes on where the last part ended unless there is a gap between."""
    if run.after_gap:
        return replace(stretch, parts=(*stretch.parts, run))
    *before, last = stretch.parts
    soonest = earliest(last.soonest, run.soonest)
    joined = replace(last, count=last.count + run.count, last=run.last, soonest=soonest)
    return replace(stretch, parts=(*before, joined))


def first_symptom(
    history: History, since: Instant, threshold: int | None = None, *, only_changes: bool = False
) -> Interval | None:
    """When the system first went from healthy to failing at or after `since`; None while no such change is known.

    `only_changes`: a system that fails from its first sample on is no such change, and else it is.

    A change that may have been before `since` or after it counts. Known once all looks that began before the first
    failing one are answered, so that no late answer can move it.
    """
    before: Stretch | None = None
    for stretch in stretches(history, threshold):
        if not stretch.healthy and stretch.soonest.since(since) >= 0:
            first = stretch.parts[0].first
            pending = history.oldest_under_way
            if pending is not None and pending.since(first.start) < 0:
                return None
            if before is None and not only_changes:
                return Interval(earliest(since, first.start), stretch.soonest)
            if before is None:
                before = stretch
                continue
            good = before.parts[-1].last
            start = good.start
            if not history.ordered and good.end.since(stretch.parts[-1].last.start) > 0:
                start = start.plus(-max(0.0, good.latency - first.latency))
            return Interval(start, stretch.soonest)
        before = stretch
    return None


def recovered(history: History, since: Instant, stable_seconds: float, now: Instant) -> Interval | None:
    """When the system last went from failing to healthy, if it has been healthy for `stable_seconds` without a gap.

    None while it has not. A system that has not failed since `since` recovered at `since`; where nobody looked at
    that time, it did so before it was seen healthy.
    """
    states = stretches(history)
    if not states or not states[-1].healthy:
        return None
    parts = states[-1].parts
    stable = (n for n, part in enumerate(parts) if _held(history, part, since, now) >= stable_seconds)
    chosen = next(stable, None)
    if chosen is None:
        return None
    part = parts[chosen]
    if len(states) > 1:
        change = _change_to_healthy(history, states[-2], part)
        if change.latest.since(since) > 0:
            return change
    if part.first.start.since(since) <= 0:
        return Interval.at(since)
    return Interval(since, latest(since, part.soonest))


def _change_to_healthy(history: History, failing: Stretch, part: Run) -> Interval:
    bad = failing.parts[-1].last
    end = part.soonest
    if not history.ordered and part.first.start.since(failing.soonest) < 0:
        end = end.plus(max(0.0, bad.latency - part.first.latency))
    return Interval(bad.start, end)


def _held(history: History, part: Run, since: Instant, now: Instant) -> float:
    """For how many seconds from `since` on this part of the samples is known to have been healthy."""
    until = earliest(part.last.start, now, *([history.oldest_under_way] if history.oldest_under_way else []))
    return until.since(latest(part.soonest, since))


def healthy_for(history: History, now: Instant) -> float:
    """Seconds that the system is known to have been healthy up to now, without a gap; 0 where it is not."""
    states = stretches(history)
    if not states or not states[-1].healthy or stalled(history, now):
        return 0.0
    part = states[-1].parts[-1]
    return max(0.0, _held(history, part, part.soonest, now))


def failing_for(history: History, now: Instant) -> float:
    """Seconds since the system was first seen failing, with no healthy sample and no gap since; 0 where it is not."""
    states = stretches(history)
    if not states or states[-1].healthy or stalled(history, now):
        return 0.0
    return max(0.0, now.since(states[-1].parts[-1].soonest))


def stalled(history: History, now: Instant) -> bool:
    """Whether nobody is looking now."""
    newest = history.newest_start
    return newest is None or history.resumed_from is not None or now.since(newest) > history.stall_seconds


def gaps_within(history: History, between: Interval) -> list[Interval]:
    """When nobody was looking, of this time: before the first look, after the last one, or in between."""
    edges = []
    first, newest = history.first_start, history.newest_start
    if first is None or newest is None:
        return [between]
    if first.since(between.earliest) > history.stall_seconds:
        edges.append(Interval(between.earliest, first))
    if history.resumed_from is not None or between.latest.since(newest) > history.stall_seconds:
        edges.append(Interval(newest, latest(between.latest, newest)))
    return [g for g in (*edges, *history.gaps) if _overlap(g, between)]


def has_gap(history: History, between: Interval) -> bool:
    """Whether nobody was looking at some time between these two moments."""
    return bool(gaps_within(history, between))


def _overlap(one: Interval, other: Interval) -> bool:
    return one.latest.since(other.earliest) > 0 and other.latest.since(one.earliest) > 0


def merged_symptom(symptoms: Iterable[Interval | None]) -> Interval | None:
    """The first symptom of several probes: the least of moments that lie in intervals lies between the least ends."""
    known = [symptom for symptom in symptoms if symptom is not None]
    if not known:
        return None
    return Interval(earliest(*(s.earliest for s in known)), earliest(*(s.latest for s in known)))


def merged_recovery(recoveries: Iterable[Interval | None]) -> Interval | None:
    """The recovery of several probes: the last of them; None while one of them has not recovered, or without probes."""
    found = list(recoveries)
    known = [recovery for recovery in found if recovery is not None]
    if not known or len(known) < len(found):
        return None
    return Interval(latest(*(r.earliest for r in known)), latest(*(r.latest for r in known)))


def figure(span: Span) -> Figure:
    """In whole milliseconds that still contain the span."""
    middle = round(span.middle * 1000)
    return Figure(
        milliseconds=middle,
        plus_minus_milliseconds=math.ceil(max(span.most * 1000 - middle, middle - span.least * 1000) - 1e-6),
    )


def in_seconds(milliseconds: int) -> str:
    """1.4s, as a column of `kubectl get` shows it."""
    return f"{milliseconds / 1000:.1f}s"


def figures(marks: Mapping[Mark, Interval]) -> Figures:
    """What the marks tell; a figure without both of its marks is not there."""

    def span(start: Mark, end: Mark) -> Figure | None:
        return figure(Span.between(marks[start], marks[end])) if start in marks and end in marks else None

    signal = Mark.DETECTED if Mark.DETECTED in marks else Mark.FIRST_SYMPTOM
    detection = span(Mark.ACTIVE, signal)
    by = {Mark.DETECTED: "System", Mark.FIRST_SYMPTOM: "Probe"}[signal]
    failed = Mark.FIRST_SYMPTOM in marks
    return Figures(
        detection=detection,
        detected_by=by if detection else None,
        outage=span(Mark.FIRST_SYMPTOM, Mark.RECOVERED),
        recovery=span(Mark.CLEARED, Mark.RECOVERED),
        recovered_under_fault=failed and _surely_before(marks, Mark.RECOVERED, Mark.CLEARED),
        activation=span(Mark.PLANNED, Mark.ACTIVE),
    )


def _surely_before(marks: Mapping[Mark, Interval], one: Mark, other: Mark) -> bool:
    return one in marks and other in marks and marks[one].latest.since(marks[other].earliest) <= 0


def judge_budget(span: Span, budget_seconds: float) -> Judgement:
    """Whether the length of time kept within its budget; one that may have, and may not have, is Inconclusive."""
    if span.most <= budget_seconds:
        return Judgement.PASSED
    return Judgement.FAILED if span.least > budget_seconds else Judgement.INCONCLUSIVE
