"""What becomes of an object's metadata: its labels, its owners, its finalizers."""

from __future__ import annotations

from typing import ClassVar, Final, Self

from pydantic import Field, model_validator

from bounceback.faults.object_kinds.base import ByWhom, ObjectKind, changed, named
from bounceback.types.fields import LabelKey, LabelValue
from bounceback.types.objects import Change, Json
from bounceback.types.rules import Rule, refuse

LABELS_SOME: Final = "set or remove must name at least one label"
LABELS_ONCE: Final = "remove must not name a label that set names"


class LabelsChanged(ObjectKind):
    """Labels are overwritten, added or removed: who selects the object by them loses it, or comes to have it."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "(has(self.set) && size(self.set) > 0) || (has(self.remove) && size(self.remove) > 0)",
            LABELS_SOME,
            reason="FieldValueRequired",
        ),
        Rule("!has(self.set) || !has(self.remove) || self.remove.all(k, !(k in self.set))", LABELS_ONCE, ".remove"),
    )

    set: dict[LabelKey, LabelValue] = Field(
        default_factory=dict, max_length=20, description="Labels that get these values."
    )
    remove: list[LabelKey] = Field(default_factory=list, max_length=20, description="Labels that are removed.")

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
        if same := [key for key, value in self.set.items() if labels.get(key) == value]:
            raise ValueError(f"label {', '.join(same)} of {named(target)} has that value already")
        kept = {key: value for key, value in labels.items() if key not in self.remove}
        return [changed(target, {("metadata", "labels"): kept | self.set})]


class OwnerReferencesRemoved(ObjectKind):
    """The object belongs to nobody: its owner does not count it any more, and does not take it along when it goes."""

    def changes(self, target: Json, by: ByWhom) -> list[Change]:
        if not target["metadata"].get("ownerReferences"):
            raise ValueError(f"{named(target)} has no ownerReferences")
        return [changed(target, {("metadata", "ownerReferences"): []})]


class StuckFinalizer(ObjectKind):
    """The object gets a finalizer that nobody acts on: who deletes it waits until the fault is over."""

    def changes(self, target: Json, by: ByWhom) -> list[Change]:
        finalizers = target["metadata"].get("finalizers") or []
        return [changed(target, {("metadata", "finalizers"): [*finalizers, f"bounceback.dev/stuck-{by.run}"]})]
