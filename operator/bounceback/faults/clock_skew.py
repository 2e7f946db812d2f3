"""Clock skew: the wall clock of a container is wrong."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Final, Self

from pydantic import Field, model_validator

from bounceback.faults.inside import Obstacle, ProcessFault, not_by_chance
from bounceback.types.choice import ALWAYS, Choice
from bounceback.types.clock import Skew
from bounceback.types.inside import OURS, Container
from bounceback.types.rules import Rule, refuse

NO_SKEW: Final = "offsetSeconds or driftPartsPerMillion must not be 0"
TEN_YEARS: Final = 10 * 366 * 24 * 3600


class ClockSkew(ProcessFault):
    """The wall clock jumps, drifts away, or both, for the programs of a container; the node's clock is not touched.

    Takes pods that are armed for it (label bounceback.dev/arm-clock=enabled): their programs are started with a library
    that answers for the clock. All programs of the container have the same clock; with `process` or `port` only those
    must be such that can be told a wrong time, otherwise all. It is over at the end, all at once. Proof is the number
    of times that a program asked and was told a wrong time.
    """

    kind: ClassVar[str] = "clockSkew"
    hit_words: ClassVar[str] = "times a wrong time was told"
    by_chance: ClassVar[bool] = False
    rules: ClassVar[tuple[Rule, ...]] = (
        Rule("self.offsetSeconds != 0 || self.driftPartsPerMillion != 0", NO_SKEW, ".offsetSeconds"),
    )
    entry_rules: ClassVar[tuple[Rule, ...]] = (not_by_chance("clockSkew"),)

    offset_seconds: int = Field(
        0, ge=-TEN_YEARS, le=TEN_YEARS, description="The clock jumps by this, ahead or (negative) back."
    )
    drift_parts_per_million: int = Field(
        0,
        ge=-900_000,
        le=10_000_000,
        description="Microseconds that it gains, or (negative) loses, each second; 1000000: it is twice as fast.",
    )

    @model_validator(mode="after")
    def _is_wrong(self) -> Self:
        if not self.offset_seconds and not self.drift_parts_per_million:
            raise refuse(NO_SKEW, "offsetSeconds")
        return self

    def obstacle(self, containers: Sequence[Container]) -> Obstacle | None:
        if (obstacle := super().obstacle(containers)) is not None:
            return obstacle
        for each in containers:
            meant = each.name == self.container if self.container else not OURS.fullmatch(each.name)
            if meant and not each.clock:
                return Obstacle("NotArmed", f"container {each.name} has no clock that can be changed: {_way_out(each)}")
        return None

    def act(self, name: str, choice: Choice = ALWAYS) -> Skew:
        return Skew(
            who=self.who(), offset_milliseconds=self.offset_seconds * 1000, drift_ppm=self.drift_parts_per_million
        )


def _way_out(container: Container) -> str:
    return container.no_clock or (
        "install the chart with arming.enabled, label the pod's template bounceback.dev/arm-clock=enabled, and have it "
        "made anew"
    )
