"""The declared repair of `expect: Manual`: what brings a system back that does not come back by itself."""

from __future__ import annotations

from typing import Annotated, ClassVar, Final, Self

from pydantic import Field, model_validator

from bounceback.api.looks_inside import JobTemplate
from bounceback.types.fields import Model
from bounceback.types.rules import Rule, exactly_one, one_of, refuse

WAYS: Final = ("job", "byHand")
NO_CONTAINERS: Final = "must name at least one: the repair is what they do"
ONCE: Final = "must be Never, or unset: a repair runs once"


class RepairJob(JobTemplate):
    """A Job of the experiment's namespace that runs once; it repaired when it completes.

    It is made as `spec.serviceAccountName`; what its pods may do is up to the account that the template names.
    """

    @model_validator(mode="after")
    def _runs_once(self) -> Self:
        if not self.template.get("containers"):
            raise refuse(NO_CONTAINERS, "template", "containers")
        if self.template.get("restartPolicy", "Never") != "Never":
            raise refuse(ONCE, "template", "restartPolicy")
        return self


class ByHand(Model):
    """A person who does it, and says `bounceback repaired NAME` when it is done."""

    instruction: Annotated[str, Field(min_length=1, max_length=256)] = Field(
        description="What is to be done; told in the timeline and as an event."
    )


class Repair(Model):
    """The task that brings the system back. It begins only when every fault is cleared and nothing was left behind."""

    rules: ClassVar[tuple[Rule, ...]] = (one_of(WAYS),)

    job: RepairJob | None = Field(None, description="A Job that does it.")
    by_hand: ByHand | None = Field(None, description="A person does it.")
    after_seconds: int = Field(
        10,
        ge=1,
        le=86_400,
        description="How long the system is left alone once everything is cleared: it must not come back by itself. "
        "Longer than its own pauses between two tries.",
    )
    timeout_seconds: int = Field(
        120, ge=1, le=86_400, description="It must be over by then; a Job is ended by the cluster."
    )

    @model_validator(mode="after")
    def _is_one_way(self) -> Self:
        given = [name for name, way in zip(WAYS, (self.job, self.by_hand), strict=True) if way is not None]
        if len(given) != 1:
            raise refuse(exactly_one(WAYS, given))
        return self
