"""Invariants over what was observed before and after."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from bounceback.api.check import RecoveryCheckSpec
from bounceback.api.status import FaultExperimentStatus
from bounceback.api.status import InvariantResult as Invariant
from bounceback.engine.cel import CelError, check_syntax, evaluate, speaks_of
from bounceback.engine.cel_shape import TOKEN
from bounceback.types.outcome import Judgement
from bounceback.types.rules import Path

REFERENCE: Final = "reference run"
"""What stands in the place of a check's name; no check can have it."""


def expression_problems(spec: RecoveryCheckSpec) -> Iterator[tuple[Path, str]]:
    """What is wrong with the expressions of a check, as far as it shows before anything is seen."""
    observed = [each.name for each in spec.observations]
    for path, text, variables in spec.expressions():
        wrong = check_syntax(text, variables)
        if wrong is None and path[0] == "invariants":
            wrong = _blind(text, observed)
        if wrong is not None:
            yield path, wrong


def _blind(expression: str, observed: Sequence[str]) -> str | None:
    """An invariant that speaks of what is not observed, or of nothing that is seen after the fault."""
    words = [found for found in TOKEN.finditer(expression) if found.lastgroup != "comment"]
    for last, one, dot, name in zip([None, *words], words, words[1:], words[2:], strict=False):
        if one[0] not in ("before", "after") or dot[0] != "." or (last and last[0] == "."):
            continue
        if name.lastgroup == "name" and name[0] not in observed:
            return f"column {name.start() + 1}: there is no observation {name[0]}; there are {', '.join(observed)}"
    if "after" not in speaks_of(expression):
        return "must speak of after.NAME: it says nothing of what is seen after the fault"
    return None


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
