"""FaultExperiment: targets, faults, checks, the expected outcome and limits. Runs once, like a Job."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

from pydantic import Field, create_model, model_validator

from bounceback.api.collapse import COLLAPSE_ENTRY_RULES, COLLAPSE_RULE, Collapse, collapse_problems
from bounceback.api.meta import repeated
from bounceback.api.pattern import Pattern
from bounceback.api.reference_run import ReferenceRun
from bounceback.api.repair import Repair
from bounceback.api.runs import Runs
from bounceback.api.start import MOST_FAULTS, START_RULES, StartWhen, start_problems
from bounceback.api.targets import Target
from bounceback.faults import KINDS, Fault, PodRemoval
from bounceback.faults.api_fault import ALL_THE_TIME, KILLED_FROM_NODE, NO_VEHICLE, ApiFault
from bounceback.faults.base import NO_PATTERN
from bounceback.faults.chosen import Chosen
from bounceback.faults.connection_refusal import Existing
from bounceback.faults.inside import NOT_BY_CHANCE, InsideFault
from bounceback.faults.node_fault import CordonFault, NodeFault
from bounceback.faults.object_fault import ObjectFault
from bounceback.faults.packet_fault import NOT_COUNTED
from bounceback.types.fields import Model, Name, ObjectName
from bounceback.types.outcome import Expect, Impact, VehicleKind
from bounceback.types.plan import Rung
from bounceback.types.rules import FieldError, Path, Rule, exactly_one, one_of, refuse


class RelayUse(Model):
    """Where a fault is carried out by a relay: what becomes of connections at its beginning and at its end."""

    existing_connections: Existing = Field(
        Existing.KEEP,
        description="Connections that are open when it begins cannot be led through a relay: Keep leaves them alone, "
        "and the fault does not reach them; Reset breaks them off, so that new ones come.",
    )
    drain_seconds: int = Field(
        5,
        ge=0,
        le=600,
        description="How long connections may stay in the relay once the fault is over; it does nothing to them then, "
        "and resets those that are left.",
    )


ONLY_PODS_FOLLOWED = "followReplacements must be false for faults on objects and nodes: only pods are replaced"
ROUNDS_CHOOSE = "followReplacements must be false with everySeconds, whose rounds choose among the pods that are there"


class FaultTiming(Chosen):
    """What every entry of `spec.faults` has beside the one field that names its kind."""

    list_keys: ClassVar[tuple[str, ...]] = ("name",)

    name: Name = Field(description="Unique in the experiment.")
    target: Name = Field(description="The name of an entry of spec.targets.")
    start_after_seconds: int = Field(
        0,
        ge=0,
        le=86_400,
        description="Time after the experiment's injections begin, or after what startWhen waits for has come, until "
        "this one does.",
    )
    start_when: StartWhen | None = Field(
        None, description="What has to come before it starts; unset: it starts with the experiment's injections."
    )
    duration_seconds: int = Field(30, ge=1, le=86_400, description="How long it lasts, from when it is in force.")
    vehicle: VehicleKind = Field(
        VehicleKind.AUTO,
        description="How it gets there: Sidecar (ephemeral container), NodePod (a pod beside the target), or Auto.",
    )
    mechanism: Rung | None = Field(
        None, description="Force one way of carrying it out; unset: the best that the node can."
    )
    pattern: Pattern | None = Field(
        None, description="How it comes and goes, or grows, while it lasts; unset: all of it, all the time."
    )
    collapse: Collapse | None = Field(
        None, description="With a ramp that grows: the strength at which the system breaks down is looked for."
    )
    relay: RelayUse = Field(default_factory=RelayUse, description="Only of meaning where a relay carries it out.")
    follow: bool = Field(True, description="Follow the peers' addresses as they change while the fault is in force.")
    follow_replacements: bool = Field(
        False,
        description="Pods that take a target's place while the fault lasts are hit for the rest of its time, and so "
        "are processes that take the place of those of a fault on processes.",
    )

    @property
    def latest_start_seconds(self) -> int:
        """After the experiment's injections begin."""
        return (self.start_when.within_seconds if self.start_when else 0) + self.start_after_seconds

    @property
    def fault(self) -> Fault:
        """The one kind that is set."""
        kinds: dict[str, Fault | None] = {kind.kind: getattr(self, kind.kind) for kind in KINDS}
        return next(value for value in kinds.values() if value is not None)

    @model_validator(mode="after")
    def _is_one_kind(self) -> Self:
        given = [kind.kind for kind in KINDS if getattr(self, kind.kind) is not None]
        if len(given) != 1:
            raise refuse(exactly_one((kind.kind for kind in KINDS), given))
        fault = self.fault
        if not (rungs := fault.rungs(self.choice())):
            raise refuse(NOT_COUNTED.format(fault.kind), "nth")
        if isinstance(fault, InsideFault) and not fault.by_chance and not self.choice().everything:
            raise refuse(NOT_BY_CHANCE.format(fault.kind), "probability")
        if self.mechanism is not None and self.mechanism not in rungs:
            ways = rungs if self.mechanism in fault.all_rungs() else fault.all_rungs()
            told = _must_be("mechanism", _words(ways), fault.kind)
            if self.mechanism is Rung.ADMISSION and isinstance(fault, ApiFault):
                told += f": {fault.not_by_admission()}"
            raise refuse(told, "mechanism")
        if self.mechanism is Rung.ADMISSION and self.pattern is not None:
            raise refuse(ALL_THE_TIME, "pattern")
        if self.mechanism is Rung.ADMISSION and self.vehicle is not VehicleKind.AUTO:
            raise refuse(NO_VEHICLE, "vehicle")
        if self.vehicle is VehicleKind.SIDECAR and isinstance(fault, ApiFault) and fault.from_node:
            raise refuse(KILLED_FROM_NODE, "vehicle")
        if self.pattern is not None and fault.momentary:
            raise refuse(NO_PATTERN.format(fault.momentary), "pattern")
        if self.follow_replacements and (told := _not_followed(fault)):
            raise refuse(told, "followReplacements")
        if self.vehicle not in (fits := _vehicles(fault)):
            raise refuse(_must_be("vehicle", _words(fits), fault.kind), "vehicle")
        return self


