"""What has to come before a fault starts: another fault's end or beginning, or what is seen of the system."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, ClassVar, Final, Self

from pydantic import Field, model_validator

from bounceback.types.fields import Model, Name, ObjectName
from bounceback.types.rules import Path, Rule, exactly_one, one_of, refuse

if TYPE_CHECKING:
    from bounceback.api.experiment import FaultTiming

MOST_FAULTS: Final = 20
"""Of one experiment."""
WAYS: Final = ("cleared", "inForce", "failing", "detected")
BY_FAULT: Final = ("cleared", "inForce")
BY_CHECK: Final = ("failing", "detected")
LISTED_BEFORE: Final = "must name a fault that is listed before its own: faults are listed in the order of their course"
CHECK_LISTED: Final = "the check of every startWhen must be one of spec.checks"
ONE_BEGINS: Final = "startWhen must be unset for one fault at least: something has to begin by itself"
SAFE_AT_ONCE: Final = (
    "startWhen.cleared must be unset with expect: FailSafe: the error state is looked at until the first fault is "
    "cleared, and the fault that starts then would not be"
)


class ProbeFailing(Model):
    """A probe of a check that fails."""

    check: ObjectName = Field(description="One of spec.checks.")
    probe: Name | None = Field(None, description="One of its probes; unset: any of them.")
    for_seconds: int = Field(1, ge=1, le=3600, description="So long without a pause.")


class SignalDetected(Model):
    """A signal by which the system itself says that something is wrong."""

    check: ObjectName = Field(description="One of spec.checks.")
    signal: Name | None = Field(None, description="One of its detection signals; unset: any that tells of trouble.")
    for_seconds: int = Field(
        0, ge=0, le=3600, description="It holds so long without a pause; 0: it has come since the first fault."
    )


class StartWhen(Model):
    """What has to come before the fault starts; exactly one of the four, and a limit."""

    rules: ClassVar[tuple[Rule, ...]] = (one_of(WAYS),)

    cleared: Name | None = Field(
        None, description="A fault that is listed before: it was in force, and is over on all its targets."
    )
    in_force: Name | None = Field(None, description="A fault that is listed before: it is in force on all its targets.")
    failing: ProbeFailing | None = Field(None, description="A probe fails.")
    detected: SignalDetected | None = Field(None, description="The system itself says that something is wrong.")
    within_seconds: int = Field(
        300,
        ge=1,
        le=86_400,
        description="So long after the experiment's injections begin it must have come; else the fault never starts, "
        "and the injection is Unproven.",
    )

    @property
    def fault(self) -> str | None:
        """The fault that it is about."""
        return self.cleared or self.in_force

    @property
    def looks_at(self) -> ProbeFailing | SignalDetected | None:
        """What of the system it is about."""
        return self.failing or self.detected

    @property
    def words(self) -> str:
        """For people: slow is cleared; web/home fails for 3 s."""
        if self.failing is not None:
            return f"{self.failing.check}/{self.failing.probe or 'any probe'} fails for {self.failing.for_seconds} s"
        if self.detected is not None:
            what = f"{self.detected.check}/{self.detected.signal or 'any signal'}"
            lasting = f"holds for {self.detected.for_seconds} s" if self.detected.for_seconds else "has come"
            return f"{what} {lasting}"
        return f"{self.cleared} is cleared" if self.cleared else f"{self.in_force} is in force"

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        values = (self.cleared, self.in_force, self.failing, self.detected)
        given = [name for name, value in zip(WAYS, values, strict=True) if value is not None]
        if len(given) != 1:
            raise refuse(exactly_one(WAYS, given))
        return self


def _listed_before(way: str) -> Rule:
    """Lists of numbers are gone through, not of names: the API server knows how long those are, so what it costs."""
    numbers = f"[{', '.join(map(str, range(MOST_FAULTS)))}]"
    its = f"self.faults[i].startWhen.{way}"
    return Rule(
        f"{numbers}.all(i, i >= size(self.faults) || !has(self.faults[i].startWhen) || !has({its})"
        f" || {numbers}.exists(j, j < i && self.faults[j].name == {its}))",
        f"startWhen.{way} {LISTED_BEFORE}",
        ".faults",
    )


def _check_listed(way: str) -> str:
    return f"(!has(f.startWhen.{way}) || self.checks.exists(c, c.name == f.startWhen.{way}.check))"


START_RULES: Final = (
    *(_listed_before(way) for way in BY_FAULT),
    Rule(
        f"self.faults.all(f, !has(f.startWhen) || ({' && '.join(_check_listed(way) for way in BY_CHECK)}))",
        CHECK_LISTED,
        ".faults",
    ),
    Rule("self.faults.exists(f, !has(f.startWhen))", ONE_BEGINS, ".faults"),
    Rule(
        "self.expect != 'FailSafe' || self.faults.all(f, !has(f.startWhen) || !has(f.startWhen.cleared))",
        SAFE_AT_ONCE,
        ".faults",
    ),
)
"""Of a FaultExperiment's spec."""


def start_problems(faults: list[FaultTiming], checks: Iterable[str], *, fail_safe: bool) -> Iterator[tuple[Path, str]]:
    """The same, for the models."""
    known = list(checks)
    before: list[str] = []
    for index, entry in enumerate(faults):
        when = entry.start_when
        for way, its in (("cleared", when.cleared), ("inForce", when.in_force)) if when else ():
            if its is not None and its not in before:
                there = ", ".join(before) or "there is none"
                yield ("faults", index, "startWhen", way), f"startWhen.{way} {LISTED_BEFORE}: {there}"
        for way, looked in (("failing", when.failing), ("detected", when.detected)) if when else ():
            if looked is not None and looked.check not in known:
                yield ("faults", index, "startWhen", way, "check"), f"{CHECK_LISTED}: {', '.join(known)}"
        if fail_safe and when is not None and when.cleared is not None:
            yield ("faults", index, "startWhen", "cleared"), SAFE_AT_ONCE
        before.append(entry.name)
    if all(entry.start_when is not None for entry in faults):
        yield ("faults", 0, "startWhen"), ONE_BEGINS
