"""The run, one step at a time: what the status should be, and what is to be done about it.

    Pending -> Steady -> Injecting -> Active -> Clearing -> Recovering -> Verifying -> Finished
                                                      +-> Repairing --^   (expect: Manual)
       ^---------------------------------- Repeating <------------------------'

A step is a function of (spec, state, seen, now). Duties are wanted, not commanded: the same ones are named again until
what they bring is seen, and each is safe to repeat, so that any operator can go on from any point.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

from bounceback.api.experiment import FaultExperimentSpec
from bounceback.api.status import (
    TIMELINE_LIMIT,
    Finding,
    Happening,
    InjectionStatus,
    MarkStatus,
    Moment,
    RepairStatus,
)
from bounceback.engine.ending import aborted, ended, not_steady, refused
from bounceback.engine.evidence import DONE, given_up, on_our_clock
from bounceback.engine.judge import judge
from bounceback.engine.keeping import after_the_verdict
from bounceback.engine.marks import marks_of
from bounceback.engine.naming import injection_name
from bounceback.engine.planning import Preparation, injections, lasts, repeats_until
from bounceback.engine.repairing import OVER, REPAIRED_ANNOTATION, duties, is_done, next_repair
from bounceback.engine.repeats import concluded, not_enough, which_of
from bounceback.engine.samples import latest
from bounceback.engine.state import Decision, Duty, Refusal, Seen, State
from bounceback.types.instants import Instant, Interval
from bounceback.types.outcome import Cleanup, Expect, InjectionState, Mark, Phase, RepairState
from bounceback.types.plan import BY_OPERATOR

FRESH: Final = 3.0
"""Seconds that a preparation may be old when it is acted on."""
REFERENCE_GRACE: Final = 10.0
"""Seconds that a refused start is tried again before it is final: objects applied together arrive in any order."""
UNSEEN_GRACE: Final = 5.0
"""Seconds after its last deadline that an injection is waited for when nobody can look."""
VERIFY_GRACE: Final = 20.0
"""Seconds that a look for what was left may take."""
OBSERVE_GRACE: Final = 30.0
"""Seconds that reading the observations may take, tries included."""


def advance(spec: FaultExperimentSpec, state: State, seen: Seen, now: Instant) -> Decision:
    """One step. Calling it again with nothing new seen gives the same phase and the same duties."""
    now = _unstepped(state, now)
    ending = ended(spec, state, seen, now)
    if ending is not None and state.status.ending is None:
        state = _update(state, ending=ending)
    return STEPS[state.status.phase](spec, state, seen, now)


def _unstepped(state: State, now: Instant) -> Instant:
    """With UTC as the wall clock would have it that set the limits of the run, had it not been stepped since."""
    planned = _mark(state, Mark.PLANNED)
    if planned is None or planned.latest.boot != now.boot:
        return now
    return replace(now, utc=planned.latest.utc + now.since(planned.latest))


def _pending(spec: FaultExperimentSpec, state: State, seen: Seen, now: Instant) -> Decision:
    if state.status.started_at is None:
        deadline = state.status.deadline_at or now.utc + spec.deadline_seconds  # of all runs, where there are several
        state = _update(state, started_at=Moment.of(now), phase_since=Moment.of(now), deadline_at=deadline)
        state = _note(state, "Run", told, now) if (told := which_of(spec, state.status)) else state
    if state.status.ending is not None:
        return _untouched(spec, state, seen, now)
    if (wrong := not_enough(spec)) is not None:
        return _untouched(spec, state, seen, now, wrong)
    match seen.preparation:
        case None:
            return Decision(state, frozenset({Duty.PREPARE}))
        case Refusal() as refusal:
            started = state.status.started_at
            waited = now.since(started.instant()) if started else 0.0
            state = _update(state, reason=refusal.reason, message=f"{refusal.field}: {refusal.message}"[:2048])
            if refusal.final or waited >= REFERENCE_GRACE:
                return _untouched(spec, state, seen, now, refused(refusal))
            return Decision(state, frozenset({Duty.PREPARE}))
        case Preparation():
            if not seen.claimed:
                return Decision(state, frozenset({Duty.CLAIM}))
            chosen = f"{_share(spec, seen.preparation.per_target, {})} chosen"
            found = _update(state, **_found(seen.preparation), checks=list(seen.preparation.checks))
            return _enter(Phase.STEADY, found, now, chosen)


def _found(preparation: Preparation) -> dict[str, dict[str, int]]:
    return {"targets": preparation.per_target, "matching": dict(preparation.matching)}


def _steady(spec: FaultExperimentSpec, state: State, seen: Seen, now: Instant) -> Decision:
    duties = {Duty.LOOK}
    if state.status.ending is not None:
        return _untouched(spec, state, seen, now)
    health, gate = seen.health, spec.steady_state
    waited = _in_phase(state, now)
    if health.problems:
        return _untouched(spec, state, seen, now, aborted("ProbeCannotWork", "; ".join(health.problems)))
    if not health.watching or health.healthy_for < gate.hold_seconds:
        if waited >= gate.timeout_seconds:
            return _untouched(spec, state, seen, now, not_steady(health, waited))
        return Decision(state, frozenset(duties), again=max(0.05, gate.hold_seconds - health.healthy_for))
    if isinstance(seen.before, str):
        return _untouched(spec, state, seen, now, aborted("NotObservable", seen.before))
    if seen.before is None:
        return Decision(state, frozenset(duties | {Duty.OBSERVE_BEFORE}))
    match seen.preparation:
        case Refusal() as refusal:
            return _untouched(spec, state, seen, now, refused(refusal))
        case Preparation() as found if now.utc - found.at <= FRESH:
            return _plan(spec, state, seen, found, now)
        case _:
            return Decision(state, frozenset(duties | {Duty.PREPARE}))


def _plan(spec: FaultExperimentSpec, state: State, seen: Seen, found: Preparation, now: Instant) -> Decision:
    planned = injections(state.status.run, found.chosen, now.utc, now.boot)
    observed = {**state.status.observed, "before": seen.before}
    mark = MarkStatus.of(Mark.PLANNED, Interval.at(now), "operator")
    state = replace(_update(state, observed=observed, **_found(found), marks=[mark]), injections=planned)
    on = _share(spec, found.per_target, found.matching)
    decision = _enter(Phase.INJECTING, state, now, f"{len(planned)} injections planned on {on}")
    return replace(decision, plan=found)


def _share(spec: FaultExperimentSpec, chosen: Mapping[str, int], matching: Mapping[str, int]) -> str:
    """2 of 4 pods of web, 1 of 1 Deployments of store."""
    nouns = {target.name: target.noun for target in spec.targets}
    of = {name: f"{number} of {matching[name]}" if name in matching else str(number) for name, number in chosen.items()}
    return ", ".join(f"{number} {nouns[name]}s of {name}" for name, number in of.items())


def _injecting(spec: FaultExperimentSpec, state: State, seen: Seen, now: Instant) -> Decision:
    state = _with_marks(state, seen, now)
    if state.status.ending is not None:
        return _enter(Phase.CLEARING, state, now, state.status.ending.message)
    state = _give_up_unseen(spec, state, now)
    due = [i for i in state.injections if i.start_at <= now.utc]
    if due and all(i.state is not InjectionState.PLANNED for i in due):
        return _enter(Phase.ACTIVE, state, now, f"{len(due)} injections in force")
    return Decision(state, frozenset({Duty.LOOK, Duty.CARRY}))


def _active(spec: FaultExperimentSpec, state: State, seen: Seen, now: Instant) -> Decision:
    state = _with_marks(state, seen, now)
    if state.status.ending is not None:
        return _enter(Phase.CLEARING, state, now, state.status.ending.message)
    state, plan = _with_more(_with_missed(state, seen, now), seen, now)
    state = _give_up_unseen(spec, _with_strength(spec, state, now), now)
    if all(i.state in DONE for i in state.injections) and now.utc >= repeats_until(spec, state.injections):
        return _enter(Phase.CLEARING, state, now, "all faults are over")
    return Decision(state, frozenset({Duty.LOOK, Duty.CARRY}), plan=plan)


def _with_more(state: State, seen: Seen, now: Instant) -> tuple[State, Preparation | None]:
    """Further injections of faults that repeat or follow, planned once; and what is to be written ahead of them."""
    run, known = state.status.run, {i.name for i in state.injections}
    chosen = tuple(c for c in seen.more.chosen if injection_name(run, c.fault.name, c.on.uid) not in known)
    if not chosen:
        return state, None
    planned = injections(run, chosen, now.utc, now.boot)
    return replace(state, injections=(*state.injections, *planned)), replace(seen.more, chosen=chosen)


def _with_missed(state: State, seen: Seen, now: Instant) -> State:
    """A line for each pod that took a target's place and is not hit."""
    told = {line.message for line in state.status.timeline}
    for missed in seen.missed:
        if missed[:512] not in told:
            state = _note(state, "NotFollowed", missed, now)
    return state


