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
from bounceback.api.status import Finding, MarkStatus, Moment, RepairStatus
from bounceback.engine.collapse import looked_for
from bounceback.engine.ending import aborted, ended, not_steady, refused
from bounceback.engine.evidence import DONE, is_unheard
from bounceback.engine.judge import judge
from bounceback.engine.keeping import after_the_verdict
from bounceback.engine.naming import injection_name
from bounceback.engine.noting import mark_of, noted, updated, with_collapses, with_mark, with_marks, with_strength
from bounceback.engine.overlap import adding_up
from bounceback.engine.performance import still_slow
from bounceback.engine.planning import Preparation, injections, repeats_until
from bounceback.engine.reference_run import (
    left_to_settle,
    reference_over,
    with_comparison,
    with_following,
    without_faults,
)
from bounceback.engine.repairing import OVER, REPAIRED_ANNOTATION, duties, is_done, next_repair
from bounceback.engine.repeats import concluded, not_enough, which_of
from bounceback.engine.samples import latest
from bounceback.engine.snapshots import OBSERVE_GRACE, last_reading, with_snapshot, with_snapshot_wanted
from bounceback.engine.starting import awaited, is_waiting, soonest, timed, with_starts, without_starts
from bounceback.engine.state import Decision, Duty, Refusal, Seen, State
from bounceback.engine.unseen import give_up_unseen
from bounceback.engine.working import (
    given_up,
    hindrance,
    is_accounting,
    longest_account,
    with_work,
    without_baseline,
    working,
)
from bounceback.types.instants import Instant, Interval
from bounceback.types.outcome import Expect, InjectionState, Mark, Phase, RepairState

FRESH: Final = 3.0
"""Seconds that a preparation may be old when it is acted on."""
REFERENCE_GRACE: Final = 10.0
"""Seconds that a refused start is tried again before it is final: objects applied together arrive in any order."""
VERIFY_GRACE: Final = 20.0
"""Seconds for a look for what was left, and for hearing what an agent told while nobody could ask it."""


def advance(spec: FaultExperimentSpec, state: State, seen: Seen, now: Instant) -> Decision:
    """One step. Calling it again with nothing new seen gives the same phase and the same duties."""
    now = _unstepped(state, now)
    state = replace(state, injections=timed(spec, state.status.starts, state.injections))
    ending = ended(spec, state, seen, now)
    if ending is not None and state.status.ending is None:
        state = updated(state, ending=ending)
    state = with_snapshot(with_work(state, seen, now), seen, now)
    after = STEPS[state.status.phase](spec, state, seen, now)
    return with_snapshot_wanted(with_following(spec, working(after)), seen)


def _unstepped(state: State, now: Instant) -> Instant:
    """With UTC as the wall clock would have it that set the limits of the run, had it not been stepped since."""
    planned = mark_of(state, Mark.PLANNED)
    if planned is None or planned.latest.boot != now.boot:
        return now
    return replace(now, utc=planned.latest.utc + now.since(planned.latest))


