"""The reference run: what it waits for, what it must have seen, and what the runs after it wait for to be compared."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

from bounceback.api.experiment import FaultExperimentSpec
from bounceback.api.reference_run import ReferenceStatus
from bounceback.api.status import FaultExperimentStatus, Finding
from bounceback.engine.comparing import not_compared
from bounceback.engine.invariants import REFERENCE, invariant_results
from bounceback.engine.state import Decision, Duty, End, Seen, State
from bounceback.types.instants import Instant
from bounceback.types.outcome import Judgement, Mark, Phase, Verdict

END_GRACE: Final = 45.0
"""Seconds that reading the end may take, once it has settled; tries included."""
NOT_READ: Final = "what there is in the end could not be read in time"


def without_faults(spec: FaultExperimentSpec) -> str:
    return f"the reference run: {spec.longest_fault_seconds} s without faults, as long as they will last"


def since_when(status: FaultExperimentStatus) -> Instant | None:
    """From when a symptom counts in the reference run; None in any other."""
    planned = next((m.latest.instant() for m in status.marks if m.mark is Mark.PLANNED), None)
    return planned if status.is_reference else None


def goes_on(status: FaultExperimentStatus) -> bool:
    """It is over, and runs with faults follow."""
    return status.is_reference and status.phase is Phase.REPEATING


def with_following(spec: FaultExperimentSpec, decision: Decision) -> Decision:
    """From the steady state on, whoever looks at the system also watches what comes and goes, until the end is read."""
    begins = decision.state.status.phase in (Phase.PENDING, Phase.STEADY)  # there the step itself says when
    if spec.reference is None or begins or Duty.LOOK not in decision.duties or Duty.READ_END in decision.duties:
        return decision
    return replace(decision, duties=decision.duties | {Duty.FOLLOW})


def left_to_settle(
    spec: FaultExperimentSpec, state: State, seen: Seen, waited: float, more: float = 0.0
) -> Decision | None:
    """What the end waits for; None: for nothing any more. `more` seconds may have gone by for something else."""
    if spec.reference is None or not _is_compared(state, seen) or seen.end is not None:
        return None
    left = spec.reference.settle_seconds - waited
    if left > 0:
        return Decision(state, frozenset({Duty.LOOK}), again=min(1.0, left))
    return Decision(state, frozenset({Duty.LOOK, Duty.READ_END})) if -left < END_GRACE + more else None


def with_comparison(spec: FaultExperimentSpec, state: State, seen: Seen, observed: dict[str, Any]) -> dict[str, Any]:
    """With the results of a run with faults."""
    if spec.reference is None or state.status.is_reference or not _is_compared(state, seen):
        return observed
    results = seen.end.results if seen.end is not None else not_compared(spec.reference, NOT_READ)
    return {**observed, REFERENCE: [each.to_json() for each in results]}


def _is_compared(state: State, seen: Seen) -> bool:
    """A run that was ended before its time was not left to come to its end."""
    return state.status.ending is None and not seen.deleted


def reference_over(
    spec: FaultExperimentSpec, status: FaultExperimentStatus, seen: Seen, now: Instant
) -> tuple[FaultExperimentStatus, Phase, str]:
    """On to the runs with faults, or to the end where it tells nothing that they could be compared with."""
    status = status.model_copy(update={"invariants": list(invariant_results(status))})
    if findings := [status.ending] if status.ending else list(_against(spec, status, seen)):
        first = findings[0]
        update = {"verdict": first.verdict, "findings": findings[:50], "finished_at": now.rfc3339()}
        return status.model_copy(update=update), Phase.FINISHED, f"{first.verdict}: {first.message}"
    end = seen.end or End()
    assert status.reference is not None
    kept = {"objects": list(end.objects), "changed": end.changed, "digest": end.digest}
    told = f"the reference run was steady: {sum(end.objects)} objects at its end, {end.changed} came or went"
    return status.model_copy(update={"reference": status.reference.model_copy(update=kept)}), Phase.REPEATING, told


def _against(spec: FaultExperimentSpec, status: FaultExperimentStatus, seen: Seen) -> Iterator[Finding]:
    """Why nothing can be compared with it."""
    symptom = next((m.source for m in status.marks if m.mark is Mark.FIRST_SYMPTOM), "")
    if symptom or seen.health.unhealthy:
        told = "; ".join(seen.health.unhealthy) or f"{symptom} saw a symptom"
        yield _finding(Verdict.ABORTED, "NotSteady", f"the reference run was not steady without any fault: {told}")
    for result in status.invariants:
        if result.result is Judgement.FAILED:
            told = f"{result.check}/{result.name} does not hold in the reference run, without any fault"
            yield _finding(Verdict.ABORTED, "NotSteady", f"{told}: {result.message}")
    for work in status.workloads:
        if work.result is Judgement.FAILED:
            told = f"{work.check}: the workload's account of the reference run, without any fault: {work.message}"
            yield _finding(Verdict.ABORTED, "NotSteady", told)
        elif work.result is not Judgement.PASSED:
            told = f"{work.check}: the reference run's workload: {work.message or 'it was not accounted for'}"
            yield _finding(Verdict.INCONCLUSIVE, "ReferenceUnknown", told)
    if seen.end is None:
        yield _finding(Verdict.INCONCLUSIVE, "ReferenceUnknown", f"the reference run: {NOT_READ}")
        return
    for unknown in seen.end.unknown:
        yield _finding(Verdict.INCONCLUSIVE, "ReferenceUnknown", f"the reference run: {unknown}")
    for index, entry in enumerate(spec.reference.objects if spec.reference else ()):
        if not any(seen.end.seen[index : index + 1]) and not seen.end.unknown:
            told = f"the reference run saw no {entry.kind} of spec.reference.objects[{index}] ({entry}): is it right?"
            yield _finding(Verdict.INCONCLUSIVE, "ReferenceEmpty", told)


def _finding(verdict: Verdict, reason: str, message: str) -> Finding:
    return Finding(verdict=verdict, reason=reason, message=message[:1024])


def after_the_reference(status: FaultExperimentStatus) -> ReferenceStatus | None:
    """What the next run knows of the reference run."""
    return status.reference and status.reference.model_copy(update={"over": True, "lives": []})