def _clearing(spec: FaultExperimentSpec, state: State, seen: Seen, now: Instant) -> Decision:
    state = _give_up_unseen(spec, _with_marks(state, seen, now), now)
    waited = _in_phase(state, now)
    if not all(i.state in DONE for i in state.injections):
        return Decision(state, frozenset({Duty.LOOK, Duty.CARRY, Duty.STOP}))
    unverified = any(i.cleanup is Cleanup.UNVERIFIED for i in state.injections)
    if unverified and waited < VERIFY_GRACE:
        return Decision(state, frozenset({Duty.LOOK, Duty.CARRY, Duty.VERIFY}))
    if seen.deleted:
        return _enter(Phase.VERIFYING, state, now, "cleared; the experiment is being deleted")
    if spec.expect is Expect.MANUAL:
        return _enter(Phase.REPAIRING, state, now, "all injections are cleared; will it stay in trouble?")
    return _enter(Phase.RECOVERING, state, now, "all injections are cleared")


def _repairing(spec: FaultExperimentSpec, state: State, seen: Seen, now: Instant) -> Decision:
    """A repair that has begun is waited for, whatever ends the run: it is bounded, and half of one may be worse."""
    state = _with_marks(state, seen, now)
    repair = next_repair(spec, state, seen, _since(state, Mark.CLEARED, now), now)
    state = _with_repair(spec, state, repair, seen, now)
    if repair.state in OVER:
        return _enter(Phase.RECOVERING, state, now, f"the repair is over: {repair.state}")
    return Decision(state, frozenset({Duty.LOOK, Duty.CARRY}) | duties(spec, repair), again=0.5)


