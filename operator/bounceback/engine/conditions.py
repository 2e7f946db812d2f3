"""Standard conditions, so that `kubectl wait` and GitOps tools (kstatus) understand a run."""

from __future__ import annotations

from typing import Final

from bounceback.api.meta import Condition, with_condition
from bounceback.api.status import FaultExperimentStatus
from bounceback.types.outcome import Phase, Verdict

REFUSED: Final = ("Deleted", "Cancelled", "Frozen", "DeadlineExceeded", "AbortCondition", "NotSteady")
"""Endings that say nothing against the input; any other ending of an untouched run means that it must be changed."""


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
    return result


def is_stalled(status: FaultExperimentStatus) -> bool:
    """Nothing was injected and nothing will be until the input is changed (CLI exit code 2)."""
    if status.phase is Phase.PENDING:
        return bool(status.reason) and status.reason != "Pending"
    ending, first = status.ending, status.runs is None or status.runs.number == 1
    untouched = status.phase is Phase.FINISHED and first and not status.injections
    return untouched and ending is not None and ending.reason not in REFUSED