def _pending(spec: FaultExperimentSpec, state: State, seen: Seen, now: Instant) -> Decision:
    if state.status.started_at is None:
        deadline = state.status.deadline_at or now.utc + spec.deadline_seconds  # of all runs, where there are several
        state = updated(state, started_at=Moment.of(now), phase_since=Moment.of(now), deadline_at=deadline)
        state = noted(state, "Run", told, now) if (told := which_of(spec, state.status)) else state
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
            state = updated(state, reason=refusal.reason, message=f"{refusal.field}: {refusal.message}"[:2048])
            if refusal.final or waited >= REFERENCE_GRACE:
                return _untouched(spec, state, seen, now, refused(refusal))
            return Decision(state, frozenset({Duty.PREPARE}))
        case Preparation():
            if not seen.claimed:
                return Decision(state, frozenset({Duty.CLAIM}))
            chosen = f"{_share(spec, seen.preparation.per_target, {})} chosen"
            found = updated(state, **_found(seen.preparation), checks=list(seen.preparation.checks))
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
    if (hindered := hindrance(state)) is not None:
        return _untouched(spec, state, seen, now, aborted("WorkloadCannotWork", hindered))
    steady = health.watching and health.healthy_for >= gate.hold_seconds
    if not steady or (lacking := without_baseline(state, seen)):
        if waited >= gate.timeout_seconds:
            late = aborted("WorkloadNotReady", lacking) if steady else not_steady(health, waited)
            return _untouched(spec, state, seen, now, late)
        return Decision(state, frozenset(duties), again=max(0.05, gate.hold_seconds - health.healthy_for))
    if isinstance(seen.before, str):
        return _untouched(spec, state, seen, now, aborted("NotObservable", seen.before))
    if seen.before is None:
        return Decision(state, frozenset(duties | {Duty.OBSERVE_BEFORE}))
    if spec.reference is not None:
        if isinstance(seen.followed, str):
            return _untouched(spec, state, seen, now, aborted("NotComparable", seen.followed))
        duties.add(Duty.FOLLOW)
        if not seen.followed:
            return Decision(state, frozenset(duties))
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
    if state.status.is_reference:
        state = updated(state, observed=observed, **_found(found), marks=[mark])
        return _enter(Phase.ACTIVE, state, now, without_faults(spec))
    waits = {"starts": awaited(spec), "collapses": looked_for(spec)}
    state = updated(state, observed=observed, **_found(found), marks=[mark], **waits)
    state = replace(state, injections=planned)
    for told in adding_up(found.chosen):
        state = noted(state, "DelaysAddUp", told, now)
    on = _share(spec, found.per_target, found.matching)
    decision = _enter(Phase.INJECTING, state, now, f"{len(planned)} injections planned on {on}")
    return replace(decision, plan=found)


def _share(spec: FaultExperimentSpec, chosen: Mapping[str, int], matching: Mapping[str, int]) -> str:
    """2 of 4 pods of web, 1 of 1 Deployments of store."""
    nouns = {target.name: target.noun for target in spec.targets}
    of = {name: f"{number} of {matching[name]}" if name in matching else str(number) for name, number in chosen.items()}
    return ", ".join(f"{number} {nouns[name]}s of {name}" for name, number in of.items())


def _injecting(spec: FaultExperimentSpec, state: State, seen: Seen, now: Instant) -> Decision:
    state = with_marks(state, seen, now)
    if state.status.ending is not None:
        return _clear(spec, state, now)
    state = give_up_unseen(spec, state, now)
    due = [i for i in state.injections if i.start_at <= now.utc and not i.waiting]
    if due and all(i.state is not InjectionState.PLANNED for i in due):
        return _enter(Phase.ACTIVE, state, now, f"{len(due)} injections in force")
    return Decision(state, frozenset({Duty.LOOK, Duty.CARRY}))


def _active(spec: FaultExperimentSpec, state: State, seen: Seen, now: Instant) -> Decision:
    state = with_marks(state, seen, now)
    if state.status.is_reference:
        return _without_faults(spec, state, seen, now)
    if state.status.ending is not None:
        return _clear(spec, state, now)
    before, state = state, with_starts(spec, state, seen, now)
    if state.status.starts != before.status.starts:
        return Decision(state, frozenset({Duty.LOOK, Duty.CARRY}), again=0.05)  # written down before anything else
    state, plan = _with_more(_with_missed(state, seen, now), seen, now)
    state = with_collapses(spec, with_strength(spec, state, now), seen, now)
    state = give_up_unseen(spec, state, now)
    waiting = is_waiting(state.status.starts)
    over = all(i.state in DONE for i in state.injections) and not waiting
    if over and now.utc >= repeats_until(spec, state.injections):
        return _enter(Phase.CLEARING, state, now, "all faults are over")
    again = max(0.02, min(1.0, soonest(spec, state.status.starts, seen.health)))
    return Decision(state, frozenset({Duty.LOOK, Duty.CARRY}), again=again, plan=plan)