def _with_repair(spec: FaultExperimentSpec, state: State, after: RepairStatus, seen: Seen, now: Instant) -> State:
    """What became of the repair, with its marks and a line for each change."""
    assert spec.repair is not None
    before = state.status.repair.state if state.status.repair else RepairState.PLANNED
    state = _update(state, repair=after)
    by_hand, began = spec.repair.by_hand, after.began_at.instant() if after.began_at else None
    source = f"Job {after.name}" if by_hand is None else "by hand"
    if after.state is RepairState.RUNNING and before is not after.state and by_hand is not None:
        how = f"say `bounceback repaired` or annotate with {REPAIRED_ANNOTATION}={after.name}"
        state = _note(state, "RepairAwaited", f"{by_hand.instruction} When it is done: {how}", now)
    if began is not None and by_hand is not None:
        state = _add_mark(state, Mark.REPAIR_BEGAN, Interval.at(began), source, now)
    elif began is not None and seen.task.begun is not None:
        state = _add_mark(state, Mark.REPAIR_BEGAN, Interval(began, seen.task.begun.latest), source, now)
    if after.state in OVER and before not in OVER:
        state = _note(state, f"Repair{after.state}", f"{after.reason}: {after.message}", now)
        if after.state in (RepairState.DONE, RepairState.FAILED):
            state = _add_mark(state, Mark.REPAIRED, seen.task.ended_at or Interval.at(now), source, now)
    return state


def _since(state: State, mark: Mark, now: Instant) -> float:
    """Seconds since then at least; since the phase began where there is no such mark."""
    found = _mark(state, mark)
    return now.since(found.latest) if found else _in_phase(state, now)