def _vehicles(fault: Fault) -> tuple[VehicleKind, ...]:
    if isinstance(fault, ObjectFault | CordonFault):
        return (VehicleKind.AUTO, VehicleKind.OBJECT_PATCH)
    if Rung.API in fault.rungs():
        return (VehicleKind.AUTO, VehicleKind.POD_DELETE)
    if Rung.NODE in fault.rungs():
        return (VehicleKind.AUTO, VehicleKind.NODE_POD)
    return (VehicleKind.AUTO, VehicleKind.SIDECAR, VehicleKind.NODE_POD)


def _words(values: Iterable[str]) -> str:
    return " or ".join(values)


def _must_be(field: str, allowed: str, kind: str) -> str:
    return f"{field} must be {allowed}{', or unset,' if field == 'mechanism' else ''} for {kind}"


def _not_followed(fault: Fault) -> str:
    """Why what takes a target's place cannot be hit, too; empty: it can."""
    if isinstance(fault, ObjectFault | NodeFault):
        return ONLY_PODS_FOLLOWED
    return ROUNDS_CHOOSE if isinstance(fault, PodRemoval) and fault.every_seconds is not None else ""


def _entry_rules(kind: type[Fault]) -> Iterator[Rule]:
    """What the API server can tell of an entry with this kind."""
    rungs, vehicles = kind.all_rungs(), _vehicles(kind.model_construct())
    yield Rule(
        f"!has(self.{kind.kind}) || !has(self.mechanism) || self.mechanism in {[str(r) for r in rungs]}",
        _must_be("mechanism", _words(rungs), kind.kind),
        ".mechanism",
    )
    yield Rule(
        f"!has(self.{kind.kind}) || self.vehicle in {[str(v) for v in vehicles]}",
        _must_be("vehicle", _words(vehicles), kind.kind),
        ".vehicle",
    )
    if Rung.API in rungs:
        yield Rule(f"!has(self.{kind.kind}) || !has(self.pattern)", NO_PATTERN.format(kind.kind), ".pattern")
    if issubclass(kind, ObjectFault | NodeFault):
        yield Rule(f"!has(self.{kind.kind}) || !self.followReplacements", ONLY_PODS_FOLLOWED, ".followReplacements")
    if issubclass(kind, PodRemoval):
        again = f"!has(self.{kind.kind}) || !has(self.{kind.kind}.everySeconds)"
        yield Rule(f"{again} || !self.followReplacements", ROUNDS_CHOOSE, ".followReplacements")
    yield from kind.entry_rules


def _in_one_paragraph(kind: type[Fault]) -> str:
    return " ".join((kind.__doc__ or "").split())


if TYPE_CHECKING:
    FaultEntry = FaultTiming
else:
    _kinds: dict[str, Any] = {
        kind.kind: (kind | None, Field(None, alias=kind.kind, description=_in_one_paragraph(kind))) for kind in KINDS
    }
    FaultEntry = create_model(
        "FaultEntry", __base__=FaultTiming, __doc__="One fault: exactly one kind, when, and for how long.", **_kinds
    )
    FaultEntry.rules = (
        one_of(kind.kind for kind in KINDS),
        *COLLAPSE_ENTRY_RULES,
        *(rule for kind in KINDS for rule in _entry_rules(kind)),
    )