def _without_faults(spec: FaultExperimentSpec, state: State, seen: Seen, now: Instant) -> Decision:
    """The reference run lasts as long as the faults will."""
    if state.status.ending is not None:
        return _untouched(spec, state, seen, now)
    if (left := spec.longest_fault_seconds - _in_phase(state, now)) > 0:
        return Decision(state, frozenset({Duty.LOOK}), again=min(1.0, left))
    return _enter(Phase.RECOVERING, state, now, "the time without faults is over")


def _clear(spec: FaultExperimentSpec, state: State, now: Instant) -> Decision:
    """The run ends before its time; what has not come by now is not waited for."""
    assert state.status.ending is not None
    why = state.status.ending.message
    return _enter(Phase.CLEARING, without_starts(spec, state, why, now), now, why)


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
            state = noted(state, "NotFollowed", missed, now)
    return state


def _clearing(spec: FaultExperimentSpec, state: State, seen: Seen, now: Instant) -> Decision:
    state = give_up_unseen(spec, with_marks(state, seen, now), now)
    waited = _in_phase(state, now)
    if not all(i.state in DONE for i in state.injections):
        return Decision(state, frozenset({Duty.LOOK, Duty.CARRY, Duty.STOP}))
    if any(map(is_unheard, state.injections)) and waited < VERIFY_GRACE:
        return Decision(state, frozenset({Duty.LOOK, Duty.CARRY, Duty.VERIFY}))
    if seen.deleted:
        return _enter(Phase.VERIFYING, state, now, "cleared; the experiment is being deleted")
    if spec.expect is Expect.MANUAL:
        return _enter(Phase.REPAIRING, state, now, "all injections are cleared; will it stay in trouble?")
    return _enter(Phase.RECOVERING, state, now, "all injections are cleared")


def _repairing(spec: FaultExperimentSpec, state: State, seen: Seen, now: Instant) -> Decision:
    """A repair that has begun is waited for, whatever ends the run: it is bounded, and half of one may be worse."""
    state = with_marks(state, seen, now)
    repair = next_repair(spec, state, seen, _since(state, Mark.CLEARED, now), now)
    state = _with_repair(spec, state, repair, seen, now)
    if repair.state in OVER:
        return _enter(Phase.RECOVERING, state, now, f"the repair is over: {repair.state}")
    return Decision(state, frozenset({Duty.LOOK, Duty.CARRY}) | duties(spec, repair), again=0.5)


def _with_repair(spec: FaultExperimentSpec, state: State, after: RepairStatus, seen: Seen, now: Instant) -> State:
    """What became of the repair, with its marks and a line for each change."""
    assert spec.repair is not None
    before = state.status.repair.state if state.status.repair else RepairState.PLANNED
    state = updated(state, repair=after)
    by_hand, began = spec.repair.by_hand, after.began_at.instant() if after.began_at else None
    source = f"Job {after.name}" if by_hand is None else "by hand"
    if after.state is RepairState.RUNNING and before is not after.state and by_hand is not None:
        how = f"say `bounceback repaired` or annotate with {REPAIRED_ANNOTATION}={after.name}"
        state = noted(state, "RepairAwaited", f"{by_hand.instruction} When it is done: {how}", now)
    if began is not None and by_hand is not None:
        state = with_mark(state, Mark.REPAIR_BEGAN, Interval.at(began), source, now)
    elif began is not None and seen.task.begun is not None:
        state = with_mark(state, Mark.REPAIR_BEGAN, Interval(began, seen.task.begun.latest), source, now)
    if after.state in OVER and before not in OVER:
        state = noted(state, f"Repair{after.state}", f"{after.reason}: {after.message}", now)
        if after.state in (RepairState.DONE, RepairState.FAILED):
            state = with_mark(state, Mark.REPAIRED, seen.task.ended_at or Interval.at(now), source, now)
    return state