def _recovering(spec: FaultExperimentSpec, state: State, seen: Seen, now: Instant) -> Decision:
    state = _with_marks(state, seen, now)
    since = _since(state, Mark.REPAIRED if is_done(state) else Mark.CLEARED, now)
    stable = seen.health.watching and seen.health.healthy_for >= seen.health.stable_seconds <= since
    if stable and not any(i.in_force_at for i in state.injections):
        return _enter(Phase.VERIFYING, state, now, "no injection was ever in force: there is nothing to recover from")
    if stable and seen.health.recovered is not None:
        state = _add_mark(state, Mark.RECOVERED, seen.health.recovered, "probes", now)
        state = _add_mark(state, Mark.STABLE, _stable(state, seen.health.recovered, seen), "probes", now)
        return _enter(Phase.VERIFYING, state, now, f"stable for {seen.health.healthy_for:.1f} s")
    if since >= spec.recovery_timeout_seconds:
        why = "; ".join(seen.health.unhealthy)[:400] or "no stable window"
        return _enter(Phase.VERIFYING, state, now, f"not recovered after {since:.0f} s: {why}")
    if spec.expect is Expect.MANUAL and not is_done(state) and seen.health.unhealthy:
        return _enter(Phase.VERIFYING, state, now, "not waited for: what brings it back was not done")
    if seen.deleted or (state.status.ending is not None and state.status.ending.reason == "DeadlineExceeded"):
        return _enter(Phase.VERIFYING, state, now, "not waited for")
    soonest = seen.health.stable_seconds - min(seen.health.healthy_for, since)  # a change of health comes by itself
    return Decision(state, frozenset({Duty.LOOK, Duty.CARRY}), again=min(1.0, max(0.25, soonest)))


def _stable(state: State, recovered: Interval, seen: Seen) -> Interval:
    """So long after the recovery, or after the fault was cleared where it came back before that."""
    cleared = _mark(state, Mark.CLEARED) or recovered
    begun = Interval(latest(recovered.earliest, cleared.earliest), latest(recovered.latest, cleared.latest))
    return begun.later(seen.health.stable_seconds)


def _verifying(spec: FaultExperimentSpec, state: State, seen: Seen, now: Instant) -> Decision:
    probed = any(check.spec.probes for check in state.status.checks)
    if probed and not seen.health.watching and _in_phase(state, now) < OBSERVE_GRACE:
        return Decision(state, frozenset({Duty.LOOK}))  # resumed: what was seen before comes with the first look
    needs = any(check.spec.observations for check in state.status.checks) and not seen.deleted
    after = seen.after if needs else {}
    if after is None and _in_phase(state, now) < OBSERVE_GRACE:
        return Decision(state, frozenset({Duty.LOOK, Duty.OBSERVE_AFTER}))
    observed = {**state.status.observed, "after": after if isinstance(after, dict) else None}
    if isinstance(after, str):
        observed["afterProblem"] = after[:1024]
    return _conclude(spec, _update(state, observed=observed), seen, now)


def _over(spec: FaultExperimentSpec, state: State, seen: Seen, now: Instant) -> Decision:
    state, duties = after_the_verdict(state, seen)
    return Decision(state, duties, again=5.0)


STEPS: Final[dict[Phase, Callable[[FaultExperimentSpec, State, Seen, Instant], Decision]]] = {
    Phase.PENDING: _pending,
    Phase.STEADY: _steady,
    Phase.INJECTING: _injecting,
    Phase.ACTIVE: _active,
    Phase.CLEARING: _clearing,
    Phase.REPAIRING: _repairing,
    Phase.RECOVERING: _recovering,
    Phase.VERIFYING: _verifying,
    Phase.REPEATING: _over,
    Phase.FINISHED: _over,
}


def _enter(phase: Phase, state: State, now: Instant, message: str) -> Decision:
    """The decision that enters a phase; its duties are named by the next step, which comes at once."""
    state = _note(state, str(phase), message, now)
    entered = _update(state, phase=phase, phase_since=Moment.of(now), reason=str(phase), message=message[:2048])
    return Decision(entered, again=0.0)


def _untouched(
    spec: FaultExperimentSpec, state: State, seen: Seen, now: Instant, ending: Finding | None = None
) -> Decision:
    """Nothing was injected: there is nothing to clear or to recover from."""
    if ending is not None:
        state = _update(state, ending=ending)
    return _conclude(spec, state, seen, now)


