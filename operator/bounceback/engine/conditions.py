"""Standard conditions, so that `kubectl wait` and GitOps tools (kstatus) understand a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from bounceback.api.check_status import ContinuousStatus, Watched
from bounceback.api.meta import Condition, with_condition
from bounceback.api.status import FaultExperimentStatus
from bounceback.engine.refusing import is_refused
from bounceback.types.outcome import EvidenceState, Phase, Verdict

REFUSED: Final = ("Deleted", "Cancelled", "Frozen", "DeadlineExceeded", "AbortCondition", "NotSteady")
"""Endings that say nothing against the input; any other ending of an untouched run means that it must be changed."""

CANNOT_LOOK: Final = "CannotLook"
SUSPENDED: Final = "Suspended"
ON_DEMAND: Final = "OnDemand"
NOT_MEANT_TO: Final = (SUSPENDED, ON_DEMAND)


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Why a check does not watch by itself."""

    reason: str
    message: str

    @property
    def wanted(self) -> bool:
        """Nothing is to be mended: it is as somebody wants it."""
        return self.reason in NOT_MEANT_TO


def conditions(status: FaultExperimentStatus, generation: int, now: str) -> list[Condition]:
    """All known ones, from the first visit on."""
    over = status.phase is Phase.FINISHED
    reason = str(status.verdict) if over and status.verdict else str(status.phase)
    message = status.message
    if over and status.findings:
        message = status.findings[0].message
    succeeded = status.verdict is Verdict.PASSED if over else None
    stalled = is_stalled(status)
    stalled_reason = (status.ending.reason if status.ending else status.reason) or "Stalled"
    result = list(status.conditions)
    for type_, value, why, text in (
        ("Succeeded", succeeded, reason, message),
        ("Ready", over, reason, message),
        ("Reconciling", not over and not stalled, reason, message),
        ("Stalled", stalled, stalled_reason if stalled else "NotStalled", message if stalled else ""),
    ):
        result = with_condition(result, type_, value, why, text[:1024], now, generation)
    kept, why, text = _evidence_kept(status)
    return with_condition(result, "EvidenceKept", kept, why, text[:1024], now, generation)


def _evidence_kept(status: FaultExperimentStatus) -> tuple[bool | None, str, str]:
    evidence = status.evidence
    if evidence is None:
        return None, "NoEvidence", ""
    kept = None if evidence.state is EvidenceState.WRITING else evidence.state is EvidenceState.KEPT
    return kept, evidence.reason or str(evidence.state), evidence.message


def is_stalled(status: FaultExperimentStatus) -> bool:
    """Nothing was injected and nothing will be until the input is changed (CLI exit code 2)."""
    if status.phase is Phase.PENDING:
        return bool(status.reason) and status.reason != "Pending"
    ending, first = status.ending, status.runs is None or status.runs.number == 1
    untouched = status.phase is Phase.FINISHED and first and all(map(is_refused, status.injections))
    return untouched and ending is not None and ending.reason not in REFUSED


def of_watching(
    before: Sequence[Condition], record: ContinuousStatus | None, obstacle: Obstacle | None, generation: int, now: str
) -> list[Condition]:
    """Of a check that watches by itself: whether it does, and what the system is like as far as is known."""
    if obstacle is None and record is not None and record.reason == CANNOT_LOOK:
        obstacle = Obstacle(CANNOT_LOOK, record.message)
    stalled = obstacle is not None and not obstacle.wanted
    healthy = {Watched.UP: True, Watched.DOWN: False}.get(record.state) if record and not obstacle else None
    reason, message = (record.reason, record.message) if record else ("NotYetSeen", "")
    if obstacle is not None:
        reason, message = obstacle.reason, obstacle.message
    told = message if obstacle is not None else ""
    why = reason if obstacle is not None else "Watching"
    ready = None if obstacle is not None and obstacle.wanted else obstacle is None
    result = list(before)
    for type_, value, word, text in (
        ("Watching", obstacle is None, why, told),
        ("Healthy", healthy, reason or "NotYetSeen", message),
        ("Ready", ready, why, told),
        ("Stalled", stalled, reason if stalled else "NotStalled", told if stalled else ""),
        ("Reconciling", False, "Looked", ""),
    ):
        result = with_condition(result, type_, value, word, text[:1024], now, generation)
    return result


def says_so(conditions: Sequence[Condition], generation: int) -> bool:
    """Whether it stands there that this generation watches."""
    known = (each for each in conditions if each.type == "Watching")
    return any(each.status == "True" and each.observed_generation == generation for each in known)


def is_watched(conditions: Sequence[Condition]) -> bool:
    """Whether Ready and Stalled speak of the check's own watching."""
    return any(each.type == "Watching" and each.reason not in NOT_MEANT_TO for each in conditions)
