"""The base of faults that take what a container has little of, inside its own limits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Self

from pydantic import Field, model_validator
from pydantic.alias_generators import to_camel

from bounceback.faults.inside import InsideFault, Obstacle
from bounceback.types.inside import OURS, Container
from bounceback.types.rules import exactly_one, refuse


class PressureFault(InsideFault):
    """So much of it is taken in each container, or a share of the limit: exactly one of the two."""

    by_chance: ClassVar[bool] = False
    amount: ClassVar[str]
    """The field that says how much."""

    percent_of_limit: int | None = Field(
        None, ge=1, le=100, description="This share of the container's limit, or of its pod's where that is smaller."
    )

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        both = (self.amount, "percent_of_limit")
        given = [to_camel(name) for name in both if getattr(self, name) is not None]
        if len(given) != 1:
            raise refuse(exactly_one(map(to_camel, both), given))
        return self

    def obstacle(self, containers: Sequence[Container]) -> Obstacle | None:
        if (obstacle := super().obstacle(containers)) is not None or self.percent_of_limit is None:
            return obstacle
        for each in containers:
            meant = each.name == self.container if self.container else not OURS.fullmatch(each.name)
            if meant and (missing := self.missing_limit(each)):
                return Obstacle(
                    "NoLimit",
                    f"container {each.name} has no {missing}, nor has its pod, so there is nothing to take "
                    f"{self.percent_of_limit} percent of; set one, name another container, or say how much "
                    f"by {to_camel(self.amount)}",
                )
        return None

    def missing_limit(self, container: Container) -> str:
        """What the limit is called, where its specification has none; it may not be told there."""
        return ""