def _conclude(spec: FaultExperimentSpec, state: State, seen: Seen, now: Instant) -> Decision:
    """Judge what was seen, and finish."""
    status = state.status.model_copy(update={"views": list(seen.health.views)})
    judged = judge(spec, status, state.injections, seen.health)
    if spec.runs is not None:
        status, phase, told = concluded(spec, judged, now)
        return _enter(phase, replace(state, status=status), now, told)
    told = judged.findings[0].message if judged.findings else "recovered, consistent, nothing left behind"
    state = _update(replace(state, status=judged), finished_at=now.rfc3339())
    return _enter(Phase.FINISHED, state, now, f"{judged.verdict}: {told}")


def _note(state: State, event: str, message: str, now: Instant) -> State:
    """One more line of the timeline; a full one only counts what it left out."""
    status = state.status
    if len(status.timeline) >= TIMELINE_LIMIT:
        return _update(state, timeline_dropped=status.timeline_dropped + 1)
    elapsed = now.since(status.started_at.instant()) if status.started_at else 0.0
    line = Happening(
        time=now.rfc3339(), elapsed_milliseconds=round(elapsed * 1000), event=event[:64], message=message[:512]
    )
    return _update(state, timeline=[*status.timeline, line])


def _give_up_unseen(spec: FaultExperimentSpec, state: State, now: Instant) -> State:
    """Injections that are well over by their agents' own promise, and that nobody could look at."""
    entries = {fault.name: fault for fault in spec.faults}

    def over(injection: InjectionStatus) -> bool:
        begun = on_our_clock(injection, injection.in_force_at, now)
        if begun is None:
            return now.utc > injection.not_after + UNSEEN_GRACE
        ends = begun.latest.utc + lasts(entries[injection.fault], injection.rung)
        return now.utc > min(ends, injection.not_after) + UNSEEN_GRACE

    given = tuple(
        given_up(i, now) if i.state not in DONE and i.rung not in BY_OPERATOR and over(i) else i
        for i in state.injections
    )
    return replace(state, injections=given)


def _with_marks(state: State, seen: Seen, now: Instant) -> State:
    for mark, interval, source in marks_of(state.injections, seen.health, now):
        state = _add_mark(state, mark, interval, source, now)
    return state


def _with_strength(spec: FaultExperimentSpec, state: State, now: Instant) -> State:
    """A line for each step of a ramp; turns are too many, and told by nothing but the injection itself."""
    for fault in spec.faults:
        told = [i.percent for i in state.injections if i.fault == fault.name and i.state is InjectionState.ACTIVE]
        if fault.pattern is None or fault.pattern.ramp is None or not told:
            continue
        if state.status.strength.get(fault.name) != told[0]:
            state = _note(state, "Step", f"{fault.name} at {told[0]} % of its strength", now)
            state = _update(state, strength={**state.status.strength, fault.name: told[0]})
    return state


def _add_mark(state: State, mark: Mark, interval: Interval, source: str, now: Instant) -> State:
    """A mark that is there stays, but for Cleared, which is the last target's, and Active, the first one's."""
    known = {m.mark: m for m in state.status.marks}
    if mark in known and mark not in (Mark.CLEARED, Mark.ACTIVE):
        return state
    known[mark] = MarkStatus.of(mark, interval, source)
    order = list(Mark)
    if mark not in {m.mark for m in state.status.marks}:
        event = "FirstHit" if mark is Mark.ACTIVE else str(mark)  # Active is the name of a phase already
        state = _note(state, event, f"{source}, known to {interval.width:.2f} s", now)
    return _update(state, marks=sorted(known.values(), key=lambda m: order.index(m.mark)))


def _mark(state: State, mark: Mark) -> Interval | None:
    return next((m.interval() for m in state.status.marks if m.mark is mark), None)


def _in_phase(state: State, now: Instant) -> float:
    """Seconds since the phase began."""
    return now.since(state.status.phase_since.instant()) if state.status.phase_since else 0.0


def _update(state: State, **fields: object) -> State:
    return replace(state, status=state.status.model_copy(update=fields))
