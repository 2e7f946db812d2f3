"""What `expect: Manual` asks: trouble that is told of, kept to, not healed by itself, and over after the repair."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from bounceback.api.status import Finding
from bounceback.engine.finished import Run
from bounceback.engine.repairing import CAME_BACK
from bounceback.types.outcome import Expect, Mark, RepairState, Verdict


def not_as_manual(run: Run) -> Iterable[Finding]:
    """All but the error state, the symptom and the return, which other outcomes ask for as well."""
    if run.spec.expect is Expect.MANUAL and run.injections:
        for ask in (_nothing_to_tell_by, _told_too_late, _came_back_by_itself, _not_repaired):
            yield from ask(run)


def _nothing_to_tell_by(run: Run) -> Iterable[Finding]:
    if not any(check.spec.noticing for check in run.status.checks):
        told = "expect is Manual, but no check declares detection: by what would the system tell of its trouble?"
        yield _finding(Verdict.INCONCLUSIVE, "DetectionUnknown", told)


def _told_too_late(run: Run) -> Iterable[Finding]:
    """Whoever is to repair must have been called. That it never told is asked for every outcome."""
    detected, began = run.mark(Mark.DETECTED), run.mark(Mark.REPAIR_BEGAN)
    if detected is None or began is None or detected.latest.since(began.earliest) <= 0:
        return
    if detected.earliest.since(began.latest) >= 0:
        yield _finding(Verdict.FAILED, "DetectedTooLate", "the system told of its trouble only after the repair began")
    else:
        told = "nobody can tell whether the system told of its trouble before the repair began"
        yield _finding(Verdict.INCONCLUSIVE, "DetectionUndecided", told)


def _came_back_by_itself(run: Run) -> Iterable[Finding]:
    repair, recovered, began = run.status.repair, run.mark(Mark.RECOVERED), run.mark(Mark.REPAIR_BEGAN)
    if repair is not None and repair.reason == CAME_BACK and run.mark(Mark.FIRST_SYMPTOM) is not None:
        told = f"expect is Manual, but the system came back by itself: {repair.message}"
        yield _finding(Verdict.FAILED, "CameBackByItself", told)
    if recovered is None or began is None:
        return
    if recovered.latest.since(began.earliest) <= 0:
        told = "expect is Manual, but the system was healthy again before the repair began"
        yield _finding(Verdict.FAILED, "CameBackByItself", told)
    elif recovered.earliest.since(began.latest) < 0:
        told = "nobody can tell whether the system was healthy again before the repair began or after"
        yield _finding(Verdict.INCONCLUSIVE, "ReturnUndecided", told)


ENDS: Final = {
    RepairState.FAILED: (Verdict.FAILED, "RepairFailed", "the repair failed: "),
    RepairState.UNKNOWN: (Verdict.INCONCLUSIVE, "RepairUnknown", "nobody knows how the repair ended: "),
    RepairState.NOT_RUN: (Verdict.INCONCLUSIVE, "RepairNotRun", "the repair was not run: "),
}


def _not_repaired(run: Run) -> Iterable[Finding]:
    repair = run.status.repair
    if repair is None:
        yield _finding(
            Verdict.INCONCLUSIVE, "RepairNotRun", "the repair was not run: the run ended before its time came"
        )
    elif repair.state in ENDS and repair.reason != CAME_BACK:
        verdict, reason, told = ENDS[repair.state]
        yield _finding(verdict, reason, f"{told}{repair.message}")
    elif repair.state in (RepairState.PLANNED, RepairState.RUNNING):
        yield _finding(Verdict.INCONCLUSIVE, "RepairUnknown", f"the repair was left {str(repair.state).lower()}")


def _finding(verdict: Verdict, reason: str, message: str) -> Finding:
    return Finding(verdict=verdict, reason=reason, message=message[:1024])
