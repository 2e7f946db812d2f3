"""Object fault: a Kubernetes object is changed, removed, or kept as it is, and restored at the end."""

from __future__ import annotations

from typing import ClassVar, Final, Self

from pydantic import Field, model_validator

from bounceback.faults.base import Fault
from bounceback.faults.object_kinds.base import ByWhom, ObjectKind
from bounceback.faults.object_kinds.metadata import LabelsChanged
from bounceback.faults.object_kinds.workloads import ScaledToZero
from bounceback.types.choice import ALWAYS, Choice
from bounceback.types.objects import Change, Json
from bounceback.types.outcome import Healing
from bounceback.types.plan import Rung
from bounceback.types.rules import Rule, exactly_one, one_of, refuse

FIELDS: Final = ("scaledToZero", "labelsChanged")


class ObjectFault(Fault):
    """An object of the target is changed through the API, in the account's name, for as long as the fault lasts.

    At the end what was changed is as it was before, and what others changed meanwhile stays theirs. Where the system
    puts it right before that, the fault is over: that is timed, and `healing` says whether it must. Proof is the
    number of objects that were changed.
    """

    kind: ClassVar[str] = "objectFault"
    hit_words: ClassVar[str] = "objects changed"
    rules: ClassVar[tuple[Rule, ...]] = (one_of(FIELDS),)

    scaled_to_zero: ScaledToZero | None = Field(None, description="No replicas.")
    labels_changed: LabelsChanged | None = Field(None, description="Labels overwritten, added or removed.")
    healing: Healing = Field(
        Healing.ALLOWED,
        description="Whether the system puts it right by itself while the fault lasts. Required: it must, or the "
        "recovery has failed. Allowed: it may. Forbidden: it must not.",
    )

    @property
    def done(self) -> ObjectKind:
        """What is done to the object."""
        return next(kind for kind in self._given().values() if kind is not None)

    def _given(self) -> dict[str, ObjectKind | None]:
        names = {str(field.alias): name for name, field in type(self).model_fields.items()}
        return {field: getattr(self, names[field]) for field in FIELDS}

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        given = [field for field, value in self._given().items() if value is not None]
        if len(given) != 1:
            raise refuse(exactly_one(FIELDS, given))
        return self

    def rungs(self, choice: Choice = ALWAYS) -> tuple[Rung, ...]:
        return (Rung.API,)

    def changes(self, target: Json, run: str, account: str = "") -> list[Change]:
        """What it takes to do it to that object, which is as the API server has it.

        Raises ValueError, with words for the user, where the object does not fit.
        """
        return self.done.changes(target, ByWhom(run, account))

    def verbs(self, resource: str) -> frozenset[str]:
        """What the account must be allowed to, for a target of that resource, written as kubectl does."""
        return self.done.verbs(resource)