class CheckReference(Model):
    """A RecoveryCheck of the experiment's namespace; copied into status when the run starts."""

    list_keys: ClassVar[tuple[str, ...]] = ("name",)

    name: ObjectName = Field(description="Its name.")


class SteadyState(Model):
    """The gate before anything is touched."""

    hold_seconds: int = Field(5, ge=1, le=3600, description="All probes must be healthy this long without a gap.")
    timeout_seconds: int = Field(60, ge=1, le=3600, description="If that has not come by then, the run is Aborted.")


class Proof(Model):
    """What it takes for the injection to count as Proven."""

    min_hits: int = Field(1, ge=1, le=1_000_000_000, description="Hits on each target that is counted.")
    targets_percent: int = Field(100, ge=1, le=100, description="Share of the targets that must be hit.")
    duration_percent: int = Field(
        90, ge=1, le=100, description="Share of the asked time that it must be in force there."
    )


class AbortCondition(Model):
    """A bound that ends the run early: what was injected is cleared at once."""

    check: ObjectName = Field(description="One of spec.checks.")
    probe: Name | None = Field(None, description="One of its probes; unset: any of them.")
    failing_seconds: int = Field(ge=1, le=86_400, description="Unhealthy this long without a pause.")


NODE_KINDS = tuple(kind.kind for kind in KINDS if issubclass(kind, NodeFault))
SORT_OF_TARGET = (
    f"the target of an objectFault must have objects, that of {' and '.join(NODE_KINDS)} nodes, and that of any other "
    "fault pods"
)


def _sort_of_target(fault: Fault) -> str:
    """The field of its target that it needs."""
    return "objects" if isinstance(fault, ObjectFault) else "nodes" if isinstance(fault, NodeFault) else "pods"


REPAIR_NEEDED = "repair must be given with expect: Manual: what brings the system back?"
REPAIR_UNUSED = "repair must be unset unless expect is Manual: it would never run"
REPAIRED_ONCE = "runs must be unset with expect: Manual: its repair runs once"
MANUAL_IS_FELT = "impact must not be Forbidden with expect: Manual: a system in trouble is felt"


