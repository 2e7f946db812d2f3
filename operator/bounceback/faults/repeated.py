"""The base of faults that are done at a moment, once or again and again."""

from __future__ import annotations

from typing import ClassVar, Self

from pydantic import Field, model_validator

from bounceback.faults.base import Fault
from bounceback.types.choice import Choice
from bounceback.types.repeat import Repeat
from bounceback.types.rules import Rule, refuse

RANGE = "upToSeconds must be given with everySeconds only, and must not be below it"


class Repeated(Fault):
    """Once, in turns of one length, or in turns of random lengths."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(self.upToSeconds) || (has(self.everySeconds) && self.upToSeconds >= self.everySeconds)",
            RANGE,
            ".upToSeconds",
        ),
    )

    every_seconds: int | None = Field(
        None, ge=1, le=3600, description="Again this often while the fault lasts; unset: one time."
    )
    up_to_seconds: int | None = Field(
        None,
        ge=1,
        le=3600,
        description="Each pause is as long as chance has it, between everySeconds and this; the entry's seed decides.",
    )

    @model_validator(mode="after")
    def _range_is_one(self) -> Self:
        if self.up_to_seconds is not None and (self.every_seconds is None or self.up_to_seconds < self.every_seconds):
            raise refuse(RANGE, "upToSeconds")
        return self

    def repeat(self, name: str, choice: Choice) -> Repeat | None:
        """When it is done again; `name` is the entry's. None: it is done once."""
        if self.every_seconds is None:
            return None
        return Repeat(self.every_seconds, self.up_to_seconds or self.every_seconds, choice.seed, name)
