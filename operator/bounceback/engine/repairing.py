"""The declared repair of `expect: Manual`: whether its time has come, and what becomes of it. Pure.

    Planned -> Running -> Done, Failed or Unknown
       +-> NotRun

A Job is made suspended, its UID is written down, and only that very object is ever let go, once Running is written
down as well: whoever comes after an operator that died lets go of what has begun already, which does nothing, or finds
it gone, and never makes another. It begins only when every fault is cleared and nothing was left behind: while a fault
is in force its own end could be taken for the repair, and an undo could undo what was repaired.
"""

from __future__ import annotations

from typing import Final

from bounceback.api.experiment import FaultExperimentSpec
from bounceback.api.repair import Repair
from bounceback.api.status import InjectionStatus, Moment, RepairStatus
from bounceback.engine.naming import repair_name
from bounceback.engine.state import Duty, Seen, State, Task
from bounceback.types.instants import Instant
from bounceback.types.outcome import Cleanup, InjectionState, RepairState

OVER: Final = frozenset({RepairState.DONE, RepairState.FAILED, RepairState.NOT_RUN, RepairState.UNKNOWN})
CAME_BACK: Final = "CameBack"
"""Why a repair was not run: the system was healthy again without it."""
REPAIRED_ANNOTATION: Final = "bounceback.dev/repaired"
"""By it a person says that the repair is done; its value is the repair's name."""
TELLING_GRACE: Final = 60.0
"""Seconds beyond its deadline after which nobody waits any longer for the cluster to tell how a Job ended."""


def next_repair(
    spec: FaultExperimentSpec, state: State, seen: Seen, since_cleared: float, now: Instant
) -> RepairStatus:
    """What the repair's status is to be. Asked again with nothing new seen it stays the same."""
    assert spec.repair is not None, "expect: Manual has one"
    known = state.status.repair or RepairStatus(name=repair_name(state.status.run_uid or ""))
    match known.state:
        case RepairState.PLANNED:
            return _planned(spec.repair, known, state, seen, since_cleared, now)
        case RepairState.RUNNING if spec.repair.job is not None:
            return _job(spec.repair, known, seen.task, now)
        case RepairState.RUNNING:
            return _by_hand(spec.repair, known, state, seen, now)
        case _:
            return known


def duties(spec: FaultExperimentSpec, repair: RepairStatus) -> frozenset[Duty]:
    """What is to be done for a Job."""
    if spec.repair is None or spec.repair.job is None:
        return frozenset()
    if repair.state is RepairState.RUNNING:
        return frozenset({Duty.REPAIR})
    return frozenset({Duty.MAKE_REPAIR}) if repair.state is RepairState.PLANNED and not repair.uid else frozenset()


def is_done(state: State) -> bool:
    return state.status.repair is not None and state.status.repair.state is RepairState.DONE


def _planned(
    repair: Repair, known: RepairStatus, state: State, seen: Seen, since_cleared: float, now: Instant
) -> RepairStatus:
    known = known.model_copy(update={"uid": known.uid or seen.task.uid})
    if against := _not_safe(state, seen):
        return _over(known, RepairState.NOT_RUN, *against)
    health = seen.health
    if health.watching and health.healthy_for >= health.stable_seconds <= since_cleared:
        told = f"healthy for {min(health.healthy_for, since_cleared):.1f} s without it"
        return _over(known, RepairState.NOT_RUN, CAME_BACK, told)
    ready = bool(known.uid) or repair.job is None
    if ready and health.watching and health.unhealthy and since_cleared >= repair.after_seconds:
        told = f"still in trouble after {since_cleared:.1f} s: {'; '.join(health.unhealthy)}"
        begun = {"state": RepairState.RUNNING, "reason": "Begun", "message": told[:512], "began_at": Moment.of(now)}
        return known.model_copy(update=begun)
    if since_cleared >= repair.after_seconds + repair.timeout_seconds:
        if not ready:
            return _over(known, RepairState.NOT_RUN, "NoJob", seen.task.refused or "the Job could not be made in time")
        told = f"within {since_cleared:.0f} s the system was neither healthy for long enough nor seen in trouble"
        return _over(known, RepairState.NOT_RUN, "NeverInTrouble", told)
    return known


def _not_safe(state: State, seen: Seen) -> tuple[str, str] | None:
    """Why it must not begin, whatever the system's state."""
    if state.status.ending is not None:
        return "Ended", f"the run was ended: {state.status.ending.message}"
    left = [i for i in state.injections if i.state is not InjectionState.CLEARED or i.cleanup is not Cleanup.CLEAN]
    if left:
        return "NotUndone", f"not everything is known to be undone: {', '.join(map(_undone, left))}"
    if seen.task.refused and not seen.task.uid:
        return "NoJob", seen.task.refused
    return None


def _undone(injection: InjectionStatus) -> str:
    if injection.state is not InjectionState.CLEARED:
        return f"{injection.name} is {injection.state}"
    return f"{injection.name} left {', '.join(injection.leftovers) or 'nobody knows what'}"


def _job(repair: Repair, known: RepairStatus, task: Task, now: Instant) -> RepairStatus:
    known = known.model_copy(update={"log": task.log or known.log})
    if task.ended is not None:
        return _over(known, task.ended, task.reason, task.message)
    if _running_for(known, now) >= repair.timeout_seconds + TELLING_GRACE:
        told = f"the cluster did not tell within {repair.timeout_seconds + TELLING_GRACE:.0f} s how the Job ended"
        return _over(known, RepairState.UNKNOWN, "Unseen", told)
    return known


def _by_hand(repair: Repair, known: RepairStatus, state: State, seen: Seen, now: Instant) -> RepairStatus:
    if seen.said_repaired == known.name:
        return _over(known, RepairState.DONE, "Said", "a person said that it is done")
    if state.status.ending is not None or seen.deleted:
        return _over(known, RepairState.UNKNOWN, "Ended", "the run was ended before anybody said that it is done")
    if _running_for(known, now) >= repair.timeout_seconds:
        told = f"nobody said within {repair.timeout_seconds} s that it is done (`bounceback repaired` does)"
        return _over(known, RepairState.UNKNOWN, "NobodySaid", told)
    return known


def _running_for(known: RepairStatus, now: Instant) -> float:
    return now.since(known.began_at.instant()) if known.began_at else 0.0


def _over(known: RepairStatus, state: RepairState, reason: str, message: str) -> RepairStatus:
    return known.model_copy(update={"state": state, "reason": reason[:64], "message": message[:512]})
