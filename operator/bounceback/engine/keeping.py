"""The evidence of a run that is over: kept once the verdict is written, and before the run is let go."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from bounceback.api.evidence_status import EvidenceStatus
from bounceback.api.status import FaultExperimentStatus
from bounceback.engine.state import Duty, Seen, State
from bounceback.types.outcome import EvidenceState

TOLD: Final = (EvidenceState.KEPT, EvidenceState.PARTIAL, EvidenceState.NOT_KEPT)
"""It stands there what became of it."""


def after_the_verdict(state: State, seen: Seen) -> tuple[State, frozenset[Duty]]:
    """What is left to do for a run that has its verdict; whatever becomes of the evidence, that stays.

    The digest is written down before anything is put into the store, so that an operator that goes on from here takes
    nothing for this run's evidence that somebody else has put there under its name.
    """
    if seen.released:
        return state, frozenset()
    if not seen.keeps or is_told(state.status):
        return state, frozenset({Duty.RELEASE})
    if seen.evidence is not None:
        state = replace(state, status=with_evidence(state.status, seen.evidence))
    evidence = state.status.evidence
    if evidence is None or evidence.state is EvidenceState.DOUBTFUL:
        return state, frozenset({Duty.PACK})
    return state, frozenset({Duty.KEEP if evidence.state is EvidenceState.WRITING else Duty.RELEASE})


def is_told(status: FaultExperimentStatus) -> bool:
    return status.evidence is not None and status.evidence.state in TOLD


def with_evidence(status: FaultExperimentStatus, evidence: EvidenceStatus) -> FaultExperimentStatus:
    """Of repeated runs each one's digest stays, beside its figures."""
    runs = status.runs
    if runs is not None and runs.listed and runs.listed[-1].number == runs.number:
        digest = evidence.digest if evidence.state in (EvidenceState.KEPT, EvidenceState.PARTIAL) else None
        last = runs.listed[-1].model_copy(update={"evidence": digest})
        runs = runs.model_copy(update={"listed": [*runs.listed[:-1], last]})
    return status.model_copy(update={"evidence": evidence, "runs": runs})
