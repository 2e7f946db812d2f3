"""What becomes of an object's metadata: its labels, its owners, its finalizers."""

from __future__ import annotations

from pydantic import Field

from bounceback.faults.object_kinds.base import ByWhom, KeysKind, ObjectKind, changed, named
from bounceback.types.fields import LabelKey, LabelValue
from bounceback.types.objects import Change, Json


class LabelsChanged(KeysKind):
    """Labels are overwritten, added or removed: who selects the object by them loses it, or comes to have it."""

    set: dict[LabelKey, LabelValue] = Field(
        default_factory=dict, max_length=20, description="Labels that get these values."
    )
    remove: list[LabelKey] = Field(default_factory=list, max_length=20, description="Labels that are removed.")

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
