"""Invariants over what was observed before and after."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from bounceback.api.status import FaultExperimentStatus
from bounceback.api.status import InvariantResult as Invariant
from bounceback.engine.cel import CelError, evaluate, speaks_of
from bounceback.types.outcome import Judgement

REFERENCE: Final = "reference run"
"""What stands in the place of a check's name; no check can have it."""


def invariant_results(status: FaultExperimentStatus) -> tuple[Invariant, ...]:
    """Each invariant of each check over what was observed before and after."""
    before, after = status.observed.get("before"), status.observed.get("after")
    results = []
    for check in status.checks:
        for invariant in check.spec.invariants:
            outcome, message = Judgement.INCONCLUSIVE, str(status.observed.get("afterProblem") or "not observed")
            if isinstance(before, dict) and isinstance(after, dict):
                seen = {"before": before.get(check.name, {}), "after": after.get(check.name, {})}
                outcome, message = _hold(invariant.expression, seen, invariant.message)
            results.append(Invariant(check=check.name, name=invariant.name, result=outcome, message=message[:1024]))
    return (*results, *of_reference(status))


def of_reference(status: FaultExperimentStatus) -> Iterator[Invariant]:
    """What came of the comparison with the reference run."""
    for each in status.observed.get(REFERENCE) or ():
        yield Invariant.model_validate(each)


def reason(result: Invariant, otherwise: str, of_comparison: str) -> str:
    """One CamelCase word for a finding on it."""
    return of_comparison if result.check == REFERENCE else otherwise


def _hold(expression: str, seen: dict[str, Any], message: str | None) -> tuple[Judgement, str]:
    try:
        holds = evaluate(expression, seen)
        if "after" not in speaks_of(expression):
            return Judgement.INCONCLUSIVE, f"{expression} says nothing of what was observed after the fault"
        if holds:
            return Judgement.PASSED, ""
    except CelError as error:
        return Judgement.INCONCLUSIVE, str(error)
    return Judgement.FAILED, message or f"{expression} is false"
