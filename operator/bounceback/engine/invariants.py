"""Invariants over what was observed before the fault, at clear and after the recovery."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from bounceback.api.check import RecoveryCheckSpec
from bounceback.api.status import CheckCopy, FaultExperimentStatus
from bounceback.api.status import InvariantResult as Invariant
from bounceback.engine.cel import CelError, check_syntax, evaluate, speaks_of, taken_of
from bounceback.types.outcome import Judgement
from bounceback.types.rules import Path

REFERENCE: Final = "reference run"
"""What stands in the place of a check's name; no check can have it."""
NOT_COMPARED: Final = "not compared with what was before the fault"
NOTHING_AT_CLEAR: Final = "nothing was observed at clear: no fault was cleared, or nobody was there to look"
_UNCHANGED: Final = " unchanged"


def expression_problems(spec: RecoveryCheckSpec) -> Iterator[tuple[Path, str]]:
    """What is wrong with the expressions of a check, as far as it shows before anything is seen."""
    for path, text, variables in spec.expressions():
        wrong = check_syntax(text, variables)
        if wrong is None and path[0] == "invariants" and not speaks_of(text) & {"clear", "after"}:
            wrong = "must speak of after.NAME or clear.NAME: it says nothing of what is seen after the fault"
        if wrong is not None:
            yield path, wrong


def invariant_results(status: FaultExperimentStatus) -> tuple[Invariant, ...]:
    """Each invariant, each observation that must be unchanged, and the comparison with the reference run."""
    results = []
    for check in status.checks:
        for invariant in check.spec.invariants:
            outcome, message = _result(status, check, invariant.expression, invariant.message)
            results.append(Invariant(check=check.name, name=invariant.name, result=outcome, message=message[:1024]))
        results += _of_unchanged(status, check)
    return (*results, *of_reference(status))


def of_reference(status: FaultExperimentStatus) -> Iterator[Invariant]:
    """What came of the comparison with the reference run."""
    for each in status.observed.get(REFERENCE) or ():
        yield Invariant.model_validate(each)


def named_unchanged(observation: str) -> str:
    """What stands in the place of an invariant's name; none can have a blank in it."""
    return f"{observation}{_UNCHANGED}"


def _of_unchanged(status: FaultExperimentStatus, check: CheckCopy) -> Iterator[Invariant]:
    """What was asked for and not compared is undecided."""
    stored = [Invariant.model_validate(each) for each in status.observed.get("unchanged") or ()]
    known = {each.name: each for each in stored if each.check == check.name}
    for observation in check.spec.observations:
        if observation.unchanged is not None:
            name = named_unchanged(observation.name)
            missing = Invariant(check=check.name, name=name, result=Judgement.INCONCLUSIVE, message=NOT_COMPARED)
            yield known.get(name, missing)


def if_broken(result: Invariant) -> str:
    """One CamelCase word for a finding on one that does not hold."""
    if result.check == REFERENCE:
        return "DiffersFromReference"
    return "DiffersFromBefore" if result.name.endswith(_UNCHANGED) else "InvariantBroken"


def if_undecided(result: Invariant) -> str:
    """The same for one that nobody knows of."""
    return "ReferenceUnknown" if result.check == REFERENCE else "InvariantUndecided"


def _result(
    status: FaultExperimentStatus, check: CheckCopy, expression: str, message: str | None
) -> tuple[Judgement, str]:
    """What it names must have been read: an expression that asks whether it was is not asked."""
    values = {when: status.observed.get(when) for when in ("before", "clear", "after")}
    try:
        spoken = speaks_of(expression) & values.keys()
        if spoken <= {"before"}:
            return Judgement.INCONCLUSIVE, f"{expression} says nothing of what was observed after the fault"
        if why := _unread(status, check, expression, spoken):
            return Judgement.INCONCLUSIVE, why
        seen: dict[str, Any] = {when: (values[when] or {}).get(check.name, {}) for when in values}
        if evaluate(expression, seen):
            return Judgement.PASSED, ""
    except CelError as error:
        return Judgement.INCONCLUSIVE, str(error)
    return Judgement.FAILED, message or f"{expression} is false"


def _unread(status: FaultExperimentStatus, check: CheckCopy, expression: str, spoken: frozenset[str]) -> str:
    """Why something that it names is not known; "": all is."""
    missing: list[str] = []
    for when in ("before", "clear", "after"):
        if when not in spoken:
            continue
        values, problems = status.observed.get(when), status.observed.get(f"{when}Problems") or {}
        if not isinstance(values, dict):
            return NOTHING_AT_CLEAR if when == "clear" else f"{when}: not observed"
        told, known = problems.get(check.name) or {}, values.get(check.name) or {}
        taken = taken_of(expression, when)
        wanted = {each.name for each in check.spec.observations} if taken is None else taken
        missing += [f"{when}.{name}: {told.get(name) or 'not observed'}" for name in sorted(wanted - known.keys())]
    return "; ".join(missing)
