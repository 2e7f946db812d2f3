"""Rules that need a whole object, with its status: what may still change once a run has started."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from pydantic.fields import FieldInfo

from bounceback.api.experiment import FaultExperimentSpec
from bounceback.types.rules import Rule

CHANGEABLE: Final = "cancel"
STARTED: Final = "has(oldSelf.status) && has(oldSelf.status.startedAt)"


def once_started() -> Iterator[Rule]:
    """One rule a field of the spec: equal to what it was, if the run has started.

    They stand at the object's root, because only there a rule sees spec and status at once; an update of the spec
    carries the stored status.
    """
    for field in FaultExperimentSpec.model_fields.values():
        name = str(field.alias)
        if name != CHANGEABLE:
            yield Rule(
                f"!({STARTED}) || ({_same(name, maybe_unset=_may_be_unset(field))})",
                f"{name} must stay as it is once the run has started: only {CHANGEABLE} may change",
                f".spec.{name}",
                reason="FieldValueForbidden",
            )
    yield Rule(
        f"!({STARTED}) || !oldSelf.spec.{CHANGEABLE} || self.spec.{CHANGEABLE}",
        f"{CHANGEABLE} must stay true: a run that was cancelled does not go on",
        f".spec.{CHANGEABLE}",
        reason="FieldValueForbidden",
    )


def _may_be_unset(field: FieldInfo) -> bool:
    """Neither required nor given a default by the API server: lists, maps, and what may be None."""
    default = field.get_default(call_default_factory=True, validated_data={})
    return not field.is_required() and (default is None or isinstance(default, list | dict))


def _same(name: str, *, maybe_unset: bool) -> str:
    now, before = f"self.spec.{name}", f"oldSelf.spec.{name}"
    if maybe_unset:
        return f"has({now}) == has({before}) && (!has({now}) || {now} == {before})"
    return f"{now} == {before}"
