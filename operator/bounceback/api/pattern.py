"""Patterns: a fault that comes and goes, or grows, while it is in force."""

from __future__ import annotations

from typing import ClassVar, Self

from pydantic import Field, model_validator

from bounceback.types import pattern as plan
from bounceback.types.fields import Model
from bounceback.types.rules import Rule, exactly_one, one_of, refuse

_FIELDS = ("onOff", "intermittent", "ramp")
_ON_ORDER = "longestOnMilliseconds must not be below shortestOnMilliseconds"
_OFF_ORDER = "longestOffMilliseconds must not be below shortestOffMilliseconds"


class OnOff(Model):
    """There and not there in turns of fixed lengths; it begins with being there."""

    on_milliseconds: int = Field(ge=50, le=3_600_000, description="How long it is there each time.")
    off_milliseconds: int = Field(ge=50, le=3_600_000, description="How long it is not.")


class Intermittent(Model):
    """There and not there in turns of random lengths; it begins with being there."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule("self.shortestOnMilliseconds <= self.longestOnMilliseconds", _ON_ORDER, ".longestOnMilliseconds"),
        Rule("self.shortestOffMilliseconds <= self.longestOffMilliseconds", _OFF_ORDER, ".longestOffMilliseconds"),
    )

    shortest_on_milliseconds: int = Field(ge=50, le=3_600_000, description="It is there for at least this long.")
    longest_on_milliseconds: int = Field(ge=50, le=3_600_000, description="It is there for at most this long.")
    shortest_off_milliseconds: int = Field(ge=50, le=3_600_000, description="It stays away for at least this long.")
    longest_off_milliseconds: int = Field(ge=50, le=3_600_000, description="It stays away for at most this long.")
    seed: int = Field(0, ge=0, le=2_147_483_647, description="The same seed, the same times, on every target.")

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.shortest_on_milliseconds > self.longest_on_milliseconds:
            raise refuse(_ON_ORDER, "longestOnMilliseconds")
        if self.shortest_off_milliseconds > self.longest_off_milliseconds:
            raise refuse(_OFF_ORDER, "longestOffMilliseconds")
        return self


class Ramp(Model):
    """From one share of its strength to another, in steps of equal length over durationSeconds.

    What strength is: the delay of a delay, the rate of a bandwidth limit (a tenth of the strength is ten times the
    rate), else the share of packets, connections or queries that are hit.
    """

    from_percent: int = Field(ge=1, le=100, description="The strength of the first step, in percent of what is asked.")
    to_percent: int = Field(ge=1, le=100, description="The strength of the last step.")
    steps: int = Field(ge=2, le=100, description="How many steps; the first begins at once.")


class Pattern(Model):
    """How the fault comes and goes within its durationSeconds; exactly one of the three."""

    rules: ClassVar[tuple[Rule, ...]] = (one_of(_FIELDS),)

    on_off: OnOff | None = Field(None, description="In turns of fixed lengths.")
    intermittent: Intermittent | None = Field(None, description="In turns of random lengths.")
    ramp: Ramp | None = Field(None, description="Growing or fading in steps.")

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        given = [
            name for name, value in zip(_FIELDS, (self.on_off, self.intermittent, self.ramp), strict=True) if value
        ]
        if len(given) != 1:
            raise refuse(exactly_one(_FIELDS, given))
        return self

    def planned(self) -> plan.Pattern:
        """As the agent is told: seconds, and shares of 1."""
        if self.on_off:
            return plan.OnOff(self.on_off.on_milliseconds / 1000, self.on_off.off_milliseconds / 1000)
        if self.ramp:
            return plan.Ramp(self.ramp.from_percent / 100, self.ramp.to_percent / 100, self.ramp.steps)
        drawn = self.intermittent
        assert drawn is not None
        return plan.Intermittent(
            (drawn.shortest_on_milliseconds / 1000, drawn.longest_on_milliseconds / 1000),
            (drawn.shortest_off_milliseconds / 1000, drawn.longest_off_milliseconds / 1000),
            drawn.seed,
        )
