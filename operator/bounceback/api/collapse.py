"""Where a system breaks down under a fault that grows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final

from pydantic import Field

from bounceback.types.fields import Model, Name, ObjectName, StatusModel
from bounceback.types.outcome import CollapseState
from bounceback.types.rules import Path, Rule

if TYPE_CHECKING:
    from bounceback.api.experiment import FaultTiming

RISING: Final = (
    "collapse needs a pattern.ramp whose toPercent is above its fromPercent: it is looked for as a fault grows"
)
WITHIN: Final = "collapse.holdsPercent must not be above pattern.ramp.toPercent: so strong it never is"
CHECK_OF_COLLAPSE: Final = "the check of every collapse must be one of spec.checks"


class Collapse(Model):
    """The strength of a ramp at which too few looks at the system succeed."""

    check: ObjectName = Field(description="One of spec.checks.")
    probe: Name | None = Field(None, description="One of its probes; unset: all of them together.")
    below_percent: int = Field(
        10, ge=1, le=100, description="It has collapsed where a smaller share of the samples is healthy."
    )
    holds_percent: int | None = Field(
        None,
        ge=1,
        le=100,
        description="The strength up to which it must not collapse, or the run is Failed; unset: told, and not judged.",
    )


COLLAPSE_ENTRY_RULES: Final = (
    Rule(
        "!has(self.collapse) || (has(self.pattern) && has(self.pattern.ramp)"
        " && self.pattern.ramp.toPercent > self.pattern.ramp.fromPercent)",
        RISING,
        ".collapse",
    ),
    Rule(
        "!has(self.collapse) || !has(self.collapse.holdsPercent) || !has(self.pattern) || !has(self.pattern.ramp)"
        " || self.collapse.holdsPercent <= self.pattern.ramp.toPercent",
        WITHIN,
        ".collapse.holdsPercent",
    ),
)
"""Of an entry of spec.faults."""
COLLAPSE_RULE: Final = Rule(
    "self.faults.all(f, !has(f.collapse) || self.checks.exists(c, c.name == f.collapse.check))",
    CHECK_OF_COLLAPSE,
    ".faults",
)
"""Of a FaultExperiment's spec."""


def collapse_problems(faults: Iterable[FaultTiming], checks: Iterable[str]) -> Iterator[tuple[Path, str]]:
    """The same, for the models."""
    known = list(checks)
    for index, entry in enumerate(faults):
        asked, ramp = entry.collapse, entry.pattern.ramp if entry.pattern else None
        if asked is None:
            continue
        if ramp is None or ramp.to_percent <= ramp.from_percent:
            yield ("faults", index, "collapse"), RISING
        elif asked.holds_percent is not None and asked.holds_percent > ramp.to_percent:
            yield ("faults", index, "collapse", "holdsPercent"), WITHIN
        if asked.check not in known:
            yield ("faults", index, "collapse", "check"), f"{CHECK_OF_COLLAPSE}: {', '.join(known)}"


class Level(StatusModel):
    """One strength of a ramp, in force on all targets, and what was seen meanwhile."""

    percent: int = Field(description="The strength.")
    samples: int = Field(0, description="Looks that were answered, or had no answer in time.")
    healthy: int = Field(0, description="Those that were healthy.")


class Counting(StatusModel):
    """The level that is counted now: what the probes had counted when it began."""

    percent: int = Field(description="The strength.")
    step: int = Field(description="Which step of the ramp has it, from 0.")
    samples: int = Field(description="Samples before.")
    healthy: int = Field(description="Healthy ones before.")


class CollapseStatus(StatusModel):
    """Where the system collapsed as a fault grew, as far as is known."""

    fault: str = Field(description="The entry of spec.faults.")
    state: CollapseState = Field(CollapseState.UNDECIDED, description="Collapsed, Held or Undecided.")
    held_percent: int = Field(0, description="At this strength it surely had not collapsed.")
    collapsed_percent: int | None = Field(None, description="At this strength it surely had; unset: at none.")
    levels: list[Level] = Field(default_factory=list, max_length=100, description="In the order in which they came.")
    counting: Counting | None = Field(None, description="While a level is counted.")
    message: str = Field("", max_length=512, description="For people.")
