"""What must be the same before the fault and after the recovery: compared as the end of a reference run is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from bounceback.api.probes import Observation
from bounceback.api.status import CheckCopy, FaultExperimentStatus, InvariantResult
from bounceback.engine.comparing import Hide, first_of, in_words, shown
from bounceback.engine.end_state import end_state, ends_differ, is_ours, values_differ, without
from bounceback.engine.invariants import NOT_COMPARED, named_unchanged
from bounceback.engine.state import Snapshot
from bounceback.types.objects import Json
from bounceback.types.outcome import Judgement
from bounceback.types.pointers import parts, pointer

BEFORE: Final = "before the fault"
NOTHING: Final = "there was nothing before the fault that could be compared"


@dataclass(frozen=True)
class _Objects:
    """How objects are compared, as an entry of a reference run says it."""

    kind: str
    masks: Sequence[str]
    status_fields: Sequence[str]


def unchanged(status: FaultExperimentStatus, after: Snapshot, salt: str, hide: Hide) -> tuple[InvariantResult, ...]:
    """A result for each observation that must be so."""
    before = status.observed.get("before")
    return tuple(
        _compared(check, each, before, after, salt, hide)
        for check in status.checks
        for each in check.spec.observations
        if each.unchanged is not None
    )


def _compared(
    check: CheckCopy, asked: Observation, before: Any, after: Snapshot, salt: str, hide: Hide
) -> InvariantResult:
    """An object that is not there any more is another matter than one that could not be read."""
    then, now = (before or {}).get(check.name, {}), after.values.get(check.name, {})
    told = after.problems.get(check.name, {}).get(asked.name, NOT_COMPARED)
    outcome = Judgement.INCONCLUSIVE
    if asked.name in then and (check.name, asked.name) in after.gone:
        outcome = Judgement.FAILED
    elif asked.name in then and asked.name in now:
        outcome, told = _held_against(asked, then[asked.name], now[asked.name], salt, hide)
    return InvariantResult(check=check.name, name=named_unchanged(asked.name), result=outcome, message=told[:1024])


def _held_against(asked: Observation, then: Any, now: Any, salt: str, hide: Hide) -> tuple[Judgement, str]:
    """Nothing that is compared with nothing is no sameness."""
    if asked.kubernetes is not None:
        count, told = _objects(asked, then, now, salt, hide)
    else:
        count, told = _json(asked, then, now, hide)
    if told:
        return Judgement.FAILED, first_of(told)
    return (Judgement.PASSED, "as before the fault") if count else (Judgement.INCONCLUSIVE, NOTHING)


def _objects(asked: Observation, then: Any, now: Any, salt: str, hide: Hide) -> tuple[int, list[str]]:
    """How many there were, and what differs, by their names; those of Bounceback's own are left out."""
    assert asked.kubernetes is not None and asked.unchanged is not None
    entry = _Objects(asked.kubernetes.kind, asked.unchanged.masks, asked.unchanged.status_fields)
    bodies = ([each for each in _listed(value) if not is_ours(each)] for value in (then, now))
    was, is_ = (end_state(found, entry, salt) for found in bodies)
    told = [f"{each.name}: {in_words(each, entry.kind, hide, BEFORE)}" for each in ends_differ(was, is_)]
    return sum(map(len, was.values())), told


def _listed(value: Any) -> list[Json]:
    return value if isinstance(value, list) else [value]


def _json(asked: Observation, then: Any, now: Any, hide: Hide) -> tuple[bool, list[str]]:
    assert asked.unchanged is not None
    for mask in asked.unchanged.masks:
        then, now = (without(value, parts(mask)) for value in (then, now))
    told = [
        f"{pointer(way) or 'it'} is {shown(b, pointer(way), hide)}, and was {shown(a, pointer(way), hide)} {BEFORE}"
        for way, a, b in values_differ(then, now)
    ]
    return then not in (None, "", [], {}), told
