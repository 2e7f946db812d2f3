"""What a step writes down: fields of the status, lines and marks of the timeline, steps of ramps."""

from __future__ import annotations

from dataclasses import replace

from bounceback.api.experiment import FaultExperimentSpec
from bounceback.api.status import TIMELINE_LIMIT, Happening, MarkStatus
from bounceback.engine.collapse import counted
from bounceback.engine.marks import marks_of
from bounceback.engine.state import Seen, State
from bounceback.types.instants import Instant, Interval
from bounceback.types.outcome import CollapseState, InjectionState, Mark


def updated(state: State, **fields: object) -> State:
    return replace(state, status=state.status.model_copy(update=fields))


def noted(state: State, event: str, message: str, now: Instant) -> State:
    """One more line of the timeline; a full one only counts what it left out."""
    status = state.status
    if len(status.timeline) >= TIMELINE_LIMIT:
        return updated(state, timeline_dropped=status.timeline_dropped + 1)
    elapsed = now.since(status.started_at.instant()) if status.started_at else 0.0
    line = Happening(
        time=now.rfc3339(), elapsed_milliseconds=round(elapsed * 1000), event=event[:64], message=message[:512]
    )
    return updated(state, timeline=[*status.timeline, line])


def with_marks(state: State, seen: Seen, now: Instant) -> State:
    for mark, interval, source in marks_of(state.injections, seen.health, now):
        state = with_mark(state, mark, interval, source, now)
    return state


def with_collapses(spec: FaultExperimentSpec, state: State, seen: Seen, now: Instant) -> State:
    """With what was counted at the levels of ramps, and a line once a system has collapsed."""
    status = state.status
    found = counted(spec, status.collapses, state.injections, status.checks, seen.health.counted, now)
    for each, before in zip(found, status.collapses, strict=True):
        if each.state is CollapseState.COLLAPSED and before.state is not each.state:
            state = noted(state, "Collapsed", f"{each.fault}: {each.message}", now)
    return updated(state, collapses=found)


def with_mark(state: State, mark: Mark, interval: Interval, source: str, now: Instant) -> State:
    """A mark that is there stays, but for Cleared, which is the last target's, and Active, the first one's."""
    known = {m.mark: m for m in state.status.marks}
    if mark in known and mark not in (Mark.CLEARED, Mark.ACTIVE):
        return state
    known[mark] = MarkStatus.of(mark, interval, source)
    order = list(Mark)
    if mark not in {m.mark for m in state.status.marks}:
        event = "FirstHit" if mark is Mark.ACTIVE else str(mark)  # Active is the name of a phase already
        state = noted(state, event, f"{source}, known to {interval.width:.2f} s", now)
    return updated(state, marks=sorted(known.values(), key=lambda m: order.index(m.mark)))


def mark_of(state: State, mark: Mark) -> Interval | None:
    return next((m.interval() for m in state.status.marks if m.mark is mark), None)


def with_strength(spec: FaultExperimentSpec, state: State, now: Instant) -> State:
    """A line for each step of a ramp; turns are too many, and told by nothing but the injection itself."""
    for fault in spec.faults:
        told = [i.percent for i in state.injections if i.fault == fault.name and i.state is InjectionState.ACTIVE]
        if fault.pattern is None or fault.pattern.ramp is None or not told:
            continue
        if state.status.strength.get(fault.name) != told[0]:
            state = noted(state, "Step", f"{fault.name} at {told[0]} % of its strength", now)
            state = updated(state, strength={**state.status.strength, fault.name: told[0]})
    return state
