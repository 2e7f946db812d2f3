"""The evidence of a run that is over: kept once the verdict is written, and before the run is let go."""

from __future__ import annotations

from dataclasses import replace

from bounceback.api.evidence_status import EvidenceStatus
from bounceback.api.status import FaultExperimentStatus
from bounceback.engine.state import Duty, Seen, State
from bounceback.types.outcome import EvidenceState


def after_the_verdict(state: State, seen: Seen) -> tuple[State, frozenset[Duty]]:
    """What is left to do for a run that has its verdict; whatever becomes of the evidence, that stays."""
    if seen.released:
        return state, frozenset()
    if seen.keeps and not is_told(state.status):
        if seen.evidence is None:
            return state, frozenset({Duty.KEEP})
        state = replace(state, status=with_evidence(state.status, seen.evidence))
    return state, frozenset({Duty.RELEASE})


def is_told(status: FaultExperimentStatus) -> bool:
    """Whether it stands there what became of the evidence."""
    return status.evidence is not None and status.evidence.state is not EvidenceState.DOUBTFUL


def with_evidence(status: FaultExperimentStatus, evidence: EvidenceStatus) -> FaultExperimentStatus:
    """Of repeated runs each one's digest stays, beside its figures."""
    runs = status.runs
    if runs is not None and runs.listed and runs.listed[-1].number == runs.number:
        last = runs.listed[-1].model_copy(update={"evidence": evidence.digest or None})
        runs = runs.model_copy(update={"listed": [*runs.listed[:-1], last]})
    return status.model_copy(update={"evidence": evidence, "runs": runs})