class FaultExperimentSpec(Model):
    """What is broken, for how long, and what must hold afterwards. Fixed once the run has started, but for `cancel`."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "self.faults.all(f, self.targets.exists(t, t.name == f.target))",
            "the target of every fault must be one of spec.targets",
            ".faults",
        ),
        Rule(
            "self.faults.all(f, self.targets.all(t, t.name != f.target || (has(t.objects) == has(f.objectFault)"
            f" && has(t.nodes) == ({' || '.join(f'has(f.{kind})' for kind in NODE_KINDS)}))))",
            SORT_OF_TARGET,
            ".faults",
        ),
        Rule(
            "!has(self.abortWhen) || self.abortWhen.all(a, self.checks.exists(c, c.name == a.check))",
            "the check of every abort condition must be one of spec.checks",
            ".abortWhen",
        ),
        Rule(
            "self.faults.all(f, ((has(f.startWhen) ? f.startWhen.withinSeconds : 0) + f.startAfterSeconds"
            " + f.durationSeconds + self.steadyState.holdSeconds"
            " + (has(self.repair) ? self.repair.afterSeconds + self.repair.timeoutSeconds : 0))"
            " * ((has(self.runs) ? self.runs.count : 1) + (has(self.reference) ? 1 : 0)) < self.deadlineSeconds)",
            "deadlineSeconds must be above the time that the faults and the steady state before them take, and the "
            "repair after them, in all runs",
            ".deadlineSeconds",
        ),
        Rule("self.expect != 'Manual' || has(self.repair)", REPAIR_NEEDED, ".repair", reason="FieldValueRequired"),
        Rule("self.expect == 'Manual' || !has(self.repair)", REPAIR_UNUSED, ".repair", reason="FieldValueForbidden"),
        Rule("self.expect != 'Manual' || self.impact != 'Forbidden'", MANUAL_IS_FELT, ".impact"),
        Rule("self.expect != 'Manual' || !has(self.runs)", REPAIRED_ONCE, ".runs", reason="FieldValueForbidden"),
        *START_RULES,
        COLLAPSE_RULE,
    )

    service_account_name: ObjectName = Field(
        "bounceback",
        description="Account of this namespace in whose name all in it is read and done; its rights are the limit.",
    )
    targets: Annotated[list[Target], Field(min_length=1, max_length=10)] = Field(description="Who is hit.")
    faults: Annotated[list[FaultEntry], Field(min_length=1, max_length=MOST_FAULTS)] = Field(
        description="What happens to them."
    )
    checks: Annotated[list[CheckReference], Field(min_length=1, max_length=10)] = Field(
        description="RecoveryChecks that judge it; at least one: looking at nothing proves nothing."
    )
    expect: Expect = Field(
        Expect.RECOVER,
        description="Recover: the system returns by itself. FailSafe: it goes to its declared error state, stays there "
        "while the fault lasts, and returns once it is gone. Manual: it tells of the trouble, goes to its error state "
        "and stays there though the fault is gone, and returns after the repair.",
    )
    repair: Repair | None = Field(None, description="With expect: Manual, what brings the system back.")
    impact: Impact = Field(
        Impact.ALLOWED,
        description="Required: the fault must be felt. Allowed: it may. Forbidden: nobody may notice it.",
    )
    steady_state: SteadyState = Field(default_factory=SteadyState, description="The gate before anything is touched.")
    proof: Proof = Field(default_factory=Proof, description="What it takes to count as Proven.")
    abort_when: Annotated[list[AbortCondition], Field(max_length=10)] = Field(
        default_factory=list, description="Bounds that end the run early."
    )
    recovery_timeout_seconds: int = Field(
        300, ge=1, le=86_400, description="How long to wait for the recovery after everything is cleared."
    )
    deadline_seconds: int = Field(
        3600, ge=10, le=604_800, description="The run, or all runs, end by then: cleared, reported as Aborted."
    )
    runs: Runs | None = Field(None, description="Run it several times, and judge how often it passed; unset: once.")
    reference: ReferenceRun | None = Field(
        None, description="Run it once without the faults first, and compare; unset: nothing is compared."
    )
    seed: int = Field(
        0, ge=0, le=2_147_483_647, description="Decides which pods are chosen; the same seed, the same choice."
    )
    cancel: bool = Field(False, description="Set to true to end the run: cleared, checked, reported as Aborted.")
    ttl_seconds_after_finished: int | None = Field(
        None, ge=0, le=31_536_000, description="Delete the experiment this long after it finished; unset: never."
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if problems := tuple(self._problems()):
            raise FieldError(problems)
        return self

    @property
    def longest_fault_seconds(self) -> int:
        """From when the injections begin to the latest end of any."""
        return max(fault.latest_start_seconds + fault.duration_seconds for fault in self.faults)

    def _problems(self) -> Iterator[tuple[Path, str]]:
        targets, checks = [t.name for t in self.targets], [c.name for c in self.checks]
        yield from repeated("targets", targets)
        yield from repeated("faults", [f.name for f in self.faults])
        yield from repeated("checks", checks)
        for index, fault in enumerate(self.faults):
            if fault.target not in targets:
                yield ("faults", index, "target"), f"must be one of spec.targets: {', '.join(targets)}"
        by_name = {target.name: target for target in self.targets}
        for index, fault in enumerate(self.faults):
            target = by_name.get(fault.target)
            if target is not None and getattr(target, _sort_of_target(fault.fault)) is None:
                yield ("faults", index, "target"), SORT_OF_TARGET
        for index, bound in enumerate(self.abort_when):
            if bound.check not in checks:
                yield ("abortWhen", index, "check"), f"must be one of spec.checks: {', '.join(checks)}"
        yield from start_problems(self.faults, checks, fail_safe=self.expect is Expect.FAIL_SAFE)
        yield from collapse_problems(self.faults, checks)
        if self.reference is not None:
            yield from ((("reference", *path), told) for path, told in self.reference.problems())
        longest = self.longest_fault_seconds
        hold, times = self.steady_state.hold_seconds, (self.runs.count if self.runs else 1) + bool(self.reference)
        repair = self.repair.after_seconds + self.repair.timeout_seconds if self.repair else 0
        if (longest + hold + repair) * times >= self.deadline_seconds:
            yield (
                ("deadlineSeconds",),
                f"deadlineSeconds must be above the time that the faults ({longest} s) and the steady state before "
                f"them ({hold} s) take"
                + (f", and the repair after them ({repair} s)" if repair else "")
                + (f", in {times} runs" if times > 1 else ""),
            )
        if self.expect is Expect.MANUAL and self.repair is None:
            yield ("repair",), REPAIR_NEEDED
        if self.expect is not Expect.MANUAL and self.repair is not None:
            yield ("repair",), REPAIR_UNUSED
        if self.expect is Expect.MANUAL and self.impact is Impact.FORBIDDEN:
            yield ("impact",), MANUAL_IS_FELT
        if self.expect is Expect.MANUAL and self.runs is not None:
            yield ("runs",), REPAIRED_ONCE
