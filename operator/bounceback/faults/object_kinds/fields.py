"""What becomes of single fields, by their path: another value, none, or always the one that it has."""

from __future__ import annotations

import copy
import re
from dataclasses import replace
from typing import Annotated, ClassVar, Final

from pydantic import Field, JsonValue, field_validator

from bounceback.faults.object_kinds.base import ByWhom, ObjectKind, changed, named
from bounceback.types.objects import Change, Json, Kept
from bounceback.types.pointers import MISSING, parts, pointer, value_at
from bounceback.types.rules import Rule, refuse

FIXED: Final = r"^/(apiVersion|kind|status|metadata)(/|$)"
FREE: Final = r"^/metadata/(labels|annotations)/"
NOT_THERE: Final = (
    "must not lead into apiVersion, kind, status, or metadata but for its labels and annotations: labelsChanged, "
    "ownerReferencesRemoved and stuckFinalizer are for those"
)
NOT_NULL: Final = "value must not be null: fieldRemoved takes a field away"
PATH: Final = (
    "JSON pointer (RFC 6901): /spec/replicas; /spec/template/spec/containers/0/image; "
    "/metadata/annotations/example.com~1owner."
)
FieldPath = Annotated[str, Field(min_length=2, max_length=512, pattern=r"^(/([^/~]|~[01])+)+$")]


def _may_change(path: str) -> bool:
    return not re.match(FIXED, path) or bool(re.match(FREE, path))


class FieldAt(ObjectKind):
    """To be inherited by what is about one field."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(f"!self.path.matches('{FIXED}') || self.path.matches('{FREE}')", f"path {NOT_THERE}", ".path"),
    )

    path: FieldPath = Field(description=PATH)

    @field_validator("path")
    @classmethod
    def _is_ours_to_change(cls, path: str) -> str:
        if not _may_change(path):
            raise refuse(f"path {NOT_THERE}")
        return path


class FieldChanged(FieldAt):
    """A field gets another value: of a workload, of a custom resource, of anything."""

    value: JsonValue = Field(description="The value that it gets: text, number, true or false, list or mapping.")

    @field_validator("value")
    @classmethod
    def _is_some(cls, value: JsonValue) -> JsonValue:
        if value is None:
            raise refuse(NOT_NULL)
        return value

    def changes(self, target: Json, by: ByWhom) -> list[Change]:
        way = parts(self.path)
        if value_at(target, way[:-1]) is MISSING:
            raise ValueError(f"{named(target)} has no {pointer(way[:-1])} that could hold {way[-1]}")
        if value_at(target, way) == self.value:
            raise ValueError(f"{self.path} of {named(target)} has that value already")
        return [changed(target, {way: copy.deepcopy(self.value)})]


class FieldRemoved(FieldAt):
    """A field is taken away."""

    def changes(self, target: Json, by: ByWhom) -> list[Change]:
        way = parts(self.path)
        if value_at(target, way) is MISSING:
            raise ValueError(f"{named(target)} has no {self.path} that could be removed")
        return [changed(target, {way: MISSING})]


class Frozen(ObjectKind):
    """The object stays as it is: whatever others change of it is set back while the fault lasts.

    Proof is how often that happened. At the end nothing is restored: the others may change it again.
    """

    keeps: ClassVar[bool] = True
    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            f"!has(self.paths) || self.paths.all(p, !p.matches('{FIXED}') || p.matches('{FREE}'))",
            f"paths {NOT_THERE}",
            ".paths",
        ),
    )

    paths: list[FieldPath] = Field(
        default_factory=list,
        max_length=20,
        description=f"Only these fields. {PATH} Empty: all but metadata and status.",
    )

    @field_validator("paths")
    @classmethod
    def _are_ours_to_keep(cls, paths: list[str]) -> list[str]:
        for index, path in enumerate(paths):
            if not _may_change(path):
                raise refuse(f"paths {NOT_THERE}", index)
        return paths

    def changes(self, target: Json, by: ByWhom) -> list[Change]:
        if absent := [path for path in self.paths if value_at(target, parts(path)) is MISSING]:
            raise ValueError(f"{named(target)} has no {', '.join(absent)} that could be kept as it is")
        paths = tuple(self.paths) or tuple(pointer((key,)) for key in target if _may_change(pointer((key,))))
        if not paths:
            raise ValueError(f"{named(target)} has nothing but metadata and status")
        return [replace(changed(target, {}), kept=Kept(paths))]
