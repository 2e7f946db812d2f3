"""The reference run: the same without the faults first; what comes and goes, and what is there at the end, compared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, ClassVar

from pydantic import Field

from bounceback.api.targets import API_VERSION_PATTERN, KIND_PATTERN
from bounceback.types.fields import Model, StatusModel
from bounceback.types.rules import Path, Rule
from bounceback.types.selectors import LabelSelector

MASK_PATTERN = r"^(/([^/~]|~0|~1)*)+$"
MASK_WORDS = (
    "a JSON pointer such as /spec/replicas or /metadata/annotations/example.com~1seen; * stands for any one part"
)
Mask = Annotated[str, Field(min_length=2, max_length=512, pattern=MASK_PATTERN)]
MOST_ENTRIES = 10
MOST_CHANGED = 300
"""Names that come or go in one run, over all entries: the status holds them."""
NEVER_COMPARED = "masks must not begin with /status: of the status only what statusFields names is compared"
OF_STATUS = "statusFields must begin with /status"


class ComparedObjects(Model):
    """Objects of one kind in the experiment's namespace; what is Bounceback's own is left out."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule("!has(self.masks) || self.masks.all(m, !m.startsWith('/status'))", NEVER_COMPARED, ".masks"),
        Rule(
            "!has(self.statusFields) || self.statusFields.all(f, f.startsWith('/status'))", OF_STATUS, ".statusFields"
        ),
    )

    api_version: str = Field(
        min_length=1, max_length=253, pattern=API_VERSION_PATTERN, description="v1, apps/v1, example.com/v1."
    )
    kind: str = Field(min_length=1, max_length=63, pattern=KIND_PATTERN, description="As in a manifest: Deployment.")
    selector: LabelSelector | None = Field(None, description="The labels of the objects; unset: all of that kind.")
    lives: bool = Field(
        True,
        description="Compare also how many objects of each name came and went, not only what is there at the end.",
    )
    masks: Annotated[list[Mask], Field(max_length=50)] = Field(
        default_factory=list,
        description="JSON pointers to what may differ, with all that is under it: /metadata/annotations, "
        "/spec/template/spec/containers/*/env. What the cluster itself gives out is left out anyway.",
    )
    status_fields: Annotated[list[Mask], Field(max_length=20)] = Field(
        default_factory=list,
        description="JSON pointers to the parts of the status that are compared: /status/readyReplicas. No others are.",
    )

    def __str__(self) -> str:
        """ConfigMap app=web"""
        return f"{self.kind} {self.selector}" if self.selector else f"{self.kind} of the namespace"

    def problems(self) -> Iterator[tuple[Path, str]]:
        if any(mask.startswith("/status") for mask in self.masks):
            yield ("masks",), NEVER_COMPARED
        if not all(each.startswith("/status") for each in self.status_fields):
            yield ("statusFields",), OF_STATUS


class ReferenceRun(Model):
    """Run it once without the faults first, and compare every run with that one; what differs fails the consistency."""

    objects: Annotated[list[ComparedObjects], Field(min_length=1, max_length=MOST_ENTRIES)] = Field(
        description="What is compared. The reference run must see some of each entry. Read in the account's name."
    )
    settle_seconds: int = Field(
        5,
        ge=0,
        le=60,
        description="How long after the recovery the end is read, in every run: what a system does late counts, too.",
    )

    def problems(self) -> Iterator[tuple[Path, str]]:
        for index, entry in enumerate(self.objects):
            yield from ((("objects", index, *path), told) for path, told in entry.problems())


class Lives(StatusModel):
    """What came and went among one entry's objects, up to one resourceVersion; an operator goes on from there."""

    version: str = Field("", description="The resourceVersion up to which this is known.")
    before: int = Field(0, description="How many there were before the faults, or the time without them, began.")
    changed: Mapping[str, list[int]] = Field(
        default_factory=dict, description="By name (* for what the API server made up): how many came, how many went."
    )
    gap: str = Field("", max_length=256, description="Why there was a time of which nothing is known, if there was.")


class ReferenceStatus(StatusModel):
    """The reference run, and what is known for the comparison."""

    over: bool = Field(False, description="It is over; until then nothing is injected.")
    objects: list[int] = Field(
        default_factory=list, max_length=MOST_ENTRIES, description="By entry: how many there were at its end."
    )
    changed: int = Field(0, description="How many objects came or went in it.")
    digest: str = Field("", max_length=71, description="Of what it is compared by, which is in the journal.")
    lives: list[Lives] = Field(
        default_factory=list, max_length=MOST_ENTRIES, description="By entry, of the run that is under way."
    )
