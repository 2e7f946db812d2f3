"""What becomes of an object's metadata: its labels, its owners, its finalizers."""

from __future__ import annotations

from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator

from bounceback.faults.object_kinds.base import ByWhom, ObjectKind, changed, named
from bounceback.types.fields import LabelKey, LabelValue
from bounceback.types.objects import Change, Json
from bounceback.types.rules import Rule, refuse

LABELS_SOME = "set or remove must name at least one label"
LABELS_ONCE = "remove must not name a label that set names"


class LabelsChanged(ObjectKind):
    """Labels are overwritten, added or removed: who selects the object by them finds it no more, or finds it now."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "(has(self.set) && size(self.set) > 0) || (has(self.remove) && size(self.remove) > 0)",
            LABELS_SOME,
            reason="FieldValueRequired",
        ),
        Rule(
            "!has(self.set) || !has(self.remove) || self.remove.all(k, !(k in self.set))",
            LABELS_ONCE,
            ".remove",
        ),
    )

    set: dict[LabelKey, LabelValue] = Field(
        default_factory=dict, max_length=20, description="Labels that get these values."
    )
    remove: Annotated[list[LabelKey], Field(max_length=20)] = Field(
        default_factory=list, description="Labels that are removed."
    )

    @model_validator(mode="after")
    def _is_some(self) -> Self:
        if not self.set and not self.remove:
            raise refuse(LABELS_SOME)
        if any(key in self.set for key in self.remove):
            raise refuse(LABELS_ONCE, "remove")
        return self

    def changes(self, target: Json, by: ByWhom) -> list[Change]:
        labels = target["metadata"].get("labels") or {}
        if absent := [key for key in self.remove if key not in labels]:
            raise ValueError(f"{named(target)} has no label {', '.join(absent)} that could be removed")
        kept = {key: value for key, value in labels.items() if key not in self.remove}
        if kept | self.set == labels:
            raise ValueError(f"{named(target)} has these labels already: labelsChanged.set must name another value")
        return [changed(target, metadata={**target["metadata"], "labels": kept | self.set})]
