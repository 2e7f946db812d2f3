"""Why a run ends before its time, or never begins: findings from the state and what is seen."""

from __future__ import annotations

from bounceback.api.experiment import FaultExperimentSpec
from bounceback.api.status import FaultExperimentStatus, Finding
from bounceback.engine.health import Health
from bounceback.engine.refusing import is_refused, refused_by_agent
from bounceback.engine.state import Refusal, Seen, State
from bounceback.types.instants import Instant
from bounceback.types.outcome import InjectionState, Phase, Verdict


def ended(spec: FaultExperimentSpec, state: State, seen: Seen, now: Instant) -> Finding | None:
    """Why the run must end before its time, if it must."""
    status = state.status
    if status.phase in (Phase.VERIFYING, Phase.REPEATING, Phase.FINISHED):
        return None
    if seen.deleted:
        return aborted("Deleted", "the experiment was deleted while it ran")
    if seen.cancel:
        return aborted("Cancelled", "spec.cancel was set")
    if seen.freeze is not None:
        return aborted("Frozen", f"all experiments are frozen: {seen.freeze or 'no reason given'}")
    if seen.withdrawn is not None:
        return aborted("NotAllowed", f"what was allowed is withdrawn: {seen.withdrawn}")
    if _is_late(status, now):
        return aborted(
            "DeadlineExceeded", f"spec.deadlineSeconds ({spec.deadline_seconds}) were over in {status.phase}"
        )
    if status.phase in (Phase.INJECTING, Phase.ACTIVE):
        return _abort_condition(spec, seen) or _broken_injection(spec, state)
    return None


def _is_late(status: FaultExperimentStatus, now: Instant) -> bool:
    """By the time that has passed since the start: a wall clock that is stepped ends no run."""
    if status.deadline_at is None or status.started_at is None:
        return False
    return now.since(status.started_at.instant()) >= status.deadline_at - status.started_at.utc


def _abort_condition(spec: FaultExperimentSpec, seen: Seen) -> Finding | None:
    for bound in spec.abort_when:
        for (check, probe), seconds in seen.health.failing_for.items():
            if check == bound.check and bound.probe in (None, probe) and seconds >= bound.failing_seconds:
                return aborted(
                    "AbortCondition",
                    f"{check}/{probe} was unhealthy for {seconds:.1f} s; abortWhen allows {bound.failing_seconds} s",
                )
    return None


def _broken_injection(spec: FaultExperimentSpec, state: State) -> Finding | None:
    """What broke outweighs what an agent refused."""
    failed = min((i for i in state.injections if i.state is InjectionState.FAILED), key=is_refused, default=None)
    if failed is None:
        return None
    if is_refused(failed):
        return refused_by_agent(spec, failed)
    message = f"{failed.fault} on {failed.on}: {failed.message or failed.reason}"
    return Finding(verdict=Verdict.ERROR, reason="InjectionFailed", message=message[:1024])


def aborted(reason: str, message: str) -> Finding:
    return Finding(verdict=Verdict.ABORTED, reason=reason, message=message[:1024])


def refused(refusal: Refusal) -> Finding:
    return Finding(
        verdict=refusal.verdict, reason=refusal.reason[:64], message=f"{refusal.field}: {refusal.message}"[:1024]
    )


def not_steady(health: Health, waited: float) -> Finding:
    if not health.watching:
        return aborted("NotSteady", f"no probe answered within {waited:.0f} s")
    seen = "; ".join(health.never_healthy or health.unhealthy) or f"it never held for holdSeconds: {_disturbed(health)}"
    return aborted("NotSteady", f"not steady within {waited:.0f} s, so nothing was injected: {seen}")


def _disturbed(health: Health) -> str:
    """Why a system that is healthy now was not so for long."""
    symptoms = [f"{view.name}/{symptom}" for view in health.views for symptom in view.symptoms]
    return "; ".join(symptoms) or "nothing failed, but nobody looked for so long at a time that something may have"
