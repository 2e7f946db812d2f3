"""RecoveryCheck: what "healthy", "recovered" and "consistent" mean for a system."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from bounceback.api.check_workload import CheckWorkload, Performance
from bounceback.api.client_behavior import ClientBehavior
from bounceback.api.credentials import SecretPart
from bounceback.api.meta import repeated
from bounceback.api.probes import MOMENTS, MOMENTS_READ, Expression, Invariant, Observation, Probe, Signal
from bounceback.types.fields import Model, ObjectName
from bounceback.types.rules import FieldError, Path, Rule


class Recovered(Model):
    """When the system counts as recovered."""

    stable_seconds: int = Field(3, ge=1, le=3600, description="Healthy this long without a gap.")


class Budgets(Model):
    """Upper bounds; what is unset is measured but not judged."""

    detect_seconds: int | None = Field(
        None, ge=1, le=86_400, description="From active to detected: by `detection` if given, else the first symptom."
    )
    recover_seconds: int | None = Field(
        None,
        ge=1,
        le=86_400,
        description="From cleared to recovered; with expect: Manual from when the repair began.",
    )
    outage_seconds: int | None = Field(None, ge=1, le=86_400, description="From the first symptom to recovered.")


class Continuous(Model):
    """How a check that watches by itself keeps its record."""

    window_hours: int = Field(24, ge=1, le=2160, description="Availability is told over about so long.")
    outages_kept: int = Field(20, ge=5, le=30, description="The newest outages stay in status; totals count them all.")
    heartbeat_seconds: int = Field(
        60,
        ge=10,
        le=3600,
        description="While nothing changes status is written so often. What was seen since the last time is not known "
        "to an operator that is started again.",
    )


BUDGETS = ("detectSeconds", "recoverSeconds", "outageSeconds")
PROBE_LISTS = ("probes", "detection", "errorState")
NOTHING = (
    "probes, invariants or an observation with unchanged must be given: a check that looks at nothing proves nothing"
)
UNWATCHED = "mode: Continuous needs probes: without one there is nothing to watch"
BLIND = "invariants need observations to speak of: observations must not be empty"
PACELESS = "performance needs a workload whose load is closed or open: others are no baseline for themselves"
MOMENT = "event and log tell of a moment, not of a state: absentSeconds must be given, but in detection"


def _above_period(budget: str) -> Rule:
    return Rule(
        f"!has(self.budgets.{budget}) || !has(self.probes)"
        f" || self.probes.all(p, p.periodMilliseconds <= self.budgets.{budget} * 1000)",
        f"budgets.{budget} must not be below the sampling period of the slowest probe: it could never be measured",
        f".budgets.{budget}",
    )


def _apart(one: str, other: str) -> Rule:
    return Rule(
        f"!has(self.{one}) || !has(self.{other}) || self.{other}.all(o, !self.{one}.exists(p, p.name == o.name))",
        f"names must be unique among {', '.join(PROBE_LISTS)}",
        f".{other}",
    )


def _no_moments(section: str) -> Rule:
    each = " && ".join(f"(!has(p.{kind}) || has(p.{kind}.absentSeconds))" for kind in MOMENTS)
    return Rule(f"!has(self.{section}) || self.{section}.all(p, {each})", MOMENT, f".{section}")


class RecoveryCheckSpec(Model):
    """Probes that say what healthy means, budgets, and invariants that say what consistent means."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "(has(self.probes) && size(self.probes) > 0) || (has(self.invariants) && size(self.invariants) > 0)"
            " || (has(self.observations) && self.observations.exists(o, has(o.unchanged)))",
            NOTHING,
            ".probes",
            reason="FieldValueRequired",
        ),
        Rule(
            "!has(self.mode) || self.mode != 'Continuous' || (has(self.probes) && size(self.probes) > 0)",
            UNWATCHED,
            ".probes",
            reason="FieldValueRequired",
        ),
        Rule(
            "!has(self.invariants) || size(self.invariants) == 0"
            " || (has(self.observations) && size(self.observations) > 0)",
            BLIND,
            ".observations",
            reason="FieldValueRequired",
        ),
        Rule(
            "!has(self.performance) || (has(self.workload) && has(self.workload.load)"
            " && (has(self.workload.load.closed) || has(self.workload.load.open)))",
            PACELESS,
            ".performance",
        ),
        *(_apart(one, other) for n, one in enumerate(PROBE_LISTS) for other in PROBE_LISTS[n + 1 :]),
        *(_above_period(budget) for budget in BUDGETS),
        *(_no_moments(section) for section in ("probes", "errorState")),
    )

    mode: Literal["OnDemand", "Continuous"] = Field(
        "OnDemand",
        description="OnDemand: experiments look by it. Continuous: it also watches by itself, and records outages.",
    )
    suspend: bool = Field(
        False, description="mode: Continuous: nobody looks meanwhile; that time counts as unknown, neither up nor down."
    )
    service_account_name: ObjectName = Field(
        "bounceback",
        description="mode: Continuous: the account of this namespace that objects, logs and Secrets are read as. "
        "Experiments use their own.",
    )
    continuous: Continuous = Field(
        default_factory=Continuous, description="mode: Continuous: how the record of outages is kept."
    )
    probes: Annotated[list[Probe], Field(max_length=50)] = Field(
        default_factory=list, description="The system is healthy while all of them are."
    )
    detection: Annotated[list[Signal], Field(max_length=10)] = Field(
        default_factory=list,
        description="Signals by which the system itself says that something is wrong, any one of which is detection, "
        "or shows what it does about it.",
    )
    error_state: Annotated[list[Probe], Field(max_length=10)] = Field(
        default_factory=list,
        description="The declared error state, for expect: FailSafe and Manual; all must hold while the fault is "
        "active, and with Manual until the repair begins.",
    )
    recovered: Recovered = Field(default_factory=Recovered, description="When the system counts as recovered.")
    budgets: Budgets = Field(default_factory=Budgets, description="Upper bounds for the figures.")
    observations: Annotated[list[Observation], Field(max_length=20)] = Field(
        default_factory=list, description="What is read before the fault, at clear and after the recovery."
    )
    settle_seconds: int = Field(
        0,
        ge=0,
        le=60,
        description="How long after the recovery observations are read: what a system does late counts, too.",
    )
    invariants: Annotated[list[Invariant], Field(max_length=50)] = Field(
        default_factory=list, description="What must hold between what was observed before, at clear and after."
    )

    workload: CheckWorkload | None = Field(
        None,
        description="Operations on the system that a pod of its own makes while an experiment runs: each is accounted "
        "for, and what was acknowledged must be there in the end.",
    )
    performance: Performance | None = Field(
        None, description="How fast the workload must be again; unset: measured, and not judged."
    )
    client_behavior: ClientBehavior | None = Field(
        None,
        description="How clients of the Kubernetes API must take apiFault and authFault, as the API proxy sees them.",
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if problems := tuple(self._problems()):
            raise FieldError(problems)
        return self

    def _problems(self) -> Iterator[tuple[Path, str]]:
        compares = any(each.unchanged is not None for each in self.observations)
        if not self.probes and not self.invariants and not compares:
            yield ("probes",), NOTHING
        elif self.mode == "Continuous" and not self.probes:
            yield ("probes",), UNWATCHED
        if self.invariants and not self.observations:
            yield ("observations",), BLIND
        load = self.workload.load if self.workload else None
        if self.performance is not None and (load is None or not (load.closed or load.open)):
            yield ("performance",), PACELESS
        yield from repeated("probes", [p.name for p in (*self.probes, *self.detection, *self.error_state)])
        yield from repeated("observations", [o.name for o in self.observations])
        yield from repeated("invariants", [i.name for i in self.invariants])
        for section, index, probe in self.sections():
            if probe.is_moment and section != "detection":
                yield (section, index, probe.kind, "absentSeconds"), MOMENT
        slowest = max((p.period_milliseconds for p in self.probes), default=0)
        given = (self.budgets.detect_seconds, self.budgets.recover_seconds, self.budgets.outage_seconds)
        for name, bound in zip(BUDGETS, given, strict=True):
            if bound is not None and bound * 1000 < slowest:
                yield (
                    ("budgets", name),
                    f"budgets.{name} must not be below the sampling period of the slowest probe: it could never be "
                    f"measured ({bound} s against {slowest} ms)",
                )

    @property
    def noticing(self) -> list[Signal]:
        """The signals by which the system says that something is wrong."""
        return [signal for signal in self.detection if signal.tells == "Trouble"]

    @property
    def reacting(self) -> list[Signal]:
        """Those by which it shows what it does about it."""
        return [signal for signal in self.detection if signal.tells == "Strategy"]

    def sections(self) -> Iterator[tuple[str, int, Probe]]:
        """Every probe, with the list that it stands in and its place there."""
        lists: tuple[Sequence[Probe], ...] = (self.probes, self.detection, self.error_state)
        for name, probes in zip(PROBE_LISTS, lists, strict=True):
            for index, probe in enumerate(probes):
                yield name, index, probe

    def expressions(self) -> Iterator[Expression]:
        """Each CEL expression: the way to its field, its text, and the variables that it can see."""
        for section, index, probe in self.sections():
            for path, text, names in probe.expressions():
                yield (section, index, *path), text, names
        observed = frozenset(each.name for each in self.observations)
        for index, invariant in enumerate(self.invariants):
            yield ("invariants", index, "expression"), invariant.expression, dict.fromkeys(MOMENTS_READ, observed)

    def secrets(self) -> Iterator[SecretPart]:
        """What Secrets must hold for anybody to look: the way to the field, the Secret, its key."""
        for section, index, probe in self.sections():
            for path, name, key in probe.secrets():
                yield (section, index, *path), name, key
        for index, observation in enumerate(self.observations):
            for path, name, key in observation.secrets():
                yield ("observations", index, *path), name, key