def _since(state: State, mark: Mark, now: Instant) -> float:
    """Seconds since then at least; since the phase began where there is no such mark."""
    found = mark_of(state, mark)
    return now.since(found.latest) if found else _in_phase(state, now)


def _recovering(spec: FaultExperimentSpec, state: State, seen: Seen, now: Instant) -> Decision:
    state = with_marks(state, seen, now)
    since = _since(state, Mark.REPAIRED if is_done(state) else Mark.CLEARED, now)
    stable = seen.health.watching and seen.health.healthy_for >= seen.health.stable_seconds <= since
    if state.status.is_reference and state.status.ending is not None:
        return _untouched(spec, state, seen, now)
    if stable and not any(i.in_force_at for i in state.injections):
        return _enter(Phase.VERIFYING, state, now, "no injection was ever in force: there is nothing to recover from")
    late = since >= spec.recovery_timeout_seconds
    if stable and seen.health.recovered is not None and (late or not still_slow(state, seen, since)):
        state = with_mark(state, Mark.RECOVERED, seen.health.recovered, "probes", now)
        state = with_mark(state, Mark.STABLE, _stable(state, seen.health.recovered, seen), "probes", now)
        return _enter(Phase.VERIFYING, state, now, f"stable for {seen.health.healthy_for:.1f} s")
    if late:
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
    cleared = mark_of(state, Mark.CLEARED) or recovered
    begun = Interval(latest(recovered.earliest, cleared.earliest), latest(recovered.latest, cleared.latest))
    return begun.later(seen.health.stable_seconds)


def _verifying(spec: FaultExperimentSpec, state: State, seen: Seen, now: Instant) -> Decision:
    account = longest_account(state.status.checks)  # what is observed is observed after what was read back
    if is_accounting(state) and not seen.deleted:
        if _in_phase(state, now) < account:
            return Decision(state, frozenset({Duty.LOOK, Duty.END_WORK}), again=0.5)
        state = given_up(state, account)
    probed = any(check.spec.probes for check in state.status.checks)
    if probed and not seen.health.watching and _in_phase(state, now) < OBSERVE_GRACE + account:
        return Decision(state, frozenset({Duty.LOOK}))  # resumed: what was seen before comes with the first look
    last = last_reading(state, seen, now, account)
    if last.on is not None:
        return last.on
    if (wait := left_to_settle(spec, state, seen, _in_phase(state, now), account + last.longest)) is not None:
        return wait
    return _conclude(spec, updated(state, observed=with_comparison(spec, state, seen, last.observed)), seen, now)


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
    state = noted(state, str(phase), message, now)
    entered = updated(state, phase=phase, phase_since=Moment.of(now), reason=str(phase), message=message[:2048])
    return Decision(entered, again=0.0)


def _untouched(
    spec: FaultExperimentSpec, state: State, seen: Seen, now: Instant, ending: Finding | None = None
) -> Decision:
    """Nothing was injected: there is nothing to clear or to recover from."""
    if ending is not None:
        state = updated(state, ending=ending)
    return _conclude(spec, state, seen, now)


def _conclude(spec: FaultExperimentSpec, state: State, seen: Seen, now: Instant) -> Decision:
    """Judge what was seen, and finish."""
    status = state.status.model_copy(update={"views": list(seen.health.views)})
    if status.is_reference:
        status, phase, told = reference_over(spec, status, seen, now)
        return _enter(phase, replace(state, status=status), now, told)
    judged = judge(spec, status, state.injections, seen.health)
    if spec.runs is not None:
        status, phase, told = concluded(spec, judged, now)
        return _enter(phase, replace(state, status=status), now, told)
    told = judged.findings[0].message if judged.findings else "recovered, consistent, nothing left behind"
    state = updated(replace(state, status=judged), finished_at=now.rfc3339())
    return _enter(Phase.FINISHED, state, now, f"{judged.verdict}: {told}")


def _in_phase(state: State, now: Instant) -> float:
    """Seconds since the phase began."""
    return now.since(state.status.phase_since.instant()) if state.status.phase_since else 0.0
